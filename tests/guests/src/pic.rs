//! The pair of 8259A interrupt controllers.

use crate::cpu::{inb, outb};

/// The first controller's command port.
pub const MASTER: u16 = 0x20;
/// The second controller's.
pub const SLAVE: u16 = 0xa0;
/// The vector of IRQ 0; the others follow.
pub const FIRST_VECTOR: u8 = 0x20;

const ICW1: u8 = 0x11;
const ICW4_8086: u8 = 1;
const READ_REQUESTS: u8 = 0x0a;
const READ_IN_SERVICE: u8 = 0x0b;
const END_OF_INTERRUPT: u8 = 0x20;

/// Initialises both, with all inputs masked.
pub fn set_up() {
    initialise(MASTER, FIRST_VECTOR, 4, ICW4_8086);
    initialise(SLAVE, FIRST_VECTOR + 8, 2, ICW4_8086);
    set_masks(0xffff);
}

/// Writes the four initialisation words. The cascade word is 4 for the first controller and 2 for
/// the second.
pub fn initialise(port: u16, vector: u8, cascade: u8, icw4: u8) {
    outb(port, ICW1);
    outb(port + 1, vector);
    outb(port + 1, cascade);
    outb(port + 1, icw4);
}

/// The inputs that are masked.
pub fn masks() -> u16 {
    u16::from_le_bytes([inb(MASTER + 1), inb(SLAVE + 1)])
}

/// Masks the inputs whose bits are set, and no others.
pub fn set_masks(masks: u16) {
    let [first, second] = masks.to_le_bytes();
    outb(MASTER + 1, first);
    outb(SLAVE + 1, second);
}

/// The requests of both, masked or not.
pub fn requested() -> u16 {
    read_both(READ_REQUESTS)
}

/// The interrupts in service in both.
pub fn in_service() -> u16 {
    read_both(READ_IN_SERVICE)
}

fn read_both(command: u8) -> u16 {
    outb(MASTER, command);
    outb(SLAVE, command);
    u16::from_le_bytes([inb(MASTER), inb(SLAVE)])
}

/// Ends the interrupt in service of `irq`, not specifically.
pub fn end_of_interrupt(irq: u8) {
    if irq >= 8 {
        outb(SLAVE, END_OF_INTERRUPT);
    }
    outb(MASTER, END_OF_INTERRUPT);
}
