//! The host's turns, written pages and second-level tables.

use super::{Attended, machine, next_event};
use crate::backend::exit::Exit;
use crate::backend::{Backend, SystemRegister};
use crate::fuzzing::Machine;
use crate::host::platform::{CpuInterrupt, Platform};
use crate::test_backend::TestCpu;
use crate::vm::Stop;
use crate::vm::memory::{Area, AreaOwner, Backing};
use control::host::Host;
use devices::time::GuestTime;
use emulator::event::Event;
use emulator::registers::Gpr;
use emulator::task_switch::{Source, TaskSwitch};

const MS: u64 = 1_000_000;

/// No interrupt of the host's ends an entry that delivers an event by a task switch.
#[test]
fn a_guest_that_only_switches_tasks_lets_the_host_work() {
    let mut machine = machine();
    let mut host = Attended(0);
    let switch = TaskSwitch { selector: 0x20, source: Source::Gate, resume_rip: 0, event: None };
    machine.vcpu.registers_mut().0.exit = Exit::TaskSwitch(switch);
    machine.vcpu.turn(&mut host);
    assert_eq!(host.0, 1);
}

#[test]
fn a_guest_that_spins_lets_the_host_work() {
    let mut machine = machine();
    let mut host = Attended(0);
    for (exit, attended) in [(Exit::HostNmi, 0), (Exit::Pause, 1), (Exit::ExternalInterrupt, 2)] {
        machine.vcpu.registers_mut().0.exit = exit;
        machine.vcpu.turn(&mut host);
        assert_eq!(host.0, attended, "{exit:?}");
        machine.platform.advance_ns(MS);
    }
    let pauses = machine.vcpu.counters().iter().find(|&(name, _)| name == "pause");
    assert_eq!(pauses, Some(("pause", 1)));
}

/// A guest with a fast timer is not held up at each of its ticks. No key waits for longer than a
/// millisecond, whatever the guest's timers do.
#[test]
fn the_host_works_once_a_millisecond_while_the_guest_runs() {
    let mut machine = machine();
    let mut host = Attended(0);
    machine.vcpu.registers_mut().0.exit = Exit::ExternalInterrupt;
    for (step_ns, attended) in [(0, 1), (MS / 2, 1), (MS / 2, 2), (1_000, 2)] {
        machine.platform.advance_ns(step_ns);
        machine.vcpu.turn(&mut host);
        assert_eq!(host.0, attended);
    }
    // Work that was put off follows though the guest sets no timer.
    assert!(machine.platform.timer_tsc() <= machine.platform.tsc() + MS);
}

#[test]
fn the_processors_list_of_written_pages_is_taken_when_it_is_full_and_before_others_look() {
    const FRAMEBUFFER: u64 = 0xe000_0000;
    const VIDEO_BYTES: usize = 16 << 20;
    let mut machine = machine();
    let space = machine.vcpu.vm().space.clone();
    let area = Area {
        gpa: FRAMEBUFFER,
        length_bytes: VIDEO_BYTES as u64,
        backing: Backing::Video,
        offset: 0,
        writable: true,
    };
    space.set_areas(AreaOwner::Chipset, &[area]).unwrap();
    let mut last_look = space.look_for_video_writes(0, VIDEO_BYTES);
    for (exit, page) in [(Exit::WriteLogFull, 3), (Exit::ExternalInterrupt, 9)] {
        machine.platform.advance_ns(MS);
        machine.vcpu.registers_mut().0.written_pages.push(FRAMEBUFFER + page * 4096);
        machine.exit(exit);
        let look = space.look_for_video_writes(0, VIDEO_BYTES);
        let written: Vec<u64> = (0..4096)
            .filter(|page| space.video_written_since(*page as usize * 4096, 4096, last_look))
            .collect();
        assert_eq!(written, [page], "{exit:?}");
        last_look = look;
    }
}

#[test]
fn second_level_tables_that_the_processor_refuses_stop_the_guest() {
    let mut machine = machine();
    machine.exit(Exit::TableMisconfigured { gpa: 0x1000 });
    assert_eq!(machine.vcpu.vm().stop.requested(), Some(Stop::Crash));
}

#[test]
fn a_vcpu_that_moves_takes_its_registers_its_timer_and_its_kicks_along() {
    const HERE: usize = 0;
    const THERE: usize = 2;
    let (mut machine, mut other) = (machine(), machine());
    let platform = machine.platform;
    let registers = |machine: &mut Machine| {
        let (backend, gprs) = machine.vcpu.registers_mut();
        let (cr2, tsc_aux) = (SystemRegister::Cr2, SystemRegister::TscAux);
        let system = [cr2, tsc_aux].map(|register| backend.system_register(register));
        let x87 = (backend.x87_status, backend.xcr0);
        (system, backend.vectors, x87, backend.breakpoint_addresses, gprs.0)
    };
    for (machine, seed) in [(&mut machine, 3), (&mut other, 200)] {
        let (backend, gprs) = machine.vcpu.registers_mut();
        backend.set_system_register(SystemRegister::Cr2, seed);
        backend.set_system_register(SystemRegister::TscAux, seed + 1);
        backend.vectors = core::array::from_fn(|index| [seed as u8 + index as u8; 32]);
        (backend.x87_status, backend.xcr0) = (seed as u16, seed << 8);
        backend.breakpoint_addresses = core::array::from_fn(|index| seed << index);
        gprs.set(Gpr::Rbx, seed);
    }
    let (before, others) = (registers(&mut machine), registers(&mut other));
    assert_ne!(before, others);
    machine.vcpu.timers.queue().device_alarm(0).set(Some(GuestTime::from_ns(5_000_000)));
    machine.exit(Exit::HostNmi);

    // The other one comes to a new CPU, and leaves it; then this one comes there.
    let there = TestCpu::default();
    other.vcpu.unload();
    other.vcpu.load(&there);
    assert_eq!(registers(&mut other), others);
    other.vcpu.unload();
    machine.vcpu.unload();
    machine.vcpu.apic.inbox().post_nmi();
    assert_eq!(platform.take_interrupts(HERE, CpuInterrupt::Kick), 0, "it is nowhere");
    platform.be_cpu(THERE);
    platform.set_timer(u64::MAX);
    machine.vcpu.load(&there);
    assert_eq!(platform.timer_tsc(), 5_000_000, "the timer of the CPU that it is on");
    assert_eq!(registers(&mut machine), before);
    assert_eq!(next_event(&mut machine), Some(Event::Nmi), "what came while it was nowhere");
    platform.be_cpu(HERE);
    machine.vcpu.apic.inbox().post_init();
    assert_eq!(platform.take_interrupts(THERE, CpuInterrupt::Kick), 1);
    // The first CPU holds what it held when this one left; the other one takes its own along.
    let here = TestCpu::default();
    other.vcpu.load(&here);
    assert_eq!(registers(&mut other), others);
}
