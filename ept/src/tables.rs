//! The tree of tables: mapping, unmapping and looking up ranges.

use crate::entry::{Attributes, Caching, Format, Permissions};
use crate::flush::Flush;
use crate::table_memory::{PointsTo, TableMemory};
use alloc::vec::Vec;

/// No memory for a table. Pages that were mapped before the failure stay mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// Sizes of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl PageSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        level_bytes(self.level())
    }

    const fn level(self) -> u32 {
        match self {
            Self::Size4K => 1,
            Self::Size2M => 2,
            Self::Size1G => 3,
        }
    }

    const fn from_level(level: u32) -> Self {
        match level {
            1 => Self::Size4K,
            2 => Self::Size2M,
            _ => Self::Size1G,
        }
    }
}

/// The target of a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Host-physical address of the byte that was asked for.
    pub hpa: u64,
    /// Size of the page that maps it.
    pub size: PageSize,
    /// The guest's rights.
    pub permissions: Permissions,
    /// How it is cached.
    pub caching: Caching,
}

/// Four levels of tables: 48 bits of guest-physical address.
#[derive(Debug)]
pub struct NestedTables {
    pub(crate) format: Format,
    root_hpa: u64,
    largest: PageSize,
}

pub(crate) const TOP_LEVEL: u32 = 4;
pub(crate) const ENTRIES: usize = 512;

/// Bytes that one entry of a table of `level` (1 the lowest) covers.
pub(crate) const fn level_bytes(level: u32) -> u64 {
    4096 << (9 * (level - 1))
}

pub(crate) const fn index(gpa: u64, level: u32) -> usize {
    (gpa >> (12 + 9 * (level - 1))) as usize % ENTRIES
}

/// The entries to write into the leaves of a range; `None` unmaps.
#[derive(Clone, Copy)]
struct Target {
    /// Host address minus guest address.
    offset: u64,
    attributes: Attributes,
}

impl NestedTables {
    /// Empty tables in `format`, with pages of at most `largest`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(
        format: Format,
        largest: PageSize,
        memory: &mut impl TableMemory,
    ) -> Result<Self, OutOfMemory> {
        let root_hpa = memory.allocate().ok_or(OutOfMemory)?;
        Ok(Self { format, root_hpa, largest })
    }

    /// Host-physical address of the top table.
    pub const fn root_hpa(&self) -> u64 {
        self.root_hpa
    }

    /// Maps `length_bytes` at `gpa` to `hpa` with the largest pages that alignment allows, in place
    /// of whatever was mapped there. Addresses and length are multiples of 4 KiB, below 2^48.
    ///
    /// # Errors
    /// [`OutOfMemory`]: a part of the range is mapped, and no flush is owed for it before the range
    /// is mapped again.
    pub fn map(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        length_bytes: u64,
        hpa: u64,
        attributes: Attributes,
    ) -> Result<Flush, OutOfMemory> {
        let target = Target { offset: hpa.wrapping_sub(gpa), attributes };
        self.set(memory, gpa, length_bytes, Some(target))
    }

    /// Takes the mappings of a range away.
    ///
    /// # Errors
    /// [`OutOfMemory`] if a large page had to be split and could not be.
    pub fn unmap(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        length_bytes: u64,
    ) -> Result<Flush, OutOfMemory> {
        self.set(memory, gpa, length_bytes, None)
    }

    /// The target of `gpa`.
    pub fn lookup(&self, memory: &impl TableMemory, gpa: u64) -> Option<Mapping> {
        let mut table = self.root_hpa;
        for level in (1..=TOP_LEVEL).rev() {
            let entry = memory.read(table, index(gpa, level));
            if !self.format.is_present(entry) {
                return None;
            }
            if level == 1 || self.format.is_large(entry) {
                return Some(Mapping {
                    hpa: self.format.address(entry) + gpa % level_bytes(level),
                    size: PageSize::from_level(level),
                    permissions: self.format.permissions(entry),
                    caching: self.format.caching(entry),
                });
            }
            table = self.format.address(entry);
        }
        None
    }

    /// The table of the 4 KiB pages around `gpa`, if there is one.
    pub(crate) fn lowest_table(&self, memory: &impl TableMemory, gpa: u64) -> Option<u64> {
        (2..=TOP_LEVEL).rev().try_fold(self.root_hpa, |table, level| {
            let entry = memory.read(table, index(gpa, level));
            let is_table = self.format.is_present(entry) && !self.format.is_large(entry);
            is_table.then(|| self.format.address(entry))
        })
    }

    /// Gives every table back. The guest must never run on them again.
    pub fn free(self, memory: &mut impl TableMemory) {
        let mut tables = Vec::new();
        self.collect(memory, self.root_hpa, TOP_LEVEL, &mut tables);
        for table in tables {
            memory.free(table);
        }
    }

    fn set(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        length_bytes: u64,
        target: Option<Target>,
    ) -> Result<Flush, OutOfMemory> {
        debug_assert!(gpa.is_multiple_of(4096) && length_bytes.is_multiple_of(4096));
        let mut flush = Flush::default();
        let end = gpa + length_bytes;
        let mut at = gpa;
        while at < end {
            at += self.set_one(memory, at, end - at, target, &mut flush)?;
        }
        Ok(flush)
    }

    /// Writes one leaf at `gpa`, as large as `room_bytes` and alignment allow; returns the bytes
    /// that it covers.
    fn set_one(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        room_bytes: u64,
        target: Option<Target>,
        flush: &mut Flush,
    ) -> Result<u64, OutOfMemory> {
        let leaf_level = self.leaf_level(gpa, room_bytes, target);
        let mut table = self.root_hpa;
        for level in (leaf_level + 1..=TOP_LEVEL).rev() {
            let slot = index(gpa, level);
            let entry = memory.read(table, slot);
            let present = self.format.is_present(entry);
            if !present && target.is_none() {
                return Ok((level_bytes(level) - gpa % level_bytes(level)).min(room_bytes));
            }
            if present && !self.format.is_large(entry) {
                table = self.format.address(entry);
                continue;
            }
            let lower = memory.allocate().ok_or(OutOfMemory)?;
            if present {
                self.split(memory, entry, level, lower);
                flush.needed = true;
            }
            self.write(memory, table, slot, level, self.format.table(lower));
            table = lower;
        }
        let new = target.map_or(0, |target| {
            let hpa = gpa.wrapping_add(target.offset);
            self.format.leaf(hpa, leaf_level > 1, target.attributes)
        });
        self.replace(memory, table, index(gpa, leaf_level), leaf_level, new, flush);
        Ok(level_bytes(leaf_level))
    }

    fn leaf_level(&self, gpa: u64, room_bytes: u64, target: Option<Target>) -> u32 {
        let offset = target.map_or(0, |target| target.offset);
        let is_tracked = target.is_some_and(|target| target.attributes.tracked);
        let largest = if is_tracked { 1 } else { self.largest.level() };
        (2..=largest)
            .rev()
            .find(|&level| {
                let bytes = level_bytes(level);
                gpa.is_multiple_of(bytes) && offset.is_multiple_of(bytes) && room_bytes >= bytes
            })
            .unwrap_or(1)
    }

    /// Writes an entry of a table of `level`.
    pub(crate) fn write(
        &self,
        memory: &mut impl TableMemory,
        table: u64,
        slot: usize,
        level: u32,
        entry: u64,
    ) {
        memory.note(table, slot, self.points_to(entry, level));
        memory.write(table, slot, entry);
    }

    fn points_to(&self, entry: u64, level: u32) -> PointsTo {
        let hpa = self.format.address(entry);
        if !self.format.is_present(entry) {
            PointsTo::Nothing
        } else if level > 1 && !self.format.is_large(entry) {
            PointsTo::Table { hpa }
        } else {
            let write = self.format.permissions(entry).write;
            PointsTo::Page { hpa, bytes: level_bytes(level), write }
        }
    }

    /// Fills `lower` so that it maps what the large-page `entry` of `level` maps.
    pub(crate) fn split(&self, memory: &mut impl TableMemory, entry: u64, level: u32, lower: u64) {
        let bytes = level_bytes(level - 1);
        let attributes = Attributes {
            permissions: self.format.permissions(entry),
            caching: self.format.caching(entry),
            tracked: false,
        };
        for slot in 0..ENTRIES {
            let hpa = self.format.address(entry) + slot as u64 * bytes;
            let leaf = self.format.leaf(hpa, level > 2, attributes);
            self.write(memory, lower, slot, level - 1, leaf);
        }
    }

    fn replace(
        &self,
        memory: &mut impl TableMemory,
        table: u64,
        slot: usize,
        level: u32,
        new: u64,
        flush: &mut Flush,
    ) {
        let old = memory.read(table, slot);
        self.write(memory, table, slot, level, new);
        if !self.format.is_present(old) {
            return;
        }
        flush.needed = true;
        if level > 1 && !self.format.is_large(old) {
            self.collect(memory, self.format.address(old), level - 1, &mut flush.retired);
        }
    }

    /// Lists a table of `level` and all below it.
    fn collect(&self, memory: &impl TableMemory, table: u64, level: u32, into: &mut Vec<u64>) {
        into.push(table);
        if level == 1 {
            return;
        }
        for slot in 0..ENTRIES {
            let entry = memory.read(table, slot);
            if self.format.is_present(entry) && !self.format.is_large(entry) {
                self.collect(memory, self.format.address(entry), level - 1, into);
            }
        }
    }
}
