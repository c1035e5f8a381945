//! The place of PCI's configuration space in memory: the MCFG (PCI Firmware Specification 3.0,
//! 4.1.2).

use crate::table::Table;
use crate::{PciConfigSpace, Tables};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Reserved bytes come before the entries.
const FIXED_BYTES: usize = 8;
/// Of each bus.
const BUS_BYTES: u64 = 1 << 20;

/// Table 4-3.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Allocation {
    base: U64,
    segment: U16,
    first_bus: u8,
    last_bus: u8,
    reserved: [u8; 4],
}

/// Reads the table: the first entry of segment 0. One that makes no sense is left out.
pub fn read(table: &Table<'_>, tables: &mut Tables) {
    let content = table.content().get(FIXED_BYTES..).unwrap_or_default();
    let entries = content.chunks_exact(size_of::<Allocation>());
    let mut entries = entries.filter_map(|bytes| Allocation::ref_from_bytes(bytes).ok());
    let is_sane = |entry: &&Allocation| {
        let base = entry.base.get();
        let is_in_place = base != 0 && base.is_multiple_of(BUS_BYTES) && base < 1 << 52;
        entry.segment == 0 && entry.first_bus <= entry.last_bus && is_in_place
    };
    tables.pci_config = entries.find(is_sane).map(|entry| PciConfigSpace {
        base: entry.base.get(),
        first_bus: entry.first_bus,
        last_bus: entry.last_bus,
    });
}
