//! Registers and commands of ATA/ATAPI-6 (T13 1410D) and of bus-master IDE (PIIX3 datasheet,
//! section 2.3 and 2.7).

use bitfield_struct::bitfield;

/// Bytes in a disk sector.
pub const SECTOR_BYTES: u32 = 512;
/// Bytes in a CD-ROM sector: user data only.
pub const CD_SECTOR_BYTES: u32 = 2048;
/// Bytes in a CD-ROM sector with synchronisation, header and error correction.
pub const CD_RAW_SECTOR_BYTES: u32 = 2352;
/// Bytes in a command packet.
pub const PACKET_BYTES: usize = 12;

/// Registers of the command block, as offsets from its first port.
pub mod register {
    /// Data, 16 or 32 bits wide.
    pub const DATA: u64 = 0;
    /// Error when read, features when written.
    pub const ERROR_FEATURE: u64 = 1;
    /// Sector count; the interrupt reason of packet commands.
    pub const COUNT: u64 = 2;
    /// Address bits 7 to 0.
    pub const LBA_LOW: u64 = 3;
    /// Address bits 15 to 8; byte count, low, of packet commands.
    pub const LBA_MID: u64 = 4;
    /// Address bits 23 to 16; byte count, high, of packet commands.
    pub const LBA_HIGH: u64 = 5;
    /// Device and head.
    pub const DEVICE: u64 = 6;
    /// Status when read, command when written.
    pub const STATUS_COMMAND: u64 = 7;
}

/// Status register (section 7.15).
#[bitfield(u8)]
pub struct Status {
    /// The error register says why.
    pub error: bool,
    #[bits(2)]
    __: u8,
    /// The data register waits to be read or written.
    pub data_request: bool,
    /// Seek complete; service.
    pub seek_complete: bool,
    pub device_fault: bool,
    pub ready: bool,
    pub busy: bool,
}

impl Status {
    /// Nothing to do.
    pub const READY: Self = Self::new().with_ready(true).with_seek_complete(true);
    /// A DRQ block is open.
    pub const DATA: Self = Self::READY.with_data_request(true);
    /// A command runs.
    pub const BUSY: Self = Self::READY.with_busy(true);
    /// A command failed.
    pub const FAILED: Self = Self::READY.with_error(true);
}

/// Error register (section 7.9).
#[bitfield(u8)]
pub struct Error {
    #[bits(2)]
    __: u8,
    /// The command is not supported, or its parameters are wrong.
    pub aborted: bool,
    __: bool,
    /// The address is not on the medium.
    pub id_not_found: bool,
    __: bool,
    /// The data could not be read.
    pub uncorrectable: bool,
    __: bool,
}

/// The value of the error register after diagnostics that found nothing.
pub const DIAGNOSTICS_PASSED: u8 = 1;

/// Device/head register (section 7.7).
#[bitfield(u8)]
pub struct DeviceHead {
    /// Head, or address bits 27 to 24.
    #[bits(4)]
    pub head: u8,
    /// Device 1 is selected.
    pub device: bool,
    #[bits(default = true)]
    obsolete_5: bool,
    /// The address is a logical block, not cylinder, head and sector.
    pub lba: bool,
    #[bits(default = true)]
    obsolete_7: bool,
}

/// Device control register (section 7.8).
#[bitfield(u8)]
pub struct DeviceControl {
    __: bool,
    /// nIEN: no interrupts.
    pub interrupt_disable: bool,
    /// SRST.
    pub reset: bool,
    #[bits(4)]
    __: u8,
    /// HOB: reads show the previous contents of the 48-bit registers.
    pub high_order: bool,
}

/// Interrupt reason, in the sector count register of packet commands (section 7.11).
#[bitfield(u8)]
pub struct InterruptReason {
    /// C/D: a command packet, or the end of the command.
    pub command: bool,
    /// I/O: towards the host.
    pub to_host: bool,
    #[bits(6)]
    __: u8,
}

/// Bus master command register.
#[bitfield(u8)]
pub struct BmCommand {
    pub start: bool,
    #[bits(2)]
    __: u8,
    /// The direction: from the device to memory.
    pub to_memory: bool,
    #[bits(4)]
    __: u8,
}

/// Bus master status register.
#[bitfield(u8)]
pub struct BmStatus {
    pub active: bool,
    /// Cleared by a one.
    pub error: bool,
    /// The device has raised its interrupt; cleared by a one.
    pub interrupt: bool,
    #[bits(2)]
    __: u8,
    /// For software's use.
    pub device_0_dma: bool,
    /// For software's use.
    pub device_1_dma: bool,
    __: bool,
}

/// Length and flag of a physical region descriptor.
#[bitfield(u32)]
pub struct PrdLength {
    /// Bytes; 0 is 64 KiB. Bit 0 is ignored.
    pub bytes: u16,
    #[bits(15)]
    __: u16,
    pub last: bool,
}

/// Command codes (chapter 8).
pub mod command {
    #![allow(missing_docs)]
    pub const DEVICE_RESET: u8 = 0x08;
    pub const READ_SECTORS: u8 = 0x20;
    pub const READ_SECTORS_NO_RETRY: u8 = 0x21;
    pub const READ_SECTORS_EXT: u8 = 0x24;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const READ_NATIVE_MAX_EXT: u8 = 0x27;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const WRITE_SECTORS: u8 = 0x30;
    pub const WRITE_SECTORS_NO_RETRY: u8 = 0x31;
    pub const WRITE_SECTORS_EXT: u8 = 0x34;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const WRITE_VERIFY: u8 = 0x3c;
    /// Of ATA/ATAPI-7, as the other with FUA.
    pub const WRITE_DMA_FUA_EXT: u8 = 0x3d;
    pub const READ_VERIFY: u8 = 0x40;
    pub const READ_VERIFY_NO_RETRY: u8 = 0x41;
    pub const READ_VERIFY_EXT: u8 = 0x42;
    pub const EXECUTE_DIAGNOSTIC: u8 = 0x90;
    pub const INITIALIZE_PARAMETERS: u8 = 0x91;
    pub const PACKET: u8 = 0xa0;
    pub const IDENTIFY_PACKET: u8 = 0xa1;
    pub const READ_MULTIPLE: u8 = 0xc4;
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    pub const SET_MULTIPLE: u8 = 0xc6;
    pub const READ_DMA: u8 = 0xc8;
    pub const READ_DMA_NO_RETRY: u8 = 0xc9;
    pub const WRITE_DMA: u8 = 0xca;
    pub const WRITE_DMA_NO_RETRY: u8 = 0xcb;
    pub const WRITE_MULTIPLE_FUA_EXT: u8 = 0xce;
    pub const STANDBY_IMMEDIATE: u8 = 0xe0;
    pub const IDLE_IMMEDIATE: u8 = 0xe1;
    pub const STANDBY: u8 = 0xe2;
    pub const IDLE: u8 = 0xe3;
    pub const CHECK_POWER: u8 = 0xe5;
    pub const SLEEP: u8 = 0xe6;
    pub const FLUSH_CACHE: u8 = 0xe7;
    pub const FLUSH_CACHE_EXT: u8 = 0xea;
    pub const IDENTIFY: u8 = 0xec;
    pub const SET_FEATURES: u8 = 0xef;
    pub const SECURITY_FREEZE: u8 = 0xf5;
    pub const READ_NATIVE_MAX: u8 = 0xf8;
}

/// Subcommands of SET FEATURES (section 8.47).
pub mod feature {
    #![allow(missing_docs)]
    pub const WRITE_CACHE_ON: u8 = 0x02;
    pub const TRANSFER_MODE: u8 = 0x03;
    pub const ADVANCED_POWER_ON: u8 = 0x05;
    pub const READ_LOOK_AHEAD_OFF: u8 = 0x55;
    pub const KEEP_SETTINGS: u8 = 0x66;
    pub const WRITE_CACHE_OFF: u8 = 0x82;
    pub const ADVANCED_POWER_OFF: u8 = 0x85;
    pub const READ_LOOK_AHEAD_ON: u8 = 0xaa;
    pub const REVERT_SETTINGS: u8 = 0xcc;
}
