//! The hypervisor's own page tables: virtual = physical.

use super::{LARGE_BYTES, PAGE_BYTES, align_down, align_up};
use bitflags::bitflags;
use core::ops::Range;

const HUGE_BYTES: u64 = 1 << 30;
const ENTRIES: usize = 512;

bitflags! {
    /// Bits of a page table entry (Intel SDM volume 3, 4.5). The memory types go with the PAT that
    /// [`PAGE_ATTRIBUTES`] sets.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mapping: u64 {
        /// Present.
        const PRESENT = 1 << 0;
        /// Writable.
        const WRITABLE = 1 << 1;
        /// Write-combining, by PAT entry 1.
        const WRITE_COMBINING = 1 << 3;
        /// Uncached, by PAT entry 3.
        const UNCACHED = 1 << 3 | 1 << 4;
        /// Accessed and dirty, set beforehand so that the CPU need not.
        const USED = 1 << 5 | 1 << 6;
        /// A large page, in the middle levels.
        const LARGE = 1 << 7;
        /// Kept in the TLB when CR3 is written.
        const GLOBAL = 1 << 8;
        /// No execution.
        const NO_EXECUTE = 1 << 63;
    }
}

impl Mapping {
    /// Code.
    pub const CODE: Self = Self::PRESENT.union(Self::USED).union(Self::GLOBAL);
    /// Constants.
    pub const CONSTANTS: Self = Self::CODE.union(Self::NO_EXECUTE);
    /// RAM.
    pub const RAM: Self = Self::CONSTANTS.union(Self::WRITABLE);
    /// Device registers.
    pub const DEVICE: Self = Self::RAM.union(Self::UNCACHED);
    /// A framebuffer.
    pub const FRAMEBUFFER: Self = Self::RAM.union(Self::WRITE_COMBINING);
}

/// The page attribute table that the mappings need: write-back, write-combining, uncached-,
/// uncached, twice.
pub const PAGE_ATTRIBUTES: u64 = 0x0007_0106_0007_0106;

const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

type Table = [u64; ENTRIES];

/// Where the tables' memory comes from: zeroed, identity-mapped frames of 4 KiB.
pub type TakeFrame<'a> = &'a mut dyn FnMut() -> Option<u64>;

/// Memory for a page table ran out.
#[derive(Debug)]
pub struct OutOfFrames;

/// The page tables.
#[derive(Debug)]
pub struct PageTables {
    root: u64,
    huge_pages: bool,
}

impl PageTables {
    /// Empty tables. `huge_pages`: the CPU has pages of 1 GiB.
    pub fn new(huge_pages: bool, take_frame: TakeFrame) -> Result<Self, OutOfFrames> {
        Ok(Self { root: take_frame().ok_or(OutOfFrames)?, huge_pages })
    }

    /// Physical address of the top table.
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// Maps the pages that `range` touches, with the largest pages that fit. Pages that are mapped
    /// already stay as they are.
    pub fn map(
        &mut self,
        range: Range<u64>,
        mapping: Mapping,
        take_frame: TakeFrame,
    ) -> Result<(), OutOfFrames> {
        let mut address = align_down(range.start, PAGE_BYTES);
        let end = align_up(range.end, PAGE_BYTES);
        while address < end {
            address += self.map_one(address, end - address, mapping, take_frame)?;
        }
        Ok(())
    }

    /// Maps one page at `address`; returns how many bytes on the next one begins.
    fn map_one(
        &mut self,
        address: u64,
        bytes: u64,
        mapping: Mapping,
        take_frame: TakeFrame,
    ) -> Result<u64, OutOfFrames> {
        let mut table = self.root;
        for level in (0..4u32).rev() {
            let page_bytes = PAGE_BYTES << (9 * level);
            let entry = entry(table, address, level);
            let fits = address.is_multiple_of(page_bytes) && bytes >= page_bytes;
            let allowed = level == 0 || level == 1 || (level == 2 && self.huge_pages);
            if *entry == 0 && fits && allowed {
                let large = if level == 0 { Mapping::empty() } else { Mapping::LARGE };
                *entry = address | mapping.union(large).bits();
                return Ok(page_bytes);
            }
            if *entry == 0 {
                let frame = take_frame().ok_or(OutOfFrames)?;
                *entry = frame | (Mapping::PRESENT | Mapping::WRITABLE | Mapping::USED).bits();
            }
            if level == 0 || *entry & Mapping::LARGE.bits() != 0 {
                return Ok(page_bytes - address % page_bytes);
            }
            table = *entry & ADDRESS_MASK;
        }
        Ok(PAGE_BYTES)
    }

    /// Takes the small page at `address` out, and splits the larger ones that it is a part of.
    /// Translations that the CPU has cached must be flushed.
    pub fn unmap_page(&mut self, address: u64, take_frame: TakeFrame) -> Result<(), OutOfFrames> {
        let mut table = self.root;
        for level in (1..4u32).rev() {
            let entry = entry(table, address, level);
            if *entry & Mapping::LARGE.bits() != 0 {
                *entry = split(*entry, level, take_frame().ok_or(OutOfFrames)?);
            }
            if *entry == 0 {
                return Ok(());
            }
            table = *entry & ADDRESS_MASK;
        }
        *entry(table, address, 0) = 0;
        Ok(())
    }

    /// True if all of `range` is mapped, by entries that have all bits of `mapping`.
    pub fn is_mapped(&self, range: Range<u64>, mapping: Mapping) -> bool {
        let mut address = range.start;
        while address < range.end {
            let mut table = self.root;
            let mut step = 0;
            for level in (0..4u32).rev() {
                let page_bytes = PAGE_BYTES << (9 * level);
                let entry = *entry(table, address, level);
                if entry == 0 {
                    return false;
                }
                if level == 0 || entry & Mapping::LARGE.bits() != 0 {
                    if !Mapping::from_bits_retain(entry).contains(mapping) {
                        return false;
                    }
                    step = page_bytes - address % page_bytes;
                    break;
                }
                table = entry & ADDRESS_MASK;
            }
            address = address.saturating_add(step);
        }
        true
    }
}

/// Fills the table in `frame` with the parts of a large page of a level; returns the entry that
/// leads there.
fn split(large: u64, level: u32, frame: u64) -> u64 {
    let part_bytes = PAGE_BYTES << (9 * (level - 1));
    let kept = if level == 1 { large & !Mapping::LARGE.bits() } else { large };
    for part in 0..ENTRIES as u64 {
        *entry(frame, part * part_bytes, level - 1) = kept + part * part_bytes;
    }
    frame | (Mapping::PRESENT | Mapping::WRITABLE | Mapping::USED).bits()
}

/// The entry for `address` in a table of a level (0: maps small pages).
#[allow(clippy::mut_from_ref)]
fn entry<'a>(table: u64, address: u64, level: u32) -> &'a mut u64 {
    let index = (address >> (12 + 9 * level)) as usize % ENTRIES;
    // SAFETY: `table` is a frame that `take_frame` gave to the page tables alone, identity-mapped;
    // `PageTables` stands behind a lock, and no two of these references live at once.
    unsafe { &mut (*(table as *mut Table))[index] }
}

// The sizes that the walk computes by shifting are those of the architecture.
const _: () = assert!(PAGE_BYTES << 9 == LARGE_BYTES && PAGE_BYTES << 18 == HUGE_BYTES);

#[cfg(test)]
mod tests;
