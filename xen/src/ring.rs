//! A ring that requests come by, and responses go by (`io/ring.h`).

use crate::guest::{BadGrant, Guest, Held};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

/// A page.
pub const PAGE_BYTES: usize = 4096;
/// Places in the first page of a ring.
pub const REQ_PROD: usize = 0;
/// The request that the back end wants to be told of.
pub const REQ_EVENT: usize = 4;
/// Responses so far.
pub const RSP_PROD: usize = 8;
/// The response that the front end wants to be told of.
pub const RSP_EVENT: usize = 12;
/// The first entry.
pub const ENTRIES: usize = 64;

/// Entries of a ring of so many pages: the largest power of two that fits.
pub const fn entries(pages: usize, stride_bytes: usize) -> u32 {
    let fitting = (pages * PAGE_BYTES - ENTRIES) / stride_bytes;
    1 << fitting.ilog2()
}

/// The front end has moved an index out of the ring, or the ring is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRing;

impl From<BadGrant> for BrokenRing {
    fn from(_: BadGrant) -> Self {
        Self
    }
}

/// A ring that is mapped.
pub struct Ring {
    guest: Arc<dyn Guest>,
    stride_bytes: usize,
    pages: Vec<Held>,
    entries: u32,
    /// Requests that were taken.
    consumed: u32,
    /// Responses that are in the ring, of which the front end knows those up to `published`.
    produced: u32,
    published: u32,
}

impl Ring {
    /// Maps a ring of one page or more, which is empty: the indices are taken as they are, but for
    /// those of requests that wait.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn new(
        guest: Arc<dyn Guest>,
        stride_bytes: usize,
        references: &[u32],
    ) -> Result<Self, BrokenRing> {
        let mut ring = Self {
            guest,
            stride_bytes,
            pages: vec![],
            entries: entries(references.len(), stride_bytes),
            consumed: 0,
            produced: 0,
            published: 0,
        };
        for &reference in references {
            let held = ring.guest.hold(reference, true)?;
            ring.pages.push(held);
        }
        // All requests so far have been answered by the back end before this one.
        let produced = ring.index(RSP_PROD)?;
        (ring.consumed, ring.produced, ring.published) = (produced, produced, produced);
        Ok(ring)
    }

    /// Number of entries.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// Requests that are there, and have not been taken.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn waiting(&self) -> Result<u32, BrokenRing> {
        let waiting = self.index(REQ_PROD)?.wrapping_sub(self.consumed);
        let unanswered = self.consumed.wrapping_sub(self.produced);
        if waiting > self.entries - unanswered { Err(BrokenRing) } else { Ok(waiting) }
    }

    /// The next request, which is not taken before [`Ring::advance`]. False if there is none at
    /// this moment.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn peek(&self, request: &mut [u8]) -> Result<bool, BrokenRing> {
        if self.waiting()? == 0 {
            return Ok(false);
        }
        // The request is read after the index that says that it is there.
        fence(Ordering::Acquire);
        self.read(self.offset(self.consumed), request)?;
        Ok(true)
    }

    /// Takes the next request. False if there is none at this moment.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn take(&mut self, request: &mut [u8]) -> Result<bool, BrokenRing> {
        let is_there = self.peek(request)?;
        if is_there {
            self.advance();
        }
        Ok(is_there)
    }

    /// Takes the request that [`Ring::peek`] has read: the guest may have written another there
    /// since.
    pub const fn advance(&mut self) {
        self.consumed = self.consumed.wrapping_add(1);
    }

    /// Asks to be told once so many requests are there. Returns how many are by now.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn ask_for_event(&mut self, requests: u32) -> Result<u32, BrokenRing> {
        self.set_index(REQ_EVENT, self.consumed.wrapping_add(requests))?;
        // Looked at only after the front end can know that it has to tell.
        fence(Ordering::SeqCst);
        self.waiting()
    }

    /// Puts a response behind the others. The front end does not know of it yet.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn respond(&mut self, response: &[u8]) -> Result<(), BrokenRing> {
        self.write(self.offset(self.produced), response)?;
        self.produced = self.produced.wrapping_add(1);
        Ok(())
    }

    /// Shows the front end the responses. Returns true if it wants to be told.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn publish(&mut self) -> Result<bool, BrokenRing> {
        if self.produced == self.published {
            return Ok(false);
        }
        let before = core::mem::replace(&mut self.published, self.produced);
        // The front end reads the responses once the index says that they are there.
        fence(Ordering::Release);
        self.set_index(RSP_PROD, self.produced)?;
        // It says what it wants before it looks at the index for the last time.
        fence(Ordering::SeqCst);
        let event = self.index(RSP_EVENT)?;
        Ok(self.produced.wrapping_sub(event) < self.produced.wrapping_sub(before))
    }

    fn offset(&self, index: u32) -> usize {
        ENTRIES + (index & (self.entries - 1)) as usize * self.stride_bytes
    }

    fn index(&self, offset: usize) -> Result<u32, BrokenRing> {
        let first = self.pages.first().ok_or(BrokenRing)?;
        Ok(self.guest.read_u32(first, offset)?)
    }

    fn set_index(&self, offset: usize, value: u32) -> Result<(), BrokenRing> {
        let first = self.pages.first().ok_or(BrokenRing)?;
        Ok(self.guest.write_u32(first, offset, value)?)
    }

    /// Reads an entry, which may be on two pages.
    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), BrokenRing> {
        let (page, offset) = (offset / PAGE_BYTES, offset % PAGE_BYTES);
        let (head, tail) = data.split_at_mut(data.len().min(PAGE_BYTES - offset));
        self.guest.read(self.pages.get(page).ok_or(BrokenRing)?, offset, head)?;
        if !tail.is_empty() {
            self.guest.read(self.pages.get(page + 1).ok_or(BrokenRing)?, 0, tail)?;
        }
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), BrokenRing> {
        let (page, offset) = (offset / PAGE_BYTES, offset % PAGE_BYTES);
        let (head, tail) = data.split_at(data.len().min(PAGE_BYTES - offset));
        self.guest.write(self.pages.get(page).ok_or(BrokenRing)?, offset, head)?;
        if !tail.is_empty() {
            self.guest.write(self.pages.get(page + 1).ok_or(BrokenRing)?, 0, tail)?;
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for held in self.pages.drain(..) {
            self.guest.release(held);
        }
    }
}
