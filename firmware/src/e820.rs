//! The guest's physical memory map: how RAM is split around the PCI hole, and the file that tells the firmware.
//!
//! The split is that of QEMU's `pc` machine, which SeaBIOS and installed systems know.

use alloc::vec::Vec;

/// Where the space for PCI devices ends: the I/O APIC begins.
pub const PCI_HOLE_END: u64 = 0xfec0_0000;

const FOUR_GIB: u64 = 1 << 32;
/// With less RAM than this, all of it lies below the PCI hole.
const MAX_LOW_RAM: u64 = 0xe000_0000;
/// With more, this much lies below the hole, and the rest above 4 GiB.
const SPLIT_LOW_RAM: u64 = 0xc000_0000;

/// Where a guest's RAM lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    /// RAM from address 0.
    pub below_4gib_bytes: u64,
    /// RAM from 4 GiB.
    pub above_4gib_bytes: u64,
}

impl RamLayout {
    /// The layout of `ram_bytes` of RAM.
    pub const fn new(ram_bytes: u64) -> Self {
        let below_4gib_bytes = if ram_bytes < MAX_LOW_RAM { ram_bytes } else { SPLIT_LOW_RAM };
        Self { below_4gib_bytes, above_4gib_bytes: ram_bytes - below_4gib_bytes }
    }

    /// The RAM ranges: address and length in bytes. The second one may be empty.
    pub const fn ranges(&self) -> [(u64, u64); 2] {
        [(0, self.below_4gib_bytes), (FOUR_GIB, self.above_4gib_bytes)]
    }

    /// Where the space for PCI devices begins: SeaBIOS (src/fw/pciinit.c) starts to place them at one of these.
    pub const fn pci_hole_start(&self) -> u64 {
        match self.below_4gib_bytes {
            0..=0x8000_0000 => 0x8000_0000,
            0x8000_0001..=0xc000_0000 => 0xc000_0000,
            _ => MAX_LOW_RAM,
        }
    }
}

/// What an entry of the map describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Ram = 1,
}

/// The file `etc/e820`: packed records of address, length (64 bits each) and kind (32 bits).
pub fn file(layout: &RamLayout) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (gpa, length_bytes) in layout.ranges().into_iter().filter(|&(_, length)| length != 0) {
        bytes.extend_from_slice(&gpa.to_le_bytes());
        bytes.extend_from_slice(&length_bytes.to_le_bytes());
        bytes.extend_from_slice(&(Kind::Ram as u32).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn little_ram_lies_below_the_hole() {
        let layout = RamLayout::new(3583 * MIB);
        assert_eq!(layout.ranges(), [(0, 3583 * MIB), (FOUR_GIB, 0)]);
        assert_eq!(layout.pci_hole_start(), 0xe000_0000);
        assert_eq!(RamLayout::new(512 * MIB).pci_hole_start(), 0x8000_0000);
        assert_eq!(RamLayout::new(2049 * MIB).pci_hole_start(), 0xc000_0000);
    }

    #[test]
    fn much_ram_is_split() {
        let layout = RamLayout::new(8192 * MIB);
        assert_eq!(layout.ranges(), [(0, 3072 * MIB), (FOUR_GIB, 5120 * MIB)]);
        assert_eq!(layout.pci_hole_start(), 0xc000_0000);
    }

    #[test]
    fn the_file_has_a_record_for_each_range() {
        let one = file(&RamLayout::new(512 * MIB));
        assert_eq!(one.len(), 20);
        assert_eq!(one[8..], [0, 0, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0]);
        let two = file(&RamLayout::new(4096 * MIB));
        assert_eq!(two.len(), 40);
        assert_eq!(two[20..28], FOUR_GIB.to_le_bytes());
        assert_eq!(two[28..36], (1024 * MIB).to_le_bytes());
    }
}
