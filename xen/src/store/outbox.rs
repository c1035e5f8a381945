//! Messages that wait to be sent to a peer: replies, and events of its watches.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;

use super::watch::WatchId;
use super::wire::Message;

/// Memory of an event that waits beside its path, about.
const OVERHEAD_BYTES: usize = 128;

/// Something to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Reply(Message),
    Event(Event),
}

/// An event that waits: its text is made when it is sent, so that a watch that is gone by then
/// tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub watch: WatchId,
    pub path: Arc<str>,
}

impl Event {
    pub fn memory_bytes(&self) -> usize {
        self.path.len() + OVERHEAD_BYTES
    }
}

/// Replies and events in their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Outgoing>,
    /// The events in the queue: one that waits already is not put there again.
    events: BTreeSet<Event>,
    event_bytes: usize,
}

impl Outbox {
    /// Number of replies that wait.
    pub fn replies(&self) -> usize {
        self.queue.len() - self.events.len()
    }

    /// True if this event waits already.
    pub fn has(&self, event: &Event) -> bool {
        self.events.contains(event)
    }

    pub fn push_reply(&mut self, reply: Message) {
        self.queue.push_back(Outgoing::Reply(reply));
    }

    /// Puts an event behind, that does not wait already.
    pub fn push_event(&mut self, event: Event) {
        self.event_bytes += event.memory_bytes();
        self.events.insert(event.clone());
        self.queue.push_back(Outgoing::Event(event));
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        if let Outgoing::Event(event) = &outgoing {
            self.event_bytes -= event.memory_bytes();
            self.events.remove(event);
        }
        Some(outgoing)
    }

    /// Memory of the events that wait.
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }
}
