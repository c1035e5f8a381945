//! Guests with a network card each on one bridge, and their front ends, for tests and fuzz targets.
#![cfg_attr(not(test), allow(dead_code, reason = "tests use more than fuzz targets"))]

use super::spec::*;
use super::{Settings, Vif};
use crate::ring::entries;
use crate::store::xenbus::{self, State};
use crate::store::{Store, tree};
use crate::test_grants::{PORT, TestGuest};
use crate::width::Width;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use net::{Clock, Mac, PortSettings, Rate, SourceFilter, Switch};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32};

/// References of the rings of queue 0; those of the next queue are 10 higher.
pub const TX: u32 = 100;
pub const RX: u32 = 101;
/// References of pages for what is sent, and for what is received.
pub const DATA: u32 = 1000;
pub const BUFFERS: u32 = 2000;
/// Entries of both rings.
const ENTRIES: u32 = entries(1, 12);

#[derive(Default)]
pub struct TestClock(pub AtomicU64);

impl Clock for TestClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub const fn mac(domain: u16) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 0, domain as u8])
}

/// The keys that Linux 6.1's front end writes, but for rings and ports.
pub const LINUX: [(&str, &str); 7] = [
    ("request-rx-copy", "1"),
    ("feature-rx-notify", "1"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
    ("feature-no-csum-offload", "0"),
];

/// A pair of rings, as its front end sees it.
#[derive(Clone, Default)]
struct Rings {
    tx_prod: u32,
    tx_cons: u32,
    rx_prod: u32,
    rx_cons: u32,
    /// The buffers by the entries that they were given in.
    buffers: VecDeque<(u16, u32)>,
}

/// A packet that was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub flags: u16,
    pub gso: Option<(u16, u8)>,
    pub is_failed: bool,
    pub slots: usize,
}

/// A guest with its card.
pub struct Front {
    pub guest: Arc<TestGuest>,
    pub vif: Arc<Vif>,
    pub domain: u16,
    /// The queue that is used.
    pub queue: usize,
    rings: Vec<Rings>,
}

/// Guests on one bridge.
pub struct Bench {
    pub store: Store,
    pub switch: Switch,
    pub clock: Arc<TestClock>,
    pub fronts: Vec<Front>,
}

impl Bench {
    /// Two guests, whose front ends have done nothing yet.
    pub fn new() -> Self {
        Self::with([None; 2])
    }

    /// Guests, with the rates at which they may send.
    pub fn with<const N: usize>(rates: [Option<Rate>; N]) -> Self {
        let clock = Arc::new(TestClock::default());
        let switch = Switch::new(clock.clone());
        let mut bench = Self { store: Store::default(), switch, clock, fronts: vec![] };
        for (domain, rate) in (1..).zip(rates) {
            let device = tree::Device { class: "vif", id: 0, front: &[], back: &[] };
            tree::add_device(&mut bench.store, domain, &device).unwrap();
            let guest = Arc::new(TestGuest::new(Width::Bits64, 0));
            let settings = Settings { domain, id: 0, max_queues: 2, rate };
            let plug = |receiver| {
                let filter = SourceFilter::default();
                let mac = mac(domain);
                bench.switch.plug("xenbr0", PortSettings { mac, filter, mtu: 1500, receiver })
            };
            let vif = Vif::new(&mut bench.store, settings, guest.clone(), plug).unwrap();
            let rings = vec![Rings::default(); 2];
            bench.fronts.push(Front { guest, vif, domain, queue: 0, rings });
        }
        bench
    }

    /// Two guests with Linux's front end, that are connected, with buffers for frames.
    pub fn connected() -> Self {
        let mut bench = Self::new();
        for index in 0..2 {
            bench.connect(index, &LINUX);
            bench.fronts[index].give_buffers(ENTRIES);
        }
        bench
    }

    pub fn set(&mut self, front: usize, name: &str, value: &str) {
        let front = &self.fronts[front];
        let path = format!("/local/domain/{}/device/vif/0/{name}", front.domain);
        self.store.write(&path, value.as_bytes()).unwrap();
        front.vif.attend(&mut self.store).unwrap();
    }

    pub fn back(&self, front: usize) -> State {
        xenbus::state(&self.store, &tree::back_path(self.fronts[front].domain, "vif", 0))
    }

    pub fn back_node(&self, front: usize, name: &str) -> Option<String> {
        xenbus::text(&self.store, &tree::back_path(self.fronts[front].domain, "vif", 0), name)
    }

    pub fn error(&self, front: usize) -> Option<String> {
        let path = format!("/local/domain/0/error/backend/vif/{}/0", self.fronts[front].domain);
        xenbus::text(&self.store, &path, "error")
    }

    /// As Linux connects: one queue, ports for both directions, keys, then state 4 out of 1.
    pub fn connect(&mut self, front: usize, keys: &[(&str, &str)]) {
        assert_eq!(self.back(front), State::InitWait);
        self.fronts[front].make_rings(0);
        for (name, value) in [("tx-ring-ref", TX), ("rx-ring-ref", RX)] {
            self.set(front, name, &value.to_string());
        }
        self.set(front, "event-channel-tx", &PORT.to_string());
        self.set(front, "event-channel-rx", &(PORT + 1).to_string());
        for (name, value) in keys {
            self.set(front, name, value);
        }
        self.set(front, "state", "4");
        assert_eq!(self.back(front), State::Connected);
        assert_eq!(self.fronts[front].guest.calls.swap(0, Ordering::Relaxed), 1);
        self.fronts[front].vif.serve();
    }

    /// The same with two queues, each with ports and a directory of its own.
    pub fn connect_two_queues(&mut self, front: usize) {
        for queue in 0..2 {
            self.fronts[front].make_rings(queue);
            for (name, value) in [
                ("tx-ring-ref", TX + 10 * queue as u32),
                ("rx-ring-ref", RX + 10 * queue as u32),
                ("event-channel-tx", PORT + 2 * queue as u32),
                ("event-channel-rx", PORT + 2 * queue as u32 + 1),
            ] {
                self.set(front, &format!("queue-{queue}/{name}"), &value.to_string());
            }
        }
        self.set(front, "multi-queue-num-queues", "2");
        for (name, value) in LINUX {
            self.set(front, name, value);
        }
        self.set(front, "state", "4");
        assert_eq!(self.back(front), State::Connected);
    }

    /// Does what cards have asked for.
    pub fn work(&mut self) -> u32 {
        let mut calls = 0;
        for front in &self.fronts {
            if front.guest.calls.swap(0, Ordering::Relaxed) > 0 {
                calls += 1;
                front.vif.attend(&mut self.store).unwrap();
                front.vif.serve();
            }
        }
        calls
    }
}

impl Front {
    const fn tx(&self) -> u32 {
        TX + 10 * self.queue as u32
    }

    const fn rx(&self) -> u32 {
        RX + 10 * self.queue as u32
    }

    /// Empty rings for a queue.
    pub fn make_rings(&mut self, queue: usize) {
        self.queue = queue;
        for ring in [self.tx(), self.rx()] {
            self.guest.grant(ring, false);
            for offset in [4, 12] {
                self.guest.fill(ring, offset, &1_u32.to_le_bytes());
            }
        }
        self.rings[queue] = Rings::default();
    }

    pub fn index(&self, ring: u32, offset: usize) -> u32 {
        let bytes = self.guest.bytes(ring);
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
    }

    pub fn set_index(&self, ring: u32, offset: usize, value: u32) {
        self.guest.fill(ring, offset, &value.to_le_bytes());
    }

    /// Puts an entry into the ring of what is sent, without telling.
    pub fn put(&mut self, entry: &[u8]) {
        let rings = &mut self.rings[self.queue];
        let offset = 64 + (rings.tx_prod % ENTRIES) as usize * 12;
        rings.tx_prod = rings.tx_prod.wrapping_add(1);
        self.guest.fill(self.tx(), offset, entry);
    }

    pub fn put_part(&mut self, gref: u32, offset: u16, flags: u16, size: usize) {
        let id = U16::new(self.rings[self.queue].tx_prod as u16);
        let (offset, flags, size) = (U16::new(offset), U16::new(flags), U16::new(size as u16));
        let request = TxRequest { gref: U32::new(gref), offset, flags, id, size };
        self.put(request.as_bytes());
    }

    /// Puts a packet in parts of a page, as Linux does; with its segments' size, if it is to be
    /// cut. Returns its requests.
    pub fn put_packet(&mut self, bytes: &[u8], flags: u16, gso: Option<(u16, u8)>) -> u32 {
        let before = self.rings[self.queue].tx_prod;
        for (index, part) in bytes.chunks(4096).enumerate() {
            let gref = DATA + index as u32;
            self.guest.grant(gref, true);
            self.guest.fill(gref, 0, part);
            let more = if (index + 1) * 4096 < bytes.len() { TX_MORE_DATA } else { 0 };
            if index > 0 {
                self.put_part(gref, 0, more, part.len());
                continue;
            }
            let extra = if gso.is_some() { TX_EXTRA_INFO } else { 0 };
            self.put_part(gref, 0, flags | more | extra, bytes.len());
            if let Some((size, kind)) = gso {
                self.put(Extra::with_gso(size, kind).as_bytes());
            }
        }
        self.rings[self.queue].tx_prod.wrapping_sub(before)
    }

    /// Tells of what was put. Returns true if the back end wanted the signal.
    pub fn push(&mut self) -> bool {
        let (ring, produced) = (self.tx(), self.rings[self.queue].tx_prod);
        let old = self.index(ring, 0);
        self.set_index(ring, 0, produced);
        let event = self.index(ring, 4);
        let is_wanted = produced.wrapping_sub(event) < produced.wrapping_sub(old);
        if is_wanted {
            self.vif.serve();
        }
        is_wanted
    }

    /// Takes the answers: identifier and status.
    pub fn responses(&mut self) -> Vec<(u16, i16)> {
        let (ring, mut responses) = (self.tx(), vec![]);
        let rings = &mut self.rings[self.queue];
        let bytes = self.guest.bytes(ring);
        let produced = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        while rings.tx_cons != produced {
            let at = 64 + (rings.tx_cons % ENTRIES) as usize * 12;
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            responses.push((word(at), word(at + 2) as i16));
            rings.tx_cons = rings.tx_cons.wrapping_add(1);
        }
        self.guest.fill(ring, 12, &rings.tx_cons.wrapping_add(1).to_le_bytes());
        responses
    }

    /// Sends one packet, and returns the statuses of its requests.
    pub fn send(&mut self, bytes: &[u8], flags: u16, gso: Option<(u16, u8)>) -> Vec<i16> {
        self.put_packet(bytes, flags, gso);
        assert!(self.push());
        self.responses().into_iter().map(|(_, status)| status).collect()
    }

    /// Gives buffers for frames, a page each. Returns true if the back end wanted the signal.
    pub fn give_buffers(&mut self, count: u32) -> bool {
        let (ring, old) = (self.rx(), self.rings[self.queue].rx_prod);
        for _ in 0..count {
            let rings = &mut self.rings[self.queue];
            let id = (rings.rx_prod % ENTRIES) as u16;
            let gref = BUFFERS + 1000 * self.queue as u32 + u32::from(id);
            self.guest.grant(gref, false);
            let request = RxRequest { id: U16::new(id), pad: U16::ZERO, gref: U32::new(gref) };
            self.guest.fill(ring, 64 + usize::from(id) * 8, request.as_bytes());
            rings.buffers.push_back((id, gref));
            rings.rx_prod = rings.rx_prod.wrapping_add(1);
        }
        let produced = self.rings[self.queue].rx_prod;
        self.set_index(ring, 0, produced);
        let event = self.index(ring, 4);
        let is_wanted = produced.wrapping_sub(event) < produced.wrapping_sub(old);
        if is_wanted {
            self.vif.serve();
        }
        is_wanted
    }

    /// Takes the packets that have come, as Linux's front end does, which has each buffer at the
    /// place of its entry.
    pub fn receive(&mut self) -> Vec<Received> {
        let (ring, mut packets) = (self.rx(), vec![]);
        let bytes = self.guest.bytes(ring);
        let produced = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let mut packet = Received::default();
        while self.rings[self.queue].rx_cons != produced {
            let (at, gref) = self.next_response();
            let [_, offset, flags, status] = [0, 2, 4, 6]
                .map(|field| u16::from_le_bytes([bytes[at + field], bytes[at + field + 1]]));
            if packet.slots == 0 {
                packet.flags = flags;
            }
            packet.slots += 1;
            if flags & RX_EXTRA_INFO != 0 {
                let (at, _) = self.next_response();
                assert_eq!(bytes[at..at + 2], [EXTRA_GSO, 0]);
                packet.gso =
                    Some((u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]), bytes[at + 4]));
                packet.slots += 1;
            }
            match status as i16 {
                ..0 => packet.is_failed = true,
                length => {
                    let start = usize::from(offset);
                    let page = self.guest.bytes(gref);
                    packet.bytes.extend(&page[start..start + length as usize]);
                }
            }
            if flags & RX_MORE_DATA == 0 {
                packets.push(core::mem::take(&mut packet));
            }
        }
        assert_eq!(packet, Received::default(), "a packet that is not all there");
        let next = self.rings[self.queue].rx_cons.wrapping_add(1);
        self.set_index(ring, 12, next);
        packets
    }

    /// The place of the next response, and the buffer that was given there.
    fn next_response(&mut self) -> (usize, u32) {
        let rings = &mut self.rings[self.queue];
        let id = (rings.rx_cons % ENTRIES) as u16;
        rings.rx_cons = rings.rx_cons.wrapping_add(1);
        let (given, gref) = rings.buffers.pop_front().unwrap();
        assert_eq!(given, id);
        (64 + usize::from(id) * 8, gref)
    }
}

/// A frame of a protocol that is nothing of the switch's.
pub fn plain(from: Mac, to: Mac, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes
}

/// A TCP segment over IPv4 from guest 1 to guest 2, whose checksum is left out.
pub fn tcp(data_bytes: usize) -> Vec<u8> {
    let mut bytes = plain(mac(1), mac(2), 54 + data_bytes);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    let length = (40 + data_bytes) as u16;
    let [high, low] = length.to_be_bytes();
    let ip = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    bytes[14..34].copy_from_slice(&ip);
    let tcp = [0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    bytes[34..54].copy_from_slice(&tcp);
    bytes
}
