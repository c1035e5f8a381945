//! The machine's memory: set up once, then frames handed out and device memory mapped.

use super::frames::{Chunk, FrameMap};
use super::paging::{Mapping, PAGE_ATTRIBUTES, PageTables};
use super::{LARGE_BYTES, LOW_MEMORY_END, PAGE_BYTES, align_down, align_up, heap, owners};
use crate::memory::image;
use core::ops::Range;
use core::{ptr, slice};
use handover::{Area, AreaKind, Handover};
use spin::{Mutex, Once};
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize};
use x86::controlregs::{self, Cr4};

static FRAMES: Once<Mutex<FrameMap<'static>>> = Once::new();
static TABLES: Once<Mutex<PageTables>> = Once::new();

/// The end of what the entry code's page tables map.
const BOOT_MAP_END: u64 = 4 << 30;
/// The lower half of the addresses, which the final page tables can map.
const MAP_END: u64 = 1 << 47;
/// The size of the heap at first.
const FIRST_HEAP_BYTES: u64 = 16 << 20;
/// Less cannot hold a guest.
const LEAST_BYTES: u64 = 64 << 20;
/// VGA's memory.
const VGA_MEMORY: Range<u64> = 0xa_0000..0xc_0000;

/// Sets up the frame map, the final page tables and the heap. Runs once, on the boot CPU.
///
/// # Errors
/// A text that names what is missing, and what to do.
pub fn init(handover: &Handover) -> Result<(), &'static str> {
    const TOO_LITTLE: &str =
        "too little memory: at least 64 MiB and what the guest needs must be free";
    let is_ram = |area: &Area| area.kind == AreaKind::Ram;
    let end = handover.areas().filter(is_ram).map(|area| area.range.end).max().unwrap_or(0);
    let chunk_count = FrameMap::chunks_for(end);
    let table = find_room(handover, (chunk_count * size_of::<Chunk>()) as u64).ok_or(TOO_LITTLE)?;
    // SAFETY: `find_room` gives free RAM, mapped by the entry code's tables, that is reserved
    // below; any bytes are then overwritten by `FrameMap::new` before they are read.
    let chunks = unsafe {
        ptr::write_bytes(table.start as *mut u8, 0, (table.end - table.start) as usize);
        slice::from_raw_parts_mut(table.start as *mut Chunk, chunk_count)
    };
    let mut map = FrameMap::new(chunks);
    for area in handover.areas().filter(is_ram) {
        map.release(area.range.clone());
    }
    for area in handover.areas().filter(|area| area.kind != AreaKind::Ram) {
        map.reserve(area.range.clone());
    }
    for range in occupied(handover).chain([table]) {
        map.reserve(range);
    }
    map.finish();
    if map.free_bytes() < LEAST_BYTES {
        return Err(TOO_LITTLE);
    }
    FRAMES.call_once(|| Mutex::new(map));

    build_tables(handover).map_err(|_| TOO_LITTLE)?;
    let heap_start = take_run(FIRST_HEAP_BYTES).ok_or(TOO_LITTLE)?;
    heap::add(heap_start, FIRST_HEAP_BYTES);
    Ok(())
}

/// Memory that is not free though the memory map says so.
fn occupied<'a>(handover: &Handover<'a>) -> impl Iterator<Item = Range<u64>> + use<'a> {
    handover.occupied().chain([0..LOW_MEMORY_END, image::all()])
}

/// Free RAM of this size, whole pages, in the first 4 GiB.
fn find_room(handover: &Handover, bytes: u64) -> Option<Range<u64>> {
    let bytes = align_up(bytes, PAGE_BYTES);
    let is_ram = |area: &Area| area.kind == AreaKind::Ram;
    let taken = || {
        let areas = handover.areas().filter(|area| area.kind != AreaKind::Ram);
        occupied(handover).chain(areas.map(|area| area.range.clone()))
    };
    handover.areas().filter(is_ram).find_map(|area| {
        let last = area.range.end.min(BOOT_MAP_END).checked_sub(bytes)?;
        let mut start = align_up(area.range.start, PAGE_BYTES);
        while start <= last {
            let room = start..start + bytes;
            let clash = taken().find(|range| range.start < room.end && room.start < range.end);
            let Some(clash) = clash else { return Some(room) };
            start = align_up(clash.end, PAGE_BYTES);
        }
        None
    })
}

fn build_tables(handover: &Handover) -> Result<(), super::paging::OutOfFrames> {
    let huge_pages = raw_cpuid::CpuId::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_1gib_pages());
    let take = &mut take_table_frame;
    let mut tables = PageTables::new(huge_pages, take)?;

    // The image, page by page; nothing under its stacks.
    let image = image::all();
    tables.map(image::text(), Mapping::CODE, take)?;
    tables.map(image::rodata(), Mapping::CONSTANTS, take)?;
    let mut data = image::data();
    for stack in image::stacks() {
        tables.map(data.start..stack.start, Mapping::RAM, take)?;
        data.start = stack.start + PAGE_BYTES;
    }
    tables.map(data, Mapping::RAM, take)?;

    // Low memory: all but the first page, which catches null pointers.
    tables.map(PAGE_BYTES..VGA_MEMORY.start, Mapping::RAM, take)?;
    tables.map(VGA_MEMORY, Mapping::DEVICE, take)?;
    tables.map(VGA_MEMORY.end..LOW_MEMORY_END, Mapping::RAM, take)?;

    for area in handover.areas().filter(|area| area.kind != AreaKind::Reserved) {
        let Range { start, end } = area.range.clone();
        let below = start.max(LOW_MEMORY_END)..end.min(image.start);
        let above = start.max(image.end)..end;
        for part in [below, above] {
            if !part.is_empty() {
                tables.map(part, Mapping::RAM, take)?;
            }
        }
    }

    let root = tables.root();
    TABLES.call_once(|| Mutex::new(tables));
    // SAFETY: the tables map the running code, its data and its stack where they are now.
    unsafe { use_tables(root) };
    Ok(())
}

/// Makes page tables this CPU's, with the memory types that their entries mean.
///
/// # Safety
/// The tables at `root` map what the CPU uses where it is now.
pub unsafe fn use_tables(root: u64) {
    // SAFETY: PAT entry 1 becomes write-combining; nothing is mapped with it but framebuffers,
    // which are written only. The rest is the caller's promise.
    unsafe {
        x86::msr::wrmsr(x86::msr::IA32_PAT, PAGE_ATTRIBUTES);
        controlregs::cr3_write(root);
        controlregs::cr4_write(controlregs::cr4() | Cr4::CR4_ENABLE_GLOBAL_PAGES);
    }
}

/// Physical address of the top page table.
pub fn tables_root() -> Option<u64> {
    TABLES.get().map(|tables| tables.lock().root())
}

/// Takes a page out of the page tables. Other CPUs may have it cached for a while: it must be
/// nothing to them.
pub fn unmap_page(address: u64) -> Result<(), super::paging::OutOfFrames> {
    let Some(tables) = TABLES.get() else { return Ok(()) };
    tables.lock().unmap_page(address, &mut take_table_frame)?;
    // SAFETY: flushes a translation.
    unsafe { x86::tlb::flush(address as usize) };
    Ok(())
}

/// Runs `change` on the frame map.
fn with_frames<R>(change: impl FnOnce(&mut FrameMap<'static>) -> R) -> Option<R> {
    FRAMES.get().map(|frames| change(&mut frames.lock()))
}

/// A run of memory of `bytes`, a power of two of at least 2 MiB, not zeroed.
pub fn take_run(bytes: u64) -> Option<u64> {
    let start = with_frames(|frames| frames.take_run((bytes / LARGE_BYTES) as usize))??;
    owners::keep(start..start + bytes);
    Some(start)
}

/// A zeroed frame for a page table.
fn take_table_frame() -> Option<u64> {
    let address = with_frames(FrameMap::take_small)??;
    owners::keep(address..address + PAGE_BYTES);
    zero(address, PAGE_BYTES);
    Some(address)
}

/// Hands out a frame, with whatever it holds.
pub fn allocate(size: FrameSize, owner: Owner) -> Option<Frame> {
    let hpa = with_frames(|frames| match size {
        FrameSize::Small => frames.take_small(),
        FrameSize::Large => frames.take_large(),
        FrameSize::Huge => frames.take_huge(),
    })??;
    owners::hand_out(hpa, size, owner);
    Some(Frame { address: hpa as usize, hpa, size })
}

/// Takes a frame back.
pub fn free(frame: Frame) {
    owners::take_back(&frame);
    let clean = with_frames(|frames| frames.give_back(frame.hpa, frame.size.bytes()));
    if clean == Some(false) {
        log::error!("memory given back twice: {:#x}, {:?}", frame.hpa, frame.size);
    }
}

/// Bytes that are free.
pub fn free_bytes() -> u64 {
    with_frames(|frames| frames.free_bytes()).unwrap_or(0)
}

/// Writes zeroes to memory that nobody else has.
pub fn zero(address: u64, bytes: u64) {
    // SAFETY: the frame map gave this RAM to the caller alone, and all RAM is mapped at its
    // physical address. `rep stosq` is the fastest way on every CPU since 2013 and needs no
    // vector registers, which are the guest's.
    unsafe {
        core::arch::asm!(
            "rep stosq",
            inout("rcx") bytes / 8 => _,
            inout("rdi") address => _,
            in("rax") 0u64,
            options(nostack, preserves_flags)
        );
    }
}

/// Maps memory of a device, or firmware tables outside RAM, at its physical address. Pages that are
/// mapped already stay as they are. Addresses that are too large for the tables are refused. Before
/// [`init`] has succeeded there is what the entry code mapped, and no more.
pub fn map(start: u64, bytes: u64, mapping: Mapping) -> Result<(), super::paging::OutOfFrames> {
    let range = align_down(start, PAGE_BYTES)..align_up(start.saturating_add(bytes), PAGE_BYTES);
    match TABLES.get() {
        Some(tables) if range.end <= MAP_END => {
            tables.lock().map(range, mapping, &mut take_table_frame)
        }
        None if range.end <= BOOT_MAP_END => Ok(()),
        _ => Err(super::paging::OutOfFrames),
    }
}

/// Maps registers of a device at their physical address. Memory that is mapped otherwise, as RAM or
/// as a framebuffer, is refused.
pub fn map_registers(start: u64, bytes: u64) -> Result<(), super::paging::OutOfFrames> {
    map(start, bytes, Mapping::DEVICE)?;
    let range = start..start.saturating_add(bytes);
    let is_device = |tables: &Mutex<PageTables>| tables.lock().is_mapped(range, Mapping::DEVICE);
    TABLES.get().is_some_and(is_device).then_some(()).ok_or(super::paging::OutOfFrames)
}

/// True if a read of this memory would not fault.
pub fn is_readable(start: u64, bytes: u64) -> bool {
    let range = start..start.saturating_add(bytes);
    // A panic may have come while the lock was held: better no backtrace than none of the panic.
    TABLES
        .get()
        .and_then(Mutex::try_lock)
        .is_some_and(|tables| tables.is_mapped(range, Mapping::PRESENT))
}
