//! Registers of a device in memory.

use crate::memory::host;
use alloc::sync::Arc;
use drivers::Registers;

/// Registers that are mapped, uncached, for good.
struct Mapped {
    address: usize,
    length_bytes: u64,
}

/// Maps registers; `None` if there is something else there, or no memory for page tables.
pub fn map(address: u64, length_bytes: u64) -> Option<Arc<dyn Registers>> {
    host::map_registers(address, length_bytes).ok()?;
    Some(Arc::new(Mapped { address: address as usize, length_bytes }))
}

impl Mapped {
    /// The address of a register, if it is among those that are mapped.
    fn find(&self, offset: u64, width_bytes: u8) -> Option<usize> {
        let is_aligned = offset.is_multiple_of(width_bytes.into());
        let end = offset.checked_add(width_bytes.into())?;
        (is_aligned && end <= self.length_bytes).then(|| self.address + offset as usize)
    }
}

impl Registers for Mapped {
    fn read(&self, offset: u64, width_bytes: u8) -> u32 {
        let address = self.find(offset, width_bytes);
        // SAFETY: `map` has mapped the registers there, uncached, for good, and nothing else is.
        unsafe {
            match (address, width_bytes) {
                (Some(address), 1) => (address as *const u8).read_volatile().into(),
                (Some(address), 2) => (address as *const u16).read_volatile().into(),
                (Some(address), 4) => (address as *const u32).read_volatile(),
                _ => u32::MAX,
            }
        }
    }

    fn write(&self, offset: u64, width_bytes: u8, value: u32) {
        let address = self.find(offset, width_bytes);
        // SAFETY: as above; a device that reads and writes memory by itself is given none but its
        // own.
        unsafe {
            match (address, width_bytes) {
                (Some(address), 1) => (address as *mut u8).write_volatile(value as u8),
                (Some(address), 2) => (address as *mut u16).write_volatile(value as u16),
                (Some(address), 4) => (address as *mut u32).write_volatile(value),
                _ => {}
            }
        }
    }
}
