//! Grants, version 1 (grant_table.h): the pages that a guest lets back ends use.

use crate::pages::{MAX_GRANT_FRAMES, PAGE_BYTES, Shared};
use alloc::vec::Vec;

const ENTRY_BYTES: u64 = 8;
const ENTRIES_A_FRAME: u32 = (PAGE_BYTES / ENTRY_BYTES) as u32;
/// The guest's entries that are domain 0's from the start: for its console and its store.
pub const CONSOLE_REFERENCE: u32 = 0;
/// See [`CONSOLE_REFERENCE`].
pub const STORE_REFERENCE: u32 = 1;

/// Flags of an entry.
const TYPE: u16 = 3;
const PERMIT_ACCESS: u16 = 1;
const READ_ONLY: u16 = 1 << 2;
const READING: u8 = 1 << 3;
const WRITING: u8 = 1 << 4;
/// Only a part of the page: of version 2.
const SUB_PAGE: u16 = 1 << 8;
/// A guest that changes an entry all the time while it is taken is refused.
const MAX_TRIES: usize = 16;

/// The grant is none, or not for this use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGrant;

/// The place of an entry: the frame of the table, and the offset there; `None` beyond the last
/// frame that there can be.
pub const fn place(reference: u32) -> Option<(usize, u64)> {
    let frame = (reference / ENTRIES_A_FRAME) as usize;
    if frame >= MAX_GRANT_FRAMES {
        return None;
    }
    Some((frame, (reference % ENTRIES_A_FRAME) as u64 * ENTRY_BYTES))
}

/// An entry that lets domain 0 use page `gfn`, as Xen's toolstack makes it.
pub fn reserved_entry(gfn: u64) -> [u8; ENTRY_BYTES as usize] {
    let [low, high] = PERMIT_ACCESS.to_le_bytes();
    let [a, b, c, d] = (gfn as u32).to_le_bytes();
    [low, high, 0, 0, a, b, c, d]
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holds {
    readers: u16,
    writers: u16,
}

impl Holds {
    const fn count(&mut self, is_writable: bool) -> &mut u16 {
        if is_writable { &mut self.writers } else { &mut self.readers }
    }
}

/// How often grants are in use: by their references, up to the highest that has been.
#[derive(Debug, Default)]
pub struct Grants(Vec<Holds>);

impl Grants {
    /// Those of a reference that has a [`place`].
    fn holds(&mut self, reference: u32) -> &mut Holds {
        let index = reference as usize;
        if index >= self.0.len() {
            let entries = (index + 1).next_multiple_of(ENTRIES_A_FRAME as usize);
            self.0.reserve_exact(entries - self.0.len());
            self.0.resize(entries, Holds::default());
        }
        &mut self.0[index]
    }

    /// Marks the entry at `offset` of a frame as in use, so that the guest cannot end the grant,
    /// and returns the address of its page.
    ///
    /// # Errors
    /// [`NoGrant`].
    pub fn hold(
        &mut self,
        frame: Shared<'_>,
        offset: u64,
        reference: u32,
        is_writable: bool,
    ) -> Result<u64, NoGrant> {
        let count = self.holds(reference).count(is_writable);
        let more = count.checked_add(1).ok_or(NoGrant)?;
        for _ in 0..MAX_TRIES {
            let mut entry = [0; ENTRY_BYTES as usize];
            frame.read(offset, &mut entry).map_err(|_| NoGrant)?;
            let [low, high, a, b, gfn @ ..] = entry;
            let (flags, domain) = (u16::from_le_bytes([low, high]), u16::from_le_bytes([a, b]));
            let is_refused = flags & READ_ONLY != 0 && is_writable;
            if flags & (TYPE | SUB_PAGE) != PERMIT_ACCESS || domain != 0 || is_refused {
                return Err(NoGrant);
            }
            let in_use = low | READING | if is_writable { WRITING } else { 0 };
            if frame.compare_exchange(offset, low, in_use) {
                *count = more;
                // A guest takes the permission back before it puts another page there.
                return Ok(u64::from(u32::from_le_bytes(gfn)) * PAGE_BYTES);
            }
        }
        Err(NoGrant)
    }

    /// Ends a hold.
    pub fn release(&mut self, frame: Shared<'_>, offset: u64, reference: u32, is_writable: bool) {
        let held = self.holds(reference);
        let count = held.count(is_writable);
        *count = count.saturating_sub(1);
        let reading = if *held == Holds::default() { READING } else { 0 };
        let writing = if held.writers == 0 { WRITING } else { 0 };
        if reading | writing != 0 {
            frame.clear_bits(offset, reading | writing);
        }
    }
}
