//! Ports and registers of the two DMA controllers (Intel 8237A data sheet; 82371SB, "DMA
//! Registers").

use bitfield_struct::bitfield;

/// First port of the controller of channels 0 to 3, whose registers are at every port.
pub const PRIMARY_BASE: u64 = 0x00;
/// First port of the controller of channels 4 to 7, whose registers are at every second port.
pub const SECONDARY_BASE: u64 = 0xc0;
/// Registers of a controller.
pub const REGISTERS: u64 = 16;

/// First port of the page registers; 80h before it is the POST code's.
pub const PAGE_BASE: u64 = 0x81;
/// Page registers, those without a channel included.
pub const PAGES: usize = 15;

/// Offsets from [`PAGE_BASE`] of the page registers of channels 0 to 7.
pub const PAGE_OF_CHANNEL: [usize; 8] = [6, 2, 0, 1, 14, 10, 8, 9];

/// Registers of a controller from 8 on; those before are address and count of each channel.
pub mod register {
    #![allow(missing_docs)]
    /// Read: status; written: command.
    pub const STATUS_COMMAND: u8 = 0x8;
    pub const REQUEST: u8 = 0x9;
    pub const SINGLE_MASK: u8 = 0xa;
    pub const MODE: u8 = 0xb;
    pub const CLEAR_FLIP_FLOP: u8 = 0xc;
    /// Read: temporary register; written: master clear.
    pub const MASTER_CLEAR: u8 = 0xd;
    pub const CLEAR_MASK: u8 = 0xe;
    pub const ALL_MASKS: u8 = 0xf;
}

/// Command register.
#[bitfield(u8)]
pub struct Command {
    #[bits(2)]
    __: u8,
    pub disabled: bool,
    #[bits(5)]
    __: u8,
}

/// Request and single mask registers.
#[bitfield(u8)]
pub struct ChannelBit {
    #[bits(2)]
    pub channel: u8,
    pub set: bool,
    #[bits(5)]
    __: u8,
}

/// Mode register.
#[bitfield(u8)]
pub struct Mode {
    #[bits(2)]
    pub channel: u8,
    #[bits(2)]
    pub transfer: u8,
    pub auto_initialise: bool,
    pub decrement: bool,
    #[bits(2)]
    pub mode: u8,
}

impl Mode {
    /// [`Mode::transfer`] of a transfer from a device to memory.
    pub const TO_MEMORY: u8 = 1;
    /// [`Mode::mode`] of block transfers, the only ones that software can request.
    pub const BLOCK: u8 = 2;
}

/// The low four bits of masks, requests and terminal counts.
pub const CHANNELS: u8 = 0x0f;
