//! A port of a bridge, as the bridge knows it: its settings, the frames that wait for its card, and
//! its counters.

use crate::filter::SourceFilter;
use crate::frame::{Frame, Mac};
use crate::headers::{HEADER_BYTES, Places};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::lock::{Ranked, rank};

/// The bytes of frames that wait for a card, at most.
pub const MAX_WAITING_BYTES: usize = 512 << 10;
/// Frames that wait for a card, at most.
pub const MAX_WAITING_FRAMES: usize = 1024;
/// Groups that a card can ask for by their addresses, at most.
pub const MAX_GROUPS: usize = 64;
/// A frame may be so much longer than its data: its header, and a tag of a virtual LAN.
const FRAMING_BYTES: usize = HEADER_BYTES + 4;
/// A frame counts as so many bytes at the least, and as a power of two, which its memory is.
const MIN_FRAME_BYTES: usize = 256;

/// A card of a guest. Called without locks of the switch's and of other cards'.
pub trait Receiver: Send + Sync {
    /// Frames wait, where none did before.
    fn frames_wait(&self);
}

/// The settings of a port.
pub struct PortSettings {
    /// The card's address, which its guest may change unless the filter says otherwise.
    pub mac: Mac,
    /// The addresses that it may send from.
    pub filter: SourceFilter,
    /// The most data of a frame that it gets: as in a Linux bridge longer ones are dropped, but for
    /// those that are to be cut.
    pub mtu: usize,
    /// The card.
    pub receiver: Weak<dyn Receiver>,
}

/// The frames and bytes that have passed a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that did not pass: of those sent, because of their source; of those for the card,
    /// because too many waited, or they were too long.
    pub dropped: u64,
}

/// The counters of a port, as its guest sees the directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From the guest.
    pub sent: Traffic,
    /// To the guest: counted when they begin to wait.
    pub received: Traffic,
}

#[derive(Default)]
struct AtomicTraffic {
    frames: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

impl AtomicTraffic {
    fn pass(&self, frame: &Frame) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(frame.bytes().len() as u64, Ordering::Relaxed);
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { frames: get(&self.frames), bytes: get(&self.bytes), dropped: get(&self.dropped) }
    }
}

/// The frames that wait.
#[derive(Default)]
struct Waiting {
    /// By the card's queues; none while the card is down.
    lanes: Vec<VecDeque<Arc<Frame>>>,
    bytes: usize,
    frames: usize,
    /// Groups whose frames it wants, if it does not want all.
    groups: Option<BTreeSet<Mac>>,
}

/// A port.
pub struct PortState {
    pub id: u64,
    pub mac: Mac,
    pub filter: SourceFilter,
    pub max_frame_bytes: usize,
    receiver: Weak<dyn Receiver>,
    waiting: Ranked<Waiting, { rank::NET_PORT }>,
    sent: AtomicTraffic,
    received: AtomicTraffic,
}

impl PortState {
    pub fn new(id: u64, settings: PortSettings) -> Self {
        Self {
            id,
            mac: settings.mac,
            filter: settings.filter,
            max_frame_bytes: settings.mtu.saturating_add(FRAMING_BYTES),
            receiver: settings.receiver,
            waiting: Ranked::default(),
            sent: AtomicTraffic::default(),
            received: AtomicTraffic::default(),
        }
    }

    /// The card takes frames from so many queues from now on. Those that waited are gone.
    pub fn set_lanes(&self, lanes: usize) {
        let mut waiting = self.waiting.lock();
        let lanes = vec![VecDeque::new(); lanes];
        *waiting = Waiting { lanes, ..Waiting::default() };
    }

    /// The groups whose frames the card wants. False if there are too many.
    pub fn set_groups(&self, groups: Option<BTreeSet<Mac>>) -> bool {
        let is_right = groups.as_ref().is_none_or(|groups| groups.len() <= MAX_GROUPS);
        if is_right {
            self.waiting.lock().groups = groups;
        }
        is_right
    }

    /// Counts a frame that the card sends; false if it may not.
    pub fn admit(&self, frame: &Frame) -> bool {
        let is_right = frame.source().is_source() && self.filter.permits(frame);
        if is_right {
            self.sent.pass(frame);
        } else {
            self.sent.drop_one();
        }
        is_right
    }

    /// A frame for the card. Returns the card if it is to be told.
    pub fn put(&self, frame: &Arc<Frame>) -> Option<Weak<dyn Receiver>> {
        let destination = frame.destination();
        let mut waiting = self.waiting.lock();
        let lanes = waiting.lanes.len();
        let is_wanted = lanes > 0
            && (!destination.is_group()
                || destination == Mac::BROADCAST
                || waiting.groups.as_ref().is_none_or(|groups| groups.contains(&destination)));
        if !is_wanted {
            return None;
        }
        let cost = cost(frame);
        let is_long = frame.gso().is_none() && frame.bytes().len() > self.max_frame_bytes;
        if is_long
            || waiting.frames == MAX_WAITING_FRAMES
            || waiting.bytes + cost > MAX_WAITING_BYTES
        {
            self.received.drop_one();
            return None;
        }
        let index = if lanes == 1 { 0 } else { flow(frame.bytes()) as usize % lanes };
        let lane = waiting.lanes.get_mut(index)?;
        let was_empty = lane.is_empty();
        lane.push_back(frame.clone());
        waiting.bytes += cost;
        waiting.frames += 1;
        self.received.pass(frame);
        was_empty.then(|| self.receiver.clone())
    }

    /// Takes the next frame for a queue.
    pub fn take(&self, lane: usize) -> Option<Arc<Frame>> {
        let mut waiting = self.waiting.lock();
        let frame = waiting.lanes.get_mut(lane)?.pop_front()?;
        waiting.bytes -= cost(&frame);
        waiting.frames -= 1;
        Some(frame)
    }

    pub fn counters(&self) -> Counters {
        Counters { sent: self.sent.read(), received: self.received.read() }
    }
}

fn cost(frame: &Frame) -> usize {
    frame.bytes().len().next_power_of_two().max(MIN_FRAME_BYTES)
}

/// A number that is the same for all frames of a connection (FNV-1a of addresses and ports).
fn flow(frame: &[u8]) -> u32 {
    let Some(places) = Places::of(frame) else { return 0 };
    let ports = frame.get(places.transport_at..places.transport_at + 4).unwrap_or_default();
    let parts = places.addresses(frame).iter().chain(ports);
    let hash = parts
        .fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash ^ hash >> 16
}
