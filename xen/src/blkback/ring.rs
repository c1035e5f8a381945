//! The ring that requests come by, and responses go by.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use zerocopy::byteorder::little_endian::{I16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::guest::{BadGrant, Guest, Held};
use super::spec::{
    ENTRIES, Indirect32, Indirect64, MAX_INDIRECT_PAGES, MAX_SEGMENTS, OP_INDIRECT, PAGE_BYTES,
    Protocol, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, Request32, Request64, Response, Segment,
};

/// A request, whatever the layout.
#[derive(Debug)]
pub(super) struct Request {
    pub operation: u8,
    pub id: u64,
    pub sector: u64,
    pub segments: Segments,
}

impl Request {
    /// The operation that the response names: of an indirect request that which it is about, as
    /// Linux's front end demands.
    pub const fn answered_operation(&self) -> u8 {
        match self.segments {
            Segments::Direct { .. } => self.operation,
            Segments::Indirect { operation, .. } => operation,
        }
    }
}

/// Where the segments of a request are.
#[derive(Debug)]
pub(super) enum Segments {
    Direct { count: usize, segments: [Segment; MAX_SEGMENTS] },
    Indirect { operation: u8, count: usize, pages: [u32; MAX_INDIRECT_PAGES] },
}

/// The front end has moved an index out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokenRing;

impl From<BadGrant> for BrokenRing {
    fn from(_: BadGrant) -> Self {
        Self
    }
}

/// A ring that is mapped.
pub(super) struct Ring {
    guest: Arc<dyn Guest>,
    protocol: Protocol,
    pages: Vec<Held>,
    entries: u32,
    /// Requests that were taken.
    consumed: u32,
    /// Responses that are in the ring, of which the front end knows those up to `published`.
    produced: u32,
    published: u32,
}

impl Ring {
    /// Maps a ring, which is empty: the indices are taken as they are, but for those of requests
    /// that wait.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn new(
        guest: Arc<dyn Guest>,
        protocol: Protocol,
        references: &[u32],
    ) -> Result<Self, BrokenRing> {
        let mut ring = Self {
            guest,
            protocol,
            pages: vec![],
            entries: protocol.entries(references.len()),
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

    /// Takes the next request; none if there is none at this moment.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn take(&mut self) -> Result<Option<Request>, BrokenRing> {
        let produced = self.index(REQ_PROD)?;
        let waiting = produced.wrapping_sub(self.consumed);
        let unanswered = self.consumed.wrapping_sub(self.produced);
        if waiting > self.entries - unanswered {
            return Err(BrokenRing);
        }
        if waiting == 0 {
            return Ok(None);
        }
        // The request is read after the index that says that it is there.
        fence(Ordering::Acquire);
        let mut bytes = [0; size_of::<Request64>()];
        let bytes = &mut bytes[..self.protocol.stride_bytes()];
        self.read(self.offset(self.consumed), bytes)?;
        self.consumed = self.consumed.wrapping_add(1);
        parse(self.protocol, bytes).map(Some).ok_or(BrokenRing)
    }

    /// Asks to be told when `count` further requests are there. Returns true if one is by now.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn ask_for_event(&mut self, count: u32) -> Result<bool, BrokenRing> {
        self.set_index(REQ_EVENT, self.consumed.wrapping_add(count))?;
        // Looked at only after the front end can know that it has to tell.
        fence(Ordering::SeqCst);
        Ok(self.index(REQ_PROD)? != self.consumed)
    }

    /// Puts a response behind the others. The front end does not know of it yet.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn respond(&mut self, id: u64, operation: u8, status: i16) -> Result<(), BrokenRing> {
        let response =
            Response { id: U64::new(id), operation, padding: 0, status: I16::new(status) };
        self.write(self.offset(self.produced), response.as_bytes())?;
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
        ENTRIES + (index & (self.entries - 1)) as usize * self.protocol.stride_bytes()
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

/// Reads an entry.
fn parse(protocol: Protocol, bytes: &[u8]) -> Option<Request> {
    // The structures differ in their padding, and have the same fields.
    macro_rules! direct {
        ($layout:ty) => {{
            let (request, _) = <$layout>::read_from_prefix(bytes).ok()?;
            let segments =
                Segments::Direct { count: request.nr_segments.into(), segments: request.seg };
            (request.id.get(), request.sector_number.get(), segments)
        }};
    }
    macro_rules! indirect {
        ($layout:ty) => {{
            let (request, _) = <$layout>::read_from_prefix(bytes).ok()?;
            let segments = Segments::Indirect {
                operation: request.indirect_op,
                count: request.nr_segments.get().into(),
                pages: request.indirect_grefs.map(u32::from),
            };
            (request.id.get(), request.sector_number.get(), segments)
        }};
    }
    let operation = *bytes.first()?;
    let (id, sector, segments) = match (protocol, operation) {
        (Protocol::X86_32, OP_INDIRECT) => indirect!(Indirect32),
        (Protocol::X86_64, OP_INDIRECT) => indirect!(Indirect64),
        (Protocol::X86_32, _) => direct!(Request32),
        (Protocol::X86_64, _) => direct!(Request64),
    };
    Some(Request { operation, id, sector, segments })
}
