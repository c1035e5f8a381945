//! Pages that stand for those of devices while the guest runs a single instruction.
//!
//! A virtual CPU that changes the tables meanwhile hides them first: what they cover may be what
//! changes. The step is then refused them, or finds them hidden before it is entered again, and
//! shows them once more.

#[cfg(any(test, feature = "test-platform"))]
use super::BACKINGS;
use super::{GuestSpace, Nested, PAGE_BYTES};
use crate::vm::memory::nested::TableFrames;
use crate::vm::memory::raw::Run;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use devices::lock::{Guard, rank};
use ept::{Attributes, Cover, Flush, OutOfMemory, Permissions, TableMemory};

/// Pages for a step of one virtual CPU. They belong to the space that made them, whose virtual CPUs
/// have them one after the other.
#[derive(Default)]
pub struct BouncePages(Vec<Bounce>);

/// The means to show them: no memory has to be found when they are needed.
pub(super) struct Covers {
    /// Of the pages that are shown, by their numbers.
    shown: Vec<Cover>,
    /// Zeroed tables.
    spare: Vec<u64>,
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
        let bounce = self.0.get(number)?;
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

    /// Makes the pages, and what it takes to show them.
    pub(super) fn make_bounce_pages(
        frames: &mut TableFrames,
    ) -> Result<(BouncePages, Covers), OutOfMemory> {
        let mut pages = Vec::with_capacity(BouncePages::COUNT);
        for _ in 0..BouncePages::COUNT {
            let [hpa, note] = [frames.allocate_page(), frames.allocate_note()];
            let (hpa, note) = hpa.zip(note).ok_or(OutOfMemory)?;
            let (page, note) = frames.run(hpa).zip(frames.run(note)).ok_or(OutOfMemory)?;
            pages.push(Bounce { hpa, page, note });
        }
        frames.set_aside(BouncePages::TABLES).ok_or(OutOfMemory)?;
        let mut spare = Vec::with_capacity(BouncePages::TABLES);
        for _ in 0..BouncePages::TABLES {
            spare.push(frames.allocate().ok_or(OutOfMemory)?);
        }
        let shown = Vec::with_capacity(BouncePages::COUNT);
        Ok((BouncePages(pages), Covers { shown, spare }))
    }

    /// Shows the pages of a step to the guest, as far as they are not, each at its address and in
    /// place of whatever is there; `places` says whether it is code, too. False if there are not so
    /// many.
    pub fn show_bounce_pages(
        &self,
        pages: &BouncePages,
        places: impl Iterator<Item = (u64, bool)>,
    ) -> bool {
        let mut nested = self.nested.lock();
        let Nested { tables, frames, covers: Covers { shown, spare }, .. } = &mut *nested;
        for (gpa, execute) in places.skip(shown.len()) {
            let Some(&Bounce { hpa, .. }) = pages.0.get(shown.len()) else { return false };
            let attributes = Attributes::memory(Permissions { write: true, execute });
            let page = gpa & !(PAGE_BYTES - 1);
            let Ok((cover, flush)) = tables.cover(frames, page, hpa, attributes, spare) else {
                return false;
            };
            shown.push(cover);
            self.note_change(&flush);
        }
        true
    }

    /// So many of them are shown.
    pub fn shown_bounce_pages(&self) -> usize {
        self.nested.lock().covers.shown.len()
    }

    /// Shows again what was there before.
    pub fn hide_bounce_pages(&self) {
        self.uncover(&mut self.nested.lock());
    }

    /// The tables, to be changed: none of the pages is shown.
    pub(super) fn tables_to_change(&self) -> Guard<'_, Nested, { rank::SPACE }> {
        let mut nested = self.nested.lock();
        self.uncover(&mut nested);
        nested
    }

    /// Hides the pages.
    pub(super) fn uncover(&self, nested: &mut Nested) {
        let Nested { tables, frames, covers: Covers { shown, spare }, .. } = nested;
        while let Some(cover) = shown.pop() {
            let flush = tables.uncover(frames, cover, spare);
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
        let Covers { shown, spare } = &nested.covers;
        nested.bounce.is_some().then_some((shown.len(), spare.len()))
    }
}
