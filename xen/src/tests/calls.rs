//! Each call with arguments that are wrong, and Xen's answers.

use super::*;
use crate::hypercall::{Answer, Outcome, Then};

/// Where the reason is by which a guest ends itself.
const REASON: u64 = 0x7_0000;

const BAD: u64 = RAM_BYTES;
const PERM: i64 = -1;
const NOENT: i64 = -2;
const SRCH: i64 = -3;
const FAULT: i64 = -14;
const INVAL: i64 = -22;
const NOSPC: i64 = -28;
const NOSYS: i64 = -38;

#[test]
fn numbers_that_are_not_a_guests_are_refused_as_xen_does() {
    let mut guest = Guest::new(Width::Bits64, 1);
    for number in [0, 1, 5, 16, 19, 23, 25, 33, 37, 38, 63, 1 << 32 | 17, u64::MAX] {
        assert_eq!(guest.call(number, &[]), NOSYS, "{number}");
    }
    for number in [18, 35, 36, 41] {
        assert_eq!(guest.call(number, &[]), PERM, "{number}");
    }
}

#[test]
fn pointers_that_lead_nowhere_are_faults() {
    let mut guest = Guest::new(Width::Bits64, 1);
    let calls: [(u64, &[u64]); 10] = [
        (17, &[1, BAD]),
        (17, &[6, BAD - 4]),
        (12, &[7, BAD]),
        (34, &[0, BAD]),
        (34, &[23, BAD]),
        (24, &[8, 0, BAD]),
        (29, &[3, BAD]),
        (29, &[5, BAD]),
        (32, &[1, BAD]),
        (20, &[6, BAD, 1]),
    ];
    for (number, arguments) in calls {
        assert_eq!(guest.call(number, arguments), FAULT, "{number} {arguments:?}");
    }
}

#[test]
fn versions_and_texts() {
    let mut guest = Guest::new(Width::Bits64, 1);
    assert_eq!(guest.call(17, &[0]), 0x0004_0011);
    let (result, text) = guest.op(17, 1, [0xff; 16]);
    assert_eq!((result, &text[..11], text[15]), (0, &b".0-bulkhead"[..], 0));
    assert_eq!(guest.op(17, 9, [0xff; 1024]).1[..9], *b"<denied>\0");
    assert_eq!(guest.call(17, &[7, 0]), 4096);
    assert_eq!(guest.call(17, &[7, ARGUMENT]), INVAL);
    assert_eq!(guest.call(17, &[10, 0]), PERM);
    assert_eq!(guest.call(17, &[11, 0]), NOSYS);
    assert_eq!(guest.op(17, 8, [0; 16]), (0, [7; 16]));
    assert_eq!(guest.op(17, 6, [1, 0, 0, 0, 0, 0, 0, 0]).0, INVAL, "there is one submap");
}

#[test]
fn pages_go_only_where_they_can_be() {
    let mut guest = Guest::new(Width::Bits64, 1);
    assert_eq!(guest.put(0, 1, 1), INVAL, "there is one shared info");
    assert_eq!(guest.put(1, 64, 1), INVAL, "the table ends");
    assert_eq!(guest.put(2, 0, 1), NOSYS);
    assert_eq!(guest.put(0, 0, 0x200), PERM, "neither RAM nor free");
    let mut other = [0; 24];
    other[0] = DOMAIN as u8 + 1;
    assert_eq!(guest.op(12, 7, other).0, SRCH);
    other[0] = DOMAIN as u8;
    other[16] = 1;
    assert_eq!(guest.op(12, 7, other).0, 0, "its own number means itself");
    assert_eq!(guest.call(12, &[7 | 1 << 6, ARGUMENT]), NOSYS);
    let mut all_ones = [0xff; 24];
    all_ones[..8].copy_from_slice(&[0xf0, 0x7f, 0, 0, 0, 0, 0, 0]);
    all_ones[8..16].fill(0);
    assert_eq!(guest.op(12, 7, all_ones).0, INVAL);
    guest.poke(ARGUMENT, &SELF.to_le_bytes());
    for command in [2, 3, 4, 14, 15] {
        let from_extent_1 = guest.call(12, &[command | 1 << 6, ARGUMENT]);
        assert_eq!(from_extent_1, INVAL, "{command} has no extents");
    }
    assert_eq!(guest.call(12, &[14, ARGUMENT]), 255);
    assert_eq!(guest.call(12, &[3, ARGUMENT]), 256);
}

#[test]
fn virtual_cpus_that_there_are_not_and_those_of_others() {
    let mut guest = Guest::new(Width::Bits64, 2);
    assert_eq!(guest.call(24, &[3, 2, 0]), NOENT);
    assert_eq!(guest.call(24, &[3, 0, 0]), 1);
    assert_eq!(guest.call(24, &[3, 1, 0]), 0);
    guest.platform.set_up(1, true);
    assert_eq!(guest.call(24, &[3, 1, 0]), 1);
    // As Linux does when it resumes.
    assert_eq!(guest.call(24, &[7, 1, 0]), 0);
    for command in [5, 8, 9, 13] {
        assert_eq!(guest.call(24, &[command, 1, ARGUMENT]), INVAL, "{command}");
    }
    assert_eq!(guest.call(24, &[14, 0, ARGUMENT]), NOSYS, "of 4.18");
    guest.poke(ARGUMENT, &999_999_u64.to_le_bytes());
    assert_eq!(guest.call(24, &[6, 0, ARGUMENT]), INVAL, "a period below 1 ms");
    let place = |gfn: u64, offset: u32| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&gfn.to_le_bytes());
        bytes[8..12].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    guest.platform.latch_width(Width::Bits64);
    guest.poke(ARGUMENT, &place(1, 128));
    assert_eq!(guest.call(24, &[10, 1, ARGUMENT]), INVAL, "it runs");
    guest.platform.set_up(1, false);
    assert_eq!(guest.call(24, &[10, 1, ARGUMENT]), 0);
    for (bytes, result) in [
        (place(1, 4096 - 63), -6),
        (place(1, 4), -6),
        (place(0x10_0000, 0), INVAL),
        (place(u64::MAX, 0), INVAL),
        (place(1, 64), 0),
        (place(2, 64), INVAL),
    ] {
        guest.poke(ARGUMENT, &bytes);
        assert_eq!(guest.call(24, &[10, 0, ARGUMENT]), result, "{bytes:?}");
    }
    assert_eq!(guest.op(34, 23, [2, 0, 0, 0, 0x30, 0, 0, 0]).0, NOENT);
    assert_eq!(guest.op(34, 23, [0, 0, 0, 0, 15, 0, 0, 0]).0, INVAL);
}

#[test]
fn a_periodic_timer_keeps_its_phase() {
    let mut guest = Guest::new(Width::Bits64, 1);
    guest.poke(ARGUMENT, &2_000_000_u64.to_le_bytes());
    assert_eq!(guest.call(24, &[6, 0, ARGUMENT]), 0);
    guest.told();
    guest.platform.timer_expired(0, GuestTime::from_ns(7_000_000));
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: Some(8_000_000) }]);
}

#[test]
fn a_timer_in_32_bits_has_two_registers() {
    let mut guest = Guest::new(Width::Bits32, 1);
    assert_eq!(guest.call(15, &[5, 1]), 0);
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: Some(1 << 32 | 5) }]);
    assert_eq!(guest.call(15, &[0, 0]), 0);
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: None }]);
    // Too far to be meant.
    assert_eq!(guest.call(15, &[0, 0x8000_0000]), 0);
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: Some(100_000_000) }]);
}

#[test]
fn several_calls_in_one_have_results_of_their_own() {
    for (width, entry) in [(Width::Bits64, 64), (Width::Bits32, 32)] {
        let mut guest = Guest::new(width, 1);
        let long = width.long_bytes() as u64;
        for (index, number) in [17_u64, 13, 99].into_iter().enumerate() {
            let at = ARGUMENT + entry * index as u64;
            guest.poke(at, &number.to_le_bytes()[..long as usize]);
        }
        assert_eq!(guest.call(13, &[ARGUMENT, 3]), 0);
        let results = [0, 1, 2].map(|index| {
            let low = guest.u32_at(ARGUMENT + entry * index + long) as i32;
            i64::from(low)
        });
        assert_eq!(results, [0x0004_0011, INVAL, NOSYS]);
        // A long list goes on where it was.
        let answer = guest.call_on(0, 13, &[ARGUMENT, u64::MAX]);
        let (first, second) = (ARGUMENT + 8 * entry, u64::MAX - 8);
        assert_eq!(answer, Outcome::Again { first, second }.into());
        assert_eq!(guest.call(13, &[RAM_BYTES, 1]), FAULT);
    }
}

#[test]
fn a_list_of_calls_sleeps_where_one_of_them_does() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut guest = Guest::new(width, 1);
        let long = width.long_bytes() as u64;
        // block, yield, version, soft reset
        guest.poke(REASON, &5_u32.to_le_bytes());
        let calls = [(29_u64, 1, 0), (29, 0, 0), (17, 0, 0), (29, 2, REASON)];
        for (index, (number, first, second)) in (0..).zip(calls) {
            for (word, value) in [(0, number), (2, first), (3, second)] {
                let at = ARGUMENT + (index * 8 + word) * long;
                guest.poke(at, &value.to_le_bytes()[..long as usize]);
            }
        }
        let rest =
            |done: u64| Outcome::Again { first: ARGUMENT + done * 8 * long, second: 4 - done };
        let steps = [
            (0, Answer { outcome: rest(1), then: Then::Wait }),
            (1, Answer { outcome: rest(2), then: Then::Yield }),
            (2, Answer { outcome: Outcome::Done(0), then: Then::SoftReset }),
        ];
        for (done, answer) in steps {
            let Outcome::Again { first, second } = rest(done) else { unreachable!() };
            assert_eq!(guest.call_on(0, 13, &[first, second]), answer);
        }
        assert_eq!(guest.u32_at(ARGUMENT + 17 * long), 0x0004_0011);
    }
}

#[test]
fn a_guest_ends_itself_by_its_reason() {
    let mut guest = Guest::new(Width::Bits64, 1);
    let reasons = [
        (0, ShutdownReason::PowerOff),
        (1, ShutdownReason::Reboot),
        (3, ShutdownReason::Crash),
        (4, ShutdownReason::Watchdog),
    ];
    for (number, reason) in reasons {
        assert_eq!(guest.op(29, 2, [number, 0, 0, 0]).0, 0);
        assert_eq!(guest.told(), [Told::ShutDown(reason)]);
    }
    guest.poke(ARGUMENT, &[5, 0, 0, 0]);
    assert_eq!(
        guest.call_on(0, 29, &[2, ARGUMENT]),
        Answer { outcome: Outcome::Done(0), then: Then::SoftReset }
    );
    assert_eq!(guest.op(29, 2, [2, 0, 0, 0]).0, 1, "a suspend is cancelled");
    assert_eq!(guest.op(29, 2, [6, 0, 0, 0]).0, INVAL);
    assert_eq!(guest.call(29, &[4, ARGUMENT]), PERM);
}

#[test]
fn a_watchdog_that_is_not_set_anew_ends_the_guest() {
    const S: u64 = 1_000_000_000;
    let mut guest = Guest::new(Width::Bits64, 2);
    let set = |guest: &mut Guest, id: u32, seconds: u32| {
        let watchdog: Vec<u8> = [id, seconds].into_iter().flat_map(u32::to_le_bytes).collect();
        guest.poke(ARGUMENT, &watchdog);
        guest.call(29, &[6, ARGUMENT])
    };
    assert_eq!(set(&mut guest, 1, 10), INVAL, "it is not in use");
    assert_eq!(set(&mut guest, 0, 30), 1);
    assert_eq!(set(&mut guest, 0, 10), 2);
    assert_eq!(set(&mut guest, 0, 10), NOSPC);
    assert_eq!(set(&mut guest, 3, 10), INVAL);
    assert_eq!(set(&mut guest, u32::MAX, 10), INVAL);
    assert_eq!(guest.call(29, &[6, RAM_BYTES]), FAULT);
    // The first virtual CPU's timer is the next of its own and theirs.
    let last = |guest: &Guest| {
        let told = guest.told();
        let is_ended = told.contains(&Told::ShutDown(ShutdownReason::Watchdog));
        let timer = told.into_iter().rev().find_map(|told| match told {
            Told::Timer { vcpu: 0, at_ns } => Some(at_ns.map(|ns| ns / S)),
            _ => None,
        });
        (timer.flatten(), is_ended)
    };
    assert_eq!(last(&guest), (Some(10), false));
    assert_eq!(guest.call(15, &[5 * S]), 0);
    assert_eq!(last(&guest), (Some(5), false));
    let expire = |guest: &Guest, s: u64| {
        *guest.machine.now_ns.lock().unwrap() = s * S;
        guest.platform.timer_expired(0, GuestTime::from_ns(s * S));
        last(guest)
    };
    assert_eq!(expire(&guest, 9), (Some(10), false));
    assert_eq!(set(&mut guest, 2, 10), 0);
    assert_eq!(expire(&guest, 10), (Some(19), false));
    assert_eq!(set(&mut guest, 2, 0), 0, "given up");
    assert_eq!(set(&mut guest, 2, 10), INVAL);
    assert_eq!(last(&guest), (Some(30), false));
    assert_eq!(expire(&guest, 30), (None, true));
    // Those of a kernel that another one follows do not end that.
    assert_eq!(set(&mut guest, 0, 10), 1);
    guest.platform.soft_reset();
    assert_eq!(last(&guest), (None, false));
}

#[test]
fn tables_of_grants_have_one_version() {
    let mut guest = Guest::new(Width::Bits64, 1);
    for (op, count) in [(2, 0), (2, 2), (6, 0), (6, 2)] {
        assert_eq!(guest.call(20, &[op, ARGUMENT, count]), INVAL, "{op} takes one");
    }
    assert_eq!(guest.op(20, 8, [1, 0, 0, 0]).0, 0);
    assert_eq!(guest.op(20, 8, [2, 0, 0, 0]).0, NOSYS);
    assert_eq!(guest.op(20, 8, [3, 0, 0, 0]).0, INVAL);
    assert_eq!(guest.op(20, 10, [0xf0, 0x7f, 0, 0, 0, 0, 0, 0]).1[4..], [1, 0, 0, 0]);
    // Of another domain.
    let (result, size) = guest.op(20, 6, [9; 16]);
    assert_eq!((result, &size[12..14]), (0, &(-2_i16).to_le_bytes()[..]));
    assert_eq!(guest.put(1, 1, 0x30), 0);
    let mut setup = [0; 24];
    setup[..8].copy_from_slice(&[0xf0, 0x7f, 0, 0, 2, 0, 0, 0]);
    setup[16..].copy_from_slice(&0x7_0000_u64.to_le_bytes());
    let (result, setup) = guest.op(20, 2, setup);
    assert_eq!((result, &setup[8..10]), (0, &[0, 0][..]));
    let gfns = [guest.u64_at(0x7_0000), guest.u64_at(0x7_0008)];
    assert_eq!(gfns, [u64::MAX, 0x30], "the first is shown nowhere");
}

#[test]
fn a_part_of_a_virtual_cpu_is_aligned_as_the_layout_says() {
    for (width, results) in [(Width::Bits64, [-6, -6, 0]), (Width::Bits32, [-6, 0, INVAL])] {
        let mut guest = Guest::new(width, 1);
        guest.platform.latch_width(width);
        for (offset, result) in [2_u8, 4, 8].into_iter().zip(results) {
            let mut place = [0; 16];
            (place[0], place[8]) = (1, offset);
            guest.poke(ARGUMENT, &place);
            assert_eq!(guest.call(24, &[10, 0, ARGUMENT]), result, "{width:?} {offset}");
        }
    }
}
