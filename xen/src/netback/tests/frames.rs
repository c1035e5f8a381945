//! Frames of all kinds from guest to guest.

use super::*;
use core::sync::atomic::Ordering;
use net::{Mac, Rate};
use zerocopy::IntoBytes;

#[test]
fn frames_of_every_length_pass() {
    let mut bench = Bench::connected();
    for length in [14, 60, 1514, 1518] {
        let bytes = plain(mac(1), mac(2), length);
        assert_eq!(bench.fronts[0].send(&bytes, 0, None), [STATUS_OKAY]);
        let [packet] = &bench.fronts[1].receive()[..] else { panic!("{length}") };
        assert_eq!((&packet.bytes, packet.flags, packet.slots), (&bytes, 0, 1));
    }
    // Longer ones than the card's MTU are the sender's fault.
    assert_eq!(bench.fronts[0].send(&plain(mac(1), mac(2), 1519), 0, None), [STATUS_OKAY]);
    assert!(bench.fronts[1].receive().is_empty());
    assert_eq!(bench.fronts[1].vif.counters().received.dropped, 1);
}

#[test]
fn flags_are_those_of_the_other_direction() {
    let mut bench = Bench::connected();
    for (sent, received) in [
        (0, 0),
        (TX_DATA_VALIDATED, RX_DATA_VALIDATED),
        (TX_CSUM_BLANK | TX_DATA_VALIDATED, RX_CSUM_BLANK | RX_DATA_VALIDATED),
        (TX_CSUM_BLANK, RX_CSUM_BLANK | RX_DATA_VALIDATED),
    ] {
        bench.fronts[0].send(&tcp(20), sent, None);
        let packet = bench.fronts[1].receive().remove(0);
        assert_eq!((packet.flags, packet.bytes), (received, tcp(20)));
    }
}

#[test]
fn a_long_segment_passes_whole() {
    let mut bench = Bench::connected();
    let bytes = tcp(65_535 - 54);
    let statuses = bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((1448, GSO_TCPV4)));
    assert_eq!(statuses.len(), 17);
    assert_eq!(statuses[..3], [STATUS_OKAY, STATUS_NULL, STATUS_OKAY]);
    let [packet] = &bench.fronts[1].receive()[..] else { panic!() };
    assert!(packet.bytes == bytes);
    assert_eq!((packet.gso, packet.slots), (Some((1448, GSO_TCPV4)), 17));
    let flags = RX_CSUM_BLANK | RX_DATA_VALIDATED | RX_MORE_DATA | RX_EXTRA_INFO;
    assert_eq!(packet.flags, flags);
    // One signal to the receiver, and none to the sender, who has not asked for one.
    assert_eq!(bench.fronts[1].guest.signals.lock().values().sum::<u32>(), 1);
}

#[test]
fn a_receiver_that_takes_no_long_segments_gets_short_ones() {
    for left_out in ["feature-sg", "feature-gso-tcpv4", "feature-no-csum-offload"] {
        let mut bench = Bench::new();
        bench.connect(0, &LINUX);
        let keys = LINUX.map(|(name, value)| match name == left_out {
            true if value == "1" => (name, "0"),
            true => (name, "1"),
            false => (name, value),
        });
        bench.connect(1, &keys);
        bench.fronts[1].give_buffers(5);
        let bytes = tcp(10_000);
        bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((1448, GSO_TCPV4)));
        let mut packets = bench.fronts[1].receive();
        assert_eq!(packets.len(), 5, "{left_out}");
        // The others wait for buffers, of which the guest tells.
        assert!(bench.fronts[1].give_buffers(5));
        packets.extend(bench.fronts[1].receive());
        assert_eq!(packets.len(), 7);
        assert!(packets.iter().all(|packet| packet.flags == RX_DATA_VALIDATED));
        let data: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes[54..].to_vec()).collect();
        assert!(data == bytes[54..]);
        // Segments that are longer than its frames may be are no use to it.
        bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((5000, GSO_TCPV4)));
        bench.fronts[1].give_buffers(8);
        assert!(bench.fronts[1].receive().is_empty());
    }
}

#[test]
fn a_receiver_is_told_once_its_buffers_are_enough() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(3);
    let bytes = tcp(20_000);
    bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((1448, GSO_TCPV4)));
    assert!(bench.fronts[1].receive().is_empty());
    assert!(!bench.fronts[1].give_buffers(2));
    assert!(bench.fronts[1].give_buffers(1));
    assert!(bench.fronts[1].receive()[0].bytes == bytes);
}

#[test]
fn buffers_of_a_guest_that_does_not_tell_are_looked_for() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    bench.connect(1, &[("request-rx-copy", "1")]);
    bench.fronts[0].send(&plain(mac(1), mac(2), 60), 0, None);
    assert_eq!(bench.fronts[1].guest.later_calls.swap(0, Ordering::Relaxed), 1);
    bench.fronts[1].vif.serve();
    assert_eq!(bench.fronts[1].guest.later_calls.swap(0, Ordering::Relaxed), 1);
    bench.fronts[1].give_buffers(1);
    bench.fronts[1].vif.serve();
    assert_eq!(bench.fronts[1].receive().len(), 1);
    assert_eq!(bench.fronts[1].guest.later_calls.load(Ordering::Relaxed), 0);
}

#[test]
fn a_rate_holds_the_ring_up() {
    let rate = Rate { interval_bytes: 3000, interval_us: 1000 };
    let mut bench = Bench::with([Some(rate), None]);
    bench.connect(0, &LINUX);
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(64);
    let bytes = plain(mac(1), mac(2), 1000);
    (0..5).for_each(|_| _ = bench.fronts[0].put_packet(&bytes, 0, None));
    bench.fronts[0].push();
    assert_eq!(bench.fronts[0].responses().len(), 3);
    assert_eq!(bench.fronts[0].guest.later_calls.swap(0, Ordering::Relaxed), 1);
    bench.fronts[0].vif.serve();
    assert_eq!(bench.fronts[1].receive().len(), 3);
    bench.clock.0.store(1_000_000, Ordering::Relaxed);
    bench.fronts[0].vif.serve();
    assert_eq!((bench.fronts[0].responses().len(), bench.fronts[1].receive().len()), (2, 2));
}

#[test]
fn groups_are_asked_for_by_entries_in_the_ring() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    let keys = [&LINUX[..], &[("request-multicast-control", "1")]].concat();
    bench.connect(1, &keys);
    bench.fronts[1].give_buffers(100);
    let group = |last| Mac([0x33, 0x33, 0, 0, 0, last]);
    let got = |bench: &mut Bench, to| {
        bench.fronts[0].send(&plain(mac(1), to, 60), 0, None);
        bench.fronts[1].receive().len()
    };
    let change = |bench: &mut Bench, front: usize, kind, Mac(address): Mac| {
        let front = &mut bench.fronts[front];
        front.put_part(0, 0, TX_EXTRA_INFO, 0);
        front.put(Extra { kind, flags: 0, body: address }.as_bytes());
        front.push();
        front.responses().into_iter().map(|(_, status)| status).collect::<Vec<_>>()
    };
    assert_eq!([group(1), Mac::BROADCAST, mac(2)].map(|to| got(&mut bench, to)), [0, 1, 1]);
    assert_eq!(change(&mut bench, 1, EXTRA_MCAST_ADD, group(1)), [STATUS_OKAY, STATUS_NULL]);
    assert_eq!([group(1), group(2)].map(|to| got(&mut bench, to)), [1, 0]);
    assert_eq!(change(&mut bench, 1, EXTRA_MCAST_DEL, group(1)), [STATUS_OKAY, STATUS_NULL]);
    assert_eq!(got(&mut bench, group(1)), 0);
    for last in 0..64 {
        assert_eq!(change(&mut bench, 1, EXTRA_MCAST_ADD, group(last))[0], STATUS_OKAY);
    }
    assert_eq!(change(&mut bench, 1, EXTRA_MCAST_ADD, group(64)), [STATUS_ERROR, STATUS_NULL]);
    assert_eq!(change(&mut bench, 1, EXTRA_MCAST_ADD, group(63))[0], STATUS_OKAY);
    // One that has not said that it would.
    assert_eq!(change(&mut bench, 0, EXTRA_MCAST_ADD, group(1)), [STATUS_ERROR, STATUS_NULL]);
}

#[test]
fn entries_that_say_what_is_of_no_use_here_are_passed_over() {
    let mut bench = Bench::connected();
    let front = &mut bench.fronts[0];
    front.put_packet(&plain(mac(1), mac(2), 60), 0, None);
    front.responses();
    front.put_part(DATA, 0, TX_EXTRA_INFO, 60);
    for (kind, flags) in [(4, EXTRA_MORE), (5, 0)] {
        front.put(Extra { kind, flags, body: [0xff; 6] }.as_bytes());
    }
    front.push();
    let statuses: Vec<_> = front.responses().into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [STATUS_OKAY, STATUS_OKAY, STATUS_NULL, STATUS_NULL]);
    assert_eq!(bench.fronts[1].receive().len(), 2);
}

#[test]
fn a_slow_receiver_holds_up_no_sender() {
    let mut bench = Bench::new();
    bench.connect(0, &LINUX);
    bench.connect(1, &LINUX);
    let bytes = tcp(60_000);
    for _ in 0..20 {
        let statuses = bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((1448, GSO_TCPV4)));
        assert_eq!(statuses[0], STATUS_OKAY);
    }
    let received = bench.fronts[1].vif.counters().received;
    // One more than the queue holds has been taken out of it already.
    assert_eq!((received.frames, received.dropped), (9, 11));
    let mut packets = vec![];
    for _ in 0..9 {
        bench.fronts[1].give_buffers(16);
        packets.extend(bench.fronts[1].receive());
    }
    assert!(packets.len() == 9 && packets.iter().all(|packet| packet.bytes == bytes));
}

#[test]
fn a_guest_that_sends_without_end_is_served_in_turns() {
    let mut bench = Bench::connected();
    let bytes = tcp(60_000);
    (0..12).for_each(|_| _ = bench.fronts[0].put_packet(&bytes, TX_CSUM_BLANK, Some((1448, 1))));
    bench.fronts[0].push();
    assert_eq!(bench.fronts[0].responses().len(), 5 * 16);
    assert_eq!(bench.work(), 1);
    assert_eq!(bench.fronts[0].responses().len(), 5 * 16);
    bench.work();
    assert_eq!(bench.fronts[0].responses().len(), 2 * 16);
    assert_eq!(bench.fronts[1].receive().len(), 12);
}

#[test]
fn queues_of_a_card_share_its_turn() {
    let mut bench = Bench::new();
    bench.connect_two_queues(0);
    let front = &mut bench.fronts[0];
    let bytes = tcp(60_000);
    for queue in 0..2 {
        front.queue = queue;
        (0..12).for_each(|_| _ = front.put_packet(&bytes, TX_CSUM_BLANK, Some((1448, 1))));
    }
    front.guest.calls.store(0, Ordering::Relaxed);
    for queue in 0..2 {
        front.queue = queue;
        let (ring, produced) = (TX + 10 * queue as u32, 12 * 16);
        front.set_index(ring, 0, produced);
    }
    let answered = |bench: &mut Bench| {
        let mut counts = [0; 2];
        for (queue, count) in counts.iter_mut().enumerate() {
            bench.fronts[0].queue = queue;
            *count = bench.fronts[0].responses().len();
        }
        counts.sort_unstable();
        counts
    };
    bench.fronts[0].vif.serve();
    assert_eq!(answered(&mut bench), [0, 5 * 16]);
    // The other one is the first of the next turn.
    assert_eq!(bench.work(), 1);
    assert_eq!(answered(&mut bench), [0, 5 * 16]);
    (0..4).for_each(|_| _ = bench.work());
    assert_eq!(answered(&mut bench), [7 * 16, 7 * 16]);
}
