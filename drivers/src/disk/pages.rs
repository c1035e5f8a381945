//! Pages of a controller's memory, for data under way.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use block::{Data, Gone};

use crate::dma::{DmaMemory, PAGE_BYTES};

/// The most pages of one command.
pub const MAX_PAGES: usize = 32;

/// The pages of a command, by their addresses.
pub type PageList = ArrayVec<u64, MAX_PAGES>;

/// The stack space by which data is copied.
const CHUNK_BYTES: usize = 1024;

/// Pages that are free, those that are lent, and one of zeroes.
#[derive(Debug)]
pub struct Pages {
    memory: DmaMemory,
    zeroes: u64,
    free: Vec<u64>,
}

impl Pages {
    /// All of a memory, which is zeroes; at least two pages.
    pub fn new(memory: DmaMemory) -> Self {
        let pages = memory.length_bytes() / PAGE_BYTES;
        let free = (1..pages).map(|page| memory.bus_address(page * PAGE_BYTES)).collect();
        Self { memory, zeroes: memory.bus_address(0), free }
    }

    /// The number of pages for so many bytes.
    pub const fn count_for(length_bytes: u64) -> usize {
        length_bytes.div_ceil(PAGE_BYTES as u64) as usize
    }

    /// Lends pages; none if there are not so many, or more than a command has.
    pub fn take(&mut self, count: usize) -> Option<PageList> {
        let kept = self.free.len().checked_sub(count).filter(|_| count <= MAX_PAGES)?;
        Some(self.free.drain(kept..).collect())
    }

    /// The page of zeroes, again and again, for writes.
    pub fn zeroes(&self, count: usize) -> PageList {
        core::iter::repeat_n(self.zeroes, count.min(MAX_PAGES)).collect()
    }

    /// Takes pages back.
    pub fn give_back(&mut self, pages: PageList) {
        self.free.extend(pages.into_iter().filter(|&page| page != self.zeroes));
    }

    fn offset_of(&self, page: u64) -> usize {
        (page - self.zeroes) as usize
    }

    /// The pieces by which `length_bytes` are copied: offset in the memory and in the data, length.
    fn chunks(
        &self,
        pages: &PageList,
        length_bytes: usize,
    ) -> impl Iterator<Item = (usize, usize, usize)> {
        let starts = pages.iter().map(|&page| self.offset_of(page));
        let starts = starts.flat_map(|at| (at..at + PAGE_BYTES).step_by(CHUNK_BYTES));
        let offsets = (0..length_bytes).step_by(CHUNK_BYTES);
        starts
            .zip(offsets)
            .map(move |(at, offset)| (at, offset, CHUNK_BYTES.min(length_bytes - offset)))
    }

    /// Copies data into pages.
    ///
    /// # Errors
    /// [`Gone`]: the data is.
    pub fn fill(
        &self,
        pages: &PageList,
        data: &Data,
        offset: usize,
        length_bytes: usize,
    ) -> Result<(), Gone> {
        let mut buffer = [0; CHUNK_BYTES];
        for (at, from, length) in self.chunks(pages, length_bytes) {
            let chunk = &mut buffer[..length];
            data.read(offset + from, chunk)?;
            self.memory.write_bytes(at, chunk);
        }
        Ok(())
    }

    /// Copies data out of pages.
    ///
    /// # Errors
    /// [`Gone`]: the place for the data is.
    pub fn empty(
        &self,
        pages: &PageList,
        data: &mut Data,
        offset: usize,
        length_bytes: usize,
    ) -> Result<(), Gone> {
        let mut buffer = [0; CHUNK_BYTES];
        for (at, to, length) in self.chunks(pages, length_bytes) {
            let chunk = &mut buffer[..length];
            self.memory.read_bytes(at, chunk);
            data.write(offset + to, chunk)?;
        }
        Ok(())
    }

    /// Copies out of the first bytes of a page that is lent, for the driver's own questions.
    pub fn read(&self, pages: &PageList, data: &mut [u8]) {
        if let Some(&page) = pages.first() {
            self.memory.read_bytes(self.offset_of(page), data);
        }
    }
}
