//! The local APIC, and the I/O APIC.

use crate::cpu::{peek, poke, rdmsr, wrmsr};

/// Model-specific register `IA32_APIC_BASE`.
pub const APIC_BASE: u32 = 0x1b;

/// Registers of the local APIC: their offsets (Intel SDM volume 3, table 11-1).
#[allow(missing_docs)]
pub mod register {
    pub const ID: u16 = 0x20;
    pub const VERSION: u16 = 0x30;
    pub const TPR: u16 = 0x80;
    pub const PPR: u16 = 0xa0;
    pub const EOI: u16 = 0xb0;
    pub const LDR: u16 = 0xd0;
    pub const DFR: u16 = 0xe0;
    pub const SVR: u16 = 0xf0;
    pub const ISR: u16 = 0x100;
    pub const TMR: u16 = 0x180;
    pub const IRR: u16 = 0x200;
    pub const ESR: u16 = 0x280;
    pub const ICR_LOW: u16 = 0x300;
    pub const ICR_HIGH: u16 = 0x310;
    pub const LVT_TIMER: u16 = 0x320;
    pub const LVT_LINT0: u16 = 0x350;
    pub const LVT_LINT1: u16 = 0x360;
    pub const LVT_ERROR: u16 = 0x370;
    pub const INITIAL_COUNT: u16 = 0x380;
    pub const CURRENT_COUNT: u16 = 0x390;
    pub const DIVIDE: u16 = 0x3e0;
}

/// The mask bit of an entry of the local vector table, and of a redirection entry.
pub const MASKED: u32 = 1 << 16;

const SOFTWARE_ENABLE: u32 = 0x100;
const SPURIOUS_VECTOR: u32 = 0xff;

/// Where the local APIC's registers are.
pub fn base() -> u64 {
    rdmsr(APIC_BASE) & !0xfff
}

/// `IA32_APIC_BASE`: x2APIC mode.
pub const X2APIC: u64 = 1 << 10;

/// Whether the processor that asks is the bootstrap processor.
pub fn is_bootstrap_processor() -> bool {
    const BOOTSTRAP: u64 = 1 << 8;
    rdmsr(APIC_BASE) & BOOTSTRAP != 0
}

/// The model-specific register of x2APIC mode that stands for `register`.
pub const fn x2apic_msr(register: u16) -> u32 {
    0x800 + (register as u32 >> 4)
}

/// Reads a register, in either mode.
pub fn read(register: u16) -> u32 {
    match rdmsr(APIC_BASE) {
        base if base & X2APIC != 0 => rdmsr(x2apic_msr(register)) as u32,
        base => peek((base & !0xfff) + u64::from(register)),
    }
}

/// Writes a register, in either mode.
pub fn write(register: u16, value: u32) {
    match rdmsr(APIC_BASE) {
        base if base & X2APIC != 0 => wrmsr(x2apic_msr(register), value.into()),
        base => poke((base & !0xfff) + u64::from(register), value),
    }
}

/// Sends an interprocessor interrupt, in either mode: the low half of the interrupt command
/// register, and the destination.
pub fn send(destination: u32, command: u32) {
    const PENDING: u32 = 1 << 12;
    if rdmsr(APIC_BASE) & X2APIC != 0 {
        let command = u64::from(destination) << 32 | u64::from(command);
        return wrmsr(x2apic_msr(register::ICR_LOW), command);
    }
    write(register::ICR_HIGH, destination << 24);
    write(register::ICR_LOW, command);
    while read(register::ICR_LOW) & PENDING != 0 {
        core::hint::spin_loop();
    }
}

/// Software-enabled, with all vectors let through and spurious ones as vector FFh.
pub fn enable() {
    write(register::SVR, SOFTWARE_ENABLE | SPURIOUS_VECTOR);
    write(register::TPR, 0);
}

/// The initial ID of this processor.
pub fn id() -> u8 {
    (read(register::ID) >> 24) as u8
}

/// Whether the bit of `vector` is set in one of the 256-bit registers ISR, TMR and IRR.
pub fn is_set(register: u16, vector: u8) -> bool {
    read(register + u16::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(register::EOI, 0);
}

/// The I/O APIC.
pub mod io {
    use super::{peek, poke};

    const SELECT: u64 = 0xfec0_0000;
    const WINDOW: u64 = SELECT + 0x10;

    /// Its ID register.
    pub const ID: u8 = 0;
    /// Its version register.
    pub const VERSION: u8 = 1;

    /// The number of the low half of the redirection entry of `input`; the high half follows.
    pub const fn entry(input: u8) -> u8 {
        0x10 + 2 * input
    }

    /// Reads a register.
    pub fn read(number: u8) -> u32 {
        poke(SELECT, u32::from(number));
        peek(WINDOW)
    }

    /// Writes a register.
    pub fn write(number: u8, value: u32) {
        poke(SELECT, u32::from(number));
        poke(WINDOW, value);
    }

    /// Writes a redirection entry: `low`, and the destination.
    pub fn route(input: u8, low: u32, destination: u8) {
        write(entry(input), super::MASKED);
        write(entry(input) + 1, u32::from(destination) << 24);
        write(entry(input), low);
    }
}
