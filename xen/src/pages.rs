//! The pages that the platform shares with its guest, and where the guest has put them.
//!
//! A page that the guest puts over RAM of its own, or into a hole there, lives there from then on:
//! that RAM is the page. When it goes elsewhere it leaves a hole. Anywhere else, and before the
//! guest has put it anywhere, it lives in memory of the platform's, which is shown at the guest's
//! address.

use crate::errno::Errno;
use crate::machine::{Machine, ShownPages};
use alloc::vec::Vec;
use devices::memory::{GuestMemory, NotRam};

/// The page size of everything here.
pub const PAGE_BYTES: u64 = 4096;
/// Frames of a grant table, each with 512 entries (xl's default for `max_grant_frames`).
pub const MAX_GRANT_FRAMES: usize = 64;
/// Page number of the shared info.
pub const SHARED_INFO: usize = 0;
/// XenStore's ring.
pub const STORE: usize = 1;
/// The console's rings.
pub const CONSOLE: usize = 2;
/// The first frame of the grant table; the others follow.
pub const GRANTS: usize = 3;
/// Pages in all.
pub const COUNT: usize = GRANTS + MAX_GRANT_FRAMES;
/// Where Xen puts XenStore's ring: a page above the local APICs.
pub const STORE_GFN: u64 = 0xf_effc;
/// Where Xen puts the console's rings.
pub const CONSOLE_GFN: u64 = 0xf_efff;

const INVALID_GFN: u64 = u64::MAX;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the platform's memory, shown nowhere.
    Hidden,
    /// In the platform's memory, shown at this page number of the guest.
    Shown(u64),
    /// In the guest's RAM, at this page number.
    Ram(u64),
}

/// Where all pages are.
#[derive(Clone, Debug)]
pub struct Pages([Place; COUNT]);

impl Default for Pages {
    /// As Xen leaves them to the firmware.
    fn default() -> Self {
        let mut places = [Place::Hidden; COUNT];
        places[STORE] = Place::Shown(STORE_GFN);
        places[CONSOLE] = Place::Shown(CONSOLE_GFN);
        Self(places)
    }
}

impl Pages {
    /// Puts page `page` at page number `gfn`.
    ///
    /// # Errors
    /// [`Errno::Inval`] for a page that is none, [`Errno::Perm`] where something else answers.
    pub fn put(&mut self, machine: &dyn Machine, page: usize, gfn: u64) -> Result<(), Errno> {
        let gpa = gfn.checked_mul(PAGE_BYTES).ok_or(Errno::Inval)?;
        if gfn == INVALID_GFN || page >= COUNT {
            return Err(Errno::Inval);
        }
        let place = match () {
            () if machine.is_ram(gpa) || machine.take_again(&[gfn], u64::MAX) == 1 => {
                Place::Ram(gfn)
            }
            () if machine.is_free(gpa) => Place::Shown(gfn),
            () => return Err(Errno::Perm),
        };
        let old = self.0[page];
        if old == place {
            return Ok(());
        }
        // Another page that was there is there no more.
        for other in &mut self.0 {
            if *other == place {
                *other = Place::Hidden;
            }
        }
        let mut content = [0; PAGE_BYTES as usize];
        self.at(machine, page).read(0, &mut content).map_err(|_| Errno::Fault)?;
        self.0[page] = place;
        self.at(machine, page).write(0, &content).map_err(|_| Errno::Fault)?;
        leave(machine, old);
        self.show(machine);
        Ok(())
    }

    /// Takes away the page at page number `gfn`; false if none of ours is there.
    pub fn take(&mut self, machine: &dyn Machine, gfn: u64) -> bool {
        let there = [Place::Shown(gfn), Place::Ram(gfn)];
        let Some(page) = self.0.iter().position(|place| there.contains(place)) else {
            return false;
        };
        let mut content = [0; PAGE_BYTES as usize];
        let read = self.at(machine, page).read(0, &mut content);
        let old = core::mem::replace(&mut self.0[page], Place::Hidden);
        if read.is_ok() {
            // It is the platform's own memory, which takes it.
            let _ = self.at(machine, page).write(0, &content);
        }
        leave(machine, old);
        self.show(machine);
        true
    }

    /// One of the pages is at page number `gfn`.
    pub fn is_at(&self, gfn: u64) -> bool {
        let there = [Place::Shown(gfn), Place::Ram(gfn)];
        self.0.iter().any(|place| there.contains(place))
    }

    /// Page number at which the guest finds a page, if it does.
    pub const fn gfn(&self, page: usize) -> Option<u64> {
        match self.0[page] {
            Place::Hidden => None,
            Place::Shown(gfn) | Place::Ram(gfn) => Some(gfn),
        }
    }

    /// Shows what is to be shown.
    pub fn show(&self, machine: &dyn Machine) {
        let mut shown: Vec<ShownPages> = Vec::new();
        for (page, place) in self.0.iter().enumerate() {
            let Place::Shown(gfn) = *place else { continue };
            let gpa = gfn * PAGE_BYTES;
            match shown.last_mut() {
                Some(run)
                    if run.first_page + run.count == page
                        && run.gpa + run.count as u64 * PAGE_BYTES == gpa =>
                {
                    run.count += 1;
                }
                _ => shown.push(ShownPages { gpa, first_page: page, count: 1 }),
            }
        }
        machine.show(&shown);
    }

    /// The content of page `page`, which must be one.
    pub fn at<'a>(&self, machine: &'a dyn Machine, page: usize) -> Shared<'a> {
        match self.0[page] {
            Place::Ram(gfn) => Shared { memory: machine.memory(), base: gfn * PAGE_BYTES },
            Place::Hidden | Place::Shown(_) => {
                Shared { memory: machine.pages(), base: page as u64 * PAGE_BYTES }
            }
        }
    }
}

/// A page has left its place: RAM that was there is a hole, unless the guest would have to come
/// again for it, which concerns nobody.
fn leave(machine: &dyn Machine, place: Place) {
    if let Place::Ram(gfn) = place {
        let _ = machine.give_back(&[gfn]);
    }
}

/// Memory that the guest shares, from an address on. The guest may change it at any moment.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    memory: &'a dyn GuestMemory,
    base: u64,
}

impl<'a> Shared<'a> {
    /// Memory from guest-physical address `gpa` on.
    pub fn at_gpa(machine: &'a dyn Machine, gpa: u64) -> Self {
        Self { memory: machine.memory(), base: gpa }
    }

    /// The same from `offset` bytes on.
    pub const fn from(self, offset: u64) -> Self {
        Self { memory: self.memory, base: self.base + offset }
    }

    /// Copies out.
    ///
    /// # Errors
    /// [`NotRam`], which only memory of the guest's can be.
    pub fn read(self, offset: u64, data: &mut [u8]) -> Result<(), NotRam> {
        self.memory.read(self.base + offset, data)
    }

    /// Copies in.
    ///
    /// # Errors
    /// As [`Shared::read`].
    pub fn write(self, offset: u64, data: &[u8]) -> Result<(), NotRam> {
        self.memory.write(self.base + offset, data)
    }

    /// A byte; zero where no memory is.
    pub fn byte(self, offset: u64) -> u8 {
        let mut byte = [0];
        let _ = self.read(offset, &mut byte);
        byte[0]
    }

    /// A 32-bit value; zero where no memory is.
    pub fn u32(self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        let _ = self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Sets bit `bit`, counted from `offset` on, and says whether it was set.
    pub fn set_bit(self, offset: u64, bit: u32) -> bool {
        let (gpa, mask) = (self.base + offset + u64::from(bit / 8), 1 << (bit % 8));
        self.memory.fetch_or_u8(gpa, mask).is_ok_and(|old| old & mask != 0)
    }

    /// Clears bit `bit`, counted from `offset` on, and says whether it was set.
    pub fn clear_bit(self, offset: u64, bit: u32) -> bool {
        let (gpa, mask) = (self.base + offset + u64::from(bit / 8), 1 << (bit % 8));
        self.memory.fetch_and_u8(gpa, !mask).is_ok_and(|old| old & mask != 0)
    }

    /// Clears the bits of `bits` in a byte.
    pub fn clear_bits(self, offset: u64, bits: u8) {
        let _ = self.memory.fetch_and_u8(self.base + offset, !bits);
    }

    /// Replaces a byte if it is still `expected`; false if it was another, or is no memory.
    pub fn compare_exchange(self, offset: u64, expected: u8, new: u8) -> bool {
        self.memory.compare_exchange_u8(self.base + offset, expected, new) == Ok(true)
    }

    /// Bit `bit`, counted from `offset` on.
    pub fn bit(self, offset: u64, bit: u32) -> bool {
        self.byte(offset + u64::from(bit / 8)) & 1 << (bit % 8) != 0
    }
}
