//! Calls of any number with any arguments, one by one and in lists, by one virtual CPU and by two
//! at once.

use conformance::cpu::poke;
use conformance::report::equal;
use conformance::smp;
use conformance::xen::bytes::Bytes;
use conformance::xen::mode::{Mode, call};
use conformance::xen::shared::{ADD_TO_PHYSMAP, REMOVE_FROM_PHYSMAP};
use conformance::xen::vcpu::{command, sched};
use conformance::xen::{CPUS, DOMAIN_SELF, NOWHERE, PAGE_BYTES, RAM_END, number};

use crate::memory::{self, SPARE};
use crate::{below, random, survived};

const ROUNDS: u32 = 3000;
const ROUNDS_32: u32 = 100;
const LISTS: u32 = 200;

/// A page that calls may write to at any time.
const SCRATCH: u64 = 0x36_0000;
/// The pages of a virtual CPU: two for a list, and those for the structures of its calls.
const PAGES: u64 = 0x37_0000;
const PAGES_EACH: u64 = 10;
const LIST_BYTES: u64 = 2 * PAGE_BYTES;
const MAX_CALLS: u64 = 24;
const CALL_BYTES: u64 = 64;

const _: () = assert!(LIST_BYTES + MAX_CALLS * memory::STRUCTURE_BYTES <= PAGES_EACH * PAGE_BYTES);

/// A number, or an address that a call may write to.
fn any_argument(place: u64) -> u64 {
    match below(4) {
        0 => below(4),
        1 => place + below(64),
        2 => any_part(),
        _ => random(),
    }
}

/// An address that may be written to at any time: the program is not there.
fn any_part() -> u64 {
    below(PAGE_BYTES)
        + match below(4) {
            0 => NOWHERE,
            1 => 0xfee0_0000,
            2 => SPARE.start + below((SPARE.end - SPARE.start) / PAGE_BYTES) * PAGE_BYTES,
            _ => SCRATCH,
        }
}

/// A call that does not end the guest, or put it to sleep for ever, with its structure at `place`,
/// which nothing else uses.
fn any_call(place: u64) -> (u64, [u64; 5]) {
    const NUMBERS: [u64; 8] = [
        number::MEMORY_OP,
        number::XEN_VERSION,
        number::GRANT_TABLE_OP,
        number::VM_ASSIST,
        number::VCPU_OP,
        number::SCHED_OP,
        number::EVENT_CHANNEL_OP,
        number::HVM_OP,
    ];
    loop {
        let number = match below(10) {
            0 => below(70),
            _ => NUMBERS[below(NUMBERS.len() as u64) as usize],
        };
        let sub = below(20);
        for word in 0..4 {
            poke(place + word * 8, any_argument(place));
        }
        if below(2) == 0 {
            poke(place, below(80) << 32 | u64::from(DOMAIN_SELF));
        }
        // It may write anywhere that it is given.
        let near = place + below(32);
        let arguments = match (number, sub) {
            (number::SCHED_OP, sched::SHUTDOWN | sched::BLOCK | sched::POLL | sched::WATCHDOG) => {
                continue;
            }
            // A list of anything is no list.
            (number::MULTICALL, _) => continue,
            // `memory` makes these.
            (number::MEMORY_OP, ADD_TO_PHYSMAP | REMOVE_FROM_PHYSMAP) => continue,
            (number::MEMORY_OP, memory::INCREASE | memory::DECREASE | memory::POPULATE) => {
                [memory::put_reservation(sub, place), place, 0, 0, 0]
            }
            (number::VCPU_OP, _) => {
                put_vcpu_structure(sub, place);
                [sub, below(4), place, 0, 0]
            }
            (number::GRANT_TABLE_OP, _) => [sub, near, below(3), 0, 0],
            (number::VM_ASSIST, _) => [below(3), below(8), 0, 0, 0],
            _ => [sub, near, near, any_argument(place), any_argument(place)],
        };
        return (number, arguments);
    }
}

/// The structure of a command about a virtual CPU, as the command may take it.
fn put_vcpu_structure(sub: u64, place: u64) {
    let part = any_part();
    let structure = match sub {
        command::REGISTER_INFO => Bytes::new().u64(part / PAGE_BYTES).u32(below(4200) as u32),
        command::REGISTER_RUN_STATE | command::REGISTER_TIME => Bytes::new().u64(part),
        _ => Bytes::new().u64(random() >> below(64)).u32(below(4) as u32),
    };
    structure.put(place);
}

/// The pages of the virtual CPU that asks: its list, and its structures.
fn pages() -> (u64, u64) {
    let pages = PAGES + PAGES_EACH * PAGE_BYTES * smp::index() as u64;
    (pages, pages + LIST_BYTES)
}

fn calls(rounds: u32, mode: Mode) -> u64 {
    for _ in 0..rounds {
        let (number, arguments) = any_call(pages().1);
        mode.call(number, arguments);
    }
    0
}

/// Lists of calls, a list in a list among them, and lists of which a part or all is no memory.
fn lists(_: u64) -> u64 {
    let (pages, structures) = pages();
    for _ in 0..LISTS {
        let list = pages + 8 * below(PAGE_BYTES / 8);
        let count = below(MAX_CALLS);
        for entry in 0..count {
            let (number, arguments) = match below(16) {
                0 => (number::MULTICALL, [list, count, 0, 0, 0]),
                _ => any_call(structures + entry * memory::STRUCTURE_BYTES),
            };
            let words = [number, random()].into_iter().chain(arguments);
            for (index, word) in words.enumerate() {
                poke(list + entry * CALL_BYTES + 8 * index as u64, word);
            }
        }
        call(number::MULTICALL, [list, count, 0, 0, 0]);
        let nowhere = match below(3) {
            0 => NOWHERE,
            1 => RAM_END - below(CALL_BYTES),
            _ => random() | 1 << 63,
        };
        call(number::MULTICALL, [nowhere, random(), 0, 0, 0]);
    }
    0
}

pub fn run() {
    calls(ROUNDS, Mode::Bits64);
    calls(ROUNDS_32, Mode::Bits32);
    survived("calls");
    lists(0);
    survived("lists");
    let both = smp::call_all::<CPUS>(|_| calls(ROUNDS, Mode::Bits64) + lists(0));
    equal("two-call-at-once", both, [Some(0); CPUS]);
    survived("two-call-at-once");
}
