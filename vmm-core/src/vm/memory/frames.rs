//! Memory made of host frames: guest RAM, video memory, ROM.

use super::page_log::PageLog;
use super::raw::Run;
use crate::host::owner::Owner;
use crate::host::platform::{Frame, FrameSize, Platform};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use devices::lock::{Ranked, rank};

const PAGE: usize = FrameSize::Small.bytes() as usize;
const LARGE: usize = FrameSize::Large.bytes() as usize;
const HUGE: usize = FrameSize::Huge.bytes() as usize;
const PIECES_PER_HUGE: usize = HUGE / LARGE;
const PAGES_PER_PIECE: usize = LARGE / PAGE;

/// A linear piece of memory on 2 MiB and 1 GiB frames, which go back to the platform when it is
/// dropped.
///
/// Each 2 MiB are cleared when they are touched for the first time, so that a large guest starts at
/// once. Single pages of memory that is [divisible](FrameMemory::divisible) can go back before the
/// rest, and leave holes.
pub struct FrameMemory {
    platform: &'static dyn Platform,
    owner: Owner,
    /// One for each 2 MiB.
    pieces: Vec<Piece>,
    /// For whoever changes what a piece is.
    clearing: Ranked<(), { rank::CLEARING }>,
    /// The pages that were written, if that is logged.
    log: Option<PageLog>,
    /// Pages that are not there: holes, and pieces that were not touched yet.
    missing: AtomicU64,
}

struct Piece {
    /// Where it is, while it is [`UNTOUCHED`] or [`WHOLE`].
    address: AtomicUsize,
    hpa: AtomicU64,
    /// [`ABSENT`], [`UNTOUCHED`], [`WHOLE`] or [`DIVIDED`].
    state: AtomicU8,
    /// It is a part of a frame of 1 GiB.
    in_huge: AtomicBool,
    /// Once it is [`DIVIDED`], the host-physical addresses of its pages, which are a frame each,
    /// and [`HOLE`] where there is none. Empty if it cannot be divided.
    pages: Box<[AtomicU64]>,
}

/// A piece that has no frame before it is touched.
const ABSENT: u8 = 0;
/// A piece that was not cleared yet.
const UNTOUCHED: u8 = 1;
/// A piece that is one run of memory.
const WHOLE: u8 = 2;
/// A piece whose pages are frames of their own.
const DIVIDED: u8 = 3;

/// A page that is not there. No frame has an odd address.
const HOLE: u64 = 1;

/// Why a page cannot be put into a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPage {
    /// There is no hole.
    NoHole,
    /// The platform has no memory.
    NoMemory,
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

/// The addresses of a piece's pages, none of which is there.
fn no_pages() -> Option<Box<[AtomicU64]>> {
    let mut pages = Vec::new();
    pages.try_reserve_exact(PAGES_PER_PIECE).ok()?;
    pages.extend((0..PAGES_PER_PIECE).map(|_| AtomicU64::new(HOLE)));
    Some(pages.into())
}

impl Piece {
    /// A piece in this state, at an address that says nothing if it has no frame of its own.
    fn new(state: u8, address: usize, hpa: u64, pages: Box<[AtomicU64]>) -> Self {
        Self {
            address: AtomicUsize::new(address),
            hpa: AtomicU64::new(hpa),
            state: AtomicU8::new(state),
            in_huge: AtomicBool::new(false),
            pages,
        }
    }

    /// All of it, while it is [`UNTOUCHED`] or [`WHOLE`].
    #[inline]
    fn run(&self) -> Run {
        // SAFETY: the frame is ours alone until `drop`, which ends every use of the run, or until
        // it is divided; from then on no run is made of it (see `take_page` for who still is at
        // it), and every CPU maps it at this address.
        #[allow(unsafe_code)]
        unsafe {
            Run::new(self.address.load(Ordering::Relaxed), LARGE)
        }
    }

    fn hpa(&self) -> u64 {
        self.hpa.load(Ordering::Relaxed)
    }

    /// The address of a page, which is not there if the piece is not divided.
    fn page(&self, offset: usize) -> Option<&AtomicU64> {
        self.pages.get(offset % LARGE / PAGE)
    }

    fn is_divided(&self) -> bool {
        self.state.load(Ordering::Acquire) == DIVIDED
    }

    /// Where in the piece the byte at a host-physical address is.
    fn offset_of(&self, hpa: u64) -> Option<usize> {
        match self.state.load(Ordering::Acquire) {
            ABSENT => return None,
            DIVIDED => {}
            _ => {
                let offset = hpa.checked_sub(self.hpa());
                return offset.map(|offset| offset as usize).filter(|&at| at < LARGE);
            }
        }
        let (page, within) = (hpa & !(PAGE as u64 - 1), hpa as usize % PAGE);
        let index = self.pages.iter().position(|it| it.load(Ordering::Relaxed) == page)?;
        Some(index * PAGE + within)
    }
}

impl FrameMemory {
    /// `length_bytes` of zeroes, rounded up to 2 MiB. `None` if the platform has not got them: it
    /// is asked before anything of that size is allocated.
    pub fn new(platform: &'static dyn Platform, owner: Owner, length_bytes: usize) -> Option<Self> {
        let count = length_bytes.div_ceil(LARGE);
        Self::build(platform, owner, count, count, Vec::new())
    }

    /// The same, of which single pages can be given back. Where the platform has no frame of 2 MiB
    /// left, it is made of smaller ones. There are `present_bytes` at first; for the rest the
    /// platform is asked when it is touched.
    pub fn divisible(
        platform: &'static dyn Platform,
        owner: Owner,
        length_bytes: usize,
        present_bytes: usize,
    ) -> Option<Self> {
        let count = length_bytes.div_ceil(LARGE);
        let present = present_bytes.div_ceil(LARGE).min(count);
        let mut lists = Vec::new();
        lists.try_reserve_exact(count).ok()?;
        while lists.len() < count {
            lists.push(no_pages()?);
        }
        Self::build(platform, owner, count, present, lists)
    }

    /// The heap that [`FrameMemory::divisible`] takes for this length.
    pub const fn divisible_heap_bytes(length_bytes: u64) -> u64 {
        let list = PAGES_PER_PIECE * size_of::<AtomicU64>();
        let of_piece = list + size_of::<Box<[AtomicU64]>>() + size_of::<Piece>();
        length_bytes.div_ceil(LARGE as u64) * of_piece as u64
    }

    /// Of `count` pieces, the first of which are present; each takes one of the lists of pages.
    fn build(
        platform: &'static dyn Platform,
        owner: Owner,
        count: usize,
        present: usize,
        mut lists: Vec<Box<[AtomicU64]>>,
    ) -> Option<Self> {
        if present as u64 > platform.free_bytes() / LARGE as u64 {
            return None;
        }
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(count).ok()?;
        let mut memory = Self {
            platform,
            owner,
            pieces,
            clearing: Ranked::new(()),
            log: None,
            missing: AtomicU64::new(0),
        };
        while memory.pieces.len() < present {
            let missing = present - memory.pieces.len();
            let is_place = memory.pieces.len().is_multiple_of(PIECES_PER_HUGE);
            let huge = is_place && missing >= PIECES_PER_HUGE;
            let frame = huge.then(|| platform.allocate_frame(FrameSize::Huge, owner)).flatten();
            let frame = frame.or_else(|| platform.allocate_frame(FrameSize::Large, owner));
            match frame {
                Some(frame) => memory.add_frame(&frame, &mut lists),
                None => {
                    memory.add_absent(lists.pop()?);
                    memory.provide(memory.pieces.last()?)?;
                }
            }
        }
        while memory.pieces.len() < count {
            memory.add_absent(lists.pop()?);
        }
        Some(memory)
    }

    /// Puts a frame of 2 MiB or more behind the last piece.
    fn add_frame(&mut self, frame: &Frame, lists: &mut Vec<Box<[AtomicU64]>>) {
        for offset in (0..frame.size.bytes() as usize).step_by(LARGE) {
            let (address, hpa) = (frame.address + offset, frame.hpa + offset as u64);
            let piece = Piece::new(UNTOUCHED, address, hpa, lists.pop().unwrap_or_default());
            piece.in_huge.store(frame.size == FrameSize::Huge, Ordering::Relaxed);
            self.pieces.push(piece);
        }
    }

    /// Puts a piece behind the last one that has no frame yet.
    fn add_absent(&mut self, pages: Box<[AtomicU64]>) {
        self.missing.fetch_add(PAGES_PER_PIECE as u64, Ordering::Relaxed);
        self.pieces.push(Piece::new(ABSENT, 0, 0, pages));
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

    /// Length in bytes, a multiple of 2 MiB, with holes.
    pub const fn length_bytes(&self) -> usize {
        self.pieces.len() * LARGE
    }

    /// Single pages can be given back.
    pub fn is_divisible(&self) -> bool {
        self.pieces.first().is_some_and(|piece| !piece.pages.is_empty())
    }

    /// Pages that are not there: holes, and those that have no frame before they are touched.
    pub fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    /// The part around a byte has no frame yet: if it was touched, the platform had no memory.
    pub fn is_absent(&self, offset: u64) -> bool {
        let piece = self.pieces.get(offset as usize / LARGE);
        piece.is_some_and(|piece| piece.state.load(Ordering::Acquire) == ABSENT)
    }

    /// The part around a byte was touched, for tests.
    #[cfg(test)]
    pub(super) fn is_cleared(&self, offset: usize) -> bool {
        self.pieces[offset / LARGE].state.load(Ordering::Acquire) >= WHOLE
    }

    /// Clears the part around a byte if it was not touched before, and finds it frames if it has
    /// none; false if the platform has none, and past the end.
    pub(super) fn touch_at(&self, offset: u64) -> bool {
        self.pieces.get(offset as usize / LARGE).is_some_and(|piece| self.touch(piece).is_some())
    }

    /// False in a hole and past the end.
    #[inline]
    pub fn is_there(&self, offset: usize) -> bool {
        match self.pieces.get(offset / LARGE) {
            Some(piece) if piece.is_divided() => self.run_around(offset).is_some(),
            piece => piece.is_some(),
        }
    }

    /// Copies out; false if the range touches a hole or passes the end (a part may have been
    /// copied).
    #[inline]
    pub fn read(&self, offset: usize, data: &mut [u8]) -> bool {
        if let Some(run) = self.whole(offset)
            && run.read(offset % LARGE, data)
        {
            return true;
        }
        self.read_across(offset, data)
    }

    /// Copies in; false as [`FrameMemory::read`] (a part may have been copied).
    #[inline]
    pub fn write(&self, offset: usize, data: &[u8]) -> bool {
        if let Some(run) = self.whole(offset)
            && run.write(offset % LARGE, data)
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

    /// Replaces a byte by `new` if it is still `expected`, in one piece; `None` in a hole and past
    /// the end.
    pub fn compare_exchange(&self, offset: usize, expected: u8, new: u8) -> Option<bool> {
        let (run, at) = self.run_around(offset)?;
        let done = run.compare_exchange(at, expected, new);
        self.note_write(offset, 1);
        done
    }

    /// Sets bits of a byte in one piece, and returns it as it was; `None` as above.
    pub fn fetch_or(&self, offset: usize, bits: u8) -> Option<u8> {
        let (run, at) = self.run_around(offset)?;
        let old = run.fetch_or(at, bits);
        self.note_write(offset, 1);
        old
    }

    /// Keeps only `bits` of a byte: the counterpart of [`FrameMemory::fetch_or`].
    pub fn fetch_and(&self, offset: usize, bits: u8) -> Option<u8> {
        let (run, at) = self.run_around(offset)?;
        let old = run.fetch_and(at, bits);
        self.note_write(offset, 1);
        old
    }

    /// The contiguous memory around a byte, as much as is cleared: a page, a piece or its whole
    /// frame. `None` in a hole and past the end. No page is to be given back meanwhile.
    pub fn extent(&self, offset: u64) -> Option<Extent> {
        let index = usize::try_from(offset).ok()? / LARGE;
        let piece = self.pieces.get(index)?;
        self.touch(piece)?;
        let (length_bytes, hpa) = if piece.is_divided() {
            match piece.page(offset as usize)?.load(Ordering::Acquire) {
                HOLE => return None,
                hpa => (PAGE, hpa),
            }
        } else if let Some(first) = self.whole_gib(index) {
            (HUGE, first.hpa())
        } else {
            (LARGE, piece.hpa())
        };
        let length_bytes = length_bytes as u64;
        Some(Extent { offset: offset & !(length_bytes - 1), length_bytes, hpa })
    }

    /// The first piece of the 1 GiB frame that a piece is in, if all of that is cleared.
    fn whole_gib(&self, index: usize) -> Option<&Piece> {
        // A frame starts at a multiple of its size.
        let first = index / PIECES_PER_HUGE * PIECES_PER_HUGE;
        let siblings = self.pieces.get(first..first + PIECES_PER_HUGE)?;
        let is_whole = |piece: &Piece| {
            piece.in_huge.load(Ordering::Relaxed) && piece.state.load(Ordering::Acquire) == WHOLE
        };
        siblings.iter().all(is_whole).then_some(&siblings[0])
    }

    /// The offset at which the byte at a host-physical address is, if it is in this memory.
    pub fn offset_of(&self, hpa: u64) -> Option<u64> {
        let mut pieces = self.pieces.iter().enumerate();
        pieces.find_map(|(index, piece)| Some((index * LARGE + piece.offset_of(hpa)?) as u64))
    }

    /// Takes the page at `offset` out, and leaves a hole; `None` if there is one already, past the
    /// end, or if the memory is not divisible.
    ///
    /// Accesses to the page that had begun may go on, and second-level tables may show it: the
    /// frame goes back to the platform when neither can be.
    pub(super) fn take_page(&self, offset: usize) -> Option<Frame> {
        let index = offset / LARGE;
        let page = self.pieces.get(index)?.page(offset)?;
        let _clearing = self.clearing.lock();
        self.divide(index)?;
        let hpa = page.swap(HOLE, Ordering::AcqRel);
        (hpa != HOLE).then(|| {
            self.missing.fetch_add(1, Ordering::Relaxed);
            self.small_frame(hpa)
        })
    }

    /// Puts a page of zeroes into the hole at `offset`.
    ///
    /// # Errors
    /// [`NoPage`].
    pub(super) fn put_page(&self, offset: usize) -> Result<(), NoPage> {
        let piece = self.pieces.get(offset / LARGE).filter(|piece| piece.is_divided());
        let page = piece.and_then(|piece| piece.page(offset)).ok_or(NoPage::NoHole)?;
        let _clearing = self.clearing.lock();
        if page.load(Ordering::Relaxed) != HOLE {
            return Err(NoPage::NoHole);
        }
        let frame = self.platform.allocate_frame(FrameSize::Small, self.owner);
        let frame = frame.ok_or(NoPage::NoMemory)?;
        self.run_of(frame.hpa).clear();
        page.store(frame.hpa, Ordering::Release);
        self.missing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the pages of a piece frames of their own. To be called with `clearing` locked.
    fn divide(&self, index: usize) -> Option<()> {
        let piece = &self.pieces[index];
        self.prepare(piece)?;
        if piece.is_divided() {
            return Some(());
        }
        if piece.in_huge.load(Ordering::Relaxed) {
            let first = index / PIECES_PER_HUGE * PIECES_PER_HUGE;
            self.platform.split_frame(self.pieces[first].hpa(), FrameSize::Huge);
            for sibling in &self.pieces[first..first + PIECES_PER_HUGE] {
                sibling.in_huge.store(false, Ordering::Relaxed);
            }
        }
        self.platform.split_frame(piece.hpa(), FrameSize::Large);
        for (page, hpa) in piece.pages.iter().zip((piece.hpa()..).step_by(PAGE)) {
            page.store(hpa, Ordering::Relaxed);
        }
        piece.state.store(DIVIDED, Ordering::Release);
        Some(())
    }

    /// Clears a piece, and finds it a frame, if it was not touched before. To be called with
    /// `clearing` locked.
    fn prepare(&self, piece: &Piece) -> Option<()> {
        if piece.state.load(Ordering::Acquire) == ABSENT {
            self.provide(piece)?;
        }
        if piece.state.load(Ordering::Acquire) == UNTOUCHED {
            piece.run().clear();
            piece.state.store(WHOLE, Ordering::Release);
        }
        Some(())
    }

    /// Finds a frame for a piece that has none: one of 2 MiB, or its pages one by one.
    fn provide(&self, piece: &Piece) -> Option<()> {
        if let Some(frame) = self.platform.allocate_frame(FrameSize::Large, self.owner) {
            piece.address.store(frame.address, Ordering::Relaxed);
            piece.hpa.store(frame.hpa, Ordering::Relaxed);
            piece.state.store(UNTOUCHED, Ordering::Release);
        } else {
            for (done, page) in piece.pages.iter().enumerate() {
                let Some(frame) = self.platform.allocate_frame(FrameSize::Small, self.owner) else {
                    for page in &piece.pages[..done] {
                        let frame = self.small_frame(page.swap(HOLE, Ordering::Relaxed));
                        self.platform.free_frame(frame);
                    }
                    return None;
                };
                self.run_of(frame.hpa).clear();
                page.store(frame.hpa, Ordering::Relaxed);
            }
            piece.state.store(DIVIDED, Ordering::Release);
        }
        self.missing.fetch_sub(PAGES_PER_PIECE as u64, Ordering::Relaxed);
        Some(())
    }

    fn small_frame(&self, hpa: u64) -> Frame {
        Frame { address: self.platform.address_of(hpa), hpa, size: FrameSize::Small }
    }

    /// The memory of a page.
    fn run_of(&self, hpa: u64) -> Run {
        // SAFETY: the page is a frame of ours until it is taken out, and then goes back only when
        // nobody is at it any more (`take_page`); every CPU maps it at this address.
        #[allow(unsafe_code)]
        unsafe {
            Run::new(self.platform.address_of(hpa), PAGE)
        }
    }

    /// The piece around a byte, if it is in the state that nearly all are in.
    #[inline]
    fn whole(&self, offset: usize) -> Option<Run> {
        let piece = self.pieces.get(offset / LARGE)?;
        (piece.state.load(Ordering::Acquire) == WHOLE).then(|| piece.run())
    }

    /// The piece or page around a byte, cleared, and where the byte is in it.
    #[inline]
    pub(super) fn run_around(&self, offset: usize) -> Option<(Run, usize)> {
        match self.whole(offset) {
            Some(run) => Some((run, offset % LARGE)),
            None => self.other_run_around(offset),
        }
    }

    #[inline(never)]
    fn other_run_around(&self, offset: usize) -> Option<(Run, usize)> {
        let piece = self.pieces.get(offset / LARGE)?;
        self.touch(piece)?;
        if !piece.is_divided() {
            return Some((piece.run(), offset % LARGE));
        }
        let hpa = piece.page(offset)?.load(Ordering::Acquire);
        (hpa != HOLE).then(|| (self.run_of(hpa), offset % PAGE))
    }

    /// Clears a piece if it was not touched before; `None` if there is no frame for it.
    #[inline]
    fn touch(&self, piece: &Piece) -> Option<()> {
        match piece.state.load(Ordering::Acquire) {
            ABSENT | UNTOUCHED => self.touch_first(piece),
            _ => Some(()),
        }
    }

    #[cold]
    fn touch_first(&self, piece: &Piece) -> Option<()> {
        let _clearing = self.clearing.lock();
        self.prepare(piece)
    }

    fn read_across(&self, mut offset: usize, mut data: &mut [u8]) -> bool {
        while !data.is_empty() {
            let Some((run, at)) = self.run_around(offset) else { return false };
            let count = data.len().min(run.length() - at);
            let (now, later) = data.split_at_mut(count);
            run.read(at, now);
            (data, offset) = (later, offset + count);
        }
        true
    }

    fn write_across(&self, mut offset: usize, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let Some((run, at)) = self.run_around(offset) else { return false };
            let count = data.len().min(run.length() - at);
            let (now, later) = data.split_at(count);
            run.write(at, now);
            self.note_write(offset, count);
            (data, offset) = (later, offset + count);
        }
        true
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        let mut pieces = &self.pieces[..];
        while let Some(piece) = pieces.first() {
            let mut count = 1;
            match piece.state.load(Ordering::Relaxed) {
                ABSENT => {}
                DIVIDED => {
                    let pages = piece.pages.iter().map(|page| page.load(Ordering::Relaxed));
                    pages
                        .filter(|&hpa| hpa != HOLE)
                        .for_each(|hpa| self.platform.free_frame(self.small_frame(hpa)));
                }
                _ => {
                    let mut size = FrameSize::Large;
                    if piece.in_huge.load(Ordering::Relaxed) {
                        (size, count) = (FrameSize::Huge, PIECES_PER_HUGE);
                    }
                    let (address, hpa) = (piece.address.load(Ordering::Relaxed), piece.hpa());
                    self.platform.free_frame(Frame { address, hpa, size });
                }
            }
            pieces = &pieces[count..];
        }
    }
}
