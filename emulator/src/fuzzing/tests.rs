//! The fuzzers' functions with bytes that are not led by coverage, a bounded number of times.

use proptest::prelude::*;

#[test]
fn kept_inputs_break_no_promise() {
    super::replay("emulator", super::emulator);
    super::replay("paging", super::paging);
    super::replay("task_switch", super::task_switch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_emulator_survives_every_instruction(data in prop::collection::vec(any::<u8>(), 0..120)) {
        super::emulator(&data);
    }

    #[test]
    fn every_task_switch_is_done_or_refused(data in prop::collection::vec(any::<u8>(), 0..120)) {
        super::task_switch(&data);
    }

    #[test]
    fn every_walk_ends(data in prop::collection::vec(any::<u8>(), 0..1500)) {
        super::paging(&data);
    }
}
