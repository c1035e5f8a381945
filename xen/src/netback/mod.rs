//! netback: PV network cards, the back end of `xen-netfront` and its like (`io/netif.h`).
//!
//! A [`Vif`] stands between a front end, which it finds in XenStore, and a port of the virtual
//! switch. Frames are copied out of the guest's pages, and into another's; a page is held for that
//! moment alone.
//!
//! Its owner calls [`Vif::attend`] when the store has events for it, and [`Vif::serve`] when the
//! guest signals; the switch calls it when frames wait for the guest. All may be called at any
//! time. Cards of others are told of frames when nothing of this one is locked any more.

mod delivery;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod packet;
pub mod spec;
#[cfg(any(test, feature = "fuzzing"))]
mod test_front;
#[cfg(test)]
mod tests;
mod xenbus;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use delivery::{Abilities, Delivery, slots};
use devices::lock::{Ranked, rank};
use net::{Calls, Counters, Credit, MAX_GROUPS, Mac, Port, Rate, Receiver};
use packet::{GroupChange, Packet};
use spec::{STATUS_ERROR, STATUS_OKAY, TxRequest};
use zerocopy::{FromZeros, IntoBytes};

pub use xenbus::CLASS;

use crate::guest::Guest;
use crate::ring::{BrokenRing, Ring};
use crate::store::xenbus::BackEndNodes;
use crate::store::{DomId, Local};

/// No further packet is taken from a card's rings in a go once those taken have so many bytes,
/// which the last may pass: less than a receiver's queue holds, which is emptied after the go.
const MAX_BYTES_A_GO: usize = 256 << 10;

/// The settings of a card.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest.
    pub domain: DomId,
    /// The device's number in the store, from 0 on.
    pub id: u32,
    /// Pairs of rings, at most: one a virtual CPU is enough.
    pub max_queues: u32,
    /// How much the guest may send.
    pub rate: Option<Rate>,
}

/// A PV network card.
pub struct Vif {
    settings: Settings,
    guest: Arc<dyn Guest>,
    port: Port,
    local: Local,
    inner: Ranked<Inner, { rank::PV_BACK_END }>,
}

/// The part that changes.
struct Inner {
    nodes: BackEndNodes,
    /// The rings of a front end that is connected.
    queues: Vec<Queue>,
    is_broken: bool,
    /// The queue that is served first.
    first_queue: usize,
    abilities: Abilities,
    /// The front end tells of buffers that it gives (`feature-rx-notify`).
    tells_of_buffers: bool,
    /// The groups whose frames it wants, if it says which.
    groups: Option<BTreeSet<Mac>>,
    credit: Option<Credit>,
}

/// A pair of rings with their event channels, which may be one.
struct Queue {
    guest: Arc<dyn Guest>,
    tx: Ring,
    rx: Ring,
    tx_port: u32,
    rx_port: u32,
    delivery: Delivery,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.guest.unbind(self.tx_port);
        if self.rx_port != self.tx_port {
            self.guest.unbind(self.rx_port);
        }
    }
}

impl Vif {
    /// Takes the frames that are in the rings, and gives those that wait. To be called when the
    /// guest signals.
    pub fn serve(&self) {
        let mut calls = Calls::default();
        {
            let inner = &mut self.inner.lock();
            let (queues, mut bytes) = (inner.queues.len(), 0);
            inner.first_queue = inner.first_queue.wrapping_add(1);
            for index in 0..queues {
                let queue = inner.first_queue.wrapping_add(index) % queues;
                let result = self.take_packets(inner, queue, &mut bytes, &mut calls);
                self.finish(inner, queue, result, |queue| (&mut queue.tx, queue.tx_port));
                self.give(inner, queue);
            }
        }
        calls.call();
    }

    /// The frames that have passed.
    pub fn counters(&self) -> Counters {
        self.port.counters()
    }

    /// Takes packets, as many as the ring has entries: the guest may go on adding some, and is
    /// served again after others. Their `bytes` are counted, copied or not.
    fn take_packets(
        &self,
        inner: &mut Inner,
        index: usize,
        bytes: &mut usize,
        calls: &mut Calls,
    ) -> Result<(), BrokenRing> {
        if inner.is_broken {
            return Ok(());
        }
        let Inner { queues, groups, credit, .. } = inner;
        let queue = queues.get_mut(index).ok_or(BrokenRing)?;
        let mut turns = queue.tx.entries();
        loop {
            if turns == 0 || *bytes >= MAX_BYTES_A_GO {
                if queue.tx.ask_for_event(1)? > 0 {
                    self.guest.call_back(self.settings.id);
                }
                return Ok(());
            }
            turns -= 1;
            let mut first = TxRequest::new_zeroed();
            if !queue.tx.peek(first.as_mut_bytes())? {
                if queue.tx.ask_for_event(1)? > 0 {
                    continue;
                }
                return Ok(());
            }
            if let Some(credit) = credit
                && !credit.take(first.size.get().into(), self.port.now_ns())
            {
                self.guest.call_back_later(self.settings.id);
                return Ok(());
            }
            queue.tx.advance();
            let packet = Packet::take(&mut queue.tx, first)?;
            if let Some(change) = packet.group {
                let is_done = self.change_groups(groups, change);
                packet.respond(&mut queue.tx, if is_done { STATUS_OKAY } else { STATUS_ERROR })?;
                continue;
            }
            *bytes += packet.length_bytes();
            let frame = packet.copy(&*self.guest);
            let status = if frame.is_ok() { STATUS_OKAY } else { STATUS_ERROR };
            packet.respond(&mut queue.tx, status)?;
            if let Ok(Some(frame)) = frame {
                self.port.send(frame, calls);
            }
        }
    }

    fn change_groups(&self, groups: &mut Option<BTreeSet<Mac>>, change: GroupChange) -> bool {
        let Some(groups) = groups else { return false };
        if change.is_wanted {
            if groups.len() == MAX_GROUPS && !groups.contains(&change.group) {
                return false;
            }
            groups.insert(change.group);
        } else {
            groups.remove(&change.group);
        }
        self.port.set_groups(Some(groups.clone()))
    }

    /// Gives the guest the frames that wait for a queue.
    fn give(&self, inner: &mut Inner, queue: usize) {
        let result = self.give_frames(inner, queue);
        self.finish(inner, queue, result, |queue| (&mut queue.rx, queue.rx_port));
    }

    fn give_frames(&self, inner: &mut Inner, index: usize) -> Result<(), BrokenRing> {
        if inner.is_broken {
            return Ok(());
        }
        let (abilities, tells) = (inner.abilities, inner.tells_of_buffers);
        let queue = inner.queues.get_mut(index).ok_or(BrokenRing)?;
        let mut room = queue.rx.entries();
        while let Some(frame) = queue.delivery.next(&self.port, index, abilities) {
            let slots = slots(frame);
            if slots > room {
                self.guest.call_back(self.settings.id);
                return Ok(());
            }
            room -= slots;
            if queue.rx.waiting()? < slots && queue.rx.ask_for_event(slots)? < slots {
                if !tells {
                    self.guest.call_back_later(self.settings.id);
                }
                return Ok(());
            }
            queue.delivery.deliver(&mut queue.rx, &*self.guest)?;
        }
        Ok(())
    }

    /// Shows the front end the responses, or gives it up if it broke its ring.
    fn finish(
        &self,
        inner: &mut Inner,
        index: usize,
        result: Result<(), BrokenRing>,
        end: impl FnOnce(&mut Queue) -> (&mut Ring, u32),
    ) {
        let Some((ring, port)) = inner.queues.get_mut(index).map(end) else { return };
        match result.and_then(|()| ring.publish()) {
            Ok(true) => self.guest.notify(port),
            Ok(false) => {}
            Err(BrokenRing) => {
                inner.is_broken = true;
                self.port.set_queues(0);
                self.guest.call_back(self.settings.id);
            }
        }
    }
}

impl Receiver for Vif {
    fn frames_wait(&self) {
        let inner = &mut self.inner.lock();
        for queue in 0..inner.queues.len() {
            self.give(inner, queue);
        }
    }
}
