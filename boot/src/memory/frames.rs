//! Which frames of host memory are free.
//!
//! Memory is divided into chunks of 2 MiB. Each chunk has a bitmap of its small frames and hangs in
//! one of two lists: *whole* (all free) or *partial* (some free). A gigabyte is free when all its
//! chunks are whole. Every operation but finding a free gigabyte or a run of chunks takes constant
//! time, and memory that is given back merges by itself.

use super::{LARGE_BYTES, PAGE_BYTES, align_down, align_up};
use core::ops::Range;

const FRAMES_PER_CHUNK: u16 = 512;
const CHUNKS_PER_GIB: usize = 512;
const NONE: u32 = u32::MAX;

/// The state of 2 MiB of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// A set bit is a free frame.
    free: [u64; 8],
    free_count: u16,
    previous: u32,
    next: u32,
}

impl Chunk {
    /// A chunk of which nothing is free.
    pub const USED: Self = Self { free: [0; 8], free_count: 0, previous: NONE, next: NONE };

    fn set(&mut self, frame: u16, free: bool) -> bool {
        let (word, bit) = (usize::from(frame / 64), 1u64 << (frame % 64));
        let changes = (self.free[word] & bit != 0) != free;
        if changes {
            self.free[word] ^= bit;
            if free {
                self.free_count += 1;
            } else {
                self.free_count -= 1;
            }
        }
        changes
    }

    fn first_free(&self) -> Option<u16> {
        let word = self.free.iter().position(|&word| word != 0)?;
        Some(word as u16 * 64 + self.free[word].trailing_zeros() as u16)
    }

    fn list(&self) -> Option<List> {
        match self.free_count {
            0 => None,
            FRAMES_PER_CHUNK => Some(List::Whole),
            _ => Some(List::Partial),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Whole,
    Partial,
}

/// The free frames of the machine. Addresses are physical.
#[derive(Debug)]
pub struct FrameMap<'a> {
    chunks: &'a mut [Chunk],
    heads: [u32; 2],
    free_frames: u64,
}

impl<'a> FrameMap<'a> {
    /// Chunks needed to describe memory up to `end`.
    pub const fn chunks_for(end: u64) -> usize {
        (align_up(end, LARGE_BYTES) / LARGE_BYTES) as usize
    }

    /// A map with nothing free; `chunks` describe the memory from address 0 on.
    pub fn new(chunks: &'a mut [Chunk]) -> Self {
        chunks.fill(Chunk::USED);
        Self { chunks, heads: [NONE; 2], free_frames: 0 }
    }

    /// Before [`FrameMap::finish`]: the whole frames inside `range` are free.
    pub fn release(&mut self, range: Range<u64>) {
        self.mark(align_up(range.start, PAGE_BYTES)..align_down(range.end, PAGE_BYTES), true);
    }

    /// Before [`FrameMap::finish`]: the frames that `range` touches are not free.
    pub fn reserve(&mut self, range: Range<u64>) {
        self.mark(align_down(range.start, PAGE_BYTES)..align_up(range.end, PAGE_BYTES), false);
    }

    fn mark(&mut self, range: Range<u64>, free: bool) {
        let end = range.end.min(self.chunks.len() as u64 * LARGE_BYTES);
        let mut address = range.start;
        while address < end {
            let chunk = &mut self.chunks[(address / LARGE_BYTES) as usize];
            if address.is_multiple_of(LARGE_BYTES) && end - address >= LARGE_BYTES {
                *chunk = if free {
                    Chunk { free: [u64::MAX; 8], free_count: FRAMES_PER_CHUNK, ..Chunk::USED }
                } else {
                    Chunk::USED
                };
                address += LARGE_BYTES;
            } else {
                chunk.set((address % LARGE_BYTES / PAGE_BYTES) as u16, free);
                address += PAGE_BYTES;
            }
        }
    }

    /// Builds the lists: from here on frames are handed out. Low addresses come first.
    pub fn finish(&mut self) {
        for index in (0..self.chunks.len()).rev() {
            self.free_frames += u64::from(self.chunks[index].free_count);
            if let Some(list) = self.chunks[index].list() {
                self.link(index, list);
            }
        }
    }

    /// Bytes that are free.
    pub const fn free_bytes(&self) -> u64 {
        self.free_frames * PAGE_BYTES
    }

    /// Takes a free frame of 4 KiB.
    pub fn take_small(&mut self) -> Option<u64> {
        let index = [List::Partial, List::Whole].iter().find_map(|&list| self.head(list))?;
        let frame = self.chunks[index].first_free()?;
        self.change(index, |chunk| {
            chunk.set(frame, false);
        });
        Some(index as u64 * LARGE_BYTES + u64::from(frame) * PAGE_BYTES)
    }

    /// Takes a free, aligned 2 MiB.
    pub fn take_large(&mut self) -> Option<u64> {
        let index = self.head(List::Whole)?;
        self.take_chunk(index);
        Some(index as u64 * LARGE_BYTES)
    }

    /// Takes a free, aligned 1 GiB, the highest one.
    pub fn take_huge(&mut self) -> Option<u64> {
        self.take_run(CHUNKS_PER_GIB)
    }

    /// Takes `count` free neighbouring chunks (a power of two) at a multiple of their size, the
    /// highest ones.
    pub fn take_run(&mut self, count: usize) -> Option<u64> {
        let aligned = self.chunks.len() / count;
        let run = (0..aligned).rev().find(|run| {
            let chunks = &self.chunks[run * count..(run + 1) * count];
            chunks.iter().all(|chunk| chunk.free_count == FRAMES_PER_CHUNK)
        })?;
        for index in run * count..(run + 1) * count {
            self.take_chunk(index);
        }
        Some((run * count) as u64 * LARGE_BYTES)
    }

    /// Takes back `bytes` from `address` on, both multiples of 4 KiB. Frames that are free already
    /// stay so; the result says whether none was.
    pub fn give_back(&mut self, address: u64, bytes: u64) -> bool {
        let mut clean = true;
        let end = address.saturating_add(bytes).min(self.chunks.len() as u64 * LARGE_BYTES);
        let mut address = address;
        while address < end {
            let index = (address / LARGE_BYTES) as usize;
            let next = (align_down(address, LARGE_BYTES) + LARGE_BYTES).min(end);
            let first = (address % LARGE_BYTES / PAGE_BYTES) as u16;
            let count = ((next - address) / PAGE_BYTES) as u16;
            self.change(index, |chunk| {
                if count == FRAMES_PER_CHUNK && chunk.free_count == 0 {
                    (chunk.free, chunk.free_count) = ([u64::MAX; 8], FRAMES_PER_CHUNK);
                } else {
                    for frame in first..first + count {
                        clean &= chunk.set(frame, true);
                    }
                }
            });
            address = next;
        }
        clean
    }

    fn take_chunk(&mut self, index: usize) {
        self.change(index, |chunk| (chunk.free, chunk.free_count) = ([0; 8], 0));
    }

    /// Changes a chunk, and moves it to the list that it then belongs to.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Chunk)) {
        let (list, count) = (self.chunks[index].list(), self.chunks[index].free_count);
        change(&mut self.chunks[index]);
        let chunk = &self.chunks[index];
        self.free_frames = self.free_frames + u64::from(chunk.free_count) - u64::from(count);
        let wanted = chunk.list();
        if list == wanted {
            return;
        }
        if let Some(list) = list {
            self.unlink(index, list);
        }
        if let Some(list) = wanted {
            self.link(index, list);
        }
    }

    fn head(&self, list: List) -> Option<usize> {
        let head = self.heads[list as usize];
        (head != NONE).then_some(head as usize)
    }

    fn link(&mut self, index: usize, list: List) {
        let head = self.heads[list as usize];
        (self.chunks[index].previous, self.chunks[index].next) = (NONE, head);
        if head != NONE {
            self.chunks[head as usize].previous = index as u32;
        }
        self.heads[list as usize] = index as u32;
    }

    fn unlink(&mut self, index: usize, list: List) {
        let Chunk { previous, next, .. } = self.chunks[index];
        if previous == NONE {
            self.heads[list as usize] = next;
        } else {
            self.chunks[previous as usize].next = next;
        }
        if next != NONE {
            self.chunks[next as usize].previous = previous;
        }
        (self.chunks[index].previous, self.chunks[index].next) = (NONE, NONE);
    }
}

#[cfg(test)]
mod tests;
