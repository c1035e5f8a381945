//! The guest's pages that requests are about: held for the moment of a copy, or as long as the
//! connection lasts if the front end grants them for good (`feature-persistent`).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromZeros, IntoBytes};

use super::entries::Segments;
use super::spec::{
    MAX_INDIRECT_SEGMENTS, MAX_SEGMENTS, SECTOR_BYTES, SECTORS_PER_PAGE, SEGMENTS_PER_PAGE, Segment,
};
use crate::guest::{BadGrant, Guest, Held};

/// Pages that are held for good, at most; others are held for a moment.
const MAX_PERSISTENT: usize = 1056;

/// Access to granted pages.
pub(super) struct Pages {
    guest: Arc<dyn Guest>,
    persistent: Option<BTreeMap<u32, Held>>,
}

impl Pages {
    pub fn new(guest: Arc<dyn Guest>, is_persistent: bool) -> Self {
        Self { guest, persistent: is_persistent.then(BTreeMap::new) }
    }

    /// Runs `access` on a page while it is held.
    fn with(
        &mut self,
        reference: u32,
        is_written: bool,
        access: impl FnOnce(&dyn Guest, &Held) -> Result<(), BadGrant>,
    ) -> Result<(), BadGrant> {
        let guest = &*self.guest;
        if let Some(held) = self.persistent.as_ref().and_then(|kept| kept.get(&reference)) {
            return access(guest, held);
        }
        // A page that is kept may be written by the next request.
        let held = guest.hold(reference, is_written || self.persistent.is_some())?;
        let result = access(guest, &held);
        match &mut self.persistent {
            Some(kept) if kept.len() < MAX_PERSISTENT => {
                kept.insert(reference, held);
            }
            _ => guest.release(held),
        }
        result
    }

    /// The segments of a request, of which each is within its page.
    ///
    /// # Errors
    /// [`BadGrant`], also if a segment is wrong, or there are too many.
    pub fn segments(&mut self, segments: &Segments) -> Result<Vec<Segment>, BadGrant> {
        let found = match segments {
            Segments::Direct { count, .. } if *count > MAX_SEGMENTS => return Err(BadGrant),
            Segments::Direct { count, segments } => segments[..*count].to_vec(),
            Segments::Indirect { count, .. } if *count > MAX_INDIRECT_SEGMENTS => {
                return Err(BadGrant);
            }
            Segments::Indirect { count, pages, .. } => {
                let mut found = vec![Segment::new_zeroed(); *count];
                for (part, &page) in found.chunks_mut(SEGMENTS_PER_PAGE).zip(pages) {
                    self.with(page, false, |guest, held| guest.read(held, 0, part.as_mut_bytes()))?;
                }
                found
            }
        };
        let is_right = |segment: &Segment| {
            segment.first_sector <= segment.last_sector && segment.last_sector < SECTORS_PER_PAGE
        };
        if found.iter().all(is_right) { Ok(found) } else { Err(BadGrant) }
    }

    /// Fills `data` from the segments.
    ///
    /// # Errors
    /// [`BadGrant`].
    pub fn gather(&mut self, segments: &[Segment], data: &mut [u8]) -> Result<(), BadGrant> {
        let mut rest = data;
        for segment in segments {
            let (part, later) = rest.split_at_mut_checked(length(segment)).ok_or(BadGrant)?;
            let (reference, offset) = (segment.reference.get(), offset(segment));
            self.with(reference, false, |guest, held| guest.read(held, offset, part))?;
            rest = later;
        }
        Ok(())
    }

    /// Copies `data` to the segments.
    ///
    /// # Errors
    /// [`BadGrant`]; a part may have been copied.
    pub fn scatter(&mut self, segments: &[Segment], data: &[u8]) -> Result<(), BadGrant> {
        let mut rest = data;
        for segment in segments {
            let (part, later) = rest.split_at_checked(length(segment)).ok_or(BadGrant)?;
            let (reference, offset) = (segment.reference.get(), offset(segment));
            self.with(reference, true, |guest, held| guest.write(held, offset, part))?;
            rest = later;
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for held in self.persistent.take().unwrap_or_default().into_values() {
            self.guest.release(held);
        }
    }
}

/// Length of a segment that is right, in bytes.
pub(super) fn length(segment: &Segment) -> usize {
    usize::from(segment.last_sector - segment.first_sector + 1) * SECTOR_BYTES as usize
}

fn offset(segment: &Segment) -> usize {
    usize::from(segment.first_sector) * SECTOR_BYTES as usize
}
