//! Writes to video memory, by the guest and by the hypervisor for it.

use super::{Area, Backing, GuestSpace, LowPage, MIB, Nested, PAGE_BYTES, WriteTracking};
use crate::vm::memory::FrameMemory;
use crate::vm::memory::page_log::PageLog;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ept::Flush;

const PAGE: usize = PAGE_BYTES as usize;

/// A place where the guest finds video memory.
struct View {
    gpa: u64,
    /// The pages that are there.
    pages: Range<usize>,
}

impl GuestSpace {
    /// Video memory.
    pub const fn video(&self) -> &Arc<FrameMemory> {
        &self.video
    }

    /// Looks which pages of a range of video memory were written since the last look, and returns
    /// the number of this look in video memory's log; 0 if nothing is logged. The virtual CPU that
    /// makes the look is not in the guest. Until the others are flushed they write on unnoticed:
    /// with several, the next look takes the same pages for written once more.
    pub fn look_for_video_writes(&self, offset: usize, length_bytes: usize) -> u64 {
        let Some((tracking, log)) = self.tracking.zip(self.video.log()) else { return 0 };
        let wanted = log.pages(offset, length_bytes);
        let mut nested = self.nested.lock();
        let unsettled = self.sharers.get().map(|sharers| &sharers.unsettled);
        if let Some(unsettled) = unsettled {
            take_over(unsettled, wanted.clone(), log);
        }
        let mut cleaned = |page: usize| {
            for log in [Some(log), unsettled].into_iter().flatten() {
                log.mark(page * PAGE, PAGE);
            }
        };
        let mut flush = Flush::default();
        for view in self.video_views() {
            let end = wanted.end.min(view.pages.end);
            let mut pages = wanted.start.max(view.pages.start)..end;
            match tracking {
                WriteTracking::Flags => {
                    flush = flush.and(take_dirty(&mut nested, &view, pages, &mut cleaned));
                }
                // The log says which pages; they must become clean to be logged again.
                WriteTracking::Log => {
                    while let Some(run) = log.marked(pages) {
                        pages = run.end..end;
                        flush = flush.and(take_dirty(&mut nested, &view, run, &mut cleaned));
                    }
                }
            }
        }
        self.owe(&mut nested, flush);
        log.look(wanted)
    }

    /// True if looks after number `look` found some page of a range of video memory written, or if
    /// nothing is logged.
    pub fn video_written_since(&self, offset: usize, length_bytes: usize, look: u64) -> bool {
        let log = self.tracking.and_then(|_| self.video.log());
        log.is_none_or(|log| log.found_since(offset, length_bytes, look))
    }

    /// The guest wrote to the page at `gpa`.
    pub fn note_write(&self, gpa: u64) {
        if let Some((memory, offset, _)) = self.locate(gpa)
            && core::ptr::eq(memory, &*self.video)
        {
            self.mark_video(offset, PAGE);
        }
    }

    /// A page below 1 MiB will no longer show what it does. Its dirty flag goes with its mapping:
    /// it may have been set.
    pub(super) fn leave_low_page(&self, page: LowPage) {
        if let LowPage::Memory { backing: Backing::Video, page, .. } = page {
            self.mark_video(usize::from(page) * PAGE, PAGE);
        }
    }

    /// The same for an area above.
    pub(super) fn leave_area(&self, area: &Area) {
        if area.backing == Backing::Video {
            self.mark_video(area.offset as usize, area.length_bytes as usize);
        }
    }

    fn mark_video(&self, offset: usize, length_bytes: usize) {
        if let Some(log) = self.video.log() {
            log.mark(offset, length_bytes);
        }
    }

    fn video_views(&self) -> Vec<View> {
        let view = |gpa, first: usize, count| View { gpa, pages: first..first + count };
        let mut views: Vec<_> = self
            .areas
            .read()
            .of_chipset
            .iter()
            .filter(|area| area.backing == Backing::Video)
            .map(|area| {
                view(area.gpa, area.offset as usize / PAGE, area.length_bytes as usize / PAGE)
            })
            .collect();
        for (gpa, page) in self.low_pages() {
            let LowPage::Memory { backing: Backing::Video, page, .. } = page else { continue };
            views.push(view(gpa, page.into(), 1));
            if !self.a20() {
                views.push(view(gpa + MIB, page.into(), 1));
            }
        }
        views
    }
}

/// Moves the marks of `pages` from one log to the other.
fn take_over(from: &PageLog, pages: Range<usize>, to: &PageLog) {
    let mut rest = pages.clone();
    while let Some(run) = from.marked(rest.clone()) {
        rest.start = run.end;
        to.mark(run.start * PAGE, run.len() * PAGE);
    }
    from.look(pages);
}

/// Makes those of a view's `pages` clean that the guest wrote, and names them.
fn take_dirty(
    nested: &mut Nested,
    view: &View,
    pages: Range<usize>,
    cleaned: &mut impl FnMut(usize),
) -> Flush {
    let Nested { tables, frames, .. } = nested;
    let start_gpa = view.gpa + ((pages.start - view.pages.start) * PAGE) as u64;
    tables.take_dirty(frames, start_gpa, (pages.len() * PAGE) as u64, |gpa| {
        cleaned((gpa - view.gpa) as usize / PAGE + view.pages.start);
    })
}

#[cfg(test)]
mod tests;
