//! Processors and interrupt controllers: the MADT (5.2.12).

use crate::table::Table;
use crate::{InterruptSource, IoApicInfo, Tables};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The local APICs' address and the flags come before the entries.
const FIXED_BYTES: usize = 8;
/// Type and length.
const ENTRY_HEADER_BYTES: usize = 2;
const ENABLED: u32 = 1;
/// More than any PC has: firmware decides how long the search for one that is known takes.
const MAX_CPUS: usize = 8192;

/// Types of entries (table 5.21).
mod kind {
    pub const LOCAL_APIC: u8 = 0;
    pub const IO_APIC: u8 = 1;
    pub const SOURCE_OVERRIDE: u8 = 2;
    pub const LOCAL_X2APIC: u8 = 9;
}

/// Table 5.22, as the others below without type and length.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LocalApic {
    processor: u8,
    apic_id: u8,
    flags: U32,
}

/// Table 5.24.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct IoApic {
    id: u8,
    reserved: u8,
    address: U32,
    first_gsi: U32,
}

/// Table 5.25.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SourceOverride {
    bus: u8,
    irq: u8,
    gsi: U32,
    flags: U16,
}

/// Table 5.34.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LocalX2Apic {
    reserved: U16,
    apic_id: U32,
    flags: U32,
    processor: U32,
}

/// Type and content of each entry. One that says it is shorter than its own header ends them.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[kind, length, ..] = self.0 else { return None };
        let entry = self.0.get(ENTRY_HEADER_BYTES..usize::from(length))?;
        self.0 = self.0.get(usize::from(length)..)?;
        Some((kind, entry))
    }
}

fn read_as<T: FromBytes>(content: &[u8]) -> Option<T> {
    T::read_from_prefix(content).ok().map(|(value, _)| value)
}

/// Reads the table. Entries that are too short, or of other types, are left out.
pub fn read(table: &Table<'_>, tables: &mut Tables) {
    for (kind, content) in Entries(table.content().get(FIXED_BYTES..).unwrap_or_default()) {
        match kind {
            kind::LOCAL_APIC => {
                if let Some(cpu) = read_as::<LocalApic>(content) {
                    add_cpu(tables, cpu.apic_id.into(), cpu.flags.get());
                }
            }
            kind::LOCAL_X2APIC => {
                if let Some(cpu) = read_as::<LocalX2Apic>(content) {
                    add_cpu(tables, cpu.apic_id.get(), cpu.flags.get());
                }
            }
            kind::IO_APIC => {
                if let Some(apic) = read_as::<IoApic>(content) {
                    let (address, first_gsi) = (apic.address.get().into(), apic.first_gsi.get());
                    tables.io_apics.push(IoApicInfo { address, first_gsi });
                }
            }
            kind::SOURCE_OVERRIDE => {
                if let Some(source) = read_as::<SourceOverride>(content)
                    && let Some(slot) = tables.isa_interrupts.get_mut(usize::from(source.irq))
                {
                    // Table 5.26: polarity and trigger mode; 3 is active low, or level.
                    let flags = source.flags.get();
                    let (active_low, level) = (flags & 3 == 3, flags >> 2 & 3 == 3);
                    *slot = InterruptSource { gsi: source.gsi.get(), level, active_low };
                }
            }
            _ => {}
        }
    }
}

/// Firmware may name a CPU twice, by both kinds of entries.
fn add_cpu(tables: &mut Tables, apic_id: u32, flags: u32) {
    let has_room = tables.cpus.len() < MAX_CPUS;
    if flags & ENABLED != 0 && has_room && !tables.cpus.contains(&apic_id) {
        tables.cpus.push(apic_id);
    }
}
