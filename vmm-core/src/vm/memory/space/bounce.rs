//! Pages that stand for those of devices while the guest runs a single instruction.

#[cfg(any(test, feature = "test-platform"))]
use super::BACKINGS;
use super::{GuestSpace, Nested, PAGE_BYTES};
use crate::vm::memory::nested::TableFrames;
use crate::vm::memory::raw::Run;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ept::{Attributes, Cover, Flush, OutOfMemory, Permissions, TableMemory};

/// Pages for a step of one virtual CPU, with all that it takes to show them to the guest: no memory
/// has to be found when they are needed. They belong to the space that made them, whose virtual
/// CPUs have them one after the other.
#[derive(Default)]
pub struct BouncePages {
    frames: Vec<Bounce>,
    /// Zeroed tables.
    tables: Vec<u64>,
    shown: Vec<Cover>,
}

struct Bounce {
    hpa: u64,
    page: Run,
    note: Run,
}

/// The two pages that have one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that the guest sees.
    Shown,
    /// One for the hypervisor alone, to compare with.
    Note,
}

impl BouncePages {
    /// The most pages that one instruction may touch on devices. A gather or scatter of 16 elements
    /// that cross pages reaches 32; four more are for its code and for its page tables.
    pub const COUNT: usize = 36;
    /// Second-level tables for them: one for each 2 MiB, and two more for each 512 GiB that has
    /// none.
    pub const TABLES: usize = Self::COUNT + 12;

    /// Reads what a page holds; nothing outside it.
    pub fn read(&self, side: Side, number: usize, offset: usize, data: &mut [u8]) {
        if let Some(run) = self.run(side, number) {
            run.read(offset, data);
        }
    }

    /// Changes what a page holds.
    pub fn write(&self, side: Side, number: usize, offset: usize, data: &[u8]) {
        if let Some(run) = self.run(side, number) {
            run.write(offset, data);
        }
    }

    fn run(&self, side: Side, number: usize) -> Option<Run> {
        let bounce = self.frames.get(number)?;
        Some(if side == Side::Shown { bounce.page } else { bounce.note })
    }
}

impl GuestSpace {
    /// The pages for a step; `None` while another virtual CPU has them.
    pub fn take_bounce_pages(&self) -> Option<BouncePages> {
        self.nested.lock().bounce.take()
    }

    /// The pages of a step that is over. None is shown.
    pub fn put_bounce_pages(&self, pages: BouncePages) {
        self.nested.lock().bounce = Some(pages);
    }

    /// Makes the pages.
    pub(super) fn make_bounce_pages(frames: &mut TableFrames) -> Result<BouncePages, OutOfMemory> {
        let mut pages = BouncePages {
            frames: Vec::with_capacity(BouncePages::COUNT),
            tables: Vec::with_capacity(BouncePages::TABLES),
            shown: Vec::with_capacity(BouncePages::COUNT),
        };
        for _ in 0..BouncePages::COUNT {
            let [hpa, note] = [frames.allocate_page(), frames.allocate_note()];
            let (hpa, note) = hpa.zip(note).ok_or(OutOfMemory)?;
            let (page, note) = frames.run(hpa).zip(frames.run(note)).ok_or(OutOfMemory)?;
            pages.frames.push(Bounce { hpa, page, note });
        }
        frames.set_aside(BouncePages::TABLES).ok_or(OutOfMemory)?;
        for _ in 0..BouncePages::TABLES {
            pages.tables.push(frames.allocate().ok_or(OutOfMemory)?);
        }
        Ok(pages)
    }

    /// Shows one more page to the guest, at `gpa`, in place of whatever is there. Pages are
    /// numbered in the order in which they are shown. False if there are no more.
    pub fn show_bounce_page(&self, pages: &mut BouncePages, gpa: u64, execute: bool) -> bool {
        let Some(&Bounce { hpa, .. }) = pages.frames.get(pages.shown.len()) else { return false };
        let mut nested = self.nested.lock();
        let Nested { tables, frames, .. } = &mut *nested;
        let attributes = Attributes::memory(Permissions { write: true, execute });
        let page = gpa & !(PAGE_BYTES - 1);
        let Ok((cover, flush)) = tables.cover(frames, page, hpa, attributes, &mut pages.tables)
        else {
            return false;
        };
        pages.shown.push(cover);
        self.note_change(&flush);
        true
    }

    /// Shows again what was there before. Nothing may have been mapped since the first of them was
    /// shown.
    pub fn hide_bounce_pages(&self, pages: &mut BouncePages) {
        let mut nested = self.nested.lock();
        let Nested { tables, frames, .. } = &mut *nested;
        while let Some(cover) = pages.shown.pop() {
            let flush = tables.uncover(frames, cover, &mut pages.tables);
            self.note_change(&flush);
        }
    }

    /// The virtual CPU flushes before it enters the guest. No table goes out of use by it.
    fn note_change(&self, flush: &Flush) {
        if flush.is_needed() {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// An access of the guest's to bytes of one page, as the second-level tables allow it; false if
    /// they refuse it. For tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn access_as_processor(
        &self,
        gpa: u64,
        data: &mut [u8],
        write: bool,
        execute: bool,
    ) -> bool {
        let nested = self.nested.lock();
        let Some(mapping) = nested.tables.lookup(&nested.frames, gpa) else { return false };
        let Permissions { write: may_write, execute: may_execute } = mapping.permissions;
        if write && !may_write || execute && !may_execute {
            return false;
        }
        let memories = BACKINGS.map(|backing| self.backing(backing));
        let found =
            memories.into_iter().find_map(|memory| memory.offset_of(mapping.hpa).zip(Some(memory)));
        let offset = (mapping.hpa % PAGE_BYTES) as usize;
        match (found, nested.frames.run(mapping.hpa & !(PAGE_BYTES - 1)), write) {
            (Some((offset, memory)), _, false) => memory.read(offset as usize, data),
            (Some((offset, memory)), _, true) => memory.write(offset as usize, data),
            (None, Some(page), false) => page.read(offset, data),
            (None, Some(page), true) => page.write(offset, data),
            (None, None, _) => panic!("the guest sees memory that is not its own"),
        }
    }
}

#[cfg(any(test, feature = "test-platform"))]
impl GuestSpace {
    /// The bounce pages that are shown, and the tables for them that are left; `None` in a step.
    /// For tests.
    pub fn bounce_state(&self) -> Option<(usize, usize)> {
        let nested = self.nested.lock();
        nested.bounce.as_ref().map(|pages| (pages.shown.len(), pages.tables.len()))
    }
}
