//! Master boot records, and the chain of records that logical partitions hang on.

use alloc::format;
use alloc::string::String;
use core::ops::Range;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Fault, Kind, MAX_NUMBER, Partition, Table};
use crate::Reader;

/// The length of a record, which begins its sector.
pub const RECORD_BYTES: usize = 512;
const SIGNATURE: u16 = 0xaa55;
/// The type of the entry that a GPT is protected by.
const GPT_KIND: u8 = 0xee;
/// The types of an extended partition.
const EXTENDED_KINDS: [u8; 3] = [0x05, 0x0f, 0x85];
/// The number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;
/// The length of an extended partition for who uses it: room for a boot loader, as in Linux.
const EXTENDED_BYTES: u64 = 1024;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    code: [u8; 0x1b8],
    disk_signature: U32,
    reserved: [u8; 2],
    entries: [Entry; 4],
    signature: U16,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    status: u8,
    first_chs: [u8; 3],
    kind: u8,
    last_chs: [u8; 3],
    first_block: U32,
    block_count: U32,
}

/// Whether a record says that there is a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpt {
    /// There is none, or it does not count.
    None,
    /// There is one in the blocks behind the record.
    Protected,
    /// It is protected, but not where it would be. Linux takes neither table.
    Misplaced,
}

impl Record {
    /// The record of a disk, if its first sector is one: it may be a boot sector, which has no
    /// partitions.
    pub fn read(sector: &[u8]) -> Option<Self> {
        let record = Self::signed(sector)?;
        // As Linux tells it from a FAT's.
        record.entries.iter().all(|entry| matches!(entry.status, 0 | 0x80)).then_some(record)
    }

    fn signed(sector: &[u8]) -> Option<Self> {
        let (record, _) = Self::read_from_prefix(sector).ok()?;
        (record.signature.get() == SIGNATURE).then_some(record)
    }

    /// Whether there is a GPT.
    pub fn gpt(&self) -> Gpt {
        let mut protecting = self.entries.iter().filter(|entry| entry.kind == GPT_KIND).peekable();
        if protecting.peek().is_none() {
            return Gpt::None;
        }
        match protecting.any(|entry| entry.first_block.get() == 1) {
            true => Gpt::Protected,
            false => Gpt::Misplaced,
        }
    }
}

impl Entry {
    const fn is_used(&self) -> bool {
        self.block_count.get() != 0
    }

    fn is_extended(&self) -> bool {
        self.is_used() && EXTENDED_KINDS.contains(&self.kind)
    }
}

/// Reads the partitions of `record`. Entries count by their sectors, whatever their type.
pub fn read(reader: &mut Reader<'_>, record: &Record, table: &mut Table) {
    let disk = Disk {
        signature: record.disk_signature.get(),
        block_bytes: reader.block_bytes(),
        size_bytes: reader.geometry().size_bytes,
    };
    let mut logical =
        Logical { next_number: FIRST_LOGICAL, records: 0..MAX_NUMBER, found: Table::default() };
    for (entry, number) in record.entries.iter().zip(1..).filter(|(entry, _)| entry.is_used()) {
        let mut partition = disk.partition(number, 0, entry);
        if entry.is_extended() {
            let place = partition.range.clone();
            let length = EXTENDED_BYTES.max(disk.block_bytes).min(place.end - place.start);
            partition.range.end = place.start + length;
            logical.read(reader, &disk, place);
        }
        table.push(partition, disk.size_bytes);
    }
    table.partitions.append(&mut logical.found.partitions);
    table.faults.append(&mut logical.found.faults);
}

/// Logical partitions as they are found.
struct Logical {
    next_number: u32,
    /// So many records are read at the most, as each has a partition, or is the last one: a ring
    /// of them ends.
    records: Range<u32>,
    found: Table,
}

impl Logical {
    /// Reads those of the extended partition in `place`: a record for each, with the place of the
    /// next record.
    fn read(&mut self, reader: &mut Reader<'_>, disk: &Disk, place: Range<u64>) {
        let mut link = place.clone();
        while self.records.next().is_some() {
            let sector = reader.read(link.start, RECORD_BYTES).unwrap_or_default();
            let Some(record) = Record::signed(&sector) else {
                self.found.faults.push(Fault::Chain(self.next_number));
                return;
            };
            for (index, entry) in record.entries.iter().enumerate() {
                if !entry.is_used() || entry.is_extended() || self.next_number > MAX_NUMBER {
                    continue;
                }
                let partition = disk.partition(self.next_number, link.start, entry);
                // The last two hold garbage on some disks.
                if index >= 2 && partition.range.end > link.end.min(place.end) {
                    continue;
                }
                self.found.push(partition, disk.size_bytes);
                self.next_number += 1;
            }
            let onward = record.entries.iter().find(|entry| entry.is_extended());
            let Some(onward) = onward else { return };
            link = disk.range(place.start, onward);
        }
    }
}

/// A disk as partitions' places are reckoned on it.
struct Disk {
    signature: u32,
    block_bytes: u64,
    size_bytes: u64,
}

impl Disk {
    fn partition(&self, number: u32, base: u64, entry: &Entry) -> Partition {
        Partition {
            number,
            range: self.range(base, entry),
            kind: Kind::Mbr(entry.kind),
            uuid: match self.signature {
                0 => String::new(),
                signature => format!("{signature:08x}-{number:02x}"),
            },
            label: String::new(),
        }
    }

    /// The bytes that an entry means, counted from `base`, which is at most the sum of two numbers
    /// as an entry has: far from the end of 64 bits.
    fn range(&self, base: u64, entry: &Entry) -> Range<u64> {
        let start = base + u64::from(entry.first_block.get()) * self.block_bytes;
        start..start + u64::from(entry.block_count.get()) * self.block_bytes
    }
}
