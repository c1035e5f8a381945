//! COM1, where the results go, and a source of interrupts that takes no time.

use core::fmt;

use crate::cpu::{inb, outb};

const PORT: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = PORT + 1;
const FIFO_CONTROL: u16 = PORT + 2;
const LINE_CONTROL: u16 = PORT + 3;
const MODEM_CONTROL: u16 = PORT + 4;
const LINE_STATUS: u16 = PORT + 5;

const DIVISOR_ACCESS: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
const DTR_AND_RTS: u8 = 3;
/// Lets the interrupt out to the bus.
const OUT2: u8 = 8;
/// In the interrupt enable register.
const TRANSMITTER_EMPTY: u8 = 2;
/// The transmitter takes a byte; it has sent all.
const HOLDING_EMPTY: u8 = 0x20;
const ALL_SENT: u8 = 0x40;

/// COM1.
pub struct Com1;

impl Com1 {
    /// 115200 baud, eight bits, no interrupts, no FIFO. A topic that changes the port calls it
    /// before the next result.
    pub fn set_up() {
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, DIVISOR_ACCESS);
        outb(PORT, 1);
        outb(PORT + 1, 0);
        outb(LINE_CONTROL, EIGHT_BITS);
        outb(FIFO_CONTROL, 0);
        outb(MODEM_CONTROL, DTR_AND_RTS);
    }

    /// Waits until the last byte is on the line.
    pub fn drain() {
        while inb(LINE_STATUS) & ALL_SENT == 0 {}
    }

    /// Raises its interrupt line, IRQ 4, which stays high as long as the transmitter has room:
    /// nothing may be reported before [`Com1::lower_irq`].
    pub fn raise_irq() {
        Self::drain();
        outb(MODEM_CONTROL, DTR_AND_RTS | OUT2);
        outb(INTERRUPT_ENABLE, TRANSMITTER_EMPTY);
    }

    /// Lowers it.
    pub fn lower_irq() {
        outb(INTERRUPT_ENABLE, 0);
    }
}

impl fmt::Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while inb(LINE_STATUS) & HOLDING_EMPTY == 0 {}
            outb(PORT, byte);
        }
        Ok(())
    }
}
