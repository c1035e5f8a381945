//! Calls of any number with any arguments, and pages put everywhere.

use conformance::smp;
use conformance::xen::bytes::Bytes;
use conformance::xen::mode::{Mode, call};
use conformance::xen::shared::{SHARED_INFO, add_to_physmap, remove_from_physmap};
use conformance::xen::{arguments, number};

use crate::{any_page, below, random, survived};

const ROUNDS: u32 = 3000;
const SHUTDOWN: u64 = 2;
const BLOCK: u64 = 1;
const POLL: u64 = 3;

fn any_argument() -> u64 {
    match below(5) {
        0 => below(4),
        1 => arguments() + below(64),
        2 => u64::from(any_page()) << 12 | below(4096),
        3 => 0x7ff0,
        _ => random(),
    }
}

/// A call that does not end the guest, or put it to sleep for ever.
fn any_call(mode: Mode) {
    let numbers = [
        number::MEMORY_OP,
        number::MULTICALL,
        number::XEN_VERSION,
        number::GRANT_TABLE_OP,
        number::VM_ASSIST,
        number::VCPU_OP,
        number::SCHED_OP,
        number::EVENT_CHANNEL_OP,
        number::HVM_OP,
    ];
    let number = match below(10) {
        0 => below(70),
        _ => numbers[below(numbers.len() as u64) as usize],
    };
    let mut call_arguments = [(); 5].map(|()| any_argument());
    call_arguments[0] = match number {
        number::MULTICALL => arguments(),
        _ => below(20),
    };
    match (number, call_arguments[0]) {
        (number::SCHED_OP, SHUTDOWN | BLOCK | POLL) | (number::MULTICALL, _) => return,
        // Balloons give the guest's own memory away.
        (number::MEMORY_OP, 0 | 1 | 6 | 15) => return,
        // Parts and areas of the virtual CPU may overwrite what runs here.
        (number::VCPU_OP, 0..=2 | 4 | 5 | 10 | 13) => return,
        (number::MEMORY_OP, 7) => return,
        _ => {}
    }
    for word in 0..4 {
        let value = any_argument();
        Bytes::new().u64(value).put(arguments() + word * 8);
    }
    // It may write anywhere that it is given: a place that nothing else uses.
    call_arguments[1] = arguments() + below(32);
    call_arguments[2] = match number {
        number::GRANT_TABLE_OP => below(3),
        _ => arguments() + below(32),
    };
    mode.call(number, call_arguments);
}

/// Puts pages that are shared anywhere that is not the program's.
fn put_pages(_: u64) -> u64 {
    for _ in 0..200 {
        let gpa = 0x100_0000 + below(0x1000) * 4096;
        add_to_physmap(below(2) as u32, below(4), gpa);
        remove_from_physmap(gpa);
    }
    add_to_physmap(0, 0, SHARED_INFO) as u64
}

pub fn run() {
    for _ in 0..ROUNDS {
        any_call(Mode::Bits64);
    }
    for _ in 0..100 {
        any_call(Mode::Bits32);
    }
    survived("calls");
    let _ = smp::call_all::<2>(put_pages);
    let last = call(number::XEN_VERSION, [0; 5]);
    assert!(last > 0);
    survived("pages");
}
