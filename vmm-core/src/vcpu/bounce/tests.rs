//! Steps on a device that remembers what is done to it, with a processor whose accesses the tests
//! write down.

use crate::backend::exit::Exit;
use crate::fuzzing::{Hardware, Machine};
use crate::host::platform::Platform;
use crate::test_backend::{StepAccess, StepEffect};
use crate::test_platform::TestPlatform;
use crate::vcpu::Activity;
use crate::vcpu::tests::Attended;
use crate::vm::Stop;
use crate::vm::memory::FaultCause;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use control::host::Host;
use devices::bus::{Access, MmioDevice, Region};
use devices::memory::GuestMemory;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::{Cr0, Exception, Fault, Gpr, SegmentName};
use spin::Mutex;

const DEVICE: u64 = 0xf100_0000;
const DEVICE_BYTES: usize = 0x40_000;
const HOLE: u64 = 0xf200_0000;
const ROM: u64 = 0xffff_f000;
/// FISTP qword [edi], FILD qword [edi], MASKMOVQ mm0, mm1, NOP.
const FISTP: &[u8] = &[0xdf, 0x3f];
const FILD: &[u8] = &[0xdf, 0x2f];
const MASKMOVQ: &[u8] = &[0x0f, 0xf7, 0xc1];
const NOP: &[u8] = &[0x90];
/// INT 80h, REP STOSB, LSS edi, [edi].
const INT_N: &[u8] = &[0xcd, 0x80];
const REP_STOSB: &[u8] = &[0xf3, 0xaa];
const LSS: &[u8] = &[0x0f, 0xb2, 0x3f];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Read(u64, u8),
    Write(u64, u8, u64),
}
use Seen::{Read, Write};

struct Recorder {
    memory: Mutex<Vec<u8>>,
    seen: Mutex<Vec<Seen>>,
}

impl Recorder {
    fn take_seen(&self) -> Vec<Seen> {
        core::mem::take(&mut *self.seen.lock())
    }

    fn put(&self, gpa: u64, data: &[u8]) {
        let offset = (gpa - DEVICE) as usize;
        self.memory.lock()[offset..offset + data.len()].copy_from_slice(data);
    }
}

impl MmioDevice for Recorder {
    fn ranges(&self) -> Vec<Region> {
        vec![Region { number: 0, base: DEVICE, length: DEVICE_BYTES as u64 }]
    }

    fn mmio_read(&self, access: Access) -> Option<u64> {
        self.seen.lock().push(Read(access.offset, access.size_bytes));
        let (offset, size) = (access.offset as usize, usize::from(access.size_bytes));
        let mut value = [0; 8];
        value[..size].copy_from_slice(&self.memory.lock()[offset..offset + size]);
        Some(u64::from_le_bytes(value))
    }

    fn mmio_write(&self, access: Access, value: u64) {
        let size = usize::from(access.size_bytes);
        let value = value & u64::MAX >> (64 - 8 * size);
        self.seen.lock().push(Write(access.offset, access.size_bytes, value));
        self.put(DEVICE + access.offset, &value.to_le_bytes()[..size]);
    }
}

fn machine() -> (Machine, Arc<Recorder>) {
    machine_on(TestPlatform::leak())
}

fn machine_on(platform: &'static TestPlatform) -> (Machine, Arc<Recorder>) {
    let bytes = (0..DEVICE_BYTES).map(|index| (index * 7) as u8).collect();
    let recorder = Arc::new(Recorder { memory: Mutex::new(bytes), seen: Mutex::default() });
    let hardware = Hardware { device: Some(recorder.clone()), ..Hardware::default() };
    let machine = Machine::with(platform, hardware).unwrap();
    (machine, recorder)
}

fn read(gpa: u64, length: usize) -> StepAccess {
    StepAccess { gpa, data: vec![0; length], write: false, execute: false, page_walk: false }
}

fn write(gpa: u64, data: &[u8]) -> StepAccess {
    StepAccess { data: data.to_vec(), write: true, ..read(gpa, 0) }
}

fn fetch(gpa: u64, length: usize) -> StepAccess {
    StepAccess { execute: true, ..read(gpa, length) }
}

/// The instruction runs, and its first access is refused. Returns what the accesses found.
fn run(
    machine: &mut Machine,
    instruction: &[u8],
    rdi: u64,
    accesses: Vec<StepAccess>,
) -> Vec<Vec<u8>> {
    machine.put_instruction(instruction);
    let StepAccess { gpa, write, execute, page_walk, .. } = accesses[0];
    let (backend, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rdi, rdi);
    (backend.step_accesses, backend.stepped) = (accesses, Vec::new());
    machine.exit(Exit::Memory(MemoryAccess { gpa, write, execute, page_walk }));
    machine.vcpu.check_bounce_pages();
    let accesses = core::mem::take(&mut machine.vcpu.registers_mut().0.step_accesses);
    accesses.into_iter().map(|access| access.data).collect()
}

fn is_stopped(machine: &Machine) -> bool {
    machine.vcpu.vm().stop.requested() == Some(Stop::Crash)
}

#[test]
fn an_operand_is_read_once_and_nothing_beside_it() {
    let (mut machine, recorder) = machine();
    let found = run(&mut machine, FILD, DEVICE + 0x103, vec![read(DEVICE + 0x103, 8)]);
    assert_eq!(found[0], recorder.memory.lock()[0x103..0x10b]);
    assert_eq!(recorder.take_seen(), [Read(0x103, 8)]);
    assert_eq!(machine.vcpu.registers_mut().0.rip, 0x8001, "the instruction is done");
}

#[test]
fn an_operand_that_is_only_written_is_not_read() {
    let (mut machine, recorder) = machine();
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    run(&mut machine, FISTP, DEVICE + 8, vec![write(DEVICE + 8, &data)]);
    assert_eq!(recorder.take_seen(), [Write(8, 8, u64::from_le_bytes(data))]);
}

#[test]
fn an_operand_across_two_pages_is_split_and_one_that_is_half_in_ram_touches_both() {
    let (mut machine, recorder) = machine();
    let accesses = vec![read(DEVICE + 0xffd, 3), read(DEVICE + 0x1000, 5)];
    let found = run(&mut machine, FILD, DEVICE + 0xffd, accesses);
    assert_eq!(found.concat(), recorder.memory.lock()[0xffd..0x1005]);
    assert_eq!(
        recorder.take_seen(),
        [Read(0xffd, 2), Read(0xfff, 1), Read(0x1000, 4), Read(0x1004, 1)]
    );
}

#[test]
fn only_those_bytes_of_a_masked_store_are_written_that_it_writes() {
    let (mut machine, recorder) = machine();
    let at = DEVICE + 0x20;
    // Bytes that are like the fills, and a hole.
    let accesses = vec![write(at, &[0, 0xff]), write(at + 4, &[9, 8, 7])];
    run(&mut machine, MASKMOVQ, at, accesses);
    let expected = [Write(0x20, 2, 0xff00), Write(0x24, 2, 0x0809), Write(0x26, 1, 7)];
    assert_eq!(recorder.take_seen(), expected);
    assert_eq!(machine.vcpu.registers_mut().0.stepped.len(), 2, "it ran twice");
}

#[test]
fn an_instruction_that_faults_or_exits_has_written_nothing() {
    let fault = Exit::Fault { exception: Exception::AlignmentCheck, error_code: Some(0) };
    for exit in [fault, Exit::TripleFault, Exit::Halt] {
        let (mut machine, recorder) = machine();
        machine.vcpu.registers_mut().0.step_exit = exit;
        run(&mut machine, FISTP, DEVICE, vec![write(DEVICE, &[1; 8])]);
        assert_eq!(recorder.take_seen(), []);
    }
    let (mut machine, _) = machine();
    machine.vcpu.registers_mut().0.step_exit = fault;
    run(&mut machine, FISTP, DEVICE, vec![write(DEVICE, &[1; 8])]);
    machine.exit(Exit::HostNmi);
    let fault = Fault { exception: Exception::AlignmentCheck, error_code: Some(0), address: None };
    assert_eq!(machine.vcpu.registers_mut().0.injected, [Event::Fault(fault)]);
}

/// AMD-V takes the interrupt that a window is asked for before the host's that ends the step.
#[test]
fn an_exit_at_the_first_instruction_of_a_handler_ends_the_step() {
    for exit in [Exit::InterruptWindow, Exit::HostNmi, Exit::ExternalInterrupt] {
        let (mut machine, recorder) = machine();
        let enter_handler: StepEffect = |backend, _| backend.rip = 0x9000;
        let backend = machine.vcpu.registers_mut().0;
        (backend.step_exit, backend.step_effect) = (exit, Some(enter_handler));
        run(&mut machine, INT_N, 0, vec![write(DEVICE, &[0xaa; 4])]);
        let backend = machine.vcpu.registers_mut().0;
        assert_eq!(backend.stepped.len(), 1, "INT n runs once");
        assert_eq!(recorder.take_seen().last(), Some(&Write(0, 4, 0xaaaa_aaaa)));
    }
}

#[test]
fn the_guests_own_trap_comes_behind_what_was_written() {
    let debug = Fault { exception: Exception::Debug, error_code: None, address: None };
    let one_element: StepEffect = |_, gprs| gprs.set(Gpr::Rcx, 1);
    let all: StepEffect = |backend, _| backend.rip = 0x8003;
    for (instruction, effect) in [(REP_STOSB, one_element), (LSS, all)] {
        let (mut machine, recorder) = machine();
        let (backend, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rcx, 2);
        (backend.step_exit, backend.step_effect) =
            (Exit::Exception(Exception::Debug), Some(effect));
        let access = StepAccess { page_walk: true, ..write(DEVICE, &[0xaa]) };
        run(&mut machine, instruction, DEVICE, vec![access]);
        assert_eq!(recorder.memory.lock()[0], 0xaa);
        machine.exit(Exit::HostNmi);
        assert_eq!(machine.vcpu.registers_mut().0.injected, [Event::Fault(debug)]);
    }
}

#[test]
fn an_exit_that_a_step_leaves_is_answered_before_others_have_their_turn() {
    let (mut machine, _) = machine();
    machine.put_instruction(FISTP);
    let access = MemoryAccess { gpa: DEVICE, write: true, execute: false, page_walk: false };
    let (backend, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rdi, DEVICE);
    backend.exits_before = [Exit::Memory(access), Exit::ExternalInterrupt].into();
    (backend.step_accesses, backend.step_exit) = (vec![write(DEVICE, &[1; 8])], Exit::Halt);
    let mut host = Attended(0);
    machine.vcpu.turn(&mut host);
    assert_eq!((machine.vcpu.activity(), host.0), (Activity::Running, 0));
    machine.vcpu.turn(&mut host);
    assert_eq!((machine.vcpu.activity(), host.0), (Activity::Halted, 1));
}

#[test]
fn an_event_reaches_a_stack_on_a_device_in_one_piece_with_its_descriptor() {
    let (mut machine, recorder) = machine();
    machine.vcpu.registers_mut().0.interrupted = Some(Event::Interrupt(0x30));
    let (idt, stack) = (DEVICE + 0x180, DEVICE + 0x2ff4);
    let accesses = vec![read(idt, 8), write(stack, &[0xaa; 12])];
    let found = run(&mut machine, FISTP, 0x1_0000, accesses);
    assert_eq!(found[0], recorder.memory.lock()[0x180..0x188]);
    let backend = machine.vcpu.registers_mut().0;
    assert!(backend.injected.iter().all(|event| *event == Event::Interrupt(0x30)));
    assert_eq!(backend.injected.len(), 2, "again after the second page was refused");
    let mut seen = recorder.take_seen();
    seen.retain(|seen| matches!(seen, Write(..)));
    assert_eq!(seen, [0x2ff4, 0x2ff8, 0x2ffc].map(|offset| Write(offset, 4, 0xaaaa_aaaa)));
}

#[test]
fn entries_of_page_tables_on_a_device_are_marked_there() {
    let (mut machine, recorder) = machine();
    // A directory and a table on the device; code and data in RAM.
    recorder.put(DEVICE, &(DEVICE as u32 + 0x1000 + 3).to_le_bytes());
    for page in [8u32, 0x10] {
        recorder.put(DEVICE + 0x1000 + 4 * u64::from(page), &(page << 12 | 0x23).to_le_bytes());
    }
    let backend = machine.vcpu.registers_mut().0;
    backend.cr0 = Cr0::new().with_protection(true).with_paging(true);
    backend.system[crate::backend::SystemRegister::Cr3 as usize] = DEVICE;
    let walk = |gpa, length| StepAccess { page_walk: true, ..read(gpa, length) };
    let mark = |gpa, entry: u32| StepAccess { page_walk: true, ..write(gpa, &entry.to_le_bytes()) };
    let directory = DEVICE as u32 + 0x1000 + 3;
    let accesses = vec![walk(DEVICE, 4), mark(DEVICE, directory | 0x20), walk(DEVICE + 0x1020, 4)];
    let found = run(&mut machine, FISTP, 0x8100, accesses);
    assert_eq!(found[2], (0x8023u32).to_le_bytes());
    let seen = recorder.take_seen();
    let reads: Vec<_> = seen.iter().filter(|seen| matches!(seen, Read(..))).collect();
    assert!(reads.contains(&&Read(0, 4)) && reads.contains(&&Read(0x1020, 4)), "{reads:x?}");
    assert!(reads.iter().all(|read| matches!(read, Read(0 | 0x1020, 4))), "{reads:x?}");
    assert_eq!(*seen.last().unwrap(), Write(0, 4, u64::from(directory | 0x20)));
}

#[test]
fn code_in_a_hole_is_all_ones_and_code_on_a_device_is_fetched_from_there() {
    let (mut machine, recorder) = machine();
    for (gpa, expected) in
        [(HOLE + 0x10, vec![0xff; 8]), (DEVICE + 0x80, vec![0x90, 0xc3, 1, 2, 3, 4, 5, 6])]
    {
        recorder.put(DEVICE + 0x80, &[0x90, 0xc3, 1, 2, 3, 4, 5, 6]);
        let backend = machine.vcpu.registers_mut().0;
        backend.segments[SegmentName::Cs as usize].base = gpa - 0x8000;
        let found = run(&mut machine, NOP, 0, vec![fetch(gpa, 8)]);
        assert_eq!(found[0], expected);
    }
    assert!(!is_stopped(&machine));
}

#[test]
fn rom_is_read_where_the_processor_wants_to_write_and_stays_as_it_is() {
    let (mut machine, _) = machine();
    let vm = machine.vcpu.vm().clone();
    let mut before = [0; 16];
    vm.space.read(ROM + 0x10, &mut before).unwrap();
    run(&mut machine, FISTP, ROM + 0x14, vec![write(ROM + 0x14, &[0x11; 8])]);
    let mut after = [0; 16];
    vm.space.read(ROM + 0x10, &mut after).unwrap();
    assert_eq!(after, before);
    assert!(!is_stopped(&machine));
}

#[test]
fn an_instruction_that_reaches_too_far_stops_the_guest() {
    let (mut machine, recorder) = machine();
    let accesses = (0..40).map(|page| read(DEVICE + page * 0x1000, 1)).collect();
    run(&mut machine, FILD, DEVICE, accesses);
    assert!(is_stopped(&machine));
    assert!(!recorder.take_seen().iter().any(|seen| matches!(seen, Write(..))));
}

#[test]
fn a_step_that_never_ends_stops_the_guest() {
    let (mut machine, _) = machine();
    machine.vcpu.registers_mut().0.step_exit = Exit::ExternalInterrupt;
    run(&mut machine, FISTP, DEVICE, vec![write(DEVICE, &[0; 8])]);
    assert!(is_stopped(&machine));
}

/// The host's timer interrupts each entry while it is set to a moment that has passed.
#[test]
fn others_whose_time_has_come_wait_for_the_end_of_a_step() {
    std::thread_local! {
        static PLATFORM: &'static TestPlatform = TestPlatform::leak();
    }
    let ring: StepEffect = |backend, _| {
        let (platform, timer_tsc) = PLATFORM.with(|platform| (*platform, platform.timer_tsc()));
        backend.step_exit = if platform.tsc() < timer_tsc {
            Exit::Stepped
        } else {
            platform.set_timer(u64::MAX);
            Exit::ExternalInterrupt
        };
    };
    let (mut machine, _) = machine_on(PLATFORM.with(|platform| *platform));
    machine.vcpu.set_others_due(0, u64::MAX);
    machine.vcpu.registers_mut().0.step_effect = Some(ring);
    run(&mut machine, FISTP, DEVICE, vec![write(DEVICE, &[0; 8])]);
    assert!(!is_stopped(&machine));
    let stepped = machine.vcpu.registers_mut().0.stepped.len();
    assert_eq!(stepped, 2, "entries: one rings, one ends");
}

#[test]
fn ram_that_is_touched_for_the_first_time_is_mapped_in_between() {
    let (mut machine, recorder) = machine();
    let ram = 0x30_0000;
    let accesses = vec![read(DEVICE, 8), write(ram, &[7; 4]), write(DEVICE + 8, &[5; 8])];
    run(&mut machine, FILD, DEVICE, accesses);
    assert!(!is_stopped(&machine));
    assert_eq!(machine.vcpu.vm().space.read_u32(ram).unwrap(), 0x0707_0707);
    assert_eq!(recorder.take_seen(), [Read(0, 8)]);
    assert!(machine.vcpu.vm().space.shown(ram).is_some());
}

#[test]
fn a_step_goes_on_when_another_virtual_cpu_has_changed_the_tables() {
    let (mut machine, recorder) = machine();
    let ram = 0x30_0000;
    machine.vcpu.registers_mut().0.sibling_effect = Some(|space| {
        assert_eq!(space.resolve_fault(0x30_0000, true), Ok(FaultCause::Memory));
        assert_eq!(space.shown_bounce_pages(), 0, "they cover what may change");
    });
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    let found = run(&mut machine, FILD, DEVICE, vec![read(DEVICE, 8), write(ram, &data)]);
    assert!(!is_stopped(&machine));
    assert_eq!(found[0], recorder.memory.lock()[..8]);
    assert_eq!(recorder.take_seen(), [Read(0, 8)], "once");
    assert_eq!(machine.vcpu.vm().space.read_u32(ram), Ok(0x0403_0201));
}
