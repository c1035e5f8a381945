//! `memory_op` (memory.h).

mod reservation;

use super::{Answer, Outcome, done, read, write};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, page_of};
use crate::width::Width;
use reservation::Change;
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

/// `xen_memory_map` of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MemoryMap64 {
    count: u32,
    pad: u32,
    entries: u64,
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MemoryMap32 {
    count: u32,
    entries: u32,
}

/// An entry of such a map, `e820entry`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct MapEntry {
    start: u64,
    length: u64,
    kind: u32,
}

/// RAM, as a kind of an entry.
const MAP_RAM: u32 = 1;
/// The map of an HVM guest that libxl makes begins here.
const MAP_START: u64 = 1 << 20;

/// The command is in the low bits; the extent to go on from is above.
const COMMAND: u64 = 0x3f;
const COMMAND_BITS: u32 = 6;
/// Extents in one call, so that the next one has a place above the command.
const MAX_EXTENTS: u64 = (u32::MAX >> COMMAND_BITS) as u64;

/// The guest makes the call again, of which `extents` are done.
fn resume(command: u64, extents: u64, linear: u64) -> Answer {
    let first = command & COMMAND | extents << COMMAND_BITS;
    Outcome::Again { first, second: linear }.into()
}

impl PvPlatform {
    pub(super) fn memory_op(&self, caller: &mut dyn Caller, command: u64, linear: u64) -> Answer {
        let start = (command & u64::from(u32::MAX)) >> COMMAND_BITS;
        let change = match command & COMMAND {
            0 => Change::Increase,
            1 => Change::Decrease,
            6 => Change::Populate,
            // These have no extents.
            2..=4 | 14 | 15 if start != 0 => return Err(Errno::Inval).into(),
            _ if start != 0 => return Err(Errno::NoSys).into(),
            other => return self.memory_op_at_once(caller, other, linear).into(),
        };
        self.reservation(caller, change, command, start, linear)
    }

    /// Commands that are done in one go.
    fn memory_op_at_once(
        &self,
        caller: &mut dyn Caller,
        command: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        match command {
            2 => Ok(self.machine().last_ram_page() as i64),
            3 | 4 | 14 => {
                self.own_domain(read(caller, linear)?)?;
                Ok(match command {
                    3 => self.machine().ram_pages(),
                    4 => self.max_pages(),
                    _ => self.machine().last_ram_page(),
                } as i64)
            }
            7 => self.add_to_physmap(caller, linear),
            9 => done(self.memory_map(caller, linear)),
            15 => self.remove_from_physmap(caller, linear),
            28 => Err(Errno::Perm),
            _ => Err(Errno::NoSys),
        }
    }

    /// `XENMEM_memory_map`: the RAM as libxl tells a guest of it, as much as there is room for.
    fn memory_map(&self, caller: &mut dyn Caller, linear: u64) -> Result<(), Errno> {
        let (room, mut at) = match caller.width() {
            Width::Bits64 => {
                let map: MemoryMap64 = read(caller, linear)?;
                (map.count, map.entries)
            }
            Width::Bits32 => {
                let map: MemoryMap32 = read(caller, linear)?;
                (map.count, map.entries.into())
            }
        };
        let mut count = 0_u32;
        for range in self.machine().ram_ranges().into_iter().take(room as usize) {
            let start = range.start.max(MAP_START);
            let length = range.end.saturating_sub(start);
            write(caller, at, &MapEntry { start, length, kind: MAP_RAM })?;
            at = at.wrapping_add(size_of::<MapEntry>() as u64);
            count += 1;
        }
        write(caller, linear, &count)
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
    use super::reservation::{Reservation32, Reservation64};
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn structures_have_the_sizes_of_the_public_headers() {
        assert_eq!(size_of::<AddToPhysmap64>(), 24);
        assert_eq!(size_of::<AddToPhysmap32>(), 16);
        assert_eq!(size_of::<RemoveFromPhysmap64>(), 16);
        assert_eq!(size_of::<RemoveFromPhysmap32>(), 8);
        assert_eq!((size_of::<Reservation64>(), size_of::<Reservation32>()), (32, 20));
        assert_eq!(
            (offset_of!(Reservation64, domain), offset_of!(Reservation32, domain)),
            (24, 16)
        );
        assert_eq!((size_of::<MemoryMap64>(), size_of::<MemoryMap32>()), (16, 8));
        assert_eq!(size_of::<MapEntry>(), 20);
    }
}
