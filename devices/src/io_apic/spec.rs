//! Registers of the I/O APIC (Intel 82093AA datasheet, section 3; ICH9 datasheet, section 13.5 for
//! the EOI register).

use crate::local_apic::spec::DeliveryMode;
use bitfield_struct::bitfield;

/// Guest-physical address of the registers.
pub const BASE: u64 = 0xfec0_0000;
/// Length of the range that the chip decodes.
pub const LENGTH: u64 = 0x1000;

/// Interrupt inputs.
pub const INPUTS: usize = 24;

/// Byte offsets of the directly addressed registers.
pub mod offset {
    #![allow(missing_docs)]
    pub const SELECT: u64 = 0x00;
    pub const WINDOW: u64 = 0x10;
    pub const EOI: u64 = 0x40;
}

/// Numbers of the registers behind the window.
pub mod register {
    #![allow(missing_docs)]
    pub const ID: u8 = 0x00;
    pub const VERSION: u8 = 0x01;
    pub const ARBITRATION: u8 = 0x02;
    pub const REDIRECTION: u8 = 0x10;
}

/// Version 20h (it has an EOI register), and the highest redirection entry.
pub const VERSION: u32 = 0x20 | (INPUTS as u32 - 1) << 16;

/// The bits of the ID register that software can write.
pub const ID_MASK: u32 = 0x0f00_0000;

/// An entry of the redirection table (82093AA section 3.2.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Redirection {
    pub vector: u8,
    #[bits(3, default = DeliveryMode::Fixed)]
    pub mode: DeliveryMode,
    pub logical: bool,
    pub send_pending: bool,
    pub active_low: bool,
    pub remote_irr: bool,
    pub level: bool,
    pub masked: bool,
    #[bits(39)]
    __: u64,
    pub destination: u8,
}

impl Redirection {
    /// The bits that software can write.
    pub const WRITABLE: u64 = 0xff00_0000_0001_afff;
    /// Of these, the ones in the lower half.
    pub const LOW: u64 = 0xffff_ffff;

    /// True if the interrupt needs an end before it can be delivered again.
    pub const fn awaits_eoi(self) -> bool {
        self.level() && matches!(self.mode(), DeliveryMode::Fixed | DeliveryMode::LowestPriority)
    }
}
