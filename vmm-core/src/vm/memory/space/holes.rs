//! Pages of RAM that the guest gives back to the host, and gets again.
//!
//! A page leaves in three steps, so that nobody reaches it when another has it: it is taken out of
//! the second-level tables and of the RAM, and left a hole; accesses that devices and back ends had
//! begun on other CPUs end ([`GuestSpace::outside`]); and each virtual CPU flushes, before which
//! its own accesses have ended too.

use super::{GuestSpace, LowPage, MIB, Nested, PAGE_BYTES, SpaceError};
use ept::{Flush, OutOfMemory};
use spin::RwLockReadGuard;

/// Pages that have left and wait for a virtual CPU to flush, at the most.
pub const MAX_LEAVING: usize = 512;

impl GuestSpace {
    /// The place in RAM of a guest-physical address, if RAM belongs there.
    pub fn ram_offset(&self, gpa: u64) -> Option<u64> {
        match gpa < self.ram_layout.low_end() {
            true => Some(gpa),
            false => self.ram_layout.high_offset(gpa),
        }
    }

    /// Pages of RAM that the guest has.
    pub fn ram_pages(&self) -> u64 {
        (self.ram_layout.bytes() / PAGE_BYTES).saturating_sub(self.ram.missing())
    }

    /// An access by another than a virtual CPU of the guest begins, and ends when this is dropped.
    #[inline]
    pub(super) fn outside(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.gives_back.then(|| self.outsiders.read())
    }

    /// Gives the RAM at these page addresses, at most [`MAX_LEAVING`], back to the host; returns
    /// how many, from the first on: it stops where no RAM is. `None`, and nothing is given back, if
    /// virtual CPUs have to flush first.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn give_back(&self, gpas: &[u64]) -> Result<Option<usize>, SpaceError> {
        // Clearing takes long: nobody is to wait for it.
        let is_ready = |gpa: &&u64| self.ram_offset(**gpa).is_some_and(|at| self.ram.touch_at(at));
        let ready = gpas.iter().take_while(is_ready).count();
        let mut nested = self.tables_to_change();
        if nested.frames.room_to_leave() < ready {
            return Ok(None);
        }
        let mut flush = Flush::default();
        let mut done = 0;
        // Those who come while this waits find the holes.
        let outsiders = self.outsiders.upgradeable_read().upgrade();
        let generation = self.generation() + 1;
        for &gpa in &gpas[..ready] {
            let Some(offset) = self.ram_offset(gpa) else { break };
            if !self.ram.is_there(offset as usize) {
                break;
            }
            flush = flush.and(self.hide(&mut nested, gpa)?);
            let Some(page) = self.ram.take_page(offset as usize) else { break };
            nested.frames.leave(generation, page);
            done += 1;
            if gpa < MIB {
                flush = flush.and(self.show_again(&mut nested, gpa)?);
            }
        }
        drop(outsiders);
        // A page leaves with a flush, whether it was mapped or not.
        if done > 0 {
            self.owe_flush(&mut nested, flush);
        } else {
            self.owe(&mut nested, flush);
        }
        Ok(Some(done))
    }

    /// Puts pages of zeroes into the holes at these page addresses; returns how many, from the
    /// first on: it stops where there is no hole, when the guest has `most` pages, and when the
    /// host has no memory.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn take_again(&self, gpas: &[u64], most: u64) -> Result<usize, SpaceError> {
        let mut nested = self.tables_to_change();
        for (done, &gpa) in gpas.iter().enumerate() {
            let hole = self.ram_offset(gpa).filter(|_| self.ram_pages() < most);
            if hole.is_none_or(|offset| self.ram.put_page(offset as usize).is_err()) {
                return Ok(done);
            }
            if gpa < MIB {
                let flush = self.show_again(&mut nested, gpa)?;
                self.owe(&mut nested, flush);
            }
        }
        Ok(gpas.len())
    }

    /// Takes a page of RAM out of the tables.
    fn hide(&self, nested: &mut Nested, gpa: u64) -> Result<Flush, OutOfMemory> {
        // With A20 closed the second mebibyte shows the first.
        if gpa < MIB || gpa < 2 * MIB && !self.a20() {
            return Ok(Flush::default());
        }
        let Nested { tables, frames, .. } = nested;
        tables.unmap(frames, gpa, PAGE_BYTES)
    }

    /// Shows a page below 1 MiB, which is never mapped when it is touched, as it is now.
    fn show_again(&self, nested: &mut Nested, gpa: u64) -> Result<Flush, OutOfMemory> {
        let slot = &self.low_pages[(gpa / PAGE_BYTES) as usize];
        let page = LowPage::decode(slot.load(core::sync::atomic::Ordering::Relaxed));
        let mut flush = self.show_low_page(nested, gpa, page)?;
        if !self.a20() {
            flush = flush.and(self.show_low_page(nested, gpa + MIB, page)?);
        }
        Ok(flush)
    }
}

#[cfg(test)]
mod tests;
