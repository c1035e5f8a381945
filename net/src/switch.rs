//! The switch: bridges by their names, and the ports that cards are plugged into.

use crate::bridge::Bridge;
use crate::frame::{Frame, Mac};
use crate::port::{Counters, PortSettings, PortState, Receiver};
use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use devices::lock::{Ranked, rank};

/// The time that all cards of a switch have in common, whatever their guests' clocks say.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some moment.
    fn now_ns(&self) -> u64;
}

/// A switch with any number of bridges, between which nothing passes. A bridge is there as long as
/// it has ports.
pub struct Switch {
    clock: Arc<dyn Clock>,
    bridges: Ranked<Vec<Weak<Bridge>>, { rank::NET_BRIDGE }>,
}

impl Switch {
    /// A switch without bridges, which tells the time by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, bridges: Ranked::default() }
    }

    /// Plugs a card into the bridge called `bridge`. It is down at first.
    pub fn plug(&self, bridge: &str, settings: PortSettings) -> Port {
        let bridge = {
            let mut bridges = self.bridges.lock();
            bridges.retain(|it| it.strong_count() > 0);
            let found = bridges.iter().filter_map(Weak::upgrade).find(|it| it.name == bridge);
            found.unwrap_or_else(|| {
                let new = Arc::new(Bridge::new(bridge));
                bridges.push(Arc::downgrade(&new));
                new
            })
        };
        let state = bridge.plug(|id| Arc::new(PortState::new(id, settings)));
        Port { clock: self.clock.clone(), bridge, state }
    }
}

/// A card's end of a port, which is unplugged when this is dropped.
pub struct Port {
    clock: Arc<dyn Clock>,
    bridge: Arc<Bridge>,
    state: Arc<PortState>,
}

impl Port {
    /// The card's address.
    pub fn mac(&self) -> Mac {
        self.state.mac
    }

    /// The longest frame that the card gets, but for those that are to be cut.
    pub fn max_frame_bytes(&self) -> usize {
        self.state.max_frame_bytes
    }

    /// The card takes frames by so many queues from now on; by none while it is down. Frames that
    /// waited are gone, and it wants those of all groups.
    pub fn set_queues(&self, queues: usize) {
        self.state.set_lanes(queues);
    }

    /// The groups whose frames the card wants; of all if `None`. False, and no change, if there are
    /// more than [`MAX_GROUPS`](crate::MAX_GROUPS).
    pub fn set_groups(&self, groups: Option<BTreeSet<Mac>>) -> bool {
        self.state.set_groups(groups)
    }

    /// The time by the switch's clock.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The card sends a frame.
    ///
    /// A frame that its receiver has no room for is dropped, as in a Linux bridge: no sender waits
    /// for a receiver that is slow, or pretends to be.
    pub fn send(&self, frame: Frame, calls: &mut Calls) {
        if !self.state.admit(&frame) {
            return;
        }
        let ports = self.bridge.route(self.state.id, &frame, self.now_ns());
        let frame = Arc::new(frame);
        for port in ports {
            calls.0.extend(port.put(&frame));
        }
    }

    /// Takes the next frame for one of the card's queues.
    pub fn take(&self, queue: usize) -> Option<Arc<Frame>> {
        self.state.take(queue)
    }

    /// Its counters.
    pub fn counters(&self) -> Counters {
        self.state.counters()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.bridge.unplug(self.state.id);
    }
}

/// The cards that are to be told of frames.
#[derive(Default)]
#[must_use]
pub struct Calls(Vec<Weak<dyn Receiver>>);

impl Calls {
    /// Tells them. To be called without locks.
    pub fn call(self) {
        for receiver in self.0.iter().filter_map(Weak::upgrade) {
            receiver.frames_wait();
        }
    }
}
