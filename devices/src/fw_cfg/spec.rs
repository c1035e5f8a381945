//! The register and table layouts of fw_cfg, as QEMU's "Firmware Configuration (fw_cfg) Device"
//! specification (docs/specs/fw_cfg.rst) gives them.

use bitfield_struct::bitfield;

/// The selector register: 16 bits, write only, little-endian. The data register is the port above
/// it.
pub const SELECTOR_PORT: u16 = 0x510;
/// The data register: 8 bits, read only here.
pub const DATA_PORT: u16 = 0x511;
/// The DMA address register: 64 bits in two halves, big-endian, the high half first.
pub const DMA_PORT: u16 = 0x514;

/// The value that the DMA address register reads: "QEMU CFG".
pub const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// The numbers of the well-known items.
pub mod key {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x0000;
    /// Which interfaces there are: bit 0 the traditional one, bit 1 DMA.
    pub const ID: u16 = 0x0001;
    /// The machine's UUID, 16 bytes in the order of its text form.
    pub const UUID: u16 = 0x0002;
    /// RAM size in bytes, 64 bits.
    pub const RAM_SIZE: u16 = 0x0003;
    /// 1 if there is no screen, 16 bits.
    pub const NO_GRAPHIC: u16 = 0x0004;
    /// CPUs present at power-on, 16 bits.
    pub const CPU_COUNT: u16 = 0x0005;
    /// NUMA layout: the number of nodes (64 bits), then a node for each CPU and a size for each
    /// node.
    pub const NUMA: u16 = 0x000d;
    /// 1 if the firmware shall offer its boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x000e;
    /// One more than the highest APIC ID, 16 bits.
    pub const MAX_CPUS: u16 = 0x000f;
    /// The directory of the named files.
    pub const FILE_DIRECTORY: u16 = 0x0019;
    /// The first named file.
    pub const FILE_FIRST: u16 = 0x0020;
    /// x86: ACPI tables added by the user: their number (16 bits), then the tables.
    pub const ACPI_TABLES: u16 = 0x8000;
    /// x86: SMBIOS fields and tables in the old form: their number (16 bits), then the entries.
    pub const SMBIOS_ENTRIES: u16 = 0x8001;
    /// x86: 1 if ISA IRQ 0 is wired to I/O APIC input 2, 32 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

/// Selector bits that do not number an item: bit 14 once meant writing.
pub const SELECTOR_WRITE_CHANNEL: u16 = 0x4000;

/// Bytes of a file's name in the directory, with its terminating zero.
pub const FILE_NAME_BYTES: usize = 56;

/// The item ID.
#[bitfield(u32)]
pub struct Interfaces {
    /// Selector and data registers.
    pub traditional: bool,
    /// DMA address register.
    pub dma: bool,
    #[bits(30)]
    __: u32,
}

/// The control word of a DMA command.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DmaControl {
    /// Answer: the command failed.
    pub error: bool,
    /// Copy from the item to memory.
    pub read: bool,
    /// Move on in the item without copying.
    pub skip: bool,
    /// Select item `selector` first.
    pub select: bool,
    /// Copy from memory to the item.
    pub write: bool,
    #[bits(11)]
    __: u16,
    /// The item that `select` selects.
    #[bits(16)]
    pub selector: u16,
}

/// Bytes of a DMA command in memory.
pub const DMA_COMMAND_BYTES: usize = 16;

/// A DMA command: all fields big-endian in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaCommand {
    /// The command; the device answers here.
    pub control: DmaControl,
    /// How many bytes.
    pub length_bytes: u32,
    /// Guest-physical address of the data.
    pub address: u64,
}

impl DmaCommand {
    /// Decodes a command as it lies in guest memory.
    pub fn from_bytes(bytes: [u8; DMA_COMMAND_BYTES]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        Self {
            control: DmaControl::from_bits((whole >> 96) as u32),
            length_bytes: (whole >> 64) as u32,
            address: whole as u64,
        }
    }
}
