//! Counter 0 of the 8254 interval timer, as a source of interrupts that takes no time.

use crate::cpu::outb;

const COUNTER0: u16 = 0x40;
const CONTROL: u16 = 0x43;
const BOTH_BYTES: u8 = 0x30;

/// A rising edge of IRQ 0, and no other after it. Mode 0 lowers the output for 55 ms; mode 1 raises
/// it, and waits for a trigger that counter 0 never gets.
pub fn edge() {
    lower();
    start(1);
}

/// The output falls, for 55 ms.
pub fn lower() {
    start(0);
}

/// A rising edge each `count` cycles of 838 ns.
pub fn every(count: u16) {
    start_with(2, count);
}

fn start(mode: u8) {
    // The highest count. QEMU moves the output with it only.
    start_with(mode, 0);
}

fn start_with(mode: u8, count: u16) {
    outb(CONTROL, BOTH_BYTES | mode << 1);
    for byte in count.to_le_bytes() {
        outb(COUNTER0, byte);
    }
}
