//! The structures that the processor uses by itself, on the VGA's planes: descriptor tables, task
//! states, stacks, page tables. Each does there what it does in RAM, in 64-bit code, in 32-bit code
//! and in real mode (Intel SDM volume 3, chapters 3 to 8).

#![no_std]
#![no_main]

mod long_mode;
mod paging;
mod protected_mode;
mod real_mode;

use conformance::cpu::{peek, poke};
use conformance::planes;
use conformance::report::check;

conformance::topic!(run);

/// Where each of them is.
mod at {
    use conformance::planes::PLANES;

    pub const IDT: u64 = PLANES;
    pub const GDT: u64 = PLANES + 0x1000;
    pub const LDT: u64 = PLANES + 0x1800;
    pub const TASK: u64 = PLANES + 0x2000;
    pub const OTHER_TASK: u64 = PLANES + 0x2800;
    /// The stack below it.
    pub const STACK_END: u64 = PLANES + 0x5000;
    pub const OTHER_STACK_END: u64 = PLANES + 0x6000;
    /// Four page tables.
    pub const TABLES: u64 = PLANES + 0x8000;
    pub const DATA: u64 = PLANES + 0xc000;
}

fn run() {
    planes::set_up();
    poke(at::DATA, 0x5aa5_c33c_u32);
    check("planes-read-back", peek::<u32>(at::DATA) == 0x5aa5_c33c);
    long_mode::run();
    protected_mode::run();
    real_mode::run();
    paging::run();
    // After this one Bochs on AMD-V takes every INT n on the planes for it
    // (tests/emulator-bugs.md).
    long_mode::local_interrupt();
    planes::leave();
}

/// Copies `length` bytes.
fn copy(from: u64, to: u64, length: u64) {
    let words = length / 8 * 8;
    (0..words).step_by(8).for_each(|offset| poke(to + offset, peek::<u64>(from + offset)));
    (words..length).for_each(|offset| poke(to + offset, peek::<u8>(from + offset)));
}
