//! The loader's information, which is read at its physical addresses.

use handover::{Handover, LoaderMemory};

struct Identity;

impl LoaderMemory for Identity {
    fn bytes(&self, address: u32, length_bytes: usize) -> Option<&[u8]> {
        const END: u64 = 1 << 32;
        let end = u64::from(address).checked_add(length_bytes as u64)?;
        if address == 0 || end > END {
            return None;
        }
        // SAFETY: `read` below makes sure that all of the first 4 GiB are mapped and that the
        // loader's information, which is all that is asked for, stays as it is for ever.
        Some(unsafe { core::slice::from_raw_parts(address as usize as *const u8, length_bytes) })
    }
}

/// The loader's information, by the values that it left in EAX and EBX.
///
/// # Safety
/// They are what the loader passed, the first 4 GiB are identity-mapped and stay so where they are
/// RAM, and nothing overwrites the loader's information.
///
/// # Errors
/// A text that names the fault.
pub unsafe fn read(magic: u32, address: u32) -> Result<Handover<'static>, &'static str> {
    Handover::read(magic, address, &Identity)
}
