//! Which pages of a memory were written, and when.

use super::PAGE_BYTES;
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = PAGE_BYTES as usize;

/// A record of writes to a memory, page by page, for any number of readers: each remembers the
/// number of its last look.
pub struct PageLog {
    /// A bit for each page: written, and in no look yet.
    marks: Box<[AtomicU64]>,
    /// The last look that found each page written.
    found: Box<[AtomicU64]>,
    looks: AtomicU64,
}

impl PageLog {
    /// A log of a memory of `length_bytes` that was not written yet.
    pub fn new(length_bytes: usize) -> Self {
        let count = length_bytes.div_ceil(PAGE);
        let zeroes = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { marks: zeroes(count.div_ceil(64)), found: zeroes(count), looks: AtomicU64::new(0) }
    }

    /// The pages that a range of bytes touches, cut off at the memory's end.
    pub fn pages(&self, offset: usize, length_bytes: usize) -> Range<usize> {
        let end = offset.saturating_add(length_bytes).div_ceil(PAGE).min(self.found.len());
        (offset / PAGE).min(end)..end
    }

    /// Notes that the pages of a range were written. To be called after the write: then a reader
    /// that finds the mark finds what was written too, and one that comes between the two finds the
    /// mark later.
    pub fn mark(&self, offset: usize, length_bytes: usize) {
        for page in self.pages(offset, length_bytes) {
            self.marks[page / 64].fetch_or(1 << (page % 64), Ordering::SeqCst);
        }
    }

    /// The first of `pages` that are marked, as many as follow each other.
    pub fn marked(&self, mut pages: Range<usize>) -> Option<Range<usize>> {
        let is_marked =
            |&page: &usize| self.marks[page / 64].load(Ordering::Relaxed) >> (page % 64) & 1 != 0;
        let end = pages.end;
        let first = pages.find(is_marked)?;
        let end = pages.find(|page| !is_marked(page)).unwrap_or(end);
        Some(first..end)
    }

    /// Looks at `pages`: those of them that are marked were found written by this look, whose
    /// number is returned.
    pub fn look(&self, mut pages: Range<usize>) -> u64 {
        let number = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        while let Some(run) = self.marked(pages.clone()) {
            pages.start = run.end;
            for page in run {
                self.marks[page / 64].fetch_and(!(1 << (page % 64)), Ordering::SeqCst);
                self.found[page].store(number, Ordering::Relaxed);
            }
        }
        number
    }

    /// True if a look after number `look` found some page of a range written.
    pub fn found_since(&self, offset: usize, length_bytes: usize, look: u64) -> bool {
        self.found[self.pages(offset, length_bytes)]
            .iter()
            .any(|found| found.load(Ordering::Relaxed) > look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 130 * PAGE;

    #[test]
    fn a_look_finds_what_was_marked_in_its_range_and_each_reader_learns_it() {
        let log = PageLog::new(LENGTH);
        log.mark(PAGE - 1, 2);
        log.mark(129 * PAGE, 1);
        let first = log.look(0..64);
        assert!(log.found_since(0, 1, first - 1) && log.found_since(PAGE, PAGE, first - 1));
        assert!(!log.found_since(2 * PAGE, 120 * PAGE, first - 1));
        assert!(!log.found_since(129 * PAGE, PAGE, first - 1), "not looked at yet");
        let second = log.look(64..130);
        assert!(log.found_since(129 * PAGE, PAGE, first) && !log.found_since(0, PAGE, first));
        assert!(log.found_since(0, PAGE, 0), "who last looked before the first look");
        assert!(!log.found_since(0, LENGTH, second));
    }

    #[test]
    fn marked_pages_that_follow_each_other_are_one_run() {
        let log = PageLog::new(LENGTH);
        log.mark(62 * PAGE, 4 * PAGE);
        log.mark(70 * PAGE, PAGE);
        assert_eq!(log.marked(0..130), Some(62..66));
        assert_eq!(log.marked(64..65), Some(64..65));
        assert_eq!(log.marked(66..130), Some(70..71));
        assert_eq!(log.marked(71..130), None);
    }

    #[test]
    fn the_end_of_the_memory_is_no_place() {
        let log = PageLog::new(LENGTH);
        log.mark(LENGTH - 1, PAGE);
        log.mark(usize::MAX - 1, 2);
        let number = log.look(log.pages(0, usize::MAX));
        assert!(log.found_since(LENGTH - 1, 1, number - 1));
    }
}
