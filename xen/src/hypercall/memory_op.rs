//! `memory_op` (memory.h).

use super::{done, read};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, page_of};
use crate::width::Width;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `xen_add_to_physmap` of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct AddToPhysmap64 {
    domain: u16,
    size: u16,
    space: u32,
    index: u64,
    gfn: u64,
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct AddToPhysmap32 {
    domain: u16,
    size: u16,
    space: u32,
    index: u32,
    gfn: u32,
}

/// `xen_remove_from_physmap` of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RemoveFromPhysmap64 {
    domain: u16,
    pad: [u16; 3],
    gfn: u64,
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RemoveFromPhysmap32 {
    domain: u16,
    pad: u16,
    gfn: u32,
}

/// The command is in the low bits; the extent to go on from is above.
const COMMAND: u64 = 0x3f;

impl PvPlatform {
    pub(super) fn memory_op(
        &self,
        caller: &mut dyn Caller,
        command: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        match command & COMMAND {
            // These have no extents.
            2..=4 | 14 | 15 if command & !COMMAND != 0 => Err(Errno::Inval),
            _ if command & !COMMAND != 0 => Err(Errno::NoSys),
            2 => Ok(self.machine().last_ram_page() as i64),
            3 | 4 => {
                self.own_domain(read(caller, linear)?)?;
                Ok(self.machine().ram_pages() as i64)
            }
            7 => self.add_to_physmap(caller, linear),
            // The firmware's map is where a guest finds it.
            9 => Err(Errno::NoSys),
            14 => {
                self.own_domain(read(caller, linear)?)?;
                Ok(self.machine().last_ram_page() as i64)
            }
            15 => self.remove_from_physmap(caller, linear),
            28 => Err(Errno::Perm),
            _ => Err(Errno::NoSys),
        }
    }

    fn add_to_physmap(&self, caller: &dyn Caller, linear: u64) -> Result<i64, Errno> {
        let (domain, space, index, gfn) = match caller.width() {
            Width::Bits64 => {
                let call: AddToPhysmap64 = read(caller, linear)?;
                (call.domain, call.space, call.index, call.gfn)
            }
            Width::Bits32 => {
                let call: AddToPhysmap32 = read(caller, linear)?;
                let gfn = if call.gfn == u32::MAX { u64::MAX } else { call.gfn.into() };
                (call.domain, call.space, call.index.into(), gfn)
            }
        };
        self.own_domain(domain)?;
        done(self.put_page(page_of(space, index)?, gfn))
    }

    fn remove_from_physmap(&self, caller: &dyn Caller, linear: u64) -> Result<i64, Errno> {
        let (domain, gfn) = match caller.width() {
            Width::Bits64 => {
                let call: RemoveFromPhysmap64 = read(caller, linear)?;
                (call.domain, call.gfn)
            }
            Width::Bits32 => {
                let call: RemoveFromPhysmap32 = read(caller, linear)?;
                (call.domain, call.gfn.into())
            }
        };
        self.own_domain(domain)?;
        if self.take_page(gfn) { Ok(0) } else { Err(Errno::NoEnt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_public_headers() {
        assert_eq!(size_of::<AddToPhysmap64>(), 24);
        assert_eq!(size_of::<AddToPhysmap32>(), 16);
        assert_eq!(size_of::<RemoveFromPhysmap64>(), 16);
        assert_eq!(size_of::<RemoveFromPhysmap32>(), 8);
    }
}
