//! The root pointer, and the list of all tables that it leads to (5.2.5, 5.2.7, 5.2.8).

use crate::PhysicalMemory;
use crate::table::{Table, sums_to_zero};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, KnownLayout, Unaligned};

const SIGNATURE: [u8; 8] = *b"RSD PTR ";

/// The root pointer of ACPI 1.0 (table 5.3), as all begin.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct OldPointer {
    signature: [u8; 8],
    checksum: u8,
    oem_id: [u8; 6],
    revision: u8,
    rsdt: U32,
}

/// The root pointer of ACPI 2.0 and later.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NewPointer {
    old: OldPointer,
    length: U32,
    xsdt: U64,
    checksum: u8,
    reserved: [u8; 3],
}

/// The root pointer at `address`, if it is whole.
fn old_pointer(memory: &dyn PhysicalMemory, address: u64) -> Option<&OldPointer> {
    let bytes = memory.bytes(address, size_of::<OldPointer>())?;
    let (pointer, _) = OldPointer::ref_from_prefix(bytes).ok()?;
    (pointer.signature == SIGNATURE && sums_to_zero(bytes)).then_some(pointer)
}

/// Where a BIOS leaves the root pointer: in the first KiB of its extended data area or in its ROM,
/// at a multiple of 16 (5.2.5.1).
pub fn find_root(memory: &dyn PhysicalMemory) -> Option<u64> {
    const EXTENDED_AREA_SEGMENT: u64 = 0x40e;
    const ALIGNMENT: usize = 16;
    let segment =
        memory.bytes(EXTENDED_AREA_SEGMENT, 2).and_then(|bytes| U16::read_from_bytes(bytes).ok());
    let extended = u64::from(segment.map_or(0, U16::get)) << 4;
    [extended..extended + 0x400, 0xe_0000..0x10_0000]
        .into_iter()
        .flat_map(|area| area.step_by(ALIGNMENT))
        // Address 0 is the interrupt vectors' where there is no extended area.
        .find(|&address| address != 0 && old_pointer(memory, address).is_some())
}

/// The list of all tables.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    table: Table<'a>,
    /// Its addresses have so many bytes.
    address_bytes: usize,
}

impl<'a> Root<'a> {
    /// The list that the root pointer at `address` leads to: the one of 64-bit addresses if there
    /// is one.
    pub fn read(memory: &'a dyn PhysicalMemory, address: u64) -> Option<Self> {
        let old = old_pointer(memory, address)?;
        let xsdt = (old.revision >= 2)
            .then(|| memory.bytes(address, size_of::<NewPointer>()))
            .flatten()
            .filter(|bytes| sums_to_zero(bytes))
            .and_then(|bytes| NewPointer::ref_from_prefix(bytes).ok())
            .and_then(|(new, _)| Table::read(memory, new.xsdt.get(), b"XSDT"));
        match xsdt {
            Some(table) => Some(Self { table, address_bytes: 8 }),
            None => Some(Self {
                table: Table::read(memory, old.rsdt.get().into(), b"RSDT")?,
                address_bytes: 4,
            }),
        }
    }

    /// The first whole table with a signature.
    pub fn find(&self, memory: &'a dyn PhysicalMemory, signature: &[u8; 4]) -> Option<Table<'a>> {
        self.addresses().find_map(|address| Table::read(memory, address, signature))
    }

    fn addresses(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.table.content().chunks_exact(self.address_bytes).map(|bytes| {
            let mut address = [0; 8];
            address.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(address)
        })
    }
}
