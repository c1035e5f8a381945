//! The guest's ACPI tables, and the script by which the firmware places them.
//!
//! The hardware they describe is the PIIX4's power management as SeaBIOS sets it up when it finds a
//! table loader: PM base 600h, SCI at IRQ 9, SMI command port B2h.

mod aml;
mod dsdt;
mod generation;
mod loader;
mod processors;
mod tables;

#[cfg(test)]
mod tests;

use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use alloc::vec::Vec;
use zerocopy::IntoBytes;

use crate::MachineDescription;
use loader::{Script, Zone};

/// The PIIX4's power-management ports.
pub const PM_BASE: u16 = 0x600;
/// The general-purpose event registers' ports.
pub const GPE0_BLOCK: u16 = 0xafe0;
const GPE0_BYTES: u8 = 4;
/// The ISA interrupt of the SCI.
pub const SCI_IRQ: u16 = 9;
/// Where a system writes F1h to enable ACPI mode.
pub const SMI_COMMAND_PORT: u16 = 0xb2;
const HPET_GPA: u32 = 0xfed0_0000;

const OEM_ID: [u8; 6] = *b"BULKHD";
const OEM_TABLE_ID: [u8; 8] = *b"BULKHEAD";
const OEM_REVISION: u32 = 1;

const TABLES_FILE: &str = "etc/acpi/tables";
const RSDP_FILE: &str = "etc/acpi/rsdp";

const CHECKSUM_OFFSET: u32 = 9;

/// The three files of the table loader.
#[derive(Clone, Debug)]
pub struct AcpiFiles {
    /// `etc/acpi/tables`: all tables, with offsets into this file where addresses belong.
    pub tables: Vec<u8>,
    /// `etc/acpi/rsdp`.
    pub rsdp: Vec<u8>,
    /// `etc/table-loader`.
    pub loader: Vec<u8>,
}

/// The tables of `machine`.
pub fn files(machine: &MachineDescription) -> AcpiFiles {
    const FACS_ALIGN: u32 = 64;
    let mut blob = Blob::default();
    blob.script.allocate(RSDP_FILE, 16, Zone::FSegment);
    blob.script.allocate(TABLES_FILE, FACS_ALIGN, Zone::High);

    // The FACS comes first: it is the one that must be aligned, and has no checksum.
    let facs = blob.place(FACS::new().as_bytes());
    let dsdt = blob.place_dsdt(machine);
    let fadt = blob.place_fadt(facs, dsdt);
    let madt = blob.place(&tables::madt(machine));
    let hpet = machine.hpet.then(|| blob.place(&tables::hpet()));

    let roots: Vec<u32> = [Some(fadt), Some(madt), hpet].into_iter().flatten().collect();
    let rsdt = blob.place_root(*b"RSDT", 4, &roots);
    let xsdt = blob.place_root(*b"XSDT", 8, &roots);
    let rsdp = blob.rsdp(rsdt, xsdt);
    AcpiFiles { tables: blob.bytes, rsdp, loader: blob.script.into_bytes() }
}

/// The tables placed so far, and what the firmware has to do with them.
#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    script: Script,
}

impl Blob {
    /// Places a finished table; returns its offset.
    fn place(&mut self, table: &[u8]) -> u32 {
        const ALIGN: usize = 16;
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(table);
        offset
    }

    /// Places a table whose pointers, at the given offsets and of the given sizes, hold offsets
    /// into this blob. Its checksum must be 0: the firmware computes it after having added the
    /// addresses.
    fn place_with_pointers(&mut self, table: &[u8], pointers: &[(u32, u8)]) -> u32 {
        let offset = self.place(table);
        for &(field, size_bytes) in pointers {
            self.script.add_pointer(TABLES_FILE, offset + field, size_bytes, TABLES_FILE);
        }
        self.script.add_checksum(TABLES_FILE, offset + CHECKSUM_OFFSET, offset, table.len() as u32);
        offset
    }

    fn place_dsdt(&mut self, machine: &MachineDescription) -> u32 {
        let mut table = tables::header(*b"DSDT", 1);
        table.append_slice(dsdt::terms(machine).as_slice());
        let Some(generation_id) = machine.generation_id else {
            return self.place(table.as_slice());
        };
        let (device, address) = generation::device(self.place(&generation_id));
        let address = table.len() as u32 + address;
        table.append_slice(device.as_slice());
        let mut bytes = Vec::from(table.as_slice());
        bytes[CHECKSUM_OFFSET as usize] = 0;
        self.place_with_pointers(&bytes, &[(address, 4)])
    }

    fn place_fadt(&mut self, facs: u32, dsdt: u32) -> u32 {
        const FIRMWARE_CTRL: (u32, u8) = (36, 4);
        const DSDT: (u32, u8) = (40, 4);
        const X_DSDT: (u32, u8) = (140, 8);
        self.place_with_pointers(&tables::fadt(facs, dsdt), &[FIRMWARE_CTRL, DSDT, X_DSDT])
    }

    /// The RSDT or XSDT: `size_bytes` for each pointer.
    fn place_root(&mut self, signature: [u8; 4], size_bytes: u8, roots: &[u32]) -> u32 {
        let mut table = tables::header(signature, 1);
        for root in roots {
            table.append_slice(&u64::from(*root).to_le_bytes()[..usize::from(size_bytes)]);
        }
        let mut bytes = Vec::from(table.as_slice());
        bytes[CHECKSUM_OFFSET as usize] = 0;
        let fields = (0..roots.len() as u32)
            .map(|n| (tables::HEADER_BYTES + n * u32::from(size_bytes), size_bytes));
        let fields: Vec<(u32, u8)> = fields.collect();
        self.place_with_pointers(&bytes, &fields)
    }

    /// The RSDP (ACPI 6.5, section 5.2.5.3), with both root pointers.
    fn rsdp(&mut self, rsdt: u32, xsdt: u32) -> Vec<u8> {
        const CHECKSUM: u32 = 8;
        const RSDT_ADDRESS: u32 = 16;
        const ACPI_1_BYTES: u32 = 20;
        const XSDT_ADDRESS: u32 = 24;
        const EXTENDED_CHECKSUM: u32 = 32;
        let mut bytes = Vec::from(Rsdp::new(OEM_ID, xsdt.into()).as_bytes());
        bytes[RSDT_ADDRESS as usize..][..4].copy_from_slice(&rsdt.to_le_bytes());
        bytes[CHECKSUM as usize] = 0;
        bytes[EXTENDED_CHECKSUM as usize] = 0;
        self.script.add_pointer(RSDP_FILE, RSDT_ADDRESS, 4, TABLES_FILE);
        self.script.add_pointer(RSDP_FILE, XSDT_ADDRESS, 8, TABLES_FILE);
        self.script.add_checksum(RSDP_FILE, CHECKSUM, 0, ACPI_1_BYTES);
        self.script.add_checksum(RSDP_FILE, EXTENDED_CHECKSUM, 0, bytes.len() as u32);
        bytes
    }
}
