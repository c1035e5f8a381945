//! Calls at random: each has an answer, and nothing panics.

use super::*;
use crate::hypercall::Outcome;
use proptest::prelude::*;

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..16_u64,
        Just(ARGUMENT),
        Just(RAM_BYTES - 3),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
    ]
}

fn words() -> impl Strategy<Value = Vec<u32>> {
    let word = prop_oneof![0..8_u32, Just(u32::from(SELF)), 0x20..0x30_u32, any::<u32>()];
    prop::collection::vec(word, 16)
}

proptest! {
    #[test]
    fn random_calls_are_answered(
        wide in any::<bool>(),
        calls in prop::collection::vec(
            (0..2_usize, prop_oneof![0..64_u64, Just(32), Just(24), Just(12), Just(29)],
             [argument(), argument(), argument(), argument(), argument()], words()),
            1..60,
        ),
    ) {
        let mut guest = Guest::new(if wide { Width::Bits64 } else { Width::Bits32 }, 2);
        for (vcpu, number, arguments, words) in calls {
            for (at, word) in (ARGUMENT..).step_by(4).zip(words) {
                guest.poke(at, &word.to_le_bytes());
            }
            let arguments = match wide {
                true => arguments,
                false => arguments.map(|argument| argument & 0xffff_ffff),
            };
            let answer = guest.call_on(vcpu, number, &arguments);
            let is_right = !matches!(answer.outcome, Outcome::Done(..-95));
            prop_assert!(is_right, "{answer:?}");
            guest.platform.timer_expired(vcpu, GuestTime::from_ns(1 << 40));
            guest.platform.end_poll(vcpu);
        }
    }
}
