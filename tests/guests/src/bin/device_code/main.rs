//! Code on devices: on the VGA's planes, in ROM, in holes. Instructions fetched there do what they
//! do in RAM, which is where this guest learns it from: in 64-bit code, in 32-bit code and in real
//! mode, inside a page, across two, from RAM into the device and out of it.

#![no_std]
#![no_main]

mod legacy_code;
mod long_code;

use conformance::cpu::{self, peek, poke};
use conformance::planes;
use conformance::report::{check, skip_topic};

conformance::topic!(run);

/// More than any piece of code here takes.
const MOST_BYTES: u64 = 64;
/// RAM that nothing else uses.
const RAM: u64 = 0x8_0000;

fn run() {
    if cpu::is_emulator() {
        // They fetch code from memory alone.
        skip_topic("this machine has no code on devices");
    }
    planes::set_up();
    poke(planes::PLANES, 0x5aa5_c33c_u32);
    check("planes-read-back", peek::<u32>(planes::PLANES) == 0x5aa5_c33c);
    long_code::run();
    legacy_code::run();
    planes::leave();
}

/// Copies the code of a function.
fn copy(code: extern "C" fn(), to: u64) {
    let from = u64::from(conformance::legacy::address(code));
    for offset in (0..MOST_BYTES).step_by(8) {
        poke(to + offset, peek::<u64>(from + offset));
    }
}
