//! Firmware for tests: it puts tables into memory.

use crate::PhysicalMemory;
use crate::power::{Fadt, GenericAddress};
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

/// Where its memory begins: in the ROM, where a root pointer is looked for.
pub const BASE: u64 = 0xe_0000;

/// Memory with something at [`BASE`].
#[derive(Clone, Debug, Default)]
pub struct Memory(pub Vec<u8>);

impl PhysicalMemory for Memory {
    fn bytes(&self, address: u64, length_bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        self.0.get(start..)?.get(..length_bytes)
    }
}

impl Memory {
    /// Puts a structure at the next multiple of 16, its checksum at `checksum_at`; returns its
    /// address.
    fn put(&mut self, mut bytes: Vec<u8>, checksum_at: usize) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        bytes[checksum_at] = 0;
        bytes[checksum_at] = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
        let address = BASE + self.0.len() as u64;
        self.0.append(&mut bytes);
        address
    }

    /// Puts a table.
    pub fn put_table(&mut self, signature: &[u8; 4], content: &[u8]) -> u64 {
        const CHECKSUM: usize = 9;
        let length = (36 + content.len()) as u32;
        let mut bytes = [&signature[..], &length.to_le_bytes(), &[6; 28], content].concat();
        bytes[CHECKSUM] = 0;
        self.put(bytes, CHECKSUM)
    }

    /// Puts the list of all tables, as `wide` addresses or not, and the root pointer, whose address
    /// it returns.
    pub fn put_root(&mut self, tables: &[u64], wide: bool) -> u64 {
        let wide_list: Vec<u8> = tables.iter().flat_map(|table| table.to_le_bytes()).collect();
        let narrow_list: Vec<u8> =
            tables.iter().flat_map(|&table| (table as u32).to_le_bytes()).collect();
        let root = |revision: u8, rsdt: u64| {
            [b"RSD PTR ", &[0][..], b"BULKHD", &[revision], &(rsdt as u32).to_le_bytes()].concat()
        };
        if !wide {
            let rsdt = self.put_table(b"RSDT", &narrow_list);
            return self.put(root(0, rsdt), 8);
        }
        let xsdt = self.put_table(b"XSDT", &wide_list);
        let mut pointer = root(2, 0);
        pointer[8] = pointer.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
        pointer.extend([&36_u32.to_le_bytes()[..], &xsdt.to_le_bytes(), &[0; 4]].concat());
        self.put(pointer, 32)
    }
}

/// A description of all that is asked for, in 276 bytes at the most.
pub fn fadt() -> Fadt {
    Fadt::new_zeroed()
}

/// Its bytes, for a version that has so many of them.
pub fn fadt_bytes(fadt: &Fadt, length_bytes: usize) -> Vec<u8> {
    fadt.as_bytes()[..length_bytes.min(size_of::<Fadt>())].to_vec()
}

/// A register of 16 bits.
pub fn generic(space: u8, address: u64) -> GenericAddress {
    GenericAddress {
        space,
        width_bits: 16,
        offset_bits: 0,
        access_size: 2,
        address: U64::new(address),
    }
}

/// `Name (_S5, Package (4) { a, b, 0, 0 })` behind other names.
pub fn aml(sleep_types: [u8; 2]) -> Vec<u8> {
    let [a, b] = sleep_types;
    [
        b"\x08_S3_\x12\x06\x04\x01\x01\x00\x00\x08_S5_\x12\x0a\x04".as_slice(),
        &[0x0a, a, 0x0a, b, 0, 0],
    ]
    .concat()
}

/// The entries of a MADT.
pub fn madt(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
    entries.iter().for_each(|entry| bytes.extend(entry));
    bytes
}

/// An entry of a MADT.
pub fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, content.len() as u8 + 2], content].concat()
}

/// 32 bits.
pub const fn u32(value: u32) -> U32 {
    U32::new(value)
}

/// An MCFG's content: segment, base, first and last bus of each entry.
pub fn mcfg(entries: &[(u16, u64, u8, u8)]) -> Vec<u8> {
    let mut content = vec![0; 8];
    for &(segment, base, first_bus, last_bus) in entries {
        content.extend(base.to_le_bytes());
        content.extend(segment.to_le_bytes());
        content.extend([first_bus, last_bus, 0, 0, 0, 0]);
    }
    content
}
