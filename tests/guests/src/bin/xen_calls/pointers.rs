//! Pointers that lead nowhere.

use conformance::cpu::{self, peek, poke};
use conformance::report::equal;
use conformance::xen::bytes::Bytes;
use conformance::xen::mode::Mode;
use conformance::xen::{DOMAIN_SELF, NOWHERE, RAM_END, error, number};
use conformance::{name, page_tables};

/// Calls that read a structure: number, sub-operation, and which argument points to it.
const READERS: [(u64, u64, usize); 29] = [
    (number::XEN_VERSION, 6, 1),
    (number::MEMORY_OP, 3, 1),
    (number::MEMORY_OP, 4, 1),
    (number::MEMORY_OP, 7, 1),
    (number::MEMORY_OP, 14, 1),
    (number::MEMORY_OP, 15, 1),
    (number::HVM_OP, 0, 1),
    (number::HVM_OP, 1, 1),
    (number::HVM_OP, 15, 1),
    (number::HVM_OP, 23, 1),
    (number::VCPU_OP, 5, 2),
    (number::VCPU_OP, 6, 2),
    (number::VCPU_OP, 8, 2),
    (number::VCPU_OP, 10, 2),
    (number::VCPU_OP, 13, 2),
    (number::SCHED_OP, 2, 1),
    (number::SCHED_OP, 3, 1),
    (number::SCHED_OP, 5, 1),
    (number::EVENT_CHANNEL_OP, 0, 1),
    (number::EVENT_CHANNEL_OP, 1, 1),
    (number::EVENT_CHANNEL_OP, 3, 1),
    (number::EVENT_CHANNEL_OP, 4, 1),
    (number::EVENT_CHANNEL_OP, 5, 1),
    (number::EVENT_CHANNEL_OP, 7, 1),
    (number::EVENT_CHANNEL_OP, 8, 1),
    (number::EVENT_CHANNEL_OP, 9, 1),
    (number::EVENT_CHANNEL_OP, 10, 1),
    (number::GRANT_TABLE_OP, 6, 1),
    (number::GRANT_TABLE_OP, 8, 1),
];

/// Calls that write what they are asked for.
const WRITERS: [(u64, u64, usize); 9] = [
    (number::XEN_VERSION, 1, 1),
    (number::XEN_VERSION, 2, 1),
    (number::XEN_VERSION, 3, 1),
    (number::XEN_VERSION, 4, 1),
    (number::XEN_VERSION, 5, 1),
    (number::XEN_VERSION, 8, 1),
    (number::XEN_VERSION, 9, 1),
    (number::HVM_OP, 10, 1),
    (number::VCPU_OP, 4, 2),
];

/// The first of `calls` that does not fail as it has to.
fn wrong(mode: Mode, calls: &[(u64, u64, usize)], pointer: u64) -> Option<(u64, u64, i64)> {
    calls.iter().find_map(|&(number, sub, place)| {
        // The count of grant operations is one.
        let mut arguments = [sub, 0, u64::from(number == number::GRANT_TABLE_OP), 0, 0];
        arguments[place] = pointer;
        let result = mode.call(number, arguments);
        (result != error::FAULT).then_some((number, sub, result))
    })
}

/// The case is that all calls fail.
fn all(mode: Mode, case: &str, pointer: u64) {
    let found = wrong(mode, &READERS, pointer).or_else(|| wrong(mode, &WRITERS, pointer));
    equal(&name!("{case}-{mode}"), found, None);
}

pub fn run(mode: Mode) {
    all(mode, "pointer-to-no-memory", NOWHERE);
    all(mode, "pointer-to-an-end-of-memory", RAM_END - 1);
    let list = match mode {
        Mode::Bits64 => [NOWHERE, RAM_END - 8, 1 << 46],
        _ => [NOWHERE, RAM_END - 4, RAM_END],
    };
    let polls = list
        .map(|ports| mode.op(number::SCHED_OP, 3, Bytes::new().long(mode, ports).u32(4).u64(1)));
    equal(&name!("poll-list-at-no-memory-{mode}"), polls, [error::FAULT; 3]);
    let setup = Bytes::new().u16(DOMAIN_SELF).u32(1).u16(0).long(mode, NOWHERE);
    let pointer = conformance::xen::arguments();
    setup.put(pointer);
    let result = mode.call(number::GRANT_TABLE_OP, [2, pointer, 1, 0, 0]);
    equal(&name!("setup-table-to-no-memory-{mode}"), result, error::FAULT);
}

/// Pointers that only 64-bit code with pages has.
pub fn paged() {
    const PRESENT: u64 = 1 << 0;
    const WRITABLE: u64 = 1 << 1;
    let mode = Mode::Bits64;
    all(mode, "pointer-beyond-pages", 1 << 40);
    all(mode, "pointer-not-canonical", 1 << 63);
    // The page of 2 MiB from here on.
    let address = 0x60_0000;
    let entry = page_tables() + 0x2000 + (address >> 21) * 8;
    let old: u64 = peek(entry);
    poke(entry, old & !PRESENT);
    cpu::invlpg(address);
    all(mode, "pointer-to-an-absent-page", address);
    all(mode, "pointer-into-an-absent-page", address - 1);
    poke(entry, old & !WRITABLE);
    cpu::invlpg(address);
    equal("pointer-to-a-read-only-page-64", wrong(mode, &WRITERS, address), None);
    poke(entry, old);
    cpu::invlpg(address);
}
