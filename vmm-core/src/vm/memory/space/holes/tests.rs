use super::super::{FOUR_GIB, IDLE};
use super::*;
use crate::backend::NestedPaging;
use crate::host::owner::{GuestId, Owner};
use crate::test_platform::TestPlatform;
use crate::vm::memory::{FaultCause, FrameMemory, SpaceMemory};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use devices::memory::{GuestMemory, NotRam};
use devices::ram_layout::RamLayout;
use proptest::prelude::*;

const VCPUS: usize = 2;
const GIB: u64 = 1 << 30;

fn space_of(platform: &'static TestPlatform, ram_mib: u64, vcpus: usize) -> GuestSpace {
    space_with(platform, ram_mib, usize::MAX, vcpus)
}

/// One of whose RAM the first part is present.
fn space_with(
    platform: &'static TestPlatform,
    ram_mib: u64,
    present_bytes: usize,
    vcpus: usize,
) -> GuestSpace {
    const PAGING: NestedPaging = NestedPaging {
        format: ept::Format::Npt,
        largest_page: ept::PageSize::Size1G,
        tracking: None,
    };
    let guest = GuestId::next();
    let memory =
        |mib: u64| FrameMemory::new(platform, Owner::Guest(guest), (mib << 20) as usize).unwrap();
    let ram_bytes = (ram_mib << 20) as usize;
    let ram = FrameMemory::divisible(platform, Owner::Guest(guest), ram_bytes, present_bytes);
    let memory = SpaceMemory {
        guest,
        ram: Arc::new(ram.unwrap()),
        ram_layout: RamLayout::new(ram_mib << 20),
        rom: Arc::new(memory(2)),
        video: Arc::new(memory(2)),
        shared: None,
    };
    GuestSpace::new(platform, PAGING, memory, vcpus).unwrap()
}

/// As many pages as the guest may have.
const ALL: u64 = u64::MAX;

const fn given(pages: usize) -> Result<Option<usize>, SpaceError> {
    Ok(Some(pages))
}

fn byte(space: &GuestSpace, gpa: u64) -> Result<u8, NotRam> {
    let mut data = [0];
    space.read(gpa, &mut data).map(|()| data[0])
}

#[test]
fn a_page_goes_back_when_all_virtual_cpus_have_flushed_and_comes_again_as_zeroes() {
    const GPA: u64 = 5 * MIB;
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, VCPUS);
    (0..VCPUS).for_each(|vcpu| space.end_sleep(vcpu));
    space.write(GPA - 1, &[7; 4098]).unwrap();
    assert_eq!(space.resolve_fault(GPA, true), Ok(FaultCause::Memory));
    (0..VCPUS).for_each(|vcpu| _ = space.note_flush(vcpu));
    let (before, pages) = (platform.allocated_bytes(), space.ram_pages());

    assert_eq!(space.give_back(&[GPA]), given(1));
    assert_eq!(space.ram_pages(), pages - 1);
    assert!((0..VCPUS).all(|vcpu| space.needs_flush(vcpu)));
    assert_eq!(byte(&space, GPA), Err(NotRam { gpa: GPA }));
    assert_eq!(space.write(GPA - 1, &[1, 2]), Err(NotRam { gpa: GPA }));
    assert_eq!(space.fetch_or_u8(GPA, 1), Err(NotRam { gpa: GPA }));
    assert!(!space.is_memory(GPA) && !space.is_writable_ram(GPA));
    assert_eq!(space.resolve_fault(GPA, false), Ok(FaultCause::Device));
    assert_eq!(space.shown(GPA), None);
    assert!(!space.access_as_processor(GPA, &mut [0], false, false));
    assert_eq!([GPA - 1, GPA + 4096].map(|gpa| byte(&space, gpa)), [Ok(1), Ok(7)]);
    assert!(space.shown(GPA + 4096).is_some(), "the rest of a large page stays mapped");

    space.note_flush(0);
    assert_eq!(platform.allocated_bytes(), before, "the other one may still see it");
    space.begin_sleep(1);
    assert_eq!(platform.allocated_bytes(), before - PAGE_BYTES);

    assert_eq!(space.give_back(&[GPA]), given(0), "it is a hole");
    assert_eq!(space.take_again(&[GPA, GPA + 4096], ALL), Ok(1));
    assert_eq!((byte(&space, GPA), space.ram_pages()), (Ok(0), pages));
    assert_eq!(space.resolve_fault(GPA, true), Ok(FaultCause::Memory));
    assert!(space.access_as_processor(GPA, &mut [3], true, true));
    assert_eq!(byte(&space, GPA), Ok(3));
    assert_eq!(platform.allocated_bytes(), before);
}

#[test]
fn only_ram_goes_back_and_only_to_where_it_was_it_comes_again() {
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, 1);
    for gpa in [16 * MIB, 0xfee0_0000, FOUR_GIB, !4095] {
        let generation = space.generation();
        assert_eq!(space.give_back(&[gpa]), given(0));
        assert_eq!(space.generation(), generation, "nobody has to flush");
        assert_eq!(space.take_again(&[gpa], ALL), Ok(0));
    }
    assert_eq!(space.give_back(&[2 * MIB, 3 * MIB, 2 * MIB, 4 * MIB]), given(2));
    assert_eq!(space.take_again(&[3 * MIB, 4 * MIB, 2 * MIB], ALL), Ok(1));
}

#[test]
fn memory_that_is_not_divisible_keeps_its_pages() {
    let platform = TestPlatform::leak();
    let memory = FrameMemory::new(platform, Owner::Hypervisor, 2 << 20).unwrap();
    assert!(!memory.is_divisible());
    assert!(memory.take_page(0).is_none());
}

#[test]
fn pages_below_one_mebibyte_leave_all_places_where_they_are_shown() {
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, 1);
    space.set_a20(false).unwrap();
    assert_eq!(space.give_back(&[0x5000, MIB + 0x6000]), given(2));
    space.note_flush(0);
    for gpa in [0x5000, MIB + 0x5000] {
        assert_eq!((byte(&space, gpa).is_err(), space.shown(gpa)), (true, None), "{gpa:#x}");
    }
    assert!(space.shown(MIB + 0x6000).is_some(), "the first mebibyte's page is shown there");
    // RAM below 1 MiB that is not shown goes, too.
    assert_eq!(space.give_back(&[0xc_0000]), given(1));
    space.set_low_pages(&[(0xc0, GuestSpace::ram_page(0xc0))]).unwrap();
    assert_eq!(space.shown(0xc_0000), None);
    assert_eq!(space.take_again(&[0xc_0000, 0x5000], ALL), Ok(2));
    for gpa in [0xc_0000, 0x5000, MIB + 0x5000] {
        assert!(space.shown(gpa).is_some_and(|(_, _, writable)| writable), "{gpa:#x}");
    }
    space.set_a20(true).unwrap();
    assert!(byte(&space, MIB + 0x6000).is_err());
}

#[test]
fn a_page_of_a_gibibyte_goes_back_alone() {
    let platform = TestPlatform::leak();
    let before = platform.allocated_bytes();
    let space = space_of(platform, 5 << 10, 1);
    let all = platform.allocated_bytes();
    let gpa = FOUR_GIB + GIB + 0x20_3000;
    space.write(gpa, &[1]).unwrap();
    assert_eq!(space.give_back(&[gpa, gpa + 4096]), given(2));
    space.note_flush(0);
    assert_eq!(platform.allocated_bytes(), all - 2 * PAGE_BYTES);
    assert_eq!(space.resolve_fault(gpa + 2 * MIB, true), Ok(FaultCause::Memory));
    assert_eq!(space.resolve_fault(gpa + 8192, true), Ok(FaultCause::Memory));
    drop(space);
    assert_eq!(platform.allocated_bytes(), before);
}

#[test]
fn pages_come_again_as_far_as_the_host_has_memory() {
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, 1);
    let pages = [2 * MIB, 3 * MIB, 4 * MIB];
    assert_eq!(space.give_back(&pages), given(3));
    platform.limit_frames(Some(2));
    assert_eq!(space.take_again(&pages, ALL), Ok(2));
    platform.limit_frames(None);
    assert_eq!(space.take_again(&pages[2..], ALL), Ok(1));
}

#[test]
fn memory_is_made_of_single_pages_where_there_are_no_larger_frames() {
    let platform = TestPlatform::leak();
    let before = platform.allocated_bytes();
    platform.limit_frames(Some(512 + 511));
    platform.fragment();
    let pages = || FrameMemory::divisible(platform, Owner::Hypervisor, 2 << 20, 2 << 20);
    let memory = pages().unwrap();
    assert_eq!(memory.missing(), 0);
    assert!(memory.write(4095, &[1, 2]) && memory.is_there((2 << 20) - 1));
    let mut found = [0; 4];
    assert!(memory.read(4094, &mut found));
    assert_eq!(found, [0, 1, 2, 0]);
    assert!(pages().is_none());
    drop(memory);
    assert_eq!(platform.allocated_bytes(), before);
}

#[test]
fn so_many_pages_wait_for_a_flush_and_no_more() {
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, VCPUS);
    (0..VCPUS).for_each(|vcpu| space.end_sleep(vcpu));
    let gpas = |first: u64| -> Vec<_> {
        (first..).take(300).map(|page| 2 * MIB + page * PAGE_BYTES).collect()
    };
    assert_eq!(space.give_back(&gpas(0)), given(300));
    assert_eq!(space.give_back(&gpas(300)), Ok(None));
    space.note_flush(0);
    assert_eq!(space.give_back(&gpas(300)), Ok(None), "the other one has not");
    space.note_flush(1);
    assert_eq!(space.give_back(&gpas(300)), given(300));
}

#[test]
fn a_guest_has_no_more_pages_than_it_may() {
    let space = space_of(TestPlatform::leak(), 16, 1);
    let pages = space.ram_pages();
    let gpas = [2 * MIB, 3 * MIB];
    assert_eq!(space.give_back(&gpas), given(2));
    assert_eq!(space.take_again(&gpas, pages - 2), Ok(0));
    assert_eq!(space.take_again(&gpas, pages - 1), Ok(1));
}

#[test]
fn ram_beyond_what_is_present_is_found_when_it_is_touched() {
    let platform = TestPlatform::leak();
    let before = platform.allocated_bytes();
    let space = space_with(platform, 16, 4 << 20, 1);
    let start = platform.allocated_bytes();
    assert_eq!(space.ram_pages(), 4 * MIB / PAGE_BYTES);
    assert!(space.is_writable_ram(9 * MIB));
    assert_eq!(space.resolve_fault(9 * MIB, false), Ok(FaultCause::Memory));
    assert_eq!(space.write(12 * MIB - 1, &[1, 2]), Ok(()));
    assert_eq!([0, 1].map(|at| byte(&space, 12 * MIB - 1 + at)), [Ok(1), Ok(2)]);
    assert_eq!(space.ram_pages(), 10 * MIB / PAGE_BYTES);
    assert_eq!(platform.allocated_bytes(), start + 6 * MIB);
    // A page of a piece that was never touched goes, too.
    assert_eq!(space.give_back(&[14 * MIB]), given(1));
    space.note_flush(0);
    assert_eq!(platform.allocated_bytes(), start + 8 * MIB - PAGE_BYTES);
    // In single pages where there is nothing else, and else not at all.
    platform.fragment();
    assert_eq!(space.write(6 * MIB, &[3; 5000]), Ok(()));
    platform.limit_frames(Some(511));
    assert_eq!(space.write(4 * MIB, &[3]), Err(NotRam { gpa: 4 * MIB }));
    assert_eq!(space.resolve_fault(4 * MIB, false), Err(SpaceError::OutOfMemory));
    assert_eq!(space.resolve_fault(14 * MIB, false), Ok(FaultCause::Device), "a hole is one still");
    platform.limit_frames(None);
    assert_eq!(space.resolve_fault(4 * MIB, false), Ok(FaultCause::Memory));
    drop(space);
    assert_eq!(platform.allocated_bytes(), before);
}

/// Runs `work` on another CPU while `held` is, and sees that it does not come to its end before.
fn waits_for(held: impl Sized, work: impl FnOnce() + Send) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            work();
            is_done.store(true, Ordering::Relaxed);
        });
        (0..2000).for_each(|_| std::thread::yield_now());
        assert!(!is_done.load(Ordering::Relaxed));
        drop(held);
    });
}

#[test]
fn a_page_goes_back_when_accesses_of_devices_have_ended() {
    const GPA: u64 = 4 * MIB;
    let space = space_of(TestPlatform::leak(), 16, 1);
    // Held by a device that writes to the page.
    waits_for(space.outside(), || assert_eq!(space.give_back(&[GPA]), given(1)));
    assert_eq!(space.take_again(&[GPA], ALL), Ok(1));
    // One that was never touched is cleared before the guest's devices are held up.
    let clearing = space.outside();
    std::thread::scope(|scope| {
        let giver = scope.spawn(|| space.give_back(&[8 * MIB]));
        while !space.ram.is_cleared(8 << 20) {
            std::thread::yield_now();
        }
        drop(clearing);
        assert_eq!(giver.join().unwrap(), given(1));
    });
    // A page leaves, and a device comes.
    waits_for(space.outsiders.write(), || assert_eq!(space.write(GPA, &[1]), Ok(())));
    waits_for(space.outsiders.write(), || assert_eq!(byte(&space, GPA), Ok(1)));
    waits_for(space.outsiders.write(), || assert_eq!(space.fetch_and_u8(GPA, 0), Ok(1)));
    // Its own virtual CPUs do not wait: they flush before.
    let held = space.outsiders.write();
    assert_eq!(space.write_as_vcpu(GPA, &[2]), Ok(()));
    assert_eq!(space.read_as_vcpu(GPA, &mut [0]), Ok(()));
    drop(held);
}

#[test]
fn a_page_that_goes_beside_one_that_a_step_covers_stays_gone() {
    const COVERED: u64 = 4 * MIB;
    const GPA: u64 = COVERED + PAGE_BYTES;
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, VCPUS);
    (0..VCPUS).for_each(|vcpu| space.end_sleep(vcpu));
    assert_eq!(space.resolve_fault(GPA, true), Ok(FaultCause::Memory), "with all around it");
    let before = platform.allocated_bytes();
    let pages = space.take_bounce_pages().unwrap();
    let show = || space.show_bounce_pages(&pages, core::iter::once((COVERED, true)));
    for gpa in [GPA, COVERED] {
        assert!(show());
        // By the other virtual CPU.
        assert_eq!(space.give_back(&[gpa]), given(1));
        assert!(show());
        (0..VCPUS).for_each(|vcpu| _ = space.note_flush(vcpu));
        space.hide_bounce_pages();
        assert_eq!(space.shown(gpa), None);
    }
    space.put_bounce_pages(pages);
    assert_eq!(platform.allocated_bytes(), before - 2 * PAGE_BYTES);
    assert!(space.shown(GPA + PAGE_BYTES).is_some());
}

#[test]
fn a_page_stays_while_one_that_has_woken_may_see_it() {
    const GPA: u64 = 4 * MIB;
    let platform = TestPlatform::leak();
    let space = space_of(platform, 16, VCPUS);
    space.end_sleep(0);
    assert_eq!(space.resolve_fault(GPA, true), Ok(FaultCause::Memory));
    // It has something to look for.
    space.set_low_pages(&[(0x10, LowPage::Device)]).unwrap();
    let before = platform.allocated_bytes();
    let mut nested = space.nested.lock();
    std::thread::scope(|scope| {
        // The first one goes to sleep, and looks what it was the last to hold.
        let sleeper = scope.spawn(|| space.begin_sleep(0));
        while space.flushed[0].load(Ordering::SeqCst) & IDLE == 0 {
            std::thread::yield_now();
        }
        (0..2000).for_each(|_| std::thread::yield_now());
        // The second one wakes, and a page leaves before the look is over.
        space.end_sleep(1);
        let flush = space.hide(&mut nested, GPA).unwrap();
        let page = space.ram.take_page(GPA as usize).unwrap();
        nested.frames.leave(space.generation() + 1, page);
        space.owe_flush(&mut nested, flush);
        drop(nested);
        sleeper.join().unwrap();
    });
    assert_eq!(platform.allocated_bytes(), before);
    space.note_flush(1);
    assert_eq!(platform.allocated_bytes(), before - PAGE_BYTES);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Give(u64, u8),
    Take(u64, u8),
    Write(u64, u8),
    WriteAsProcessor(usize, u64, u8),
    Flush(usize),
    Sleep(usize),
    /// By a step that is refused the page.
    Cover(u64),
    Uncover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Pages of the first, the second and the last piece, and one behind the end.
    let page = prop_oneof![0..0xa0u64, 0x100..0x104u64, 0x1fe..0x202u64, 0x7fc..0x801u64];
    let step = prop_oneof![
        3 => (page.clone(), 1..5u8).prop_map(|(page, count)| Step::Give(page, count)),
        3 => (page.clone(), 1..5u8).prop_map(|(page, count)| Step::Take(page, count)),
        2 => (page.clone(), 1..=u8::MAX).prop_map(|(page, value)| Step::Write(page, value)),
        3 => (0..VCPUS, page.clone(), 1..=u8::MAX)
            .prop_map(|(vcpu, page, value)| Step::WriteAsProcessor(vcpu, page, value)),
        2 => (0..VCPUS).prop_map(Step::Flush),
        1 => (0..VCPUS).prop_map(Step::Sleep),
        1 => page.prop_map(Step::Cover),
        1 => Just(Step::Uncover),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The pages that are there, each with its first byte.
type Model = BTreeMap<u64, u8>;

fn check(space: &GuestSpace, model: &Model, page: u64) {
    let (gpa, expected) = (page * PAGE_BYTES, model.get(&page).copied());
    assert_eq!(byte(space, gpa).ok(), expected, "page {page:#x}");
    let mut data = [0];
    let is_shown = space.access_as_processor(gpa, &mut data, false, false);
    assert!(!is_shown || Some(data[0]) == expected, "the processor's page {page:#x}");
}

fn run(steps: &[Step]) {
    let platform = TestPlatform::leak();
    let before = platform.allocated_bytes();
    let space = space_of(platform, 8, VCPUS);
    (0..VCPUS).for_each(|vcpu| space.end_sleep(vcpu));
    let all = platform.allocated_bytes();
    let mut model: Model = (0..0x800).map(|page| (page, 0)).collect();
    let pages = space.take_bounce_pages().unwrap();
    let gpas = |page: u64, count: u8| -> Vec<u64> {
        (page..).take(count.into()).map(|page| page * PAGE_BYTES).collect()
    };
    for &step in steps {
        match step {
            Step::Give(page, count) => {
                let there = (page..).take(count.into()).take_while(|it| model.contains_key(it));
                let there = there.count();
                assert_eq!(space.give_back(&gpas(page, count)), given(there));
                (page..).take(there).for_each(|page| _ = model.remove(&page));
            }
            Step::Take(page, count) => {
                let is_hole = |page: &u64| *page < 0x800 && !model.contains_key(page);
                let holes = (page..).take(count.into()).take_while(is_hole).count();
                assert_eq!(space.take_again(&gpas(page, count), ALL), Ok(holes));
                (page..).take(holes).for_each(|page| _ = model.insert(page, 0));
            }
            Step::Write(page, value) => {
                let is_there = model.contains_key(&page);
                assert_eq!(space.write(page * PAGE_BYTES, &[value]).is_ok(), is_there);
                model.entry(page).and_modify(|byte| *byte = value);
            }
            Step::WriteAsProcessor(vcpu, page, value) => {
                space.hide_bounce_pages();
                space.end_sleep(vcpu);
                space.note_flush(vcpu);
                let cause = space.resolve_fault(page * PAGE_BYTES, true).unwrap();
                assert_eq!(cause == FaultCause::Memory, model.contains_key(&page));
                let gpa = page * PAGE_BYTES;
                let done = space.access_as_processor(gpa, &mut [value], true, false);
                assert_eq!(done, model.contains_key(&page));
                model.entry(page).and_modify(|byte| *byte = value);
            }
            Step::Flush(vcpu) => _ = space.note_flush(vcpu),
            Step::Sleep(vcpu) => space.begin_sleep(vcpu),
            Step::Cover(page) => {
                space.hide_bounce_pages();
                let place = core::iter::once((page * PAGE_BYTES, true));
                assert!(space.show_bounce_pages(&pages, place));
            }
            Step::Uncover => space.hide_bounce_pages(),
        }
        assert_eq!(space.ram_pages(), model.len() as u64);
        if let Step::Give(page, _) | Step::Take(page, _) | Step::Write(page, _) = step {
            space.hide_bounce_pages();
            check(&space, &model, page);
        }
    }
    space.hide_bounce_pages();
    space.put_bounce_pages(pages);
    (0..VCPUS).for_each(|vcpu| space.begin_sleep(vcpu));
    space.note_flush(0);
    let missing = (0x800 - model.len()) as u64 * PAGE_BYTES;
    assert_eq!(platform.allocated_bytes(), all - missing, "what the guest has not the host has");
    (0..0x801).for_each(|page| {
        if !(0xa0..0x100).contains(&page) {
            check(&space, &model, page);
        }
    });
    drop(space);
    assert_eq!(platform.allocated_bytes(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn content_and_accounts_hold_whatever_goes_and_comes(steps in steps()) {
        run(&steps);
    }
}
