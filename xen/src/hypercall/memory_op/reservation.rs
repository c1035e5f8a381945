//! The memory that a guest has: given back to the host, and taken again.

use super::{read, resume};
use crate::errno::Errno;
use crate::hypercall::{Answer, Outcome};
use crate::machine::{Caller, MAX_PAGES_A_GO};
use crate::platform::PvPlatform;
use crate::width::Width;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `xen_memory_reservation` of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Reservation64 {
    pub extents: u64,
    pub extent_count: u64,
    pub extent_order: u32,
    pub flags: u32,
    pub domain: u16,
    pub pad: [u16; 3],
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Reservation32 {
    pub extents: u32,
    pub extent_count: u32,
    pub extent_order: u32,
    pub flags: u32,
    pub domain: u16,
    pub pad: u16,
}

/// A call: extents of 2^order pages, by the numbers of their first pages.
struct Reservation {
    extents: u64,
    count: u64,
    order: u32,
    flags: u32,
    domain: u16,
}

/// Xen's default for a guest's largest extent (`CONFIG_DOMU_MAX_ORDER`).
const MAX_ORDER: u32 = 9;
/// Pages that are given back or taken in one go, but for a larger extent. Then the guest makes the
/// call again for the rest, so that the host gets its turn between.
const PAGES_A_GO: usize = 64;
/// `XENMEMF_get_address_bits`.
const ADDRESS_BITS: u32 = 0xff;
/// Addresses of so many bits or less are of no page.
const PAGE_BITS: u32 = 12;
/// `XENMEMF_populate_on_demand`, which is for another domain.
const POPULATE_ON_DEMAND: u32 = 1 << 16;

const _: () = assert!(1 << MAX_ORDER <= MAX_PAGES_A_GO);

/// The work on the extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `XENMEM_increase_reservation`: pages that lie nowhere in the guest.
    Increase,
    /// `XENMEM_decrease_reservation`.
    Decrease,
    /// `XENMEM_populate_physmap`.
    Populate,
}

impl Reservation {
    fn read(caller: &dyn Caller, linear: u64) -> Result<Self, Errno> {
        Ok(match caller.width() {
            Width::Bits64 => {
                let call: Reservation64 = read(caller, linear)?;
                Self {
                    extents: call.extents,
                    count: call.extent_count,
                    order: call.extent_order,
                    flags: call.flags,
                    domain: call.domain,
                }
            }
            Width::Bits32 => {
                let call: Reservation32 = read(caller, linear)?;
                Self {
                    extents: call.extents.into(),
                    count: call.extent_count.into(),
                    order: call.extent_order,
                    flags: call.flags,
                    domain: call.domain,
                }
            }
        })
    }

    /// The pages of extents `start` and following, as many as are for one go.
    fn pages(&self, caller: &dyn Caller, start: u64) -> Result<Vec<u64>, Errno> {
        let width = caller.width();
        let entry_bytes = width.long_bytes();
        let count = ((PAGES_A_GO >> self.order).max(1) as u64).min(self.count - start) as usize;
        let mut entries = alloc::vec![0; count * entry_bytes];
        let at = start.wrapping_mul(entry_bytes as u64).wrapping_add(self.extents);
        if caller.read(at, &mut entries).is_err() {
            // As far as they can be read.
            entries.truncate(entry_bytes);
            caller.read(at, &mut entries)?;
        }
        let firsts = entries.chunks_exact(entry_bytes).map(|entry| width.long(entry, 0));
        let all = |first: u64| (0..1 << self.order).map(move |page| first.saturating_add(page));
        Ok(firsts.flat_map(all).collect())
    }
}

impl PvPlatform {
    /// A call of which `start` extents were done before. Its result is how many are; less than were
    /// asked for say that the next one could not be.
    pub(super) fn reservation(
        &self,
        caller: &dyn Caller,
        change: Change,
        command: u64,
        start: u64,
        linear: u64,
    ) -> Answer {
        let end = |done: u64| Outcome::Done(done as i64).into();
        let Ok(call) = Reservation::read(caller, linear) else { return end(start) };
        let address_bits = call.flags & ADDRESS_BITS;
        let is_wrong = call.count > super::MAX_EXTENTS
            || start >= call.count
            || self.own_domain(call.domain).is_err()
            || (1..=PAGE_BITS).contains(&address_bits)
            || call.order > MAX_ORDER
            || change == Change::Populate && call.flags & POPULATE_ON_DEMAND != 0;
        // A page that lies nowhere is of no use to a guest whose addresses are translated.
        if is_wrong || change == Change::Increase {
            return end(start);
        }
        let Ok(pages) = call.pages(caller, start) else { return end(start) };
        let done = match change {
            Change::Decrease => self.remove_pages(&pages),
            _ => Some(self.populate(&pages, 1 << call.order)),
        };
        let Some(done) = done else { return resume(command, start, linear) };
        let extents = start + (done >> call.order) as u64;
        if done == pages.len() && extents < call.count {
            return resume(command, extents, linear);
        }
        end(extents)
    }

    /// Gives the host back what is at these page numbers; returns how many pages, from the first
    /// on. `None`, and nothing is done, if the guest has to come again for it: all pages of RAM go
    /// in one step, as nobody could go on with an extent of which a part is gone.
    fn remove_pages(&self, gfns: &[u64]) -> Option<usize> {
        let (mut ours, mut plain) = (BTreeSet::new(), Vec::with_capacity(gfns.len()));
        for &gfn in gfns {
            if !self.is_ours(gfn) {
                plain.push(gfn);
            } else if !ours.insert(gfn) {
                // There is nothing the second time.
                break;
            }
        }
        let mut left = if plain.is_empty() { 0 } else { self.machine().give_back(&plain)? };
        let is_done = |gfn: &&u64| {
            // It is moved out of the RAM, which goes back.
            if ours.remove(*gfn) {
                return self.take_page(**gfn);
            }
            let is_given = left > 0;
            left = left.saturating_sub(1);
            is_given
        };
        Some(gfns.iter().take_while(is_done).count())
    }

    /// Puts pages of zeroes at these page numbers; returns how many, in whole extents, from the
    /// first on.
    fn populate(&self, gfns: &[u64], extent_pages: usize) -> usize {
        let done = self.machine().take_again(gfns, self.max_pages());
        let whole = done / extent_pages * extent_pages;
        if whole < done {
            // A part of an extent is none. It has not been used, and goes back at once.
            let _ = self.machine().give_back(&gfns[whole..done]);
        }
        whole
    }
}
