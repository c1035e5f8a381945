//! The order of states and keys of real front ends.

use super::*;
use crate::store::tree;
use crate::store::xenbus::State;
use crate::test_grants::PORT;
use core::sync::atomic::Ordering;
use net::Mac;

fn passes(bench: &mut Bench) -> bool {
    let bytes = plain(mac(1), mac(2), 60);
    assert_eq!(bench.fronts[0].send(&bytes, 0, None), [STATUS_OKAY]);
    let received = bench.fronts[1].receive();
    received.len() == 1 && received[0].bytes == bytes
}

#[test]
fn linux_goes_from_1_to_4_and_back() {
    let mut bench = Bench::new();
    for (name, value) in [
        ("feature-rx-copy", Some("1")),
        ("feature-rx-flip", Some("0")),
        ("feature-sg", Some("1")),
        ("feature-split-event-channels", Some("1")),
        ("multi-queue-max-queues", Some("2")),
        ("feature-ctrl-ring", None),
        ("feature-gso-tcpv4-prefix", None),
    ] {
        assert_eq!(bench.back_node(0, name).as_deref(), value, "{name}");
    }
    bench.connect(0, &LINUX);
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(8);
    assert!(passes(&mut bench));
    assert_eq!(bench.fronts[0].guest.held(), [TX, RX]);
    assert_eq!(bench.fronts[0].guest.bound.load(Ordering::Relaxed), 2);
    // `ip link set eth0 down; rmmod xen-netfront`
    bench.set(1, "state", "5");
    assert_eq!(bench.back(1), State::Closing);
    bench.set(1, "state", "6");
    assert_eq!(bench.back(1), State::Closed);
    assert!(bench.fronts[1].guest.held().is_empty());
    assert_eq!(bench.fronts[1].guest.bound.load(Ordering::Relaxed), 0);
    // Frames that are sent meanwhile are not kept for the next one.
    let bytes = plain(mac(1), mac(2), 60);
    assert_eq!(bench.fronts[0].send(&bytes, 0, None), [STATUS_OKAY]);
    bench.set(1, "state", "1");
    bench.connect(1, &LINUX);
    assert!(bench.fronts[1].give_buffers(8));
    assert!(bench.fronts[1].receive().is_empty());
    assert!(passes(&mut bench));
}

#[test]
fn a_kernel_that_finds_state_4_of_the_one_before_begins_anew() {
    let mut bench = Bench::connected();
    // Linux's kexec: 6, then 1, before it looks at the back end's.
    bench.set(1, "state", "6");
    bench.set(1, "state", "1");
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(8);
    assert!(passes(&mut bench));
    // Without any 6 in between.
    bench.set(1, "state", "1");
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(8);
    assert!(passes(&mut bench));
}

#[test]
fn a_kernel_that_starts_over_finds_the_card_as_new() {
    let mut bench = Bench::connected();
    bench.fronts[1].vif.let_go();
    assert!(bench.fronts[1].guest.held().is_empty());
    assert_eq!(bench.fronts[1].guest.bound.load(Ordering::Relaxed), 0);
    bench.set(1, "state", "1");
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(8);
    assert!(passes(&mut bench));
}

#[test]
fn openbsd_has_one_event_channel_and_checksums_of_its_own() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    let front = &mut bench.fronts[1];
    front.make_rings(0);
    for (name, value) in [
        ("tx-ring-ref", TX),
        ("rx-ring-ref", RX),
        ("event-channel", PORT),
        ("feature-rx-notify", 1),
        ("feature-no-csum-offload", 1),
        ("request-rx-copy", 1),
        ("state", 4),
    ] {
        bench.set(1, name, &value.to_string());
    }
    assert_eq!(bench.back(1), State::Connected);
    assert_eq!(bench.fronts[1].guest.bound.load(Ordering::Relaxed), 1);
    bench.fronts[1].vif.serve();
    bench.fronts[1].give_buffers(8);
    assert!(passes(&mut bench));
    assert_eq!(bench.fronts[0].send(&tcp(100), TX_CSUM_BLANK, None), [STATUS_OKAY]);
    let received = bench.fronts[1].receive().remove(0);
    assert_eq!(received.flags, RX_DATA_VALIDATED);
    assert_eq!(received.bytes[..50], tcp(100)[..50]);
    assert_ne!(received.bytes[50..52], [0, 0]);
}

#[test]
fn queues_have_directories_of_their_own() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    bench.connect_two_queues(1);
    let mut counts = [0; 2];
    for queue in 0..2 {
        bench.fronts[1].queue = queue;
        bench.fronts[1].give_buffers(64);
    }
    for port in 0..32 {
        let mut bytes = tcp(10);
        bytes[35] = port;
        bench.fronts[0].send(&bytes, TX_CSUM_BLANK, None);
    }
    for (queue, count) in counts.iter_mut().enumerate() {
        bench.fronts[1].queue = queue;
        *count = bench.fronts[1].receive().len();
    }
    assert_eq!(counts[0] + counts[1], 32);
    assert!(counts[0] > 4 && counts[1] > 4, "{counts:?}");
    // Both send.
    for queue in 0..2 {
        bench.fronts[0].give_buffers(4);
        bench.fronts[1].queue = queue;
        let bytes = plain(mac(2), mac(1), 60);
        assert_eq!(bench.fronts[1].send(&bytes, 0, None), [STATUS_OKAY]);
        assert_eq!(bench.fronts[0].receive().len(), 1);
    }
}

#[test]
fn keys_that_are_wrong_end_the_connection_with_a_reason() {
    for (name, value, reason) in [
        ("request-rx-copy", "0", "request-rx-copy is missing: pages are not flipped"),
        ("multi-queue-num-queues", "3", "multi-queue-num-queues is out of range"),
        ("multi-queue-num-queues", "0", "multi-queue-num-queues is out of range"),
        ("multi-queue-num-queues", "2", "tx-ring-ref is missing, or cannot be mapped"),
        ("tx-ring-ref", "7", "tx-ring-ref is missing, or cannot be mapped"),
        ("rx-ring-ref", "x", "rx-ring-ref is missing, or cannot be mapped"),
        ("event-channel-rx", "99", "event-channel cannot be bound"),
        ("event-channel-tx", "", "event-channel is missing"),
    ] {
        let mut bench = Bench::new();
        bench.fronts[0].make_rings(0);
        let port = (PORT + 1).to_string();
        for (name, value) in [
            ("tx-ring-ref", "100"),
            ("rx-ring-ref", "101"),
            ("event-channel-tx", "9"),
            ("event-channel-rx", &port),
            ("request-rx-copy", "1"),
            (name, value),
            ("state", "4"),
        ] {
            bench.set(0, name, value);
        }
        assert_eq!(bench.back(0), State::Closing, "{name}={value}");
        assert_eq!(bench.error(0).as_deref(), Some(reason));
        assert!(bench.fronts[0].guest.held().is_empty());
        assert_eq!(bench.fronts[0].guest.bound.load(Ordering::Relaxed), 0);
        // It may try once more.
        bench.set(0, "state", "6");
        bench.set(0, "state", "1");
        for (name, value) in [("multi-queue-num-queues", "1"), ("request-rx-copy", "1")] {
            bench.set(0, name, value);
        }
        bench.connect(0, &LINUX);
        assert_eq!(bench.error(0), None);
    }
}

#[test]
fn a_card_that_is_taken_away_lets_all_go() {
    let mut bench = Bench::connected();
    let path = crate::store::tree::back_path(2, "vif", 0);
    bench.store.write(&format!("{path}/online"), b"0").unwrap();
    bench.set(1, "state", "6");
    bench.set(1, "state", "1");
    assert_eq!(bench.back(1), State::Closed);
    let mut bench = Bench::connected();
    bench.fronts[1].vif.end(&mut bench.store);
    assert!(bench.fronts[1].guest.held().is_empty());
    let bytes = plain(mac(1), Mac::BROADCAST, 60);
    assert_eq!(bench.fronts[0].send(&bytes, 0, None), [STATUS_OKAY]);
}

#[test]
fn a_card_that_has_ended_writes_nothing_more() {
    let mut bench = Bench::connected();
    let vif = bench.fronts[0].vif.clone();
    vif.end(&mut bench.store);
    // Another has its place.
    let device = tree::Device { class: "vif", id: 0, front: &[], back: &[] };
    tree::add_device(&mut bench.store, 1, &device).unwrap();
    for state in ["4", "5", "1"] {
        bench.set(0, "state", state);
        assert_eq!(bench.back(0), State::Initialising);
        assert!(bench.fronts[0].guest.held().is_empty());
    }
}
