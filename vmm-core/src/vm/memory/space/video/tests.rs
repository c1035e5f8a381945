//! Video memory that the guest writes by itself, by the hypervisor's hand and by DMA.

use super::*;
use crate::backend::NestedPaging;
use crate::host::kick::VcpuKick;
use crate::host::owner::{GuestId, Owner};
use crate::host::platform::CpuInterrupt;
use crate::test_platform::TestPlatform;
use crate::vm::memory::{AreaOwner, SpaceMemory};
use crate::vm::processors::Processors;
use devices::memory::GuestMemory;
use devices::ram_layout::RamLayout;
use ept::{Format, PageSize, TableMemory};

/// Where the linear framebuffer is.
const FRAMEBUFFER: u64 = 0xe000_0000;
const VIDEO_BYTES: usize = 4 << 20;
/// Of an entry in the format of these tests, AMD's.
const DIRTY: u64 = 1 << 6;

fn space(tracking: Option<WriteTracking>) -> GuestSpace {
    let (platform, guest) = (TestPlatform::leak(), GuestId::next());
    let memory = |bytes: usize| FrameMemory::new(platform, Owner::Guest(guest), bytes).unwrap();
    let video = Arc::new(memory(VIDEO_BYTES).logged());
    let parts = SpaceMemory {
        guest,
        ram: Arc::new(memory(4 << 20)),
        ram_layout: RamLayout::new(4 << 20),
        rom: Arc::new(memory(2 << 20)),
        video,
        shared: None,
    };
    let paging = NestedPaging { format: Format::Npt, largest_page: PageSize::Size1G, tracking };
    let space = GuestSpace::new(platform, paging, parts, 1).unwrap();
    space.set_areas(AreaOwner::Chipset, &[area(FRAMEBUFFER)]).unwrap();
    space.end_sleep(0);
    space.note_flush(0);
    space
}

const fn area(gpa: u64) -> Area {
    Area {
        gpa,
        length_bytes: VIDEO_BYTES as u64,
        backing: Backing::Video,
        offset: 0,
        writable: true,
    }
}

/// A page of the legacy window that shows page `page` of video memory.
const fn window(page: u16) -> LowPage {
    LowPage::Memory { backing: Backing::Video, page, writable: true }
}

/// The table that maps `gpa` in pages of 4 KiB, and the place there.
fn leaf(space: &GuestSpace, gpa: u64) -> (u64, usize) {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let index = |level: u32| (gpa >> (12 + 9 * (level - 1))) as usize % 512;
    let nested = space.nested.lock();
    let table = (2..=4).rev().fold(space.nested_root_hpa(), |table, level| {
        let entry = nested.frames.read(table, index(level));
        assert!(entry & 1 != 0 && entry & 1 << 7 == 0, "{gpa:#x} is not mapped in pages of 4 KiB");
        entry & ADDRESS
    });
    (table, index(1))
}

fn is_dirty(space: &GuestSpace, gpa: u64) -> bool {
    let (table, index) = leaf(space, gpa);
    space.nested.lock().frames.read(table, index) & DIRTY != 0
}

/// The guest writes: the processor sets the dirty flag, and lists the page if it was clear.
fn write_as_guest(space: &GuestSpace, gpa: u64) {
    if space.shown(gpa).is_none() {
        space.resolve_fault(gpa, true).unwrap();
    }
    let was_dirty = is_dirty(space, gpa);
    let (table, index) = leaf(space, gpa);
    let frames = &mut space.nested.lock().frames;
    frames.write(table, index, frames.read(table, index) | DIRTY);
    assert!(!was_dirty, "no flag is set, no page is listed");
}

/// The pages that a new look at all video memory finds written.
fn written(space: &GuestSpace) -> Vec<usize> {
    let look = space.look_for_video_writes(0, VIDEO_BYTES);
    (0..VIDEO_BYTES / PAGE)
        .filter(|page| space.video_written_since(page * PAGE, PAGE, look - 1))
        .collect()
}

#[test]
fn dirty_flags_tell_what_the_guest_wrote_and_are_flushed() {
    let space = space(Some(WriteTracking::Flags));
    space.set_low_pages(&[(0xa0, window(7))]).unwrap();
    write_as_guest(&space, FRAMEBUFFER + 0x3123);
    write_as_guest(&space, FRAMEBUFFER + (3 << 20));
    write_as_guest(&space, 0xa0004);
    space.note_flush(0);
    assert_eq!(written(&space), [3, 7, 768]);
    assert!(space.needs_flush(0), "its translations say that the pages are dirty");
    space.note_flush(0);
    assert_eq!(written(&space), [0; 0]);
    assert!(!space.needs_flush(0));
    write_as_guest(&space, FRAMEBUFFER + 0x3000);
    assert_eq!(written(&space), [3], "once more");
}

#[test]
fn the_processors_list_tells_too_and_its_pages_become_clean() {
    let space = space(Some(WriteTracking::Log));
    write_as_guest(&space, FRAMEBUFFER + 0x3000);
    write_as_guest(&space, FRAMEBUFFER + 0x4000);
    write_as_guest(&space, FRAMEBUFFER + 0x9000);
    space.note_flush(0);
    assert_eq!(written(&space), [0; 0], "the list was not handed over");
    for gpa in [FRAMEBUFFER + 0x4000, FRAMEBUFFER + 0x3000, FRAMEBUFFER + 0x9000] {
        space.note_write(gpa);
    }
    // Other memory is not logged.
    space.note_write(0x3000);
    space.note_write(!0xfff);
    assert_eq!(written(&space), [3, 4, 9]);
    assert!(space.needs_flush(0));
    assert!(!is_dirty(&space, FRAMEBUFFER + 0x4000), "to be listed again");
    write_as_guest(&space, FRAMEBUFFER + 0x4000);
}

#[test]
fn only_video_memory_starts_clean() {
    let space = space(Some(WriteTracking::Log));
    space.resolve_fault(FRAMEBUFFER, true).unwrap();
    assert!(!is_dirty(&space, FRAMEBUFFER));
    assert!(is_dirty(&space, 0x1000), "conventional RAM");
}

#[test]
fn what_is_written_for_the_guest_is_found_without_any_flag() {
    for tracking in [WriteTracking::Flags, WriteTracking::Log] {
        let space = space(Some(tracking));
        // By DMA, by a device across two pages, and by the walk that sets flags in the guest's page
        // tables.
        GuestMemory::write(&space, FRAMEBUFFER + 0x5ffe, &[1, 2, 3]).unwrap();
        space.video().write(0x10_0000 - 1, &[1, 2]);
        assert_eq!(
            GuestMemory::compare_exchange_u8(&space, FRAMEBUFFER + 0x20_0000, 0, 1),
            Ok(true)
        );
        assert_eq!(written(&space), [5, 6, 255, 256, 512]);
        assert_eq!(written(&space), [0; 0]);
        space.note_flush(0);
        assert!(!space.needs_flush(0));
    }
}

#[test]
fn a_page_that_goes_out_of_view_may_have_been_written() {
    let space = space(Some(WriteTracking::Flags));
    space.set_low_pages(&[(0xa0, window(7)), (0xa1, window(8))]).unwrap();
    assert_eq!(written(&space), [0; 0]);
    space.set_low_pages(&[(0xa0, window(23)), (0xa1, window(8))]).unwrap();
    assert_eq!(written(&space), [7], "another bank");
    space.set_a20(false).unwrap();
    write_as_guest(&space, 0x1a_1000);
    assert_eq!(written(&space), [8], "a mebibyte up, where the closed gate shows it too");
    space.set_a20(true).unwrap();
    assert_eq!(written(&space), [8, 23]);
    write_as_guest(&space, FRAMEBUFFER);
    space.set_areas(AreaOwner::Chipset, &[area(FRAMEBUFFER + 0x100_0000)]).unwrap();
    assert_eq!(written(&space).len(), VIDEO_BYTES / PAGE, "moved");
    write_as_guest(&space, FRAMEBUFFER + 0x100_0000 + 0x2000);
    assert_eq!(written(&space), [2]);
}

#[test]
fn only_what_is_looked_at_becomes_clean() {
    for tracking in [WriteTracking::Flags, WriteTracking::Log] {
        let space = space(Some(tracking));
        for page in [1, 2, 3] {
            write_as_guest(&space, FRAMEBUFFER + page * 0x1000);
            if tracking == WriteTracking::Log {
                space.note_write(FRAMEBUFFER + page * 0x1000);
            }
        }
        let look = space.look_for_video_writes(0x2000, 0x1000);
        assert!(space.video_written_since(0x2000, 1, look - 1));
        assert!(!space.video_written_since(0x1000, 0x1000, look - 1));
        assert_eq!(
            [1, 2, 3].map(|page| is_dirty(&space, FRAMEBUFFER + page * 0x1000)),
            [true, false, true]
        );
        assert_eq!(written(&space), [1, 3]);
    }
}

#[test]
fn without_tracking_everything_may_have_been_written_and_pages_are_large() {
    let space = space(None);
    space.resolve_fault(FRAMEBUFFER, true).unwrap();
    let nested = space.nested.lock();
    let mapping = nested.tables.lookup(&nested.frames, FRAMEBUFFER).unwrap();
    assert_eq!(mapping.size, PageSize::Size2M);
    drop(nested);
    assert_eq!(space.look_for_video_writes(0, VIDEO_BYTES), 0);
    assert!(space.video_written_since(0, 1, 0) && !space.needs_flush(0));
}

#[test]
fn with_several_virtual_cpus_a_page_that_was_made_clean_counts_for_written_once_more() {
    let space = space(Some(WriteTracking::Flags));
    let platform = TestPlatform::leak();
    let kicks = [(); 2].map(|()| Arc::new(VcpuKick::new(platform)));
    platform.be_cpu(1);
    kicks[1].arrive();
    platform.be_cpu(0);
    kicks[0].arrive();
    space.connect(&Processors::new(&kicks));
    let looks = |count: usize| -> Vec<bool> {
        let look = || {
            let look = space.look_for_video_writes(0, VIDEO_BYTES);
            space.video_written_since(5 * PAGE, PAGE, look - 1)
        };
        (0..count).map(|_| look()).collect()
    };
    looks(2);
    platform.take_interrupts(1, CpuInterrupt::Kick);
    write_as_guest(&space, FRAMEBUFFER + 5 * PAGE_BYTES);
    assert_eq!(looks(3), [true, true, false]);
    assert_eq!(platform.take_interrupts(1, CpuInterrupt::Kick), 1, "it is to flush");
}
