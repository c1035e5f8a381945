//! Partition tables: what is on a disk, numbered as Linux numbers it (`block/partitions` there).
//!
//! A GPT (UEFI Specification 2.10, chapter 5) counts only where the MBR has an entry of type EEh
//! for it, else the MBR itself, with logical partitions from 5 on. Tables are hostile:
//! the longest one is read in pieces, chains are bounded, and no partition reaches beyond the disk.

mod gpt;
#[cfg(any(test, feature = "fuzzing"))]
mod image;
mod mbr;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use uguid::Guid;

use crate::{Error, Reader};

/// The highest number of a partition, as in Linux.
pub const MAX_NUMBER: u32 = 255;

/// The partitions of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By ascending numbers.
    pub partitions: Vec<Partition>,
    /// The faults that it has.
    pub faults: Vec<Fault>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1 to [`MAX_NUMBER`].
    pub number: u32,
    /// Its place on the disk in bytes, made of whole sectors; never empty.
    pub range: Range<u64>,
    /// Its purpose.
    pub kind: Kind,
    /// `PARTUUID` as Linux has it: of an MBR's partition the disk's signature and the number; empty
    /// if the disk has no signature.
    pub uuid: String,
    /// `PARTLABEL`; empty in an MBR.
    pub label: String,
}

/// The purpose of a partition, by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The type of an MBR.
    Mbr(u8),
    /// The type of a GPT.
    Gpt(Guid),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(kind) => write!(f, "{kind:#04x}"),
            Self::Gpt(kind) => kind.fmt(f),
        }
    }
}

/// Something wrong with a table, which was read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first GPT is bad, the second one at the disk's end was read instead.
    FirstGpt,
    /// Both GPTs are bad: there are no partitions.
    BothGpts,
    /// This partition is beyond the disk's end, or in a GPT passes it, and is left out.
    Beyond(u32),
    /// This one of an MBR passes it, and was cut.
    Cut(u32),
    /// This one and the next have sectors in common.
    Overlap(u32, u32),
    /// A logical partition's record could not be read: those from this number on are left out.
    Chain(u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstGpt => f.write_str("the first GPT is bad, the second one is used"),
            Self::BothGpts => f.write_str("both GPTs are bad"),
            Self::Beyond(number) => write!(f, "partition {number} is beyond the end, left out"),
            Self::Cut(number) => write!(f, "partition {number} passes the end, cut"),
            Self::Overlap(one, other) => write!(f, "partitions {one} and {other} overlap"),
            Self::Chain(number) => write!(f, "logical partitions from {number} on are lost"),
        }
    }
}

/// Reads the table of a disk; it is empty if there is none.
///
/// # Errors
/// Why the first sector could not be read.
pub fn read(reader: &mut Reader<'_>) -> Result<Table, Error> {
    let sector = reader.read(0, mbr::RECORD_BYTES)?;
    let mut table = Table::default();
    let Some(record) = mbr::Record::read(&sector) else { return Ok(table) };
    match record.gpt() {
        mbr::Gpt::Protected => gpt::read(reader, &mut table),
        mbr::Gpt::Misplaced => {}
        mbr::Gpt::None => mbr::read(reader, &record, &mut table),
    }
    table.note_overlaps();
    Ok(table)
}

impl Table {
    /// One more partition, as far as it is on the disk.
    fn push(&mut self, mut partition: Partition, size_bytes: u64) {
        let Partition { number, ref mut range, .. } = partition;
        if range.start >= size_bytes {
            self.faults.push(Fault::Beyond(number));
            return;
        }
        if range.end > size_bytes {
            self.faults.push(Fault::Cut(number));
            range.end = size_bytes;
        }
        self.partitions.push(partition);
    }

    fn note_overlaps(&mut self) {
        let mut by_place: Vec<&Partition> = self.partitions.iter().collect();
        by_place.sort_by_key(|partition| partition.range.start);
        for pair in by_place.windows(2) {
            if pair[0].range.end > pair[1].range.start {
                self.faults.push(Fault::Overlap(pair[0].number, pair[1].number));
            }
        }
    }
}
