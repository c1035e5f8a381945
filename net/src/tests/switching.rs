use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn an_unknown_address_is_everywhere_and_a_known_one_at_its_port() {
    let switch = Bench::new();
    let [(_, a), (card_b, b), (card_c, c)] = [1, 2, 3].map(|index| open(&switch, index));
    switch.send(&a, plain(mac(1), mac(2), 60), 0);
    assert_eq!([drain(&a).len(), drain(&b).len(), drain(&c).len()], [0, 1, 1]);
    switch.send(&b, plain(mac(2), mac(1), 60), 1);
    assert_eq!([drain(&a).len(), drain(&b).len(), drain(&c).len()], [1, 0, 0]);
    switch.send(&a, plain(mac(1), mac(2), 60), 2);
    switch.send(&a, plain(mac(1), Mac::BROADCAST, 60), 3);
    assert_eq!([drain(&a).len(), drain(&b).len(), drain(&c).len()], [0, 2, 1]);
    // A card that has frames waiting is not told of more.
    assert_eq!([card_b, card_c].map(|card| card.calls.load(Ordering::Relaxed)), [2, 2]);
}

#[test]
fn addresses_move_and_are_forgotten() {
    let switch = Bench::new();
    let [(_, a), (_, b), (_, c)] = [1, 2, 3].map(|index| open(&switch, index));
    let counts = || [drain(&a).len(), drain(&b).len(), drain(&c).len()];
    switch.send(&b, plain(mac(9), mac(1), 60), 0);
    counts();
    switch.send(&c, plain(mac(9), mac(1), 60), 1);
    counts();
    switch.send(&a, plain(mac(1), mac(9), 60), AGEING_NS);
    assert_eq!(counts(), [0, 0, 1]);
    switch.send(&a, plain(mac(1), mac(9), 60), AGEING_NS + 1);
    assert_eq!(counts(), [0, 1, 1]);
    // The port that had it is gone.
    switch.send(&c, plain(mac(9), mac(1), 60), AGEING_NS + 2);
    drop(c);
    switch.send(&a, plain(mac(1), mac(9), 60), AGEING_NS + 3);
    assert_eq!(drain(&b).len(), 1);
}

#[test]
fn a_port_that_learns_without_end_forgets_its_own_oldest_alone() {
    let switch = Bench::new();
    let [(_, a), (_, b), (_, c)] = [1, 2, 3].map(|index| open(&switch, index));
    switch.send(&b, plain(mac(2), mac(1), 60), 0);
    let made_up = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        Mac([2, 0, 0, 0, high, low])
    };
    for number in 0..=MAX_ADDRESSES as u32 {
        switch.send(&c, plain(made_up(number), mac(1), 60), 1);
    }
    let reaches = |to: Mac| {
        [&a, &b, &c].into_iter().for_each(|port| drop(drain(port)));
        switch.send(&a, plain(mac(1), to, 60), 2);
        (drain(&b).len(), drain(&c).len())
    };
    assert_eq!(reaches(mac(2)), (1, 0));
    assert_eq!(reaches(made_up(0)), (1, 1));
    assert_eq!(reaches(made_up(1)), (0, 1));
    assert_eq!(reaches(made_up(MAX_ADDRESSES as u32)), (0, 1));
}

#[test]
fn bridges_are_apart_and_go_with_their_last_port() {
    let switch = Bench::new();
    let (_, a) = open(&switch, 1);
    let (_, b) = plug(&switch, "xenbr1", 2, SourceFilter::default());
    switch.send(&a, plain(mac(1), Mac::BROADCAST, 60), 0);
    assert!(drain(&b).is_empty());
    // The address is not known to a bridge of the same name that begins anew.
    drop(b);
    let [(_, b), (_, c)] = [2, 3].map(|it| plug(&switch, "xenbr1", it, SourceFilter::default()));
    switch.send(&b, plain(mac(2), mac(3), 60), 1);
    assert_eq!(drain(&c).len(), 1);
}

#[test]
fn a_card_that_is_down_gets_nothing() {
    let switch = Bench::new();
    let [(_, a), (card, b)] = [1, 2].map(|index| open(&switch, index));
    switch.send(&a, plain(mac(1), mac(2), 60), 0);
    b.set_queues(0);
    switch.send(&a, plain(mac(1), mac(2), 60), 0);
    b.set_queues(1);
    assert!(drain(&b).is_empty());
    switch.send(&a, plain(mac(1), mac(2), 60), 0);
    assert_eq!((drain(&b).len(), card.calls.load(Ordering::Relaxed)), (1, 2));
}

#[test]
fn frames_that_no_card_may_send_or_that_are_for_bridges_pass_nowhere() {
    let switch = Bench::new();
    let [(_, a), (_, b)] = [1, 2].map(|index| open(&switch, index));
    for source in [Mac::BROADCAST, Mac([0; 6]), Mac([1, 0, 0x5e, 0, 0, 1])] {
        switch.send(&a, plain(source, mac(2), 60), 0);
    }
    assert_eq!((a.counters().sent.frames, a.counters().sent.dropped), (0, 3));
    switch.send(&a, plain(mac(1), Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), 60), 0);
    assert!(drain(&b).is_empty());
    switch.send(&a, plain(mac(1), Mac([0x01, 0x80, 0xc2, 0, 0, 0]), 60), 0);
    assert_eq!(drain(&b).len(), 1);
}

#[test]
fn a_card_gets_the_groups_that_it_wants() {
    let switch = Bench::new();
    let [(_, a), (_, b)] = [1, 2].map(|index| open(&switch, index));
    let group = |last| Mac([0x33, 0x33, 0, 0, 0, last]);
    let got = |to| {
        switch.send(&a, plain(mac(1), to, 60), 0);
        drain(&b).len()
    };
    assert_eq!(got(group(1)), 1);
    assert!(b.set_groups(Some([group(2)].into())));
    assert_eq!([group(1), group(2), Mac::BROADCAST, mac(2)].map(got), [0, 1, 1, 1]);
    let many = (0..=MAX_GROUPS as u8).map(group).collect();
    assert!(!b.set_groups(Some(many)));
    assert_eq!(got(group(1)), 0);
    assert!(b.set_groups(None));
    assert_eq!(got(group(1)), 1);
}

#[test]
fn connections_keep_to_a_queue_and_spread_over_all() {
    let switch = Bench::new();
    let [(_, a), (_, b)] = [1, 2].map(|index| open(&switch, index));
    b.set_queues(4);
    let mut used = BTreeSet::new();
    for port in 1000..1064 {
        let mut taken = BTreeSet::new();
        for data in [&b"x"[..], b"longer"] {
            let bytes = udp_v4([10, 0, 0, 1], (port, 53), data);
            switch.send(&a, Frame::new(bytes, Checksum::Complete, None).unwrap(), 0);
            taken.extend((0..4).filter(|&queue| b.take(queue).is_some()));
        }
        assert_eq!(taken.len(), 1);
        used.extend(taken);
    }
    assert_eq!(used.len(), 4);
}

#[test]
fn an_address_that_a_port_alone_may_use_is_not_learned_elsewhere() {
    let switch = Bench::new();
    let own = SourceFilter { mac: Some(mac(1)), networks: vec![] };
    let (_, a) = plug(&switch, "xenbr0", 1, own);
    let [(_, b), (_, c)] = [2, 3].map(|index| open(&switch, index));
    switch.send(&a, plain(mac(1), mac(3), 60), 0);
    switch.send(&b, plain(mac(1), mac(3), 60), 1);
    [&a, &b].into_iter().for_each(|port| drop(drain(port)));
    switch.send(&c, plain(mac(3), mac(1), 60), 2);
    assert_eq!((drain(&a).len(), drain(&b).len()), (1, 0));
}

#[test]
fn a_card_gets_its_own_address_back_from_one_that_has_used_it_before() {
    let switch = Bench::new();
    let [(_, b), (_, c)] = [2, 3].map(|index| open(&switch, index));
    switch.send(&b, plain(mac(1), mac(3), 60), 0);
    let own = || SourceFilter { mac: Some(mac(1)), networks: vec![] };
    let (_, a) = plug(&switch, "xenbr0", 1, own());
    // The other goes on, and the card has not sent yet.
    switch.send(&b, plain(mac(1), Mac::BROADCAST, 60), 1);
    drain(&a);
    switch.send(&c, plain(mac(3), mac(1), 60), 2);
    assert_eq!((drain(&a).len(), drain(&b).len()), (1, 0));
    // Two that have been given the same address both get its frames.
    let (_, twin) = plug(&switch, "xenbr0", 1, own());
    switch.send(&c, plain(mac(3), mac(1), 60), 3);
    assert_eq!((drain(&a).len(), drain(&b).len(), drain(&twin).len()), (1, 0, 1));
}

#[test]
fn an_address_that_goes_to_and_fro_drives_no_other_out() {
    let switch = Bench::new();
    let [(_, a), (_, b), (_, c)] = [1, 2, 3].map(|index| open(&switch, index));
    switch.send(&b, plain(mac(2), mac(1), 60), 0);
    for _ in 0..=MAX_ADDRESSES {
        switch.send(&b, plain(mac(9), mac(1), 60), 1);
        switch.send(&c, plain(mac(9), mac(1), 60), 1);
    }
    [&a, &b, &c].into_iter().for_each(|port| drop(drain(port)));
    switch.send(&a, plain(mac(1), mac(2), 60), 2);
    assert_eq!((drain(&b).len(), drain(&c).len()), (1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Send { port: usize, from: u8, to: u8, length: usize },
    Take { port: usize },
    Queues { port: usize, queues: usize },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = (0..4_usize, 0..8_u8, 0..9_u8, prop_oneof![14..100_usize, Just(MAX_BYTES)]);
    let send = send.prop_map(|(port, from, to, length)| Step::Send { port, from, to, length });
    let take = (0..4_usize).prop_map(|port| Step::Take { port });
    let queues = (0..4_usize, 0..3_usize).prop_map(|(port, queues)| Step::Queues { port, queues });
    let wait = (0..2 * AGEING_NS).prop_map(Step::Wait);
    let step = prop_oneof![12 => send, 3 => take, 1 => queues, 1 => wait];
    prop::collection::vec(step, 1..150)
}

/// The bytes that wait at a port, and their number.
fn waiting(port: &Port) -> (usize, usize) {
    let frames: Vec<_> =
        (0..2).flat_map(|queue| core::iter::from_fn(move || port.take(queue))).collect();
    (frames.iter().map(|frame| frame.bytes().len()).sum(), frames.len())
}

proptest! {
    /// Ports 0 to 2 are on one bridge and 3 on another; port 1 may use its own address alone.
    #[test]
    fn frames_go_only_where_they_may(steps in steps()) {
        let switch = Bench::new();
        let ports: Vec<_> = (0..4_u8).map(|index| {
            let own = (index == 1).then_some(mac(1));
            let filter = SourceFilter { mac: own, networks: vec![] };
            plug(&switch, if index < 3 { "xenbr0" } else { "xenbr1" }, index, filter)
        }).collect();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wait(ns) => now += ns,
                Step::Queues { port, queues } => {
                    ports[port].1.set_queues(queues);
                    prop_assert!((0..3).all(|queue| ports[port].1.take(queue).is_none()));
                }
                Step::Take { port } => {
                    let (bytes, frames) = waiting(&ports[port].1);
                    prop_assert!(bytes <= MAX_WAITING_BYTES && frames <= MAX_WAITING_FRAMES);
                }
                Step::Send { port, from, to, length } => {
                    let to = if to == 8 { Mac::BROADCAST } else { mac(to) };
                    let before: Vec<_> = ports.iter().map(|(_, port)| port.counters()).collect();
                    switch.send(&ports[port].1, plain(mac(from), to, length), now);
                    let may = port != 1 || from == 1;
                    let counts = ports.iter().map(|(_, port)| port.counters()).zip(before);
                    for (index, (after, before)) in counts.enumerate() {
                        let sent = after.sent.frames - before.sent.frames;
                        prop_assert_eq!(sent, u64::from(index == port && may));
                        let came = after.received.frames - before.received.frames;
                        prop_assert!(came <= 1);
                        let can = may && index != port && port < 3 && index < 3;
                        prop_assert!(came == 0 || can);
                    }
                }
            }
        }
    }
}

#[test]
fn a_slow_card_loses_frames_and_holds_up_nobody() {
    let switch = Bench::new();
    let [(_, a), (_, slow), (_, quick)] = [1, 2, 3].map(|index| open(&switch, index));
    for _ in 0..20 {
        switch.send(&a, plain(mac(1), Mac::BROADCAST, MAX_BYTES), 0);
        assert_eq!(drain(&quick).len(), 1);
    }
    assert_eq!(slow.counters().received.frames, (MAX_WAITING_BYTES / 65_536) as u64);
    assert_eq!(slow.counters().received.dropped, 20 - slow.counters().received.frames);
    drain(&slow);
    for _ in 0..MAX_WAITING_FRAMES + 10 {
        switch.send(&a, plain(mac(1), mac(2), 14), 0);
    }
    assert_eq!(drain(&slow).len(), MAX_WAITING_FRAMES);
}

#[test]
fn a_frame_is_as_long_as_its_receiver_takes_it() {
    let switch = Bench::new();
    let (_, a) = open(&switch, 1);
    let card = Arc::new(Card::default());
    let weak: alloc::sync::Weak<Card> = Arc::downgrade(&card);
    let filter = SourceFilter::default();
    let b = switch.plug("xenbr0", PortSettings { mac: mac(2), filter, mtu: 1500, receiver: weak });
    b.set_queues(1);
    for length in [1518, 1519] {
        switch.send(&a, plain(mac(1), mac(2), length), 0);
    }
    assert_eq!((drain(&b).len(), b.counters().received.dropped), (1, 1));
    let gso = Some(Gso { segment_bytes: 1448, kind: GsoKind::TcpV4 });
    let long = Frame::new(tcp(false, &[0; 3000]), Checksum::Blank, gso).unwrap();
    switch.send(&a, long, 0);
    assert_eq!((drain(&b).len(), b.counters().received.frames), (1, 2));
}
