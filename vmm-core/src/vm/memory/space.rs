//! A guest's physical address space: what memory is where, for the hypervisor and, through the
//! second-level page tables, for the CPU.

mod access;
mod areas;
mod bounce;
mod holes;
mod video;

pub use areas::{Area, AreaOwner};
pub use bounce::{BouncePages, Side};
pub use holes::MAX_LEAVING;

use super::frames::FrameMemory;
use super::nested::TableFrames;
use crate::backend::{NestedPaging, WriteTracking};
use crate::host::owner::GuestId;
use crate::host::platform::Platform;
use crate::vm::memory::page_log::PageLog;
use crate::vm::processors::Processors;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use areas::Areas;
use bounce::Covers;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use devices::lock::{Ranked, rank};
use devices::ram_layout::RamLayout;
use ept::{Attributes, Flush, NestedTables, OutOfMemory, Permissions};
use spin::{Once, RwLock};

/// The page size of everything here.
pub const PAGE_BYTES: u64 = 4096;
const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;
const LOW_PAGES: usize = 256;

/// Memory that appears somewhere in the guest-physical address space, apart from RAM above 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Backing {
    /// Guest RAM.
    Ram = 0,
    /// The ROM: firmware and option ROMs.
    Rom = 1,
    /// Video memory.
    Video = 2,
    /// Pages that the PV-on-HVM platform shares with the guest; not below 1 MiB.
    Shared = 4,
}

const BACKINGS: [Backing; 4] = [Backing::Ram, Backing::Rom, Backing::Video, Backing::Shared];

/// The content of one of the 256 pages below 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowPage {
    /// Nothing: accesses go to devices.
    Device,
    /// A page of memory: page number `page` of `backing`.
    Memory {
        /// Which memory.
        backing: Backing,
        /// Its page.
        page: u16,
        /// Writes are dropped if false.
        writable: bool,
    },
    /// Reads show page `page` of the ROM; writes go to the RAM beneath.
    Shadowed {
        /// The page of the ROM.
        page: u16,
    },
    /// Reads go to devices; writes go to the RAM beneath.
    WriteOnly,
}

impl LowPage {
    const DEVICE: u32 = u32::MAX;
    const WRITE_ONLY: u32 = u32::MAX - 1;

    /// Bits 0-15 the page, 16-17 the backing (3: shadowed ROM), 18 writable.
    const fn encode(self) -> u32 {
        match self {
            Self::Device => Self::DEVICE,
            Self::WriteOnly => Self::WRITE_ONLY,
            Self::Shadowed { page } => page as u32 | 3 << 16,
            Self::Memory { backing, page, writable } => {
                page as u32 | (backing as u32) << 16 | (writable as u32) << 18
            }
        }
    }

    const fn decode(bits: u32) -> Self {
        match bits {
            Self::DEVICE => return Self::Device,
            Self::WRITE_ONLY => return Self::WriteOnly,
            _ => {}
        }
        let backing = match bits >> 16 & 3 {
            0 => Backing::Ram,
            1 => Backing::Rom,
            2 => Backing::Video,
            _ => return Self::Shadowed { page: bits as u16 },
        };
        Self::Memory { backing, page: bits as u16, writable: bits & 1 << 18 != 0 }
    }
}

/// Why the second-level tables refused an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCause {
    /// Memory that is mapped now: the access can be tried again.
    Memory,
    /// A write to memory that the guest cannot write.
    ReadOnly,
    /// No memory: a device answers, or none does.
    Device,
}

/// The address space could not be made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// The host has too little memory.
    OutOfMemory,
}

impl From<OutOfMemory> for SpaceError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// The memories that a space shows.
pub struct SpaceMemory {
    /// Whose they are.
    pub guest: GuestId,
    /// Guest RAM.
    pub ram: Arc<FrameMemory>,
    /// Where it lies; what is over stays unseen.
    pub ram_layout: RamLayout,
    /// Firmware and option ROMs.
    pub rom: Arc<FrameMemory>,
    /// Video memory, logged if writes to it are to be tracked.
    pub video: Arc<FrameMemory>,
    /// Pages of the PV-on-HVM platform, if the guest has one.
    pub shared: Option<Arc<FrameMemory>>,
}

/// The most second-level tables that a guest with this RAM, so much video memory and so many pages
/// of the platform's needs, but for those of bounce pages. RAM is mapped in pages of 2 MiB at
/// least, but at its edges, and where single pages can be given back.
const fn most_tables(
    ram: &RamLayout,
    gives_back: bool,
    video_bytes: usize,
    platform_pages: usize,
) -> usize {
    const GIB: u64 = 1 << 30;
    const LARGE: usize = 2 << 20;
    /// The lowest level for the first mebibytes, for the edges of RAM, for local APIC and ROM.
    const FIXED: usize = 8;
    /// Those for an area that moves are free again when all virtual CPUs have flushed. A guest that
    /// does not wait for that, move after move, is stopped.
    const MOVES: usize = 4;
    let top = 1 + 1 + ram.high_end().div_ceil(512 * GIB) as usize;
    let middle = 4 + ram.high_bytes().div_ceil(GIB) as usize + 1;
    let areas = video_bytes.div_ceil(LARGE) + 1 + 2;
    let lowest = if gives_back { (ram.bytes() as usize).div_ceil(LARGE) } else { 0 };
    top + middle + FIXED + lowest + areas * MOVES + platform_pages
}

/// The virtual CPU will look at the generation before it enters the guest: nothing waits for it.
const IDLE: u64 = 1 << 63;

/// The byte of `gpa` in page `page` of a memory.
const fn low_offset(page: u16, gpa: u64) -> usize {
    page as usize * PAGE_BYTES as usize + (gpa % PAGE_BYTES) as usize
}

/// Virtual CPUs that share a space.
struct Sharers {
    /// They are interrupted for a change. One alone makes its changes itself, or is interrupted for
    /// what makes them.
    processors: Arc<Processors>,
    /// The pages of video memory that the last look has made clean: until it has flushed, another
    /// virtual CPU writes to them unnoticed.
    unsettled: PageLog,
}

struct Nested {
    tables: NestedTables,
    frames: TableFrames,
    /// Reminders that some virtual CPU has not flushed yet, with the generation that it must
    /// reach.
    owed: Vec<(u64, Flush)>,
    /// The pages for steps, unless a virtual CPU makes one.
    bounce: Option<BouncePages>,
    covers: Covers,
    /// For each virtual CPU, whether its processor answers accesses to the local APIC's page.
    answers_apic: Box<[bool]>,
}

/// A guest's physical address space.
pub struct GuestSpace {
    guest: GuestId,
    /// Goes first: it points to the memories.
    nested: Ranked<Nested, { rank::SPACE }>,
    ram: Arc<FrameMemory>,
    rom: Arc<FrameMemory>,
    video: Arc<FrameMemory>,
    shared: Option<Arc<FrameMemory>>,
    tracking: Option<WriteTracking>,
    ram_layout: RamLayout,
    low_pages: Box<[AtomicU32]>,
    areas: RwLock<Areas>,
    /// Pages of RAM can be given back.
    gives_back: bool,
    /// Accesses by others than the guest's own virtual CPUs, if so.
    outsiders: RwLock<()>,
    a20: AtomicBool,
    root_hpa: u64,
    /// A page that belongs to the tables, and is no table.
    apic_access_hpa: u64,
    /// Goes up with every change that the CPUs must be told of.
    generation: AtomicU64,
    /// The virtual CPUs, if there are several.
    sharers: Once<Sharers>,
    /// The generation that each virtual CPU has flushed for, and [`IDLE`] while it is not in the
    /// guest.
    flushed: Box<[AtomicU64]>,
}

impl GuestSpace {
    /// A space with RAM (mapped when it is first touched), and nothing of ROM, video memory or the
    /// first mebibyte's upper part shown yet.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn new(
        platform: &'static dyn Platform,
        paging: NestedPaging,
        memory: SpaceMemory,
        vcpu_count: usize,
    ) -> Result<Self, SpaceError> {
        let SpaceMemory { guest, ram, ram_layout, rom, video, shared } = memory;
        let mut frames = TableFrames::new(platform, guest);
        let platform_pages = shared.as_ref().map_or(0, |_| xen::pages::COUNT);
        let gives_back = ram.is_divisible();
        let count = most_tables(&ram_layout, gives_back, video.length_bytes(), platform_pages);
        frames.set_aside(count).ok_or(OutOfMemory)?;
        if gives_back {
            frames.make_room_to_leave(MAX_LEAVING).ok_or(OutOfMemory)?;
        }
        let tables = NestedTables::new(paging.format, paging.largest_page, &mut frames)?;
        let root_hpa = tables.root_hpa();
        let apic_access_hpa = frames.allocate_page().ok_or(OutOfMemory)?;
        let (bounce, covers) = Self::make_bounce_pages(&mut frames)?;
        let space = Self {
            guest,
            ram,
            rom,
            tracking: paging.tracking,
            video,
            shared,
            ram_layout,
            low_pages: (0..LOW_PAGES).map(|_| AtomicU32::new(LowPage::DEVICE)).collect(),
            areas: RwLock::default(),
            gives_back,
            outsiders: RwLock::new(()),
            a20: AtomicBool::new(true),
            nested: Ranked::new(Nested {
                tables,
                frames,
                owed: Vec::new(),
                bounce: Some(bounce),
                covers,
                answers_apic: (0..vcpu_count).map(|_| false).collect(),
            }),
            root_hpa,
            apic_access_hpa,
            generation: AtomicU64::new(0),
            sharers: Once::new(),
            flushed: (0..vcpu_count).map(|_| AtomicU64::new(IDLE)).collect(),
        };
        let conventional: Vec<_> = (0..0xa0).map(|page| (page, Self::ram_page(page))).collect();
        space.set_low_pages(&conventional)?;
        Ok(space)
    }

    /// Names the virtual CPUs that share the space. Only the first call counts.
    pub fn connect(&self, processors: &Arc<Processors>) {
        if processors.are_several() {
            self.sharers.call_once(|| Sharers {
                processors: processors.clone(),
                unsettled: PageLog::new(self.video.length_bytes()),
            });
        }
    }

    /// Page `page` below 1 MiB showing the RAM that belongs there.
    pub const fn ram_page(page: u16) -> LowPage {
        LowPage::Memory { backing: Backing::Ram, page, writable: true }
    }

    /// The guest whose it is.
    pub const fn guest(&self) -> GuestId {
        self.guest
    }

    /// Guest RAM.
    pub const fn ram(&self) -> &Arc<FrameMemory> {
        &self.ram
    }

    /// Host-physical address of the top table.
    pub const fn nested_root_hpa(&self) -> u64 {
        self.root_hpa
    }

    /// Where the RAM lies.
    pub const fn ram_layout(&self) -> &RamLayout {
        &self.ram_layout
    }

    /// Where the memory of `gpa` is; `None` if devices answer there.
    #[inline]
    fn locate(&self, gpa: u64) -> Option<(&FrameMemory, usize, bool)> {
        let gpa = if self.a20.load(Ordering::Relaxed) { gpa } else { gpa & !MIB };
        if gpa >= MIB && gpa < self.ram_layout.low_end() {
            return Some((&self.ram, gpa as usize, true));
        }
        self.locate_special(gpa)
    }

    fn locate_special(&self, gpa: u64) -> Option<(&FrameMemory, usize, bool)> {
        if gpa < MIB {
            let page = self.low_pages[(gpa / PAGE_BYTES) as usize].load(Ordering::Relaxed);
            return match LowPage::decode(page) {
                LowPage::Device | LowPage::WriteOnly => None,
                LowPage::Shadowed { page } => Some((&self.rom, low_offset(page, gpa), false)),
                LowPage::Memory { backing, page, writable } => {
                    Some((self.backing(backing), low_offset(page, gpa), writable))
                }
            };
        }
        if let Some(offset) = self.ram_layout.high_offset(gpa) {
            return Some((&self.ram, offset as usize, true));
        }
        let area = self.find_area(gpa)?;
        Some((self.backing(area.backing), (gpa - area.gpa + area.offset) as usize, area.writable))
    }

    fn backing(&self, backing: Backing) -> &FrameMemory {
        match backing {
            Backing::Ram => &self.ram,
            Backing::Rom => &self.rom,
            Backing::Video => &self.video,
            // No area shows it where there is none.
            Backing::Shared => self.shared.as_ref().unwrap_or(&self.rom),
        }
    }

    /// A host-physical address is in the guest's memory.
    pub fn holds(&self, hpa: u64) -> bool {
        BACKINGS.into_iter().any(|backing| self.backing(backing).offset_of(hpa).is_some())
    }

    /// How a memory is mapped.
    fn attributes(&self, backing: Backing, writable: bool) -> Attributes {
        let memory = Attributes::memory(Permissions { write: writable, execute: true });
        Attributes { tracked: backing == Backing::Video && self.tracking.is_some(), ..memory }
    }

    /// The pages below 1 MiB, by their addresses.
    fn low_pages(&self) -> impl Iterator<Item = (u64, LowPage)> {
        let addresses = (0..).step_by(PAGE_BYTES as usize);
        addresses
            .zip(self.low_pages.iter().map(|page| LowPage::decode(page.load(Ordering::Relaxed))))
    }

    /// True if memory, not a device, answers at `gpa`.
    pub fn is_memory(&self, gpa: u64) -> bool {
        self.locate(gpa).is_some_and(|(memory, offset, _)| memory.is_there(offset))
    }

    /// Puts content into the ROM, at `offset`. Outside is ignored.
    pub fn load_rom(&self, offset: usize, data: &[u8]) {
        self.rom.write(offset, data);
    }

    /// Changes what pages below 1 MiB show.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn set_low_pages(&self, pages: &[(u16, LowPage)]) -> Result<(), SpaceError> {
        let mut nested = self.tables_to_change();
        let mut flush = Flush::default();
        for &(number, page) in pages {
            let Some(slot) = self.low_pages.get(usize::from(number)) else { continue };
            let old = slot.swap(page.encode(), Ordering::Relaxed);
            if old == page.encode() {
                continue;
            }
            self.leave_low_page(LowPage::decode(old));
            let gpa = u64::from(number) * PAGE_BYTES;
            flush = flush.and(self.show_low_page(&mut nested, gpa, page)?);
            if !self.a20.load(Ordering::Relaxed) {
                flush = flush.and(self.show_low_page(&mut nested, gpa + MIB, page)?);
            }
        }
        self.owe(&mut nested, flush);
        Ok(())
    }

    fn show_low_page(
        &self,
        nested: &mut Nested,
        gpa: u64,
        page: LowPage,
    ) -> Result<Flush, OutOfMemory> {
        let Nested { tables, frames, .. } = &mut *nested;
        match page {
            LowPage::Device | LowPage::WriteOnly => tables.unmap(frames, gpa, PAGE_BYTES),
            LowPage::Shadowed { page } => {
                let rom = LowPage::Memory { backing: Backing::Rom, page, writable: false };
                self.show_low_page(nested, gpa, rom)
            }
            LowPage::Memory { backing, page, writable } => {
                let offset = u64::from(page) * PAGE_BYTES;
                let Some(extent) = self.backing(backing).extent(offset) else {
                    return tables.unmap(frames, gpa, PAGE_BYTES);
                };
                let attributes = self.attributes(backing, writable);
                let hpa = extent.hpa + offset - extent.offset;
                tables.map(frames, gpa, PAGE_BYTES, hpa, attributes)
            }
        }
    }

    /// Host-physical address of the page that [`GuestSpace::show_apic`] shows.
    pub const fn apic_access_hpa(&self) -> u64 {
        self.apic_access_hpa
    }

    /// Virtual CPU `vcpu` has a processor that answers accesses to the page where local APICs are
    /// after a reset, or has not. While all have, a page of its own is shown there; for one that
    /// has not it would be memory, and for the others, if nothing is shown, each access exits.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn show_apic(&self, vcpu: usize, answers: bool) -> Result<(), SpaceError> {
        const GPA: u64 = devices::local_apic::spec::DEFAULT_BASE;
        let mut nested = self.tables_to_change();
        let Nested { tables, frames, answers_apic, .. } = &mut *nested;
        answers_apic[vcpu] = answers;
        let flush = if answers_apic.iter().all(|&answers| answers) {
            let attributes = Attributes::memory(Permissions { write: true, execute: false });
            tables.map(frames, GPA, PAGE_BYTES, self.apic_access_hpa, attributes)?
        } else {
            tables.unmap(frames, GPA, PAGE_BYTES)?
        };
        self.owe(&mut nested, flush);
        Ok(())
    }

    /// Opens or closes the A20 gate. Closed, the second mebibyte shows the first; higher odd
    /// mebibytes, which no software reaches in the modes that close the gate, stay what they
    /// are.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    pub fn set_a20(&self, open: bool) -> Result<(), SpaceError> {
        let mut nested = self.tables_to_change();
        if self.a20.swap(open, Ordering::Relaxed) == open {
            return Ok(());
        }
        let mut flush = Flush::default();
        if open {
            self.low_pages().for_each(|(_, page)| self.leave_low_page(page));
            let Nested { tables, frames, .. } = &mut *nested;
            flush = flush.and(tables.unmap(frames, MIB, MIB)?);
        } else {
            for (gpa, page) in self.low_pages() {
                flush = flush.and(self.show_low_page(&mut nested, MIB + gpa, page)?);
            }
        }
        self.owe(&mut nested, flush);
        Ok(())
    }

    /// State of the A20 gate.
    pub fn a20(&self) -> bool {
        self.a20.load(Ordering::Relaxed)
    }

    /// Answers a second-level page fault at `gpa`: maps the memory there, if it is not mapped yet.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`].
    #[inline]
    pub fn resolve_fault(&self, gpa: u64, write: bool) -> Result<FaultCause, SpaceError> {
        match self.locate(gpa) {
            None if write && self.has_ram_beneath(gpa) => Ok(FaultCause::ReadOnly),
            None => Ok(FaultCause::Device),
            Some((_, _, false)) if write => Ok(FaultCause::ReadOnly),
            Some(_) => self.map_around(gpa, write),
        }
    }

    /// Maps the memory at `gpa`, with as much around it as there is in one piece.
    fn map_around(&self, gpa: u64, write: bool) -> Result<FaultCause, SpaceError> {
        let mut nested = self.nested.lock();
        let mapping = nested.tables.lookup(&nested.frames, gpa);
        if mapping.is_some_and(|mapping| mapping.permissions.write || !write) {
            return Ok(FaultCause::Memory);
        }
        self.uncover(&mut nested);
        let Some(area) = self.area_of(gpa) else { return Ok(FaultCause::Device) };
        let memory = self.backing(area.backing);
        let offset = gpa - area.gpa + area.offset;
        let Some(extent) = memory.extent(offset) else {
            // RAM that there is no memory for, or a hole.
            let is_absent = memory.is_absent(offset);
            return if is_absent { Err(OutOfMemory.into()) } else { Ok(FaultCause::Device) };
        };
        let start = extent.offset.max(area.offset);
        let end = (extent.offset + extent.length_bytes).min(area.offset + area.length_bytes);
        let attributes = self.attributes(area.backing, area.writable);
        let (to_gpa, to_hpa) = (start - area.offset + area.gpa, start - extent.offset + extent.hpa);
        let Nested { tables, frames, .. } = &mut *nested;
        let flush = tables.map(frames, to_gpa, end - start, to_hpa, attributes)?;
        self.owe(&mut nested, flush);
        Ok(FaultCause::Memory)
    }

    /// The area above 1 MiB, or the RAM, around `gpa`.
    pub(super) fn area_of(&self, gpa: u64) -> Option<Area> {
        let ram = |gpa, length_bytes, offset| Area {
            gpa,
            length_bytes,
            backing: Backing::Ram,
            offset,
            writable: true,
        };
        if gpa >= FOUR_GIB {
            return Some(ram(FOUR_GIB, self.ram_layout.high_bytes(), self.ram_layout.low_end()));
        }
        // With A20 closed the second mebibyte shows the first one.
        let start = if self.a20() { MIB } else { 2 * MIB };
        let low_end = self.ram_layout.low_end();
        if gpa >= start && gpa < low_end {
            return Some(ram(start, low_end - start, start));
        }
        self.find_area(gpa)
    }

    fn owe(&self, nested: &mut Nested, flush: Flush) {
        if flush.is_needed() {
            self.owe_flush(nested, flush);
        }
    }

    /// Each virtual CPU is to flush, and ends its accesses before.
    fn owe_flush(&self, nested: &mut Nested, flush: Flush) {
        let generation = self.generation.fetch_add(1, Ordering::Release) + 1;
        nested.owed.push((generation, flush));
        if let Some(sharers) = self.sharers.get() {
            sharers.processors.interrupt_running();
        }
    }

    /// The memory that the CPU sees at `gpa`, for tests: which memory, where in it, and whether
    /// writes pass. `None` if an access exits.
    ///
    /// # Panics
    /// If the page tables show anything but this guest's memory, or let the guest write its ROM.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn shown(&self, gpa: u64) -> Option<(Backing, u64, bool)> {
        let nested = self.nested.lock();
        let mapping = nested.tables.lookup(&nested.frames, gpa)?;
        let found = BACKINGS.into_iter().find_map(|backing| {
            self.backing(backing).offset_of(mapping.hpa).map(|offset| (backing, offset))
        });
        let (backing, offset) = found.expect("the guest sees memory that is not its own");
        let writable = mapping.permissions.write;
        assert!(!(writable && backing == Backing::Rom), "the guest can write ROM at {gpa:#x}");
        Some((backing, offset, writable))
    }

    /// True if the page of [`GuestSpace::show_apic`] is shown, for tests.
    #[cfg(test)]
    pub fn shows_apic(&self) -> bool {
        let nested = self.nested.lock();
        let mapping = nested.tables.lookup(&nested.frames, devices::local_apic::spec::DEFAULT_BASE);
        mapping.is_some_and(|mapping| mapping.hpa == self.apic_access_hpa)
    }

    /// The memory that an access of the hypervisor's or of a device's finds at `gpa`, in the terms
    /// of [`GuestSpace::shown`].
    #[cfg(any(test, feature = "test-platform"))]
    pub fn found(&self, gpa: u64) -> Option<(Backing, u64, bool)> {
        let (memory, offset, writable) =
            self.locate(gpa).filter(|(memory, offset, _)| memory.is_there(*offset))?;
        let backing =
            BACKINGS.into_iter().find(|&backing| core::ptr::eq(self.backing(backing), memory))?;
        Some((backing, offset as u64, writable))
    }

    /// The host-physical address of a byte of a memory, for tests.
    #[cfg(test)]
    pub fn host_address(&self, backing: Backing, offset: u64) -> u64 {
        let extent = self.backing(backing).extent(offset).expect("it is that long");
        extent.hpa + offset - extent.offset
    }

    /// Reminders of flushes that wait for a virtual CPU, for tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn owed_flushes(&self) -> usize {
        self.nested.lock().owed.len()
    }

    /// Goes up with every change after which a virtual CPU must flush its cached translations
    /// before it runs again: if it is another one than [`GuestSpace::note_flush`] has returned.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Virtual CPU `vcpu` will flush all translations before it runs again. Returns the generation
    /// that it has flushed for.
    pub fn note_flush(&self, vcpu: usize) -> u64 {
        let generation = self.generation();
        self.flushed[vcpu].store(generation, Ordering::Release);
        self.settle();
        generation
    }

    /// True if virtual CPU `vcpu` has not flushed for this generation, for tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn needs_flush(&self, vcpu: usize) -> bool {
        self.flushed[vcpu].load(Ordering::Relaxed) != self.generation()
    }

    /// Virtual CPU `vcpu` sleeps: nothing waits for it to flush until [`GuestSpace::end_sleep`].
    pub fn begin_sleep(&self, vcpu: usize) {
        let flushed = self.flushed[vcpu].fetch_or(IDLE, Ordering::SeqCst);
        if flushed & !IDLE != self.generation.load(Ordering::SeqCst) {
            self.settle();
        }
    }

    /// Virtual CPU `vcpu` goes on: before it enters the guest it asks for the
    /// [`GuestSpace::generation`].
    pub fn end_sleep(&self, vcpu: usize) {
        self.flushed[vcpu].fetch_and(!IDLE, Ordering::SeqCst);
    }

    /// Gives back what no virtual CPU can still have cached.
    fn settle(&self) {
        // First: one that wakes when this has looked has not flushed for what is owed from then on.
        let mut nested = self.nested.lock();
        let awake = self.flushed.iter().map(|flushed| flushed.load(Ordering::SeqCst));
        let reached = awake.filter(|flushed| flushed & IDLE == 0).min().unwrap_or(u64::MAX);
        let Nested { frames, owed, .. } = &mut *nested;
        let (paid, still_owed): (Vec<_>, Vec<_>) =
            core::mem::take(owed).into_iter().partition(|&(generation, _)| generation <= reached);
        *owed = still_owed;
        for (_, flush) in paid {
            flush.flushed(frames);
        }
        frames.let_go(reached);
    }
}
