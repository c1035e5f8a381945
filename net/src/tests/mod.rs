//! A switch with cards that do nothing but count, and frames for them.

mod filtering;
mod offloads;
mod switching;

use crate::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use etherparse::PacketBuilder;

#[derive(Default)]
struct Card {
    calls: AtomicU32,
}

impl Receiver for Card {
    fn frames_wait(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A switch with its clock.
struct Bench {
    switch: Switch,
    clock: Arc<TestClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        Self { switch: Switch::new(clock.clone()), clock }
    }

    fn send(&self, port: &Port, frame: Frame, now_ns: u64) {
        self.clock.0.store(now_ns, Ordering::Relaxed);
        let mut calls = Calls::default();
        port.send(frame, &mut calls);
        calls.call();
    }
}

impl Deref for Bench {
    type Target = Switch;

    fn deref(&self) -> &Switch {
        &self.switch
    }
}

const fn mac(index: u8) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 0, index])
}

/// A frame of a protocol that the switch knows nothing of.
fn plain(from: Mac, to: Mac, length: usize) -> Frame {
    let mut bytes = vec![0x5a; length];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    Frame::new(bytes, Checksum::Complete, None).unwrap()
}

/// A card's port, which is up, with the card.
fn plug(switch: &Switch, bridge: &str, index: u8, filter: SourceFilter) -> (Arc<Card>, Port) {
    let card = Arc::new(Card::default());
    let weak: alloc::sync::Weak<Card> = Arc::downgrade(&card);
    let port = switch
        .plug(bridge, PortSettings { mac: mac(index), filter, mtu: MAX_BYTES, receiver: weak });
    port.set_queues(1);
    (card, port)
}

fn open(switch: &Switch, index: u8) -> (Arc<Card>, Port) {
    plug(switch, "xenbr0", index, SourceFilter::default())
}

fn drain(port: &Port) -> Vec<Arc<Frame>> {
    core::iter::from_fn(|| port.take(0)).collect()
}

/// A TCP segment with sound checksums, of IPv4 or IPv6.
fn tcp(is_v6: bool, data: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(mac(1).0, mac(2).0);
    let ip = if is_v6 {
        let address = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        ethernet.ipv6(address(1), address(2), 64)
    } else {
        ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    };
    let builder = ip.tcp(4000, 80, 0xffff_ff00, 1000).psh().fin().ack(7);
    let mut bytes = vec![];
    builder.write(&mut bytes, data).unwrap();
    bytes
}

fn udp_v4(source: [u8; 4], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(mac(1).0, Mac::BROADCAST.0).ipv4(source, [10, 0, 0, 2], 64);
    let mut bytes = vec![];
    ip.udp(ports.0, ports.1).write(&mut bytes, data).unwrap();
    bytes
}
