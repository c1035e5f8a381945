//! GUID partition tables (UEFI Specification 2.10, section 5.3).

use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};

use uguid::Guid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Fault, Kind, MAX_NUMBER, Partition, Table};
use crate::{Reader, text};

/// The block of the first header.
const FIRST_HEADER: u64 = 1;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const CRC_FIELD: Range<usize> = 16..20;

/// The length of the longest array of entries, as Linux takes it.
const MAX_ARRAY_BYTES: u64 = 4 << 20;
/// The lengths of an entry: 128 times a power of two.
const ENTRY_BYTES: RangeInclusive<u32> = 128..=4096;
/// Arrays are read in pieces, of whole entries of each length.
const PIECE_BYTES: u64 = 32 << 10;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 8],
    revision: U32,
    header_bytes: U32,
    header_crc: U32,
    reserved: U32,
    my_block: U64,
    other_block: U64,
    first_usable_block: U64,
    last_usable_block: U64,
    disk_guid: [u8; 16],
    entries_block: U64,
    entry_count: U32,
    entry_bytes: U32,
    entries_crc: U32,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    kind: [u8; 16],
    guid: [u8; 16],
    first_block: U64,
    last_block: U64,
    attributes: U64,
    label: [U16; 36],
}

/// Reads the first table, or the second one at the disk's end if that is bad.
pub fn read(reader: &mut Reader<'_>, table: &mut Table) {
    let last_block = (reader.geometry().size_bytes / reader.block_bytes()).saturating_sub(1);
    let mut entries = read_entries(reader, FIRST_HEADER, last_block);
    if entries.is_none() {
        entries = read_entries(reader, last_block, last_block);
        let fault = if entries.is_some() { Fault::FirstGpt } else { Fault::BothGpts };
        table.faults.push(fault);
    }
    let block_bytes = reader.block_bytes();
    for (number, entry) in entries.unwrap_or_default() {
        let (first, last) = (entry.first_block.get(), entry.last_block.get());
        if last > last_block {
            // Nor does Linux cut one in a GPT.
            table.faults.push(Fault::Beyond(number));
            continue;
        }
        if first > last {
            continue;
        }
        let range = first * block_bytes..(last + 1) * block_bytes;
        let label = char::decode_utf16(entry.label.iter().map(|unit| unit.get()));
        let partition = Partition {
            number,
            range,
            kind: Kind::Gpt(Guid::from_bytes(entry.kind)),
            uuid: Guid::from_bytes(entry.guid).to_string(),
            label: text::label(label.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER))),
        };
        table.partitions.push(partition);
    }
}

/// The entries that are used of the table whose header is in this block, with their numbers; none
/// if the table is bad.
fn read_entries(reader: &mut Reader<'_>, block: u64, last_block: u64) -> Option<Vec<(u32, Entry)>> {
    let header = read_header(reader, block, last_block)?;
    let entry_bytes = header.entry_bytes.get();
    let array_bytes = u64::from(header.entry_count.get()) * u64::from(entry_bytes);
    let is_size = entry_bytes.is_power_of_two() && ENTRY_BYTES.contains(&entry_bytes);
    if !is_size || array_bytes > MAX_ARRAY_BYTES {
        return None;
    }
    let start = header.entries_block.get().checked_mul(reader.block_bytes())?;
    let mut entries = Vec::new();
    let mut numbers = 1..=MAX_NUMBER;
    let mut crc = crc32fast::Hasher::new();
    for offset in (0..array_bytes).step_by(PIECE_BYTES as usize) {
        let length = PIECE_BYTES.min(array_bytes - offset);
        let piece = reader.read(start.checked_add(offset)?, length as usize).ok()?;
        crc.update(&piece);
        for (bytes, number) in piece.chunks_exact(entry_bytes as usize).zip(&mut numbers) {
            let (entry, _) = Entry::read_from_prefix(bytes).ok()?;
            if entry.kind != [0; 16] {
                entries.push((number, entry));
            }
        }
    }
    (crc.finalize() == header.entries_crc.get()).then_some(entries)
}

/// The header in this block, if it is sound.
fn read_header(reader: &mut Reader<'_>, block: u64, last_block: u64) -> Option<Header> {
    let block_bytes = reader.block_bytes();
    let mut bytes = reader.read(block.checked_mul(block_bytes)?, block_bytes as usize).ok()?;
    let (header, _) = Header::read_from_prefix(&bytes).ok()?;
    let header_bytes = header.header_bytes.get() as usize;
    if header.signature != *SIGNATURE || header_bytes < size_of::<Header>() {
        return None;
    }
    bytes[CRC_FIELD].fill(0);
    let crc = crc32fast::hash(bytes.get(..header_bytes)?);
    let (first, last) = (header.first_usable_block.get(), header.last_usable_block.get());
    let is_sound = crc == header.header_crc.get()
        && header.my_block.get() == block
        && first <= last
        && last <= last_block;
    is_sound.then_some(header)
}
