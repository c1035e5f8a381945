//! The fuzzers' functions with bytes that are not led by coverage, a bounded number of times.

use emulator::fuzzing::replay;
use proptest::prelude::*;

#[test]
fn kept_inputs_break_no_promise() {
    replay("png", super::png);
    replay("rpc", super::rpc);
    replay("prompt", super::prompt);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_management_port_survives_its_clients(
        lines in prop::collection::vec((any::<[u8; 3]>(), ".{0,40}"), 0..12),
        rest in prop::collection::vec(any::<u8>(), 0..60)
    ) {
        let mut data: Vec<u8> = Vec::new();
        for (choices, text) in lines {
            data.extend(choices);
            data.push(text.len() as u8);
            data.extend(text.bytes());
        }
        data.extend(rest);
        super::rpc(&data);
    }

    #[test]
    fn every_screen_becomes_a_picture(data in prop::collection::vec(any::<u8>(), 0..600)) {
        super::png(&data);
    }

    #[test]
    fn the_prompt_survives_what_is_typed(data in prop::collection::vec(any::<u8>(), 0..400)) {
        super::prompt(&data);
    }
}
