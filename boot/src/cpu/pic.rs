//! The legacy 8259 pair: moved out of the exceptions' way and masked.

use super::interrupts::PIC_VECTORS;
use x86::io::outb;

const MASTER_COMMAND: u16 = 0x20;
const MASTER_DATA: u16 = 0x21;
const SLAVE_COMMAND: u16 = 0xa0;
const SLAVE_DATA: u16 = 0xa1;

/// Moves the controllers' vectors and masks all their inputs.
pub fn disable() {
    let steps = [
        (MASTER_COMMAND, 0x11),
        (SLAVE_COMMAND, 0x11),
        (MASTER_DATA, PIC_VECTORS),
        (SLAVE_DATA, PIC_VECTORS + 8),
        (MASTER_DATA, 1 << 2),
        (SLAVE_DATA, 2),
        (MASTER_DATA, 1),
        (SLAVE_DATA, 1),
        (MASTER_DATA, 0xff),
        (SLAVE_DATA, 0xff),
    ];
    for (port, value) in steps {
        // SAFETY: the 8259's own ports, in the order of its initialisation; interrupts are off.
        unsafe { outb(port, value) };
    }
}
