//! The CMOS bytes that firmware finds at each start: the layout that SeaBIOS reads.

use super::spec::BANK_BYTES;
use crate::ram_layout::RamLayout;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const FLOPPY_TYPES: usize = 0x10;
const EQUIPMENT: usize = 0x14;
const BASE_MEMORY_KIB: usize = 0x15;
const EXTENDED_MEMORY_KIB: usize = 0x17;
const CHECKSUM_FIRST: usize = 0x10;
const CHECKSUM_LAST: usize = 0x2d;
const CHECKSUM_HIGH: usize = 0x2e;
const CHECKSUM_LOW: usize = 0x2f;
const EXTENDED_MEMORY_KIB_ACTUAL: usize = 0x30;
const MEMORY_ABOVE_16M: usize = 0x34;
const BOOT_ORDER_3: usize = 0x38;
const DISK_TRANSLATION: usize = 0x39;
const BOOT_ORDER_1_2: usize = 0x3d;
const MEMORY_ABOVE_4G: usize = 0x5b;
const CPUS_MINUS_1: usize = 0x5f;

/// Equipment byte: coprocessor and PS/2 mouse are there.
const FPU_AND_MOUSE: u8 = 0x06;
/// Two bits for each of four drives: logical block addressing.
const ALL_DRIVES_LBA: u8 = 0x55;
/// Floppy disks without a boot signature are booted, too.
const NO_FLOPPY_SIGNATURE_CHECK: u8 = 0x01;

/// Where the firmware looks for an operating system (the digits of bytes 38h and 3dh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BootDevice {
    /// Nothing more.
    None = 0,
    /// The first floppy drive.
    Floppy = 1,
    /// The first hard disk.
    Disk = 2,
    /// The first CD-ROM drive.
    Cdrom = 3,
    /// The network.
    Network = 4,
}

/// The CMOS bytes that describe the machine, built up by its methods. The others are the guest's.
#[derive(Clone, Debug)]
pub struct CmosContents {
    bytes: [Option<u8>; BANK_BYTES],
}

impl Default for CmosContents {
    fn default() -> Self {
        Self::new()
    }
}

impl CmosContents {
    /// A PC with 640 KiB of base memory, coprocessor, mouse and one CPU, without floppy drives.
    pub fn new() -> Self {
        let mut contents = Self { bytes: [None; BANK_BYTES] };
        contents.set(EQUIPMENT, &[FPU_AND_MOUSE]);
        contents.set(BASE_MEMORY_KIB, &640u16.to_le_bytes());
        contents.set(DISK_TRANSLATION, &[ALL_DRIVES_LBA]);
        contents
    }

    fn set(&mut self, index: usize, bytes: &[u8]) {
        for (described, &byte) in self.bytes[index..].iter_mut().zip(bytes) {
            *described = Some(byte);
        }
    }

    /// The RAM: what is below 4 GiB in the units of 1 and 64 KiB, and from 4 GiB on in those of 64
    /// KiB, up to 1 TiB.
    #[must_use]
    pub fn memory(mut self, ram: &RamLayout) -> Self {
        let extended_kib = (ram.low_end().saturating_sub(MIB) / KIB).min(0xffff) as u16;
        self.set(EXTENDED_MEMORY_KIB, &extended_kib.to_le_bytes());
        self.set(EXTENDED_MEMORY_KIB_ACTUAL, &extended_kib.to_le_bytes());
        let above_16m = (ram.low_end().saturating_sub(16 * MIB) / (64 * KIB)).min(0xffff) as u16;
        self.set(MEMORY_ABOVE_16M, &above_16m.to_le_bytes());
        let above_4g = (ram.high_bytes() / (64 * KIB)).min(0xff_ffff) as u32;
        self.set(MEMORY_ABOVE_4G, &above_4g.to_le_bytes()[..3]);
        self
    }

    /// The number of CPUs, 1 to 256.
    #[must_use]
    pub fn cpus(mut self, count: u16) -> Self {
        self.set(CPUS_MINUS_1, &[count.saturating_sub(1).min(255) as u8]);
        self
    }

    /// First, second and third device to boot from.
    #[must_use]
    pub fn boot_order(mut self, order: [BootDevice; 3]) -> Self {
        let [first, second, third] = order.map(|device| device as u8);
        self.set(BOOT_ORDER_1_2, &[second << 4 | first]);
        self.set(BOOT_ORDER_3, &[third << 4 | NO_FLOPPY_SIGNATURE_CHECK]);
        self
    }

    /// Floppy drives of 1.44 MB: 0 to 2.
    #[must_use]
    pub fn floppies(mut self, count: u8) -> Self {
        let (types, equipment) = match count {
            0 => (0x00, 0x00),
            1 => (0x40, 0x01),
            _ => (0x44, 0x41),
        };
        self.set(FLOPPY_TYPES, &[types]);
        self.set(EQUIPMENT, &[FPU_AND_MOUSE | equipment]);
        self
    }

    /// Any other byte, for what has no method here. `index` is 0eh to 7fh; others are the clock's
    /// and are ignored.
    #[must_use]
    pub fn byte(mut self, index: u8, value: u8) -> Self {
        if (0x0e..BANK_BYTES).contains(&index.into()) {
            self.set(index.into(), &[value]);
        }
        self
    }

    /// Writes them over what is there, and the checksum over 10h to 2dh.
    pub(super) fn write_to(&self, memory: &mut [u8; BANK_BYTES]) {
        for (byte, described) in memory.iter_mut().zip(self.bytes) {
            *byte = described.unwrap_or(*byte);
        }
        let sum =
            memory[CHECKSUM_FIRST..=CHECKSUM_LAST].iter().map(|&byte| u16::from(byte)).sum::<u16>();
        let [high, low] = sum.to_be_bytes();
        memory[CHECKSUM_HIGH] = high;
        memory[CHECKSUM_LOW] = low;
    }
}
