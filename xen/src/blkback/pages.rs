//! The guest's pages that requests are about.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use block::{Buffer, Gone};
use zerocopy::{FromZeros, IntoBytes};

use super::entries::Segments;
use super::spec::{
    MAX_INDIRECT_SEGMENTS, MAX_SEGMENTS, SECTOR_BYTES, SECTORS_PER_PAGE, SEGMENTS_PER_PAGE, Segment,
};
use crate::guest::{BadGrant, Guest, Held};

/// Access to granted pages, as long as a front end is connected.
pub(super) struct Pages {
    guest: Arc<dyn Guest>,
    is_let_go: Arc<AtomicBool>,
}

impl Pages {
    pub fn new(guest: Arc<dyn Guest>) -> Self {
        Self { guest, is_let_go: Arc::default() }
    }

    /// The segments of a request, of which each is within its page.
    ///
    /// # Errors
    /// [`BadGrant`], also if a segment is wrong, or there are too many.
    pub fn segments(&self, segments: &Segments) -> Result<Vec<Segment>, BadGrant> {
        let found = match segments {
            Segments::Discard { .. } => vec![],
            Segments::Direct { count, .. } if *count > MAX_SEGMENTS => return Err(BadGrant),
            Segments::Direct { count, segments } => segments[..*count].to_vec(),
            Segments::Indirect { count, .. } if *count > MAX_INDIRECT_SEGMENTS => {
                return Err(BadGrant);
            }
            Segments::Indirect { count, pages, .. } => {
                let mut found = vec![Segment::new_zeroed(); *count];
                for (part, &page) in found.chunks_mut(SEGMENTS_PER_PAGE).zip(pages) {
                    let held = self.guest.hold(page, false)?;
                    let result = self.guest.read(&held, 0, part.as_mut_bytes());
                    self.guest.release(held);
                    result?;
                }
                found
            }
        };
        let is_right = |segment: &Segment| {
            segment.first_sector <= segment.last_sector && segment.last_sector < SECTORS_PER_PAGE
        };
        if found.iter().all(is_right) { Ok(found) } else { Err(BadGrant) }
    }

    /// Holds the pages of segments that are right.
    ///
    /// # Errors
    /// [`BadGrant`].
    pub fn hold(&self, segments: &[Segment], is_writable: bool) -> Result<Granted, BadGrant> {
        let mut granted = Granted {
            guest: Arc::clone(&self.guest),
            is_let_go: Arc::clone(&self.is_let_go),
            parts: Vec::with_capacity(segments.len()),
            length_bytes: 0,
        };
        let mut places = segments.iter();
        let mut references = segments.iter().map(|segment| segment.reference.get());
        let held = self.guest.hold_all(&mut references, is_writable, &mut |held| {
            let Some(segment) = places.next() else { return };
            let offset = usize::from(segment.first_sector) * SECTOR_BYTES as usize;
            granted.parts.push(Part { held, offset, start: granted.length_bytes });
            granted.length_bytes += length(segment);
        });
        held.map(|()| granted)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.is_let_go.store(true, Ordering::Release);
    }
}

/// Parts of granted pages, which are held until this is dropped. They are not accessed any more
/// once the front end is gone: another kernel may have them.
pub(super) struct Granted {
    guest: Arc<dyn Guest>,
    is_let_go: Arc<AtomicBool>,
    parts: Vec<Part>,
    length_bytes: usize,
}

struct Part {
    held: Held,
    /// Where it is in its page.
    offset: usize,
    /// Where it is in the data.
    start: usize,
}

impl Granted {
    /// Accesses `length_bytes` of the data from `offset` on, part by part: calls `access` with a
    /// page, the place there, and the length.
    fn each_part(
        &self,
        offset: usize,
        length_bytes: usize,
        mut access: impl FnMut(&Held, usize, usize) -> Result<(), BadGrant>,
    ) -> Result<(), Gone> {
        let end = offset.checked_add(length_bytes).filter(|&end| end <= self.length_bytes);
        let end = end.ok_or(Gone)?;
        if self.is_let_go.load(Ordering::Acquire) {
            return Err(Gone);
        }
        let first = self.parts.partition_point(|part| part.start <= offset).saturating_sub(1);
        let parts = self.parts.get(first..).unwrap_or_default();
        let ends = parts.iter().skip(1).map(|part| part.start).chain([self.length_bytes]);
        let mut at = offset;
        for (part, part_end) in parts.iter().zip(ends) {
            if at >= end {
                break;
            }
            let count = part_end.min(end) - at;
            access(&part.held, part.offset + (at - part.start), count).map_err(|BadGrant| Gone)?;
            at += count;
        }
        Ok(())
    }
}

impl Buffer for Granted {
    fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Gone> {
        let mut rest = data;
        self.each_part(offset, rest.len(), |held, at, count| {
            let (now, later) = core::mem::take(&mut rest).split_at_mut(count);
            rest = later;
            self.guest.read(held, at, now)
        })
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), Gone> {
        let mut rest = data;
        self.each_part(offset, rest.len(), |held, at, count| {
            let (now, later) = rest.split_at(count);
            rest = later;
            self.guest.write(held, at, now)
        })
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.guest.release_all(&mut self.parts.drain(..).map(|part| part.held));
    }
}

/// Length of a segment that is right, in bytes.
pub(super) fn length(segment: &Segment) -> usize {
    usize::from(segment.last_sector - segment.first_sector + 1) * SECTOR_BYTES as usize
}
