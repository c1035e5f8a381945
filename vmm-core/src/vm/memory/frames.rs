//! Memory made of host frames: guest RAM, video memory, ROM.

use super::page_log::PageLog;
use super::raw::Run;
use crate::host::owner::Owner;
use crate::host::platform::{Frame, FrameSize, Platform};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use devices::lock::{Ranked, rank};

const LARGE: usize = FrameSize::Large.bytes() as usize;
const HUGE: usize = FrameSize::Huge.bytes() as usize;

/// A linear piece of memory on 2 MiB and 1 GiB frames, which go back to the platform when it is
/// dropped.
///
/// Each 2 MiB are cleared when they are touched for the first time, so that a large guest starts at
/// once.
pub struct FrameMemory {
    platform: &'static dyn Platform,
    frames: Vec<Frame>,
    /// One for each 2 MiB.
    pieces: Box<[Piece]>,
    clearing: Ranked<(), { rank::CLEARING }>,
    /// The pages that were written, if that is logged.
    log: Option<PageLog>,
}

struct Piece {
    run: Run,
    /// Index of the frame that it is in.
    frame: u32,
    hpa: u64,
    cleared: AtomicBool,
}

/// A part of [`FrameMemory`] that is contiguous in host memory, and cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts in the memory.
    pub offset: u64,
    /// Its length.
    pub length_bytes: u64,
    /// Where it is in host-physical memory.
    pub hpa: u64,
}

impl FrameMemory {
    /// `length_bytes` of zeroes, rounded up to 2 MiB. `None` if the platform has not got them: it
    /// is asked before anything of that size is allocated.
    pub fn new(platform: &'static dyn Platform, owner: Owner, length_bytes: usize) -> Option<Self> {
        let count = length_bytes.div_ceil(LARGE);
        if count as u64 > platform.free_bytes() / LARGE as u64 {
            return None;
        }
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(count).ok()?;
        let mut memory = Self {
            platform,
            frames: Vec::new(),
            pieces: Box::default(),
            clearing: Ranked::new(()),
            log: None,
        };
        while pieces.len() < count {
            memory.frames.try_reserve(1).ok()?;
            let huge = pieces.len() % (HUGE / LARGE) == 0 && count - pieces.len() >= HUGE / LARGE;
            let frame = huge.then(|| platform.allocate_frame(FrameSize::Huge, owner)).flatten();
            let frame = frame.or_else(|| platform.allocate_frame(FrameSize::Large, owner))?;
            for offset in (0..frame.size.bytes() as usize).step_by(LARGE) {
                // SAFETY: the frame is ours alone until `drop`, which ends every use of the run,
                // and every CPU maps it at this address.
                #[allow(unsafe_code)]
                let run = unsafe { Run::new(frame.address + offset, LARGE) };
                let (index, hpa) = (memory.frames.len() as u32, frame.hpa + offset as u64);
                pieces.push(Piece { run, frame: index, hpa, cleared: AtomicBool::new(false) });
            }
            memory.frames.push(frame);
        }
        memory.pieces = pieces.into();
        Some(memory)
    }

    /// The memory with a log of what is written to it from now on. The guest's own writes must be
    /// added to it.
    pub fn logged(mut self) -> Self {
        self.log = Some(PageLog::new(self.length_bytes()));
        self
    }

    /// The log of what was written, if there is one.
    pub const fn log(&self) -> Option<&PageLog> {
        self.log.as_ref()
    }

    /// Length in bytes, a multiple of 2 MiB.
    pub fn length_bytes(&self) -> usize {
        self.pieces.len() * LARGE
    }

    /// Copies out; false if the range passes the end (a part may have been copied).
    #[inline]
    pub fn read(&self, offset: usize, data: &mut [u8]) -> bool {
        if let Some(piece) = self.piece(offset)
            && piece.run.read(offset % LARGE, data)
        {
            return true;
        }
        self.read_across(offset, data)
    }

    /// Copies in; false if the range passes the end (a part may have been copied).
    #[inline]
    pub fn write(&self, offset: usize, data: &[u8]) -> bool {
        if let Some(piece) = self.piece(offset)
            && piece.run.write(offset % LARGE, data)
        {
            self.note_write(offset, data.len());
            return true;
        }
        self.write_across(offset, data)
    }

    #[inline]
    fn note_write(&self, offset: usize, length_bytes: usize) {
        if let Some(log) = &self.log {
            log.mark(offset, length_bytes);
        }
    }

    /// Replaces a byte by `new` if it is still `expected`, in one piece; `None` past the end.
    pub fn compare_exchange(&self, offset: usize, expected: u8, new: u8) -> Option<bool> {
        let done = self.piece(offset)?.run.compare_exchange(offset % LARGE, expected, new);
        self.note_write(offset, 1);
        done
    }

    /// Sets bits of a byte in one piece, and returns it as it was; `None` past the end.
    pub fn fetch_or(&self, offset: usize, bits: u8) -> Option<u8> {
        let old = self.piece(offset)?.run.fetch_or(offset % LARGE, bits);
        self.note_write(offset, 1);
        old
    }

    /// Keeps only `bits` of a byte: the counterpart of [`FrameMemory::fetch_or`].
    pub fn fetch_and(&self, offset: usize, bits: u8) -> Option<u8> {
        let old = self.piece(offset)?.run.fetch_and(offset % LARGE, bits);
        self.note_write(offset, 1);
        old
    }

    /// The piece around a byte, cleared, or its whole frame if all of that is cleared; `None` past
    /// the end.
    pub fn extent(&self, offset: u64) -> Option<Extent> {
        let piece = self.piece(usize::try_from(offset).ok()?)?;
        let frame = self.frames.get(piece.frame as usize)?;
        // A frame starts at a multiple of its size.
        let first = (offset & !(frame.size.bytes() - 1)) as usize / LARGE;
        let siblings = self.pieces.get(first..first + frame.size.bytes() as usize / LARGE)?;
        let is_whole = siblings.iter().all(|sibling| sibling.cleared.load(Ordering::Acquire));
        let (length_bytes, hpa) =
            if is_whole { (frame.size.bytes(), frame.hpa) } else { (LARGE as u64, piece.hpa) };
        Some(Extent { offset: offset & !(length_bytes - 1), length_bytes, hpa })
    }

    /// The offset at which the byte at a host-physical address is, if it is in this memory.
    pub fn offset_of(&self, hpa: u64) -> Option<u64> {
        let holds = |piece: &Piece| hpa >= piece.hpa && hpa - piece.hpa < LARGE as u64;
        let index = self.pieces.iter().position(holds)?;
        Some((index * LARGE) as u64 + hpa - self.pieces.get(index)?.hpa)
    }

    /// The piece around a byte, cleared.
    #[inline]
    fn piece(&self, offset: usize) -> Option<&Piece> {
        let piece = self.pieces.get(offset / LARGE)?;
        if !piece.cleared.load(Ordering::Acquire) {
            self.clear(piece);
        }
        Some(piece)
    }

    #[cold]
    fn clear(&self, piece: &Piece) {
        let _clearing = self.clearing.lock();
        if !piece.cleared.load(Ordering::Acquire) {
            piece.run.clear();
            piece.cleared.store(true, Ordering::Release);
        }
    }

    fn read_across(&self, mut offset: usize, mut data: &mut [u8]) -> bool {
        while !data.is_empty() {
            let Some(piece) = self.piece(offset) else { return false };
            let count = data.len().min(LARGE - offset % LARGE);
            let (now, later) = data.split_at_mut(count);
            piece.run.read(offset % LARGE, now);
            (data, offset) = (later, offset + count);
        }
        true
    }

    fn write_across(&self, mut offset: usize, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let Some(piece) = self.piece(offset) else { return false };
            let count = data.len().min(LARGE - offset % LARGE);
            let (now, later) = data.split_at(count);
            piece.run.write(offset % LARGE, now);
            self.note_write(offset, count);
            (data, offset) = (later, offset + count);
        }
        true
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        for frame in self.frames.drain(..) {
            self.platform.free_frame(frame);
        }
    }
}
