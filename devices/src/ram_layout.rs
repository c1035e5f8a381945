//! Where a guest's RAM lies: below the space for PCI devices, and from 4 GiB on.
//!
//! The split is that of QEMU's `pc` machine, which SeaBIOS and installed systems know. Everything
//! that tells the guest of its RAM, or finds it, asks here: the firmware's e820 map and CMOS bytes,
//! the PCI window, AMD's TOP_MEM registers, the second-level page tables and DMA.

use core::ops::Range;

const FOUR_GIB: u64 = 1 << 32;
/// With less RAM than this, all of it lies below the PCI hole.
const MAX_LOW_RAM: u64 = 0xe000_0000;
/// With more, this much lies below the hole, and the rest above 4 GiB.
const SPLIT_LOW_RAM: u64 = 0xc000_0000;
/// Where the space for PCI devices ends: the I/O APIC begins.
const PCI_HOLE_END: u64 = 0xfec0_0000;

/// Where a guest's RAM lies.
///
/// ```
/// use devices::ram_layout::RamLayout;
///
/// let layout = RamLayout::new(4 << 30);
/// let ranges: Vec<_> = layout.ranges().collect();
/// assert_eq!(ranges, [0..0xc000_0000, 0x1_0000_0000..0x1_4000_0000]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    low_bytes: u64,
    high_bytes: u64,
}

impl RamLayout {
    /// The layout of `bytes` of RAM, less than 2^63.
    pub const fn new(bytes: u64) -> Self {
        let low_bytes = if bytes < MAX_LOW_RAM { bytes } else { SPLIT_LOW_RAM };
        Self { low_bytes, high_bytes: bytes - low_bytes }
    }

    /// All RAM.
    pub const fn bytes(&self) -> u64 {
        self.low_bytes + self.high_bytes
    }

    /// Where the RAM that begins at address 0 ends.
    #[inline]
    pub const fn low_end(&self) -> u64 {
        self.low_bytes
    }

    /// Where the RAM that begins at 4 GiB ends: 4 GiB if there is none.
    pub const fn high_end(&self) -> u64 {
        FOUR_GIB + self.high_bytes
    }

    /// The RAM from 4 GiB on.
    #[inline]
    pub const fn high_bytes(&self) -> u64 {
        self.high_bytes
    }

    /// The addresses of the RAM, in one or two ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        [0..self.low_end(), FOUR_GIB..self.high_end()].into_iter().filter(|range| !range.is_empty())
    }

    /// The byte of RAM at an address from 4 GiB on.
    #[inline]
    pub const fn high_offset(&self, gpa: u64) -> Option<u64> {
        match gpa.checked_sub(FOUR_GIB) {
            Some(offset) if offset < self.high_bytes => Some(offset + self.low_bytes),
            _ => None,
        }
    }

    /// The space for PCI devices: SeaBIOS (src/fw/pciinit.c) starts to place them at one of these
    /// addresses.
    pub const fn pci_hole(&self) -> Range<u64> {
        let start = match self.low_bytes {
            0..=0x8000_0000 => 0x8000_0000,
            0x8000_0001..=0xc000_0000 => 0xc000_0000,
            _ => MAX_LOW_RAM,
        };
        start..PCI_HOLE_END
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn ranges(mib: u64) -> Vec<(u64, u64)> {
        RamLayout::new(mib * MIB).ranges().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn little_ram_lies_below_the_hole() {
        assert_eq!(ranges(512), [(0, 512 * MIB)]);
        assert_eq!(ranges(3583), [(0, 3583 * MIB)]);
        let hole = |mib: u64| RamLayout::new(mib * MIB).pci_hole().start;
        assert_eq!(
            [512, 2048, 2049, 3072, 3073, 3583].map(hole),
            [0x8000_0000, 0x8000_0000, 0xc000_0000, 0xc000_0000, 0xe000_0000, 0xe000_0000]
        );
    }

    #[test]
    fn much_ram_is_split() {
        assert_eq!(ranges(3584), [(0, 3 * GIB), (4 * GIB, 4 * GIB + 512 * MIB)]);
        assert_eq!(ranges(4096), [(0, 3 * GIB), (4 * GIB, 5 * GIB)]);
        assert_eq!(RamLayout::new(20 * GIB).pci_hole().start, 0xc000_0000);
    }

    proptest! {
        #[test]
        fn all_ram_is_somewhere_and_none_in_the_hole(mib in 1u64..1 << 24, offset: u64) {
            let layout = RamLayout::new(mib * MIB);
            prop_assert_eq!(layout.bytes(), mib * MIB);
            let lengths = layout.ranges().map(|range| range.end - range.start);
            prop_assert_eq!(lengths.sum::<u64>(), mib * MIB);
            prop_assert!(layout.low_end() <= layout.pci_hole().start);
            // The high RAM follows the low one, byte by byte, up to the last.
            let offset = offset % (mib * MIB);
            match offset.checked_sub(layout.low_end()) {
                Some(high) => prop_assert_eq!(layout.high_offset(FOUR_GIB + high), Some(offset)),
                None => prop_assert_eq!(layout.high_offset(offset), None),
            }
            prop_assert_eq!(layout.high_offset(layout.high_end()), None);
            prop_assert_eq!(layout.high_offset(u64::MAX), None);
        }
    }
}
