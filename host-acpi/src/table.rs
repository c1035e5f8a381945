//! A table with its header (5.2.6).

use crate::PhysicalMemory;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, KnownLayout, Unaligned};

/// No table of a PC's is longer; a length that is larger is none.
const MAX_TABLE_BYTES: usize = 16 << 20;

/// The header of a system description table (table 5.4).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    length: U32,
    revision: u8,
    checksum: u8,
    oem_id: [u8; 6],
    oem_table_id: U64,
    oem_revision: U32,
    creator_id: U32,
    creator_revision: U32,
}

/// A whole table that its checksum covers.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// It, with its header.
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    pub const HEADER_BYTES: usize = size_of::<Header>();

    /// The table at `address`, if it has this signature. One that is broken is said to be so.
    pub fn read(memory: &'a dyn PhysicalMemory, address: u64, signature: &[u8; 4]) -> Option<Self> {
        let header = memory.bytes(address, Self::HEADER_BYTES)?;
        let (header, _) = Header::ref_from_prefix(header).ok()?;
        if header.signature != *signature {
            return None;
        }
        let length = header.length.get() as usize;
        let is_sane = (Self::HEADER_BYTES..=MAX_TABLE_BYTES).contains(&length);
        let bytes = is_sane.then(|| memory.bytes(address, length)).flatten();
        let bytes = bytes.filter(|bytes| sums_to_zero(bytes));
        if bytes.is_none() {
            let name = signature.escape_ascii();
            log::warn!("the ACPI table {name} at {address:#x} is broken, and left out");
        }
        bytes.map(|bytes| Self { bytes })
    }

    /// The bytes behind the header.
    pub fn content(&self) -> &'a [u8] {
        self.bytes.get(Self::HEADER_BYTES..).unwrap_or_default()
    }
}

/// The checksum of all structures.
pub fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}
