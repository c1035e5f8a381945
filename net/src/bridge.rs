//! A bridge: it learns behind which of its ports an address is, and passes frames on.

use crate::frame::{Frame, Mac};
use crate::port::PortState;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use devices::lock::{Ranked, rank};

/// An address that has not been heard of for so long is forgotten, as Linux's bridge does.
pub const AGEING_NS: u64 = 300 * 1_000_000_000;
/// Addresses that are known behind a port, at most; the oldest is forgotten for a new one.
pub const MAX_ADDRESSES: usize = 256;

/// A bridge.
pub struct Bridge {
    pub name: String,
    inner: Ranked<Inner, { rank::NET_BRIDGE }>,
}

#[derive(Default)]
struct Inner {
    ports: Vec<Member>,
    learned: BTreeMap<Mac, Learned>,
    last_id: u64,
}

struct Member {
    port: Arc<PortState>,
    /// The addresses that are known to be behind it, in the order in which they were learned.
    addresses: VecDeque<Mac>,
}

#[derive(Clone, Copy)]
struct Learned {
    port: u64,
    heard_ns: u64,
}

impl Bridge {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), inner: Ranked::default() }
    }

    /// Adds the port that is made with a number of its own.
    pub fn plug(&self, make: impl FnOnce(u64) -> Arc<PortState>) -> Arc<PortState> {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        let port = make(inner.last_id);
        inner.ports.push(Member { port: port.clone(), addresses: VecDeque::new() });
        port
    }

    /// Removes a port, and what was learned of it.
    pub fn unplug(&self, id: u64) {
        let mut inner = self.inner.lock();
        inner.ports.retain(|member| member.port.id != id);
        inner.learned.retain(|_, learned| learned.port != id);
    }

    /// The ports that a frame from port `from` is for.
    pub fn route(&self, from: u64, frame: &Frame, now_ns: u64) -> Vec<Arc<PortState>> {
        let destination = frame.destination();
        let mut inner = self.inner.lock();
        inner.learn(from, frame.source(), now_ns);
        if destination.is_link_local() {
            return vec![];
        }
        let is_owned = inner.is_owned(destination);
        let known = inner.learned.get(&destination).copied();
        let known = known.filter(|it| now_ns.saturating_sub(it.heard_ns) < AGEING_NS);
        let is_for = |port: &PortState| match is_owned {
            true => port.filter.mac == Some(destination),
            false => known.is_none_or(|learned| learned.port == port.id),
        };
        let ports = inner.ports.iter().map(|member| &member.port);
        ports.filter(|port| port.id != from && is_for(port)).cloned().collect()
    }
}

impl Inner {
    /// True for an address that its port alone may send from: it is there, wherever else it has
    /// been heard of, and is not learned.
    fn is_owned(&self, address: Mac) -> bool {
        self.ports.iter().any(|member| member.port.filter.mac == Some(address))
    }

    /// `source` is behind the port `at`.
    fn learn(&mut self, at: u64, source: Mac, now_ns: u64) {
        if self.is_owned(source) {
            return;
        }
        let before = self.learned.insert(source, Learned { port: at, heard_ns: now_ns });
        if before.is_some_and(|learned| learned.port == at) {
            return;
        }
        for member in &mut self.ports {
            if before.is_some_and(|learned| learned.port == member.port.id) {
                member.addresses.retain(|&address| address != source);
            }
            if member.port.id == at {
                if member.addresses.len() == MAX_ADDRESSES
                    && let Some(oldest) = member.addresses.pop_front()
                {
                    self.learned.remove(&oldest);
                }
                member.addresses.push_back(source);
            }
        }
    }
}
