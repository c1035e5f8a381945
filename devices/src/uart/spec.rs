//! Registers of the 16550A (National Semiconductor PC16550D datasheet, section 8).

use bitfield_struct::bitfield;

/// Input of the baud rate generator divided by 16: the rate at divisor 1.
pub const BASE_BAUD: u64 = 115_200;

/// Ports that a UART answers.
pub const PORTS: u64 = 8;

/// Depth of each FIFO.
pub const FIFO_DEPTH: usize = 16;

/// Register offsets; the first two become the divisor latch while [`Lcr::divisor_latch`] is set.
pub mod offset {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const IER: u8 = 1;
    pub const IIR_FCR: u8 = 2;
    pub const LCR: u8 = 3;
    pub const MCR: u8 = 4;
    pub const LSR: u8 = 5;
    pub const MSR: u8 = 6;
    pub const SCRATCH: u8 = 7;
}

/// Interrupt enable register (8.6.7).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Ier {
    pub received: bool,
    pub transmitter_empty: bool,
    pub line_status: bool,
    pub modem_status: bool,
    #[bits(4)]
    __: u8,
}

/// Sources of the interrupt identification register (8.6.5), bits 3 to 0.
pub mod iir {
    /// No interrupt.
    pub const NONE: u8 = 0x1;
    /// Receiver line status: first priority.
    pub const LINE_STATUS: u8 = 0x6;
    /// Received data, or the trigger level reached.
    pub const RECEIVED: u8 = 0x4;
    /// Data below the trigger level waits for four character times.
    pub const TIMEOUT: u8 = 0xc;
    /// Transmitter holding register empty.
    pub const TRANSMITTER_EMPTY: u8 = 0x2;
    /// Modem status: last priority.
    pub const MODEM_STATUS: u8 = 0x0;
    /// Set while the FIFOs are enabled.
    pub const FIFOS: u8 = 0xc0;
}

/// FIFO control register (8.6.4).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Fcr {
    pub enabled: bool,
    pub clear_receiver: bool,
    pub clear_transmitter: bool,
    pub dma_mode: bool,
    #[bits(2)]
    __: u8,
    #[bits(2)]
    pub trigger: u8,
}

impl Fcr {
    /// Received characters that raise an interrupt.
    pub const fn trigger_level(self) -> usize {
        match (self.enabled(), self.trigger()) {
            (false, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        }
    }
}

/// Line control register (8.6.1).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Lcr {
    /// Data bits, less five.
    #[bits(2)]
    pub word_length: u8,
    pub two_stop_bits: bool,
    pub parity: bool,
    pub even_parity: bool,
    pub stick_parity: bool,
    pub send_break: bool,
    pub divisor_latch: bool,
}

/// Modem control register (8.6.8).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Mcr {
    pub dtr: bool,
    pub rts: bool,
    pub out1: bool,
    /// On a PC this output lets the interrupt through to the bus.
    pub out2: bool,
    pub loopback: bool,
    #[bits(3)]
    __: u8,
}

impl Mcr {
    /// The bits that exist.
    pub const WRITABLE: u8 = 0x1f;
}

/// Line status register (8.6.3).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Lsr {
    pub data_ready: bool,
    pub overrun: bool,
    pub parity_error: bool,
    pub framing_error: bool,
    pub break_received: bool,
    pub holding_empty: bool,
    pub transmitter_empty: bool,
    pub error_in_fifo: bool,
}

impl Lsr {
    /// The bits that raise the line status interrupt, and that reading clears.
    pub const ERRORS: u8 = 0x1e;
}

/// Modem status register (8.6.9).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Msr {
    pub delta_cts: bool,
    pub delta_dsr: bool,
    pub trailing_ri: bool,
    pub delta_dcd: bool,
    pub cts: bool,
    pub dsr: bool,
    pub ri: bool,
    pub dcd: bool,
}

impl Msr {
    /// The bits that raise the modem status interrupt, and that reading clears.
    pub const DELTAS: u8 = 0x0f;
    /// The line levels.
    pub const LINES: u8 = 0xf0;
}
