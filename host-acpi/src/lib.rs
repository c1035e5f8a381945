//! The machine's own ACPI tables (ACPI Specification 6.5): its processors and interrupt
//! controllers, the PM timer, PCI's configuration space, how to turn it off and reset it.
//!
//! Tables are firmware's, and firmware has faults: a table that is broken is left out, and what it
//! would have said stays at a PC's defaults.
//!
//! ```
//! use host_acpi::PhysicalMemory;
//!
//! /// A machine without tables.
//! struct Nothing;
//!
//! impl PhysicalMemory for Nothing {
//!     fn bytes(&self, _address: u64, _length_bytes: usize) -> Option<&[u8]> {
//!         None
//!     }
//! }
//!
//! let tables = host_acpi::read(&Nothing, host_acpi::find_root(&Nothing));
//! assert!(tables.io_apics.is_empty());
//! assert_eq!(tables.isa_interrupts[4].gsi, 4);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "fuzzing"))]
extern crate std;

#[cfg(any(test, feature = "fuzzing"))]
mod firmware;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod madt;
mod mcfg;
mod power;
mod root;
mod s5;
mod table;
#[cfg(test)]
mod tests;

pub use power::{PowerControls, Register};
pub use root::find_root;

use alloc::vec::Vec;
use root::Root;

/// The physical memory that the tables are in.
pub trait PhysicalMemory {
    /// The bytes there, if all of them can be read. They never change.
    fn bytes(&self, address: u64, length_bytes: usize) -> Option<&[u8]>;
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicInfo {
    /// Physical address of its registers.
    pub address: u64,
    /// The global system interrupt of its first input.
    pub first_gsi: u32,
}

/// Where an ISA interrupt arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptSource {
    /// Global system interrupt.
    pub gsi: u32,
    /// Level-triggered.
    pub level: bool,
    /// Active low.
    pub active_low: bool,
}

/// Where PCI's configuration space is in memory: 4 KiB a function, 1 MiB a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciConfigSpace {
    /// Where bus 0 is, or would be.
    pub base: u64,
    /// The first bus that it has.
    pub first_bus: u8,
    /// The last one.
    pub last_bus: u8,
}

/// All that the hypervisor wants of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Local APIC ids of the CPUs that can be used, in the firmware's order.
    pub cpus: Vec<u32>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApicInfo>,
    /// The ISA interrupts.
    pub isa_interrupts: [InterruptSource; 16],
    /// Port of the PM timer.
    pub pm_timer: Option<u16>,
    /// CMOS register of the century.
    pub century_register: Option<u8>,
    /// PCI's configuration space of segment 0, if it is in memory.
    pub pci_config: Option<PciConfigSpace>,
    /// Power off and reset.
    pub power: PowerControls,
}

impl Default for Tables {
    /// A PC without tables.
    fn default() -> Self {
        let source =
            |irq: usize| InterruptSource { gsi: irq as u32, level: false, active_low: false };
        Self {
            cpus: Vec::new(),
            io_apics: Vec::new(),
            isa_interrupts: core::array::from_fn(source),
            pm_timer: None,
            century_register: None,
            pci_config: None,
            power: PowerControls::default(),
        }
    }
}

/// Reads the tables, of which the root pointer is at physical address `root`. A table that is
/// missing leaves a PC's defaults.
pub fn read(memory: &dyn PhysicalMemory, root: Option<u64>) -> Tables {
    let mut tables = Tables::default();
    let Some(root) = root else {
        log::warn!("no ACPI tables found");
        return tables;
    };
    let Some(root) = Root::read(memory, root) else {
        log::warn!("the ACPI tables cannot be read: their root at {root:#x} is broken");
        return tables;
    };
    match root.find(memory, b"APIC") {
        Some(table) => madt::read(&table, &mut tables),
        None => log::warn!("no ACPI MADT"),
    }
    match root.find(memory, b"FACP") {
        Some(table) => power::read(&table, memory, &mut tables),
        None => log::warn!("no ACPI FADT: the machine cannot be turned off by software"),
    }
    if let Some(table) = root.find(memory, b"MCFG") {
        mcfg::read(&table, &mut tables);
    }
    tables
}
