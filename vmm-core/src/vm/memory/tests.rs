//! The address space on the development host.

use super::*;
use crate::backend::NestedPaging;
use crate::host::owner::{GuestId, Owner};
use crate::test_platform::TestPlatform;
use crate::vm::memory::nested::TableFrames;
use alloc::sync::Arc;
use devices::memory::{GuestMemory, NotRam};
use devices::ram_layout::RamLayout;
use ept::{Attributes, NestedTables, Permissions};

const MIB: u64 = 1 << 20;
const PAGING: NestedPaging =
    NestedPaging { format: ept::Format::Npt, largest_page: ept::PageSize::Size2M, tracking: None };

fn parts(platform: &'static TestPlatform, ram_mib: u64) -> SpaceMemory {
    let guest = GuestId::next();
    let memory =
        |mib: u64| FrameMemory::new(platform, Owner::Guest(guest), (mib << 20) as usize).unwrap();
    let ram_layout = RamLayout::new(ram_mib << 20);
    SpaceMemory {
        guest,
        ram: Arc::new(memory(ram_mib)),
        ram_layout,
        rom: Arc::new(memory(2)),
        video: Arc::new(memory(2)),
        shared: None,
    }
}

#[test]
#[should_panic(expected = "the owner map: Foreign")]
fn a_page_of_another_guest_is_found_when_it_is_mapped() {
    let platform = TestPlatform::leak();
    let others = parts(platform, 4);
    let wrong = SpaceMemory { ram: others.ram, ..parts(platform, 4) };
    let _ = GuestSpace::new(platform, PAGING, wrong, 1);
}

#[test]
#[should_panic(expected = "the owner map: StillMapped")]
fn memory_that_goes_back_while_it_is_mapped_is_found() {
    let platform = TestPlatform::leak();
    let guest = GuestId::next();
    let mut frames = TableFrames::new(platform, guest);
    frames.set_aside(4).unwrap();
    let mut tables = NestedTables::new(PAGING.format, PAGING.largest_page, &mut frames).unwrap();
    let memory = FrameMemory::new(platform, Owner::Guest(guest), 2 << 20).unwrap();
    let hpa = memory.extent(0).unwrap().hpa;
    let all = Attributes::memory(Permissions::ALL);
    let _ = tables.map(&mut frames, 0, 2 * MIB, hpa, all).unwrap();
    drop(memory);
}

fn space() -> GuestSpace {
    let platform = TestPlatform::leak();
    GuestSpace::new(platform, PAGING, parts(platform, 16), 1).unwrap()
}

fn byte(space: &GuestSpace, gpa: u64) -> Result<u8, NotRam> {
    let mut data = [0];
    space.read(gpa, &mut data).map(|()| data[0])
}

#[test]
fn ram_is_where_it_should_be() {
    let space = space();
    space.write(2 * MIB - 2, &[1, 2, 3, 4]).unwrap();
    assert_eq!(space.read_u32(2 * MIB - 2), Ok(0x0403_0201), "across two frames");
    assert_eq!(byte(&space, 0xa0000), Err(NotRam { gpa: 0xa0000 }));
    assert_eq!(byte(&space, 16 * MIB), Err(NotRam { gpa: 16 * MIB }));
    assert_eq!(byte(&space, u64::MAX), Err(NotRam { gpa: u64::MAX }));
    assert_eq!(space.write(16 * MIB - 1, &[1, 2]), Err(NotRam { gpa: 16 * MIB }));
}

#[test]
fn the_local_apics_page_is_shown_while_the_processors_of_all_virtual_cpus_answer_there() {
    let platform = TestPlatform::leak();
    let space = GuestSpace::new(platform, PAGING, parts(platform, 16), 2).unwrap();
    let shows = |vcpu, answers| {
        space.show_apic(vcpu, answers).unwrap();
        space.shows_apic()
    };
    assert!(!shows(0, true), "the other has not said so yet");
    assert!(shows(1, true));
    // It goes to x2APIC mode, the other is started again, and follows.
    assert!(!shows(0, false));
    assert!(!shows(1, true), "the first would find memory there");
    assert!(!shows(1, false));
    assert!(!shows(0, true));
    assert!(shows(1, true));
}

#[test]
fn rom_is_read_only() {
    let space = space();
    space.load_rom(0x1000, &[0x55, 0xaa]);
    let rom = LowPage::Memory { backing: Backing::Rom, page: 1, writable: false };
    space.set_low_pages(&[(0xf0, rom)]).unwrap();
    space.write(0xf0000, &[0]).unwrap();
    assert_eq!(byte(&space, 0xf0000), Ok(0x55));
    let area = Area {
        gpa: 0xffe0_0000,
        length_bytes: 2 * MIB,
        backing: Backing::Rom,
        offset: 0,
        writable: false,
    };
    space.set_areas(AreaOwner::Chipset, &[area]).unwrap();
    assert_eq!(byte(&space, 0xffe0_1001), Ok(0xaa));
    space.set_areas(AreaOwner::Chipset, &[]).unwrap();
    assert!(byte(&space, 0xffe0_1001).is_err());
}

#[test]
fn a_closed_a20_gate_folds_the_second_mebibyte() {
    let space = space();
    space.write(0x500, &[7]).unwrap();
    space.write(MIB + 0x500, &[9]).unwrap();
    space.set_a20(false).unwrap();
    assert_eq!(byte(&space, MIB + 0x500), Ok(7));
    space.set_a20(true).unwrap();
    assert_eq!(byte(&space, MIB + 0x500), Ok(9));
}

/// No guest is given so little; the space holds by itself.
#[test]
fn ram_may_end_where_a_closed_a20_gate_folds() {
    let platform = TestPlatform::leak();
    let ram_layout = RamLayout::new(MIB + MIB / 2);
    let memory = SpaceMemory { ram_layout, ..parts(platform, 2) };
    let space = GuestSpace::new(platform, PAGING, memory, 1).unwrap();
    for a20 in [false, true] {
        space.set_a20(a20).unwrap();
        for gpa in [0x500, MIB + 0x500] {
            assert_eq!(space.resolve_fault(gpa, true), Ok(FaultCause::Memory), "{gpa:#x}, {a20}");
        }
        assert_ne!(space.resolve_fault(2 * MIB, true), Ok(FaultCause::Memory));
        let second = space.area_of(MIB + 0x500).map(|area| (area.gpa, area.length_bytes));
        assert_eq!(second, a20.then_some((MIB, MIB / 2)));
    }
}

#[test]
fn a_change_is_owed_until_the_vcpu_has_flushed() {
    let space = space();
    space.note_flush(0);
    assert!(!space.needs_flush(0));
    space.set_low_pages(&[(0x10, LowPage::Device)]).unwrap();
    assert!(space.needs_flush(0));
    space.note_flush(0);
    assert!(!space.needs_flush(0));
}

/// A guest that changes its address space all the time, while another of its CPUs never ran or
/// sleeps.
#[test]
#[cfg_attr(miri, ignore = "builds tables hundreds of times, which takes Miri minutes")]
fn nothing_waits_for_a_vcpu_that_is_not_in_the_guest() {
    let platform = TestPlatform::leak();
    let space = GuestSpace::new(platform, PAGING, parts(platform, 4), 2).unwrap();
    let storm = || {
        for round in 0..100 {
            space.set_a20(round % 2 == 1).unwrap();
            space.note_flush(0);
        }
    };
    storm();
    assert_eq!(space.owed_flushes(), 0, "the second one never ran");
    space.end_sleep(1);
    assert!(space.needs_flush(1));
    storm();
    assert_eq!(
        space.owed_flushes(),
        50,
        "it may run at any moment, and each opening takes pages away"
    );
    space.begin_sleep(1);
    assert_eq!(space.owed_flushes(), 0);
    storm();
    assert_eq!(space.owed_flushes(), 0);
    space.end_sleep(1);
    assert!(space.needs_flush(1));
    space.note_flush(1);
    assert!(!space.needs_flush(1));
}

#[test]
fn ram_is_mapped_when_it_is_touched() {
    let space = space();
    assert_eq!(space.resolve_fault(3 * MIB, true), Ok(FaultCause::Memory));
    assert_eq!(space.resolve_fault(0xb8000, true), Ok(FaultCause::Device));
    assert_eq!(space.resolve_fault(16 * MIB, false), Ok(FaultCause::Device));
    let rom = LowPage::Memory { backing: Backing::Rom, page: 0, writable: false };
    space.set_low_pages(&[(0xf0, rom)]).unwrap();
    assert_eq!(space.resolve_fault(0xf0000, true), Ok(FaultCause::ReadOnly));
    assert_eq!(space.resolve_fault(0xf0000, false), Ok(FaultCause::Memory));
}

#[test]
fn all_memory_goes_back() {
    let platform = TestPlatform::leak();
    let space = GuestSpace::new(platform, PAGING, parts(platform, 16), 1).unwrap();
    space.resolve_fault(3 * MIB, true).unwrap();
    assert!(platform.allocated_bytes() > 20 * MIB);
    drop(space);
    assert_eq!(platform.allocated_bytes(), 0);
}

#[test]
fn a_shadowed_page_reads_rom_and_writes_ram() {
    let space = space();
    space.load_rom(0, &[0x55]);
    space.set_low_pages(&[(0xf0, LowPage::Shadowed { page: 0 })]).unwrap();
    space.write(0xf0000, &[0x66]).unwrap();
    assert_eq!(byte(&space, 0xf0000), Ok(0x55));
    space.set_low_pages(&[(0xf0, GuestSpace::ram_page(0xf0))]).unwrap();
    assert_eq!(byte(&space, 0xf0000), Ok(0x66));
}

#[test]
fn a_write_only_page_writes_ram_that_reads_do_not_show() {
    let space = space();
    space.set_low_pages(&[(0xd0, LowPage::WriteOnly)]).unwrap();
    assert_eq!(space.resolve_fault(0xd0000, false), Ok(FaultCause::Device));
    assert_eq!(space.resolve_fault(0xd0000, true), Ok(FaultCause::ReadOnly));
    space.write(0xd0000, &[0x66]).unwrap();
    assert!(byte(&space, 0xd0000).is_err());
    space.set_low_pages(&[(0xd0, GuestSpace::ram_page(0xd0))]).unwrap();
    assert_eq!(byte(&space, 0xd0000), Ok(0x66));
}

const HOLE: u64 = 0xf000_0000;

/// A space of two virtual CPUs, and its machine's memory in use.
fn space_with_video() -> (GuestSpace, impl Fn() -> u64) {
    let platform = TestPlatform::leak();
    let space = GuestSpace::new(platform, PAGING, parts(platform, 16), 2).unwrap();
    (space, || platform.allocated_bytes())
}

/// Shows the video memory's first pages at `gpa`, and touches each table's worth of them.
fn show(space: &GuestSpace, gpa: u64, length_bytes: u64) -> Result<(), SpaceError> {
    let (backing, offset, writable) = (Backing::Video, 0, true);
    space
        .set_areas(AreaOwner::Chipset, &[Area { gpa, length_bytes, backing, offset, writable }])?;
    for at in (0..length_bytes).step_by(MIB as usize) {
        assert_eq!(space.resolve_fault(gpa + at, true)?, FaultCause::Memory);
    }
    Ok(())
}

#[test]
fn a_small_area_may_move_through_the_whole_hole_and_takes_no_memory_with_it() {
    let (space, in_use) = space_with_video();
    space.end_sleep(0);
    let before = in_use();
    for gpa in (16 * MIB..HOLE).step_by(MIB as usize) {
        show(&space, gpa, 0x1_0000).unwrap();
        space.note_flush(0);
        assert_eq!(in_use(), before, "at {gpa:#x}");
    }
    assert_eq!(space.shown(HOLE - MIB).map(|(backing, ..)| backing), Some(Backing::Video));
    assert_eq!(space.shown(HOLE - 2 * MIB), None);
}

#[test]
fn ram_beside_an_area_that_moves_is_there_again_when_it_is_touched() {
    let platform = TestPlatform::leak();
    let space = GuestSpace::new(platform, PAGING, parts(platform, 17), 1).unwrap();
    assert_eq!(space.resolve_fault(16 * MIB, true), Ok(FaultCause::Memory));
    show(&space, 17 * MIB, MIB).unwrap();
    space.set_areas(AreaOwner::Chipset, &[]).unwrap();
    assert_eq!(space.shown(17 * MIB), None);
    assert_eq!(space.resolve_fault(16 * MIB, true), Ok(FaultCause::Memory));
    assert_eq!(space.shown(16 * MIB), Some((Backing::Ram, 16 * MIB, true)));
}

/// One virtual CPU moves an area all the time, and another one never gets to flush.
#[test]
fn a_guest_whose_tables_take_too_much_is_refused_and_no_other_has_less() {
    let (space, in_use) = space_with_video();
    (0..2).for_each(|vcpu| space.end_sleep(vcpu));
    let before = in_use();
    let mut places = (16 * MIB..HOLE).step_by(2 * MIB as usize);
    let refused = places.find_map(|gpa| {
        space.note_flush(0);
        show(&space, gpa, 0x1_0000).err()
    });
    assert_eq!(refused, Some(SpaceError::OutOfMemory));
    assert_eq!(in_use(), before);
    // They come back to it, and to nobody else, when the other one has flushed.
    space.note_flush(1);
    show(&space, 16 * MIB, 2 * MIB).unwrap();
    assert_eq!(in_use(), before);
}

#[test]
fn the_local_apics_page_stays_when_a_page_beside_it_goes() {
    let (space, _) = space_with_video();
    (0..2).for_each(|vcpu| space.show_apic(vcpu, true).unwrap());
    show(&space, 0xfeff_c000, PAGE_BYTES).unwrap();
    show(&space, 0xfebf_f000, PAGE_BYTES).unwrap();
    space.set_areas(AreaOwner::Chipset, &[]).unwrap();
    assert!(space.shows_apic());
}

#[test]
fn virtual_cpus_have_the_bounce_pages_one_after_the_other() {
    let (space, in_use) = space_with_video();
    let before = in_use();
    let pages = space.take_bounce_pages().unwrap();
    assert_eq!(space.bounce_state(), None);
    assert!(space.take_bounce_pages().is_none(), "both have them");
    space.put_bounce_pages(pages);
    space.put_bounce_pages(space.take_bounce_pages().unwrap());
    assert_eq!(space.bounce_state(), Some((0, BouncePages::TABLES)));
    assert_eq!(in_use(), before);
}
