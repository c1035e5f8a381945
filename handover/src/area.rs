//! The machine's memory map, which has nearly the same form in both protocols.

use super::bytes::{u32_at, u64_at};
use core::ops::Range;

/// The kind of a range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// Free RAM.
    Ram,
    /// RAM with the firmware's ACPI tables or its non-volatile storage.
    Acpi,
    /// Anything else.
    Reserved,
}

/// A range of the memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Physical addresses.
    pub range: Range<u64>,
    /// Its kind.
    pub kind: AreaKind,
}

/// The part that the protocols' entries have in common: address, length, type.
const ENTRY_BYTES: usize = 20;

/// Where an entry says how long it is.
#[derive(Clone, Copy)]
pub enum Stride {
    /// Before it, without that number's own four bytes (multiboot 1).
    Before,
    /// All are so many bytes long (multiboot 2).
    Fixed(usize),
}

/// A memory map, of which the next ranges come.
#[derive(Clone, Copy)]
pub struct MemoryMap<'a> {
    rest: &'a [u8],
    stride: Stride,
}

impl<'a> MemoryMap<'a> {
    /// The map in `bytes`.
    pub const fn new(bytes: &'a [u8], stride: Stride) -> Self {
        Self { rest: bytes, stride }
    }

    fn next_entry(&mut self) -> Option<&'a [u8]> {
        const SIZE_BYTES: usize = 4;
        let (entry, length) = match self.stride {
            Stride::Before => (self.rest.get(SIZE_BYTES..)?, u32_at(self.rest, 0)? as usize),
            Stride::Fixed(length) => (self.rest, length),
        };
        let length = length.max(ENTRY_BYTES);
        let found = entry.get(..ENTRY_BYTES)?;
        self.rest = entry.get(length..).unwrap_or_default();
        Some(found)
    }
}

impl Iterator for MemoryMap<'_> {
    type Item = Area;

    /// Empty ranges are left out.
    fn next(&mut self) -> Option<Area> {
        loop {
            let entry = self.next_entry()?;
            let start = u64_at(entry, 0)?;
            let range = start..start.saturating_add(u64_at(entry, 8)?);
            // ACPI 6.4, table 15.1: tables that can be reclaimed, and non-volatile storage.
            let kind = match u32_at(entry, 16)? {
                1 => AreaKind::Ram,
                3 | 4 => AreaKind::Acpi,
                _ => AreaKind::Reserved,
            };
            if !range.is_empty() {
                return Some(Area { range, kind });
            }
        }
    }
}
