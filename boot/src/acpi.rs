//! The machine's own ACPI tables, which are read at their physical addresses.

use crate::memory::{host, paging::Mapping};
use host_acpi::{PhysicalMemory, Tables};

struct Identity;

impl PhysicalMemory for Identity {
    fn bytes(&self, address: u64, length_bytes: usize) -> Option<&[u8]> {
        if address == 0 {
            return None;
        }
        host::map(address, length_bytes as u64, Mapping::CONSTANTS).ok()?;
        // SAFETY: all of it is mapped now, for ever, and holds the firmware's tables and ROM, which
        // nobody writes.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, length_bytes) })
    }
}

/// Looks for the root pointer where a BIOS leaves it. Works under the entry code's page tables
/// only, which map the first page.
pub fn find_root() -> Option<u64> {
    host_acpi::find_root(&Identity)
}

/// Reads the tables. A table that is missing leaves a PC's defaults.
pub fn read(root: Option<u64>) -> Tables {
    host_acpi::read(&Identity, root)
}
