//! Front ends that break the rules.

use super::*;
use crate::store::xenbus::State;
use crate::test_grants::PORT;
use net::Rate;
use zerocopy::IntoBytes;

/// The front end has broken its ring: it is told why, and gets another connection after that.
fn is_given_up(bench: &mut Bench, front: usize) {
    bench.work();
    assert_eq!(bench.back(front), State::Closing);
    let reason = "the ring's indices or requests are wrong";
    assert_eq!(bench.error(front).as_deref(), Some(reason));
    assert!(bench.fronts[front].guest.held().is_empty());
    bench.fronts[front].vif.serve();
    bench.set(front, "state", "6");
    bench.set(front, "state", "1");
    bench.connect(front, &LINUX);
}

#[test]
fn indices_out_of_the_ring_end_the_connection() {
    for ring in [TX, RX] {
        for index in [257, u32::MAX, 1 << 31] {
            let mut bench = Bench::connected();
            bench.fronts[1].set_index(ring, 0, index);
            bench.fronts[0].send(&plain(mac(1), mac(2), 60), 0, None);
            bench.fronts[1].vif.serve();
            is_given_up(&mut bench, 1);
        }
    }
}

#[test]
fn packets_that_no_front_end_sends_end_the_connection() {
    type Put = fn(&mut Front);
    let cases: [(&str, Put); 9] = [
        ("a part that is missing", |front| front.put_part(DATA, 0, TX_MORE_DATA, 5000)),
        ("an entry that is missing", |front| front.put_part(DATA, 0, TX_EXTRA_INFO, 60)),
        ("an entry of no type", |front| {
            front.put_part(DATA, 0, TX_EXTRA_INFO, 60);
            front.put(&[0; 8]);
        }),
        ("an entry of a type that is to come", |front| {
            front.put_part(DATA, 0, TX_EXTRA_INFO, 60);
            front.put(Extra { kind: EXTRA_END, flags: 0, body: [0; 6] }.as_bytes());
        }),
        ("segments without data", |front| {
            front.put_part(DATA, 0, TX_EXTRA_INFO, 60);
            front.put(Extra::with_gso(0, GSO_TCPV4).as_bytes());
        }),
        ("segments of no protocol", |front| {
            front.put_part(DATA, 0, TX_EXTRA_INFO, 60);
            front.put(Extra::with_gso(1448, 3).as_bytes());
        }),
        ("a first part that leaves its page", |front| front.put_part(DATA, 4090, 0, 60)),
        ("a later part that leaves its page", |front| {
            front.put_part(DATA, 0, TX_MORE_DATA, 5000);
            front.put_part(DATA, 4000, 0, 904);
        }),
        ("parts without end", |front| {
            (0..100).for_each(|_| front.put_part(DATA, 0, TX_MORE_DATA, 60));
        }),
    ];
    for (name, put) in cases {
        let mut bench = Bench::connected();
        bench.fronts[0].guest.grant(DATA, true);
        put(&mut bench.fronts[0]);
        bench.fronts[0].push();
        println!("{name}");
        is_given_up(&mut bench, 0);
        assert!(bench.fronts[1].receive().is_empty());
    }
}

#[test]
fn packets_that_are_wrong_are_refused_and_the_next_ones_pass() {
    let mut bench = Bench::connected();
    let front = &mut bench.fronts[0];
    front.guest.grant(DATA, true);
    let statuses = |front: &mut Front| {
        front.push();
        front.responses().into_iter().map(|(_, status)| status).collect::<Vec<_>>()
    };
    // Too short.
    front.put_part(DATA, 0, 0, 13);
    assert_eq!(statuses(front), [STATUS_ERROR]);
    // A page that is not granted.
    front.put_part(7777, 0, 0, 60);
    assert_eq!(statuses(front), [STATUS_ERROR]);
    // In a later part.
    front.put_part(DATA, 0, TX_MORE_DATA, 100);
    front.put_part(7777, 0, 0, 40);
    assert_eq!(statuses(front), [STATUS_ERROR; 2]);
    // Parts that are longer than the whole.
    front.put_part(DATA, 0, TX_MORE_DATA, 100);
    front.put_part(DATA, 0, 0, 101);
    assert_eq!(statuses(front), [STATUS_ERROR; 2]);
    // One part too many.
    front.put_part(DATA, 0, TX_MORE_DATA, 1900);
    (0..17).for_each(|_| front.put_part(DATA, 0, TX_MORE_DATA, 100));
    front.put_part(DATA, 0, 0, 100);
    assert_eq!(statuses(front), [STATUS_ERROR; 19]);
    // Headers that do not go with what is left undone: the guest is not told, as in Linux.
    assert_eq!(front.send(&plain(mac(1), mac(2), 60), TX_CSUM_BLANK, None), [STATUS_OKAY]);
    let statuses = front.send(&tcp(5000), TX_CSUM_BLANK, Some((1448, GSO_TCPV6)));
    assert_eq!(statuses, [STATUS_OKAY, STATUS_NULL, STATUS_OKAY]);
    assert!(bench.fronts[1].receive().is_empty());
    let bytes = plain(mac(1), mac(2), 60);
    assert_eq!(bench.fronts[0].send(&bytes, 0, None), [STATUS_OKAY]);
    assert_eq!(bench.fronts[1].receive()[0].bytes, bytes);
    assert_eq!(bench.fronts[0].guest.held(), [TX, RX]);
}

#[test]
fn buffers_that_are_none_fail_their_frame_alone() {
    let mut bench = Bench::connected();
    bench.fronts[1].guest.revoke(BUFFERS + 2);
    bench.fronts[1].guest.grant(BUFFERS + 5, true);
    let bytes = tcp(8000);
    for _ in 0..3 {
        bench.fronts[0].send(&bytes, TX_CSUM_BLANK, Some((1448, GSO_TCPV4)));
    }
    bench.fronts[0].send(&plain(mac(1), mac(2), 60), 0, None);
    bench.fronts[1].guest.grant(BUFFERS + 2, false);
    let packets = bench.fronts[1].receive();
    let failed: Vec<_> = packets.iter().map(|packet| packet.is_failed).collect();
    assert_eq!(failed, [true, true, false, false]);
    assert!(packets[2].bytes == bytes);
}

#[test]
fn rings_that_vanish_end_the_connection() {
    for ring in [TX, RX] {
        let mut bench = Bench::connected();
        bench.fronts[1].guest.revoke(ring);
        bench.fronts[0].send(&plain(mac(1), mac(2), 60), 0, None);
        bench.fronts[1].vif.serve();
        is_given_up(&mut bench, 1);
    }
}

#[test]
fn one_ring_for_both_directions_is_survived() {
    let mut bench = Bench::new();
    bench.fronts[0].make_rings(0);
    for (name, value) in [("tx-ring-ref", TX), ("rx-ring-ref", TX), ("event-channel", PORT)] {
        bench.set(0, name, &value.to_string());
    }
    bench.set(0, "request-rx-copy", "1");
    bench.set(0, "state", "4");
    bench.connect(1, &LINUX);
    bench.fronts[0].put_packet(&plain(mac(1), mac(2), 60), 0, None);
    bench.fronts[0].push();
    bench.fronts[1].give_buffers(8);
    bench.fronts[1].send(&plain(mac(2), mac(1), 60), 0, None);
    bench.work();
}

#[test]
fn a_request_that_changes_after_it_was_read_counts_as_it_was() {
    let rate = Rate { interval_bytes: 1000, interval_us: 1000 };
    let mut bench = Bench::with([Some(rate), None]);
    bench.connect(0, &LINUX);
    bench.connect(1, &LINUX);
    bench.fronts[1].give_buffers(8);
    let front = &mut bench.fronts[0];
    front.put_packet(&plain(mac(1), mac(2), 1500), 0, None);
    // The length of the first request.
    front.guest.fill(TX, 64 + 10, &100_u16.to_le_bytes());
    front.guest.change_after_read(TX, 64, 10, &1500_u16.to_le_bytes());
    front.push();
    let lengths: Vec<_> = bench.fronts[1].receive().iter().map(|it| it.bytes.len()).collect();
    assert_eq!(lengths, [100]);
}

#[test]
fn packets_that_cannot_be_copied_use_the_turn_up_too() {
    let mut bench = Bench::connected();
    let front = &mut bench.fronts[0];
    let bytes = tcp(60_000);
    (0..12).for_each(|_| _ = front.put_packet(&bytes, TX_CSUM_BLANK, Some((1448, 1))));
    // The last page of each.
    front.guest.revoke(DATA + 14);
    front.push();
    assert_eq!(front.responses().len(), 5 * 16);
}
