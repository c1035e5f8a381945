//! Areas: ranges above 1 MiB, outside RAM, that show memory.

use super::{Backing, FOUR_GIB, GuestSpace, Nested, SpaceError};
use alloc::vec::Vec;
use ept::Flush;

/// Where a PC has its I/O APIC, HPET and local APICs.
const FIXED_DEVICES: core::ops::Range<u64> = 0xfec0_0000..0xfef0_0000;
/// The memory that a lowest table maps.
const TABLE_SPAN: u64 = 2 << 20;

/// A range above 1 MiB, outside RAM, that shows memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it is.
    pub gpa: u64,
    /// Its length, a multiple of the page size.
    pub length_bytes: u64,
    /// Which memory.
    pub backing: Backing,
    /// Where in that memory it starts.
    pub offset: u64,
    /// Writes are dropped if false.
    pub writable: bool,
}

impl Area {
    pub(super) const fn holds(&self, gpa: u64) -> bool {
        gpa >= self.gpa && gpa - self.gpa < self.length_bytes
    }

    const fn meets(&self, other: &Self) -> bool {
        self.holds(other.gpa) || other.holds(self.gpa)
    }
}

/// Areas, by who says where they are.
#[derive(Debug, Default)]
pub(super) struct Areas {
    /// The chipset: ROM and memories of PCI functions.
    pub of_chipset: Vec<Area>,
    /// The PV-on-HVM platform: where its guest wants its pages.
    pub of_platform: Vec<Area>,
}

/// The party that says where areas are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaOwner {
    /// The chipset.
    Chipset,
    /// The PV-on-HVM platform.
    Platform,
}

impl GuestSpace {
    pub(super) fn find_area(&self, gpa: u64) -> Option<Area> {
        // Interrupt controllers and timers are asked for most, and no area may hide them.
        if FIXED_DEVICES.contains(&gpa) {
            return None;
        }
        let areas = self.areas.read();
        areas.of_chipset.iter().chain(&areas.of_platform).find(|area| area.holds(gpa)).copied()
    }

    /// True if an area can be at these addresses: neither RAM nor a device that every PC has is
    /// there.
    pub fn is_free(&self, gpa: u64, length_bytes: u64) -> bool {
        let end = gpa.saturating_add(length_bytes);
        let hides_devices = gpa < FIXED_DEVICES.end && end > FIXED_DEVICES.start;
        let is_low = gpa >= self.ram_layout.low_end() && end <= FOUR_GIB;
        is_low && !hides_devices
    }

    /// True if the chipset shows memory at `gpa`: RAM, ROM or that of a PCI function.
    pub fn is_chipset_memory(&self, gpa: u64) -> bool {
        let shown = self.locate(gpa).is_some();
        shown && !self.areas.read().of_platform.iter().any(|area| area.holds(gpa))
    }

    /// True if RAM that the guest can write to is at `gpa`.
    pub fn is_writable_ram(&self, gpa: u64) -> bool {
        let found = self.locate(gpa);
        found.is_some_and(|(memory, offset, writable)| {
            writable && core::ptr::eq(memory, &*self.ram) && memory.is_there(offset)
        })
    }

    /// Changes which areas above 1 MiB show memory. Areas that would cover RAM, the interrupt
    /// controllers or the HPET are left out; where areas of both owners meet, the chipset's are
    /// shown.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn set_areas(&self, owner: AreaOwner, wanted: &[Area]) -> Result<(), SpaceError> {
        let is_free = |area: &&Area| self.is_free(area.gpa, area.length_bytes);
        let wanted: Vec<Area> = wanted.iter().filter(is_free).copied().collect();
        let mut nested = self.tables_to_change();
        let mut areas = self.areas.write();
        let own = match owner {
            AreaOwner::Chipset => &mut areas.of_chipset,
            AreaOwner::Platform => &mut areas.of_platform,
        };
        if *own == wanted {
            return Ok(());
        }
        let mut gone = core::mem::replace(own, wanted);
        let Areas { of_chipset, of_platform } = &mut *areas;
        of_platform.retain(|area| {
            let stays = !of_chipset.iter().any(|other| area.meets(other));
            if !stays {
                gone.push(*area);
            }
            stays
        });
        let mut flush = Flush::default();
        let Nested { tables, frames, .. } = &mut *nested;
        // An area that stays is mapped again when it is touched: an area that goes may have covered
        // a part of it. So is RAM beside it: all that one table maps goes, and the table with it,
        // so that an area that moves leaves none behind. The local APIC's page is shown for good.
        for area in &gone {
            self.leave_area(area);
            let least = if area.gpa < FIXED_DEVICES.end { 0 } else { FIXED_DEVICES.end };
            let start = (area.gpa / TABLE_SPAN * TABLE_SPAN).max(least);
            let end = (area.gpa + area.length_bytes).next_multiple_of(TABLE_SPAN);
            flush = flush.and(tables.unmap(frames, start, end - start)?);
        }
        self.owe(&mut nested, flush);
        Ok(())
    }
}
