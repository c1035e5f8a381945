//! What a virtual CPU makes of exits that a hostile guest causes.

use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::backend::{Backend, SystemRegister};
use crate::fuzzing::Machine;
use crate::test_platform::TestPlatform;
use crate::vcpu::{Activity, Housekeeping, Vcpu};
use crate::vm::Stop;
use crate::vm::memory::{Area, Backing};
use devices::local_apic::{Interface, Vectors};
use devices::memory::GuestMemory;
use devices::system_control::SystemControl;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::{Exception, Fault, Gpr};
use emulator::task_switch::{Source, TaskSwitch};

const WRMSR: &[u8] = &[0x0f, 0x30];
const EFER: u32 = 0xc000_0080;
const APIC_BASE: u32 = 0x1b;
/// The local APIC is on, and that of the first CPU.
const APIC_IN_X2APIC_MODE: u64 = 0xfee0_0d00;
const US: u64 = 1_000;

fn machine() -> Machine {
    Machine::new(TestPlatform::leak())
}

/// What the guest gets at its next entry.
fn next_event(machine: &mut Machine) -> Option<Event> {
    machine.vcpu.registers_mut().0.injected.clear();
    machine.exit(Exit::HostNmi);
    machine.vcpu.registers_mut().0.injected.last().copied()
}

fn write_msr(machine: &mut Machine, index: u32, value: u64) {
    let (_, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rcx, index.into());
    gprs.set_edx_eax(value);
    machine.put_instruction(WRMSR);
    machine.exit(Exit::WriteMsr);
}

#[test]
fn efer_takes_nothing_that_the_processor_refuses_at_entry() {
    // Reserved bits, SVME, LMSLE, TCE.
    for value in [1 << 1, 1 << 7, 1 << 9, 1 << 12, 1 << 13, 1 << 15, 1 << 16, 1 << 63] {
        let mut machine = machine();
        write_msr(&mut machine, EFER, value);
        assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)), "{value:#x}");
        assert_eq!(u64::from(machine.vcpu.registers_mut().0.efer), 0);
    }
    let mut machine = machine();
    write_msr(&mut machine, EFER, 0x4901);
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(u64::from(machine.vcpu.registers_mut().0.efer), 0x4901, "FFXSR, NX, LME, SYSCALL");
}

#[test]
fn performance_counters_that_no_cpuid_bit_tells_of_take_writes_and_absent_registers_fault() {
    let mut machine = machine();
    for index in [0x186, 0xc1] {
        write_msr(&mut machine, index, 0);
        assert_eq!(next_event(&mut machine), None, "{index:#x}");
    }
    // AMD's, those of machine-check banks that MCG_CAP does not name, and one of nobody's.
    for index in [0xc001_0000, 0xc001_0015, 0x413, 0x400, 0x188] {
        write_msr(&mut machine, index, 0);
        assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)), "{index:#x}");
        assert_eq!(machine.vcpu.read_msr(index), Err(Fault::PROTECTION));
    }
}

#[test]
fn registers_with_nothing_behind_them_keep_what_is_written_or_not_or_refuse_it() {
    const FEATURE_CONTROL: u32 = 0x3a;
    const MICROCODE_UPDATE: u32 = 0x79;
    const PERF_CTL: u32 = 0x199;
    const MISC_ENABLE: u32 = 0x1a0;
    let mut machine = machine();
    let fast_strings = machine.vcpu.read_msr(MISC_ENABLE).unwrap();
    assert_eq!(fast_strings & 1, 1);
    for value in [0x40_0001, 1 << 34] {
        assert_eq!(machine.vcpu.write_msr(MISC_ENABLE, value), Ok(()));
        assert_eq!(machine.vcpu.read_msr(MISC_ENABLE), Ok(value));
    }
    assert_eq!(machine.vcpu.write_msr(PERF_CTL, 0x1500), Ok(()));
    assert_eq!(machine.vcpu.read_msr(PERF_CTL), Ok(0));
    assert_eq!(machine.vcpu.read_msr(FEATURE_CONTROL), Ok(1), "locked");
    assert_eq!(machine.vcpu.write_msr(FEATURE_CONTROL, 5), Err(Fault::PROTECTION));
    assert_eq!(machine.vcpu.write_msr(MICROCODE_UPDATE, 0x1000), Ok(()));
    assert_eq!(machine.vcpu.read_msr(MICROCODE_UPDATE), Err(Fault::PROTECTION), "write-only");
    assert_eq!(machine.vcpu.read_msr(0x35), Ok(0x1_0001), "cores and threads");
}

#[test]
fn an_event_that_is_refused_a_device_again_and_again_stops_the_guest_and_nothing_else_happens() {
    for gpa in [0xfed0_0010, 0xfee0_0080] {
        let mut machine = machine();
        // MOV [RDI], EAX would switch the HPET on, or set the task priority.
        machine.put_instruction(&[0x89, 0x07]);
        let (backend, gprs) = machine.vcpu.registers_mut();
        backend.interrupted = Some(Event::Interrupt(0x30));
        gprs.set(Gpr::Rax, 1);
        gprs.set(Gpr::Rdi, gpa);
        machine.exit(Exit::Memory(MemoryAccess {
            gpa,
            write: true,
            execute: false,
            page_walk: false,
        }));
        assert_eq!(machine.vcpu.vm().stop.requested(), Some(Stop::Crash));
        assert_eq!(machine.vcpu.vm().mmio.read(0xfed0_0010, 4), 0);
        assert_eq!(machine.vcpu.apic.tpr(), 0);
    }
}

#[test]
fn cr4_takes_what_cpuid_tells_of_and_the_mode_allows() {
    const WRITE: &[u8] = &[0x0f, 0x22, 0xe3]; // mov cr4, ebx
    const READ: &[u8] = &[0x0f, 0x20, 0xe3]; // mov ebx, cr4
    const PROTECTION: Option<Event> = Some(Event::Fault(Fault::PROTECTION));
    let write = |machine: &mut Machine, value| {
        machine.put_instruction(WRITE);
        machine.vcpu.registers_mut().1.set(Gpr::Rbx, value);
        machine.exit(Exit::WriteCr4);
        next_event(machine)
    };
    let mut machine = machine();
    // What is above the low half does not count outside 64-bit code.
    assert_eq!(write(&mut machine, 1 << 40 | 0xa0), None);
    assert_eq!(machine.vcpu.backend.cr4.into_bits(), 0xa0);
    // LA57, VMXE, SMXE, CET, and bits that have no name; PCIDE outside long mode.
    for bit in [12, 13, 14, 15, 19, 23, 31, 17] {
        assert_eq!(write(&mut machine, 0xa0 | 1 << bit), PROTECTION, "bit {bit}");
        assert_eq!(machine.vcpu.backend.cr4.into_bits(), 0xa0);
    }
    machine.vcpu.backend.efer.set_long_mode_active(true);
    assert_eq!(write(&mut machine, 0x80), PROTECTION, "PAE in long mode");
    assert_eq!(write(&mut machine, 1 << 17 | 0x20), None);
    machine.put_instruction(READ);
    machine.exit(Exit::ReadCr4);
    assert_eq!(machine.vcpu.gprs.get(Gpr::Rbx), 1 << 17 | 0x20);
}

#[test]
fn paging_without_pae_is_refused_where_long_mode_is_enabled() {
    let mut machine = machine();
    machine.vcpu.backend.efer.set_long_mode_enable(true);
    for (instruction, value, cr0, event) in [
        // MOV CR0, EBX.
        (&[0x0f, 0x22, 0xc3], 0x8000_0011, 1, Some(Event::Fault(Fault::PROTECTION))),
        (&[0x0f, 0x22, 0xc3], 0x0001_0031, 0x1_0031, None),
        // LMSW BX runs by itself.
        (&[0x0f, 0x01, 0xf3], 9, 0x1_0031, None),
    ] {
        machine.put_instruction(instruction);
        machine.vcpu.registers_mut().1.set(Gpr::Rbx, value);
        machine.exit(Exit::WriteCr0);
        assert_eq!(next_event(&mut machine), event, "{value:#x}");
        assert_eq!(machine.vcpu.backend.cr0.into_bits(), cr0, "{value:#x}");
    }
}

#[test]
fn intercepted_exceptions_go_back_to_the_guest() {
    let mut machine = machine();
    machine.vcpu.registers_mut().0.system[SystemRegister::Dr7 as usize] = 0x2400;
    machine.exit(Exit::Exception(Exception::Debug));
    let debug = Fault { exception: Exception::Debug, error_code: None, address: None };
    assert_eq!(next_event(&mut machine), Some(Event::Fault(debug)));
    assert_eq!(
        machine.vcpu.registers_mut().0.system[SystemRegister::Dr7 as usize],
        0x400,
        "GD is clear"
    );
    machine.exit(Exit::Exception(Exception::AlignmentCheck));
    let alignment =
        Fault { exception: Exception::AlignmentCheck, error_code: Some(0), address: None };
    assert_eq!(next_event(&mut machine), Some(Event::Fault(alignment)));
    machine.exit(Exit::Forbidden);
    assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)));
    assert_eq!(machine.vcpu.vm().stop.requested(), None);
}

#[test]
fn the_flags_that_a_fault_saves_have_rf_set_and_those_of_a_trap_have_not() {
    let trap =
        Some(Event::Fault(Fault { exception: Exception::Debug, error_code: None, address: None }));
    let interrupted =
        |exception| Some(Event::Fault(Fault { exception, error_code: Some(0), address: None }));
    for (exit, event, dr6, dr7, resume) in [
        (Exit::Forbidden, None, 0, 0x400, true),
        (Exit::Undefined, None, 0, 0x400, true),
        (Exit::Exception(Exception::AlignmentCheck), None, 0, 0x400, true),
        (Exit::HostNmi, interrupted(Exception::PageFault), 0, 0x400, true),
        (Exit::HostNmi, interrupted(Exception::DoubleFault), 0, 0x400, false),
        (Exit::HostNmi, Some(Event::Interrupt(0x30)), 0, 0x400, false),
        (Exit::HostNmi, trap, 0, 0x400, false),
        // A single step; an access to a debug register while DR7.GD is set.
        (Exit::Exception(Exception::Debug), None, 1 << 14, 0x400, false),
        (Exit::Exception(Exception::Debug), None, 1 << 13, 0x2400, true),
    ] {
        let mut machine = machine();
        let (backend, _) = machine.vcpu.registers_mut();
        backend.interrupted = event;
        backend.system[SystemRegister::Dr6 as usize] = dr6;
        backend.system[SystemRegister::Dr7 as usize] = dr7;
        machine.exit(exit);
        assert_ne!(next_event(&mut machine), None);
        assert_eq!(
            machine.vcpu.registers_mut().0.rflags.resume(),
            resume,
            "{exit:?}, {event:?}, {dr6:#x}"
        );
    }
}

#[test]
fn the_base_of_the_local_apic_is_a_physical_address() {
    let mut machine = machine();
    let bits = machine.vcpu.vm().cpuid.physical_address_bits();
    for (bit, event) in [(bits - 1, None), (bits, Some(Event::Fault(Fault::PROTECTION)))] {
        write_msr(&mut machine, APIC_BASE, 0xfee0_0900 | 1 << bit);
        assert_eq!(next_event(&mut machine), event, "bit {bit}");
    }
}

#[test]
fn faults_of_a_task_gates_switch_become_a_double_fault_and_then_init() {
    // There is no GDT: no switch gets anywhere.
    let switch = |event| {
        Exit::TaskSwitch(TaskSwitch { selector: 0x20, source: Source::Gate, resume_rip: 0, event })
    };
    let fault = |exception, error_code| {
        Event::Fault(Fault { exception, error_code: Some(error_code), address: None })
    };
    for (event, next) in [
        (None, fault(Exception::GeneralProtection, 0x20)),
        (Some(Event::Interrupt(0x30)), fault(Exception::GeneralProtection, 0x21)),
        (Some(Event::Fault(Fault::UNDEFINED)), fault(Exception::GeneralProtection, 0x21)),
        (Some(fault(Exception::InvalidTss, 0x20)), fault(Exception::DoubleFault, 0)),
    ] {
        let mut machine = machine();
        machine.exit(switch(event));
        assert_eq!(next_event(&mut machine), Some(next), "{event:?}");
    }
    let mut machine = machine();
    machine.vcpu.registers_mut().1.set(Gpr::Rcx, 1);
    machine.exit(switch(Some(fault(Exception::DoubleFault, 0))));
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.registers_mut().1.get(Gpr::Rcx), 0, "as after INIT");
    assert_eq!(machine.vcpu.vm().stop.requested(), None);
}

#[test]
fn what_pulses_init_keeps_memory_and_opens_a20_and_a_hard_reset_ends_the_life() {
    const GPA: u64 = 0x9000;
    let out = |port, value: u8, machine: &mut Machine| {
        machine.vcpu.registers_mut().1.set(Gpr::Rax, value.into());
        let access = PortAccess { port, size_bytes: 1, direction: Direction::Out, string: false };
        machine.vcpu.registers_mut().0.next_rip = Some(0x8001);
        machine.exit(Exit::Port(access));
    };
    for (port, value) in [(0x64, 0xfe), (0x92, 1), (0xcf9, 4)] {
        let mut machine = machine();
        machine.vcpu.vm().space.write(GPA, &[0x5a; 4]).unwrap();
        machine.vcpu.vm().chipset.set_a20(false);
        machine.vcpu.registers_mut().1.set(Gpr::Rcx, 1);
        out(port, value, &mut machine);
        machine.exit(Exit::HostNmi);
        assert_eq!(machine.vcpu.registers_mut().1.get(Gpr::Rcx), 0, "{port:#x}");
        assert!(machine.vcpu.vm().chipset.a20());
        let mut left = [0; 4];
        machine.vcpu.vm().space.read(GPA, &mut left).unwrap();
        assert_eq!((left, machine.vcpu.vm().stop.requested()), ([0x5a; 4], None), "{port:#x}");
    }
    for (value, stop) in [(0x06, Stop::Reset), (0x0e, Stop::PowerCycle)] {
        let mut machine = machine();
        out(0xcf9, value, &mut machine);
        assert_eq!(machine.vcpu.vm().stop.requested(), Some(stop));
    }
}

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
fn reset_and_init_clear_the_breakpoints() {
    let mut machine = machine();
    let cleared = machine.platform.breakpoints_cleared();
    assert!(cleared > 0, "reset");
    machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
    // INIT to oneself, by the physical destination.
    machine.vcpu.apic.mmio_write(0x310, 0);
    machine.vcpu.apic.mmio_write(0x300, 0x4500);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.platform.breakpoints_cleared(), cleared + 1);
}

#[test]
fn init_keeps_model_specific_and_vector_registers() {
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    let mut machine = machine();
    write_msr(&mut machine, MTRR_DEFAULT_TYPE, 0xc06);
    let (backend, _) = machine.vcpu.registers_mut();
    backend.set_system_register(SystemRegister::LStar, 0x5678);
    (backend.xcr0, backend.vectors[5]) = (7, [0x11; 32]);
    machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
    machine.vcpu.apic.mmio_write(0x300, 0x4500);
    machine.exit(Exit::HostNmi);
    let (backend, gprs) = machine.vcpu.registers_mut();
    assert_eq!(gprs.get(Gpr::Rcx), 0, "it came");
    assert_eq!(backend.system_register(SystemRegister::LStar), 0x5678);
    assert_eq!((backend.xcr0, backend.vectors[5]), (7, [0x11; 32]));
    assert_eq!(machine.vcpu.read_msr(MTRR_DEFAULT_TYPE), Ok(0xc06));
}

#[test]
fn the_task_priority_is_one_however_it_is_written() {
    let mut machine = machine();
    write_msr(&mut machine, 0x1b, 0xfee0_0d00);
    write_msr(&mut machine, 0x808, 0x35);
    assert_eq!(machine.vcpu.apic.tpr(), 0x35);
    assert_eq!(machine.vcpu.registers_mut().0.apic_page.tpr(), 0x35);
    // MOV to CR8, without an exit.
    machine.vcpu.registers_mut().0.apic_page.set_tpr(0x40);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.apic.tpr(), 0x40);
}

/// A machine whose processor delivers interrupts by itself, with the local APIC switched on.
fn self_delivering() -> Machine {
    let mut machine = machine();
    machine.vcpu.registers_mut().0.delivers_interrupts = true;
    machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
    machine
}

#[test]
fn a_processor_that_delivers_interrupts_gets_them_in_the_register_page() {
    let mut machine = self_delivering();
    machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
    let page = machine.vcpu.apic.page().clone();
    assert!(machine.vcpu.apic.inbox().post_vector(0x41, false));
    let noted = machine.vcpu.registers_mut().0.noted_vectors;
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(page.highest(Vectors::Requested), Some(0x41));
    assert_eq!(page.highest(Vectors::InService), None);
    assert!(machine.vcpu.registers_mut().0.noted_vectors > noted, "the processor hears of it");
    let noted = machine.vcpu.registers_mut().0.noted_vectors;
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.registers_mut().0.noted_vectors, noted, "once");
    assert_eq!(machine.vcpu.registers_mut().0.window, None);
}

#[test]
fn a_requested_interrupt_that_sti_held_back_ends_the_hlt_behind_it() {
    for (tpr, interrupts, activity) in
        [(0, true, Activity::Running), (0x50, true, Activity::Halted), (0, false, Activity::Halted)]
    {
        let mut machine = self_delivering();
        machine.vcpu.registers_mut().0.rflags.set_interrupt(interrupts);
        // A self-IPI that the processor itself sent: nobody here has heard of it.
        let page = machine.vcpu.apic.page().clone();
        page.set(0x22, 1 << 1);
        page.set_tpr(tpr);
        machine.put_instruction(&[0xf4]);
        machine.exit(Exit::Halt);
        machine.vcpu.deliver_events();
        assert_eq!(machine.vcpu.activity, activity, "TPR {tpr:#x}, IF {interrupts}");
    }
}

#[test]
fn what_the_processor_wrote_to_the_local_apic_takes_effect() {
    let mut machine = self_delivering();
    let page = machine.vcpu.apic.page().clone();
    // One-shot timer, vector 41h, divided by 1, 1000 ticks.
    for (register, value) in [(0x32, 0x41), (0x3e, 0xb), (0x38, 1000)] {
        page.set(register, value);
        machine.exit(Exit::ApicWrite { offset: u16::from(register) << 4 });
    }
    machine.platform.advance_ns(2_000);
    machine.exit(Exit::ExternalInterrupt);
    machine.exit(Exit::HostNmi);
    assert_eq!(page.highest(Vectors::Requested), Some(0x41));
}

#[test]
fn the_backend_follows_the_local_apics_interface() {
    let mut machine = machine();
    let interface = |machine: &mut Machine| machine.vcpu.registers_mut().0.apic_interface;
    assert_eq!(interface(&mut machine), Some(Interface::Memory(0xfee0_0000)));
    write_msr(&mut machine, 0x1b, 0xfee0_0d00);
    assert_eq!(interface(&mut machine), Some(Interface::Msrs));
    write_msr(&mut machine, 0x1b, 0xfee0_0100);
    assert_eq!(interface(&mut machine), Some(Interface::None));
    write_msr(&mut machine, 0x1b, 0xfed8_0900);
    assert_eq!(interface(&mut machine), Some(Interface::Memory(0xfed8_0000)));
}

#[test]
fn an_interrupt_that_waits_for_a_window_is_delivered_at_any_exit_after_sti() {
    let mut machine = machine();
    machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
    machine.vcpu.apic.mmio_write(0x350, 0x700);
    // The 8259 with vectors from 20h, then COM1's interrupt: its transmitter has room.
    write_ports(
        &mut machine,
        &[(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0), (0x3fc, 8), (0x3f9, 2)],
    );
    assert_eq!(next_event(&mut machine), None);
    assert!(machine.vcpu.registers_mut().0.window.is_some());
    machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
    assert_eq!(next_event(&mut machine), Some(Event::Interrupt(0x24)));
    assert_eq!(machine.vcpu.registers_mut().0.window, None);
}

fn write_memory(machine: &mut Machine, gpa: u64, value: u64) {
    // MOV [RDI], EAX.
    machine.put_instruction(&[0x89, 0x07]);
    let (_, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rax, value);
    gprs.set(Gpr::Rdi, gpa);
    machine.exit(Exit::Memory(MemoryAccess { gpa, write: true, execute: false, page_walk: false }));
}

/// All timers at their fastest: there is time for the guest between their interrupts.
#[test]
fn timers_leave_the_guest_some_time() {
    let mut machine = machine();
    // Local APIC: enabled, periodic, vector 40h, divided by 1, one tick.
    for (register, value) in [(0xf0, 0x1ff), (0x320, 0x2_0040), (0x3e0, 0xb), (0x380, 1)] {
        write_memory(&mut machine, 0xfee0_0000 + register, value);
    }
    // HPET: three periodic timers of one tick, then on.
    for timer in 0..3 {
        write_memory(&mut machine, 0xfed0_0100 + timer * 0x20, 0x4c);
        write_memory(&mut machine, 0xfed0_0108 + timer * 0x20, 1);
    }
    write_memory(&mut machine, 0xfed0_0010, 1);
    let mut expiries = 0;
    for _ in 0..1000 {
        machine.platform.advance_ns(US);
        let before = machine.platform.timer_tsc();
        if before > crate::host::platform::Platform::tsc(machine.platform) {
            continue;
        }
        machine.exit(Exit::ExternalInterrupt);
        expiries += 1;
        let wait =
            machine.platform.timer_tsc() - crate::host::platform::Platform::tsc(machine.platform);
        assert!(wait >= 20 * US, "the next interrupt comes after {wait} ns");
    }
    assert!((10..50).contains(&expiries), "{expiries} interrupts in a millisecond");
}

fn write_ports(machine: &mut Machine, writes: &[(u16, u32)]) {
    for &(port, value) in writes {
        machine.vcpu.vm().ports.write(port, 1, value);
    }
}

const PIT_VECTOR: u8 = 0x30;

/// A way of the PIT's interrupt to the virtual CPU: how it is set up, and how an interrupt is
/// ended.
type Way = (fn(&mut Machine), fn(&mut Machine));

const THROUGH_PIC: Way = (
    |machine| {
        let vector = u32::from(PIT_VECTOR);
        write_ports(machine, &[(0x20, 0x11), (0x21, vector), (0x21, 4), (0x21, 1), (0x21, 0xfe)]);
        // LINT0 of the local APIC, as the BIOS leaves it: ExtINT.
        machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
        machine.vcpu.apic.mmio_write(0x350, 0x700);
    },
    |machine| write_ports(machine, &[(0x20, 0x20)]),
);

const THROUGH_IO_APIC: Way = (
    |machine| {
        machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
        write_memory(machine, 0xfec0_0000, 0x14);
        write_memory(machine, 0xfec0_0010, PIT_VECTOR.into());
    },
    |machine| machine.vcpu.apic.mmio_write(0xb0, 0),
);

/// While the host was busy the PIT's output rose three times. The guest gets three interrupts,
/// through whichever controller.
#[test]
fn ticks_that_were_missed_follow_each_other() {
    for (set_up, end) in [THROUGH_PIC, THROUGH_IO_APIC] {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
        // A rate generator of 10 ms. Its output rises when it is set to that mode.
        write_ports(&mut machine, &[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)]);
        set_up(&mut machine);
        machine.platform.advance_ns(35_000 * US);
        machine.exit(Exit::HostNmi);
        for _ in 0..3 {
            assert_eq!(next_event(&mut machine), None);
            machine.platform.advance_ns(700 * US);
            machine.exit(Exit::HostNmi);
            assert_eq!(next_event(&mut machine), Some(Event::Interrupt(PIT_VECTOR)));
            end(&mut machine);
        }
        machine.platform.advance_ns(700 * US);
        machine.exit(Exit::HostNmi);
        assert_eq!(next_event(&mut machine), None);
    }
}

/// Three ticks come with one interrupt of the host's. Each waits for the end of the handler of the
/// one before, and for an instruction of what it interrupted.
#[test]
fn ticks_that_come_at_once_let_the_guest_run_between() {
    for (set_up, end) in [THROUGH_PIC, THROUGH_IO_APIC] {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
        // 45 us. The output rises when it is set to that mode: before somebody looks.
        write_ports(&mut machine, &[(0x43, 0x34), (0x40, 54), (0x40, 0)]);
        set_up(&mut machine);
        machine.platform.advance_ns(137 * US);
        machine.exit(Exit::HostNmi);
        for left in [2, 1, 0] {
            assert_eq!(
                next_event(&mut machine),
                Some(Event::Interrupt(PIT_VECTOR)),
                "{left} are left"
            );
            // The handler has its frame on the stack.
            let (backend, gprs) = machine.vcpu.registers_mut();
            backend.rflags.set_interrupt(false);
            let stack = gprs.get(Gpr::Rsp);
            gprs.set(Gpr::Rsp, stack.wrapping_sub(24));
            end(&mut machine);
            assert_eq!(next_event(&mut machine), None);
            let (backend, gprs) = machine.vcpu.registers_mut();
            assert_eq!(backend.window, (left != 0).then_some(15));
            backend.rflags.set_interrupt(true);
            gprs.set(Gpr::Rsp, stack);
            if left != 0 {
                machine.exit(Exit::InterruptWindow);
                assert!(machine.vcpu.registers_mut().0.interrupt_shadow);
                assert_eq!(next_event(&mut machine), None);
                let (backend, _) = machine.vcpu.registers_mut();
                assert!(backend.window.is_some());
                backend.interrupt_shadow = false;
            }
        }
    }
}

/// A handler that lets itself be interrupted does not get the tick that is owed on top: that waits
/// for the next one of the host's.
#[test]
fn a_handler_is_not_interrupted_by_the_tick_that_is_owed() {
    let mut machine = machine();
    machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
    write_ports(&mut machine, &[(0x43, 0x34), (0x40, 54), (0x40, 0)]);
    THROUGH_PIC.0(&mut machine);
    machine.platform.advance_ns(137 * US);
    machine.exit(Exit::HostNmi);
    machine.vcpu.registers_mut().1.set(Gpr::Rsp, 0x1000);
    assert_eq!(next_event(&mut machine), Some(Event::Interrupt(PIT_VECTOR)));
    machine.vcpu.registers_mut().1.set(Gpr::Rsp, 0xff0);
    THROUGH_PIC.1(&mut machine);
    // STI in the handler.
    machine.exit(Exit::InterruptWindow);
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.registers_mut().0.window, None);
    machine.platform.advance_ns(137 * US);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.registers_mut().0.window, Some(15));
}

/// The notification of a posted interrupt is handled before the entry. What else is handled with
/// it, or posted meanwhile, has to be attended to.
#[test]
fn what_comes_with_a_notification_ends_the_guests_run() {
    let mut machine = machine();
    machine.vcpu.registers_mut().0.delivers_interrupts = true;
    machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
    let inbox = machine.vcpu.apic.inbox().clone();
    for (has_work, is_posted, self_interrupts) in
        [(false, false, 0), (true, false, 1), (false, true, 1)]
    {
        let another = inbox.clone();
        machine.platform.in_next_window(move || {
            if is_posted {
                another.post_vector(0x51, false);
            }
            has_work
        });
        inbox.post_vector(0x50, false);
        machine.exit(Exit::HostNmi);
        assert_eq!(machine.platform.take_self_interrupts(), self_interrupts);
    }
}

/// What a processor does that takes `vector` out of the register page and ends it; false if it is
/// not requested.
fn processor_takes(machine: &Machine, vector: u8) -> bool {
    let (page, register, bit) = (machine.vcpu.apic.page(), 0x20 + vector / 32, 1 << (vector % 32));
    let requested = page.get(register);
    page.set(register, requested & !bit);
    requested & bit != 0
}

/// The same on a processor that delivers the local APIC's interrupts by itself, and tells of the
/// ends that are awaited.
#[test]
fn ticks_that_were_missed_follow_the_ends_of_others() {
    const TIMER: u8 = 0x40;
    const SYSTEM_TIMER: u8 = 0x31;
    let mut machine = machine();
    machine.vcpu.registers_mut().0.delivers_interrupts = true;
    // The PIT, a rate generator of 10 ms through the I/O APIC, and the local APIC's timer with the
    // same period.
    write_ports(&mut machine, &[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)]);
    write_memory(&mut machine, 0xfec0_0000, 0x14);
    write_memory(&mut machine, 0xfec0_0010, SYSTEM_TIMER.into());
    for (register, value) in
        [(0xf0, 0x1ff), (0x320, 0x2_0000 | u32::from(TIMER)), (0x3e0, 0xb), (0x380, 10_000_000)]
    {
        write_memory(&mut machine, 0xfee0_0000 + register, value.into());
    }
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.registers_mut().0.awaited_ends, [None; 2]);
    machine.platform.advance_ns(35_000 * US);
    machine.exit(Exit::HostNmi);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.registers_mut().0.awaited_ends, [Some(TIMER), Some(SYSTEM_TIMER)]);
    let mut taken = [0, 0];
    for _ in 0..4 {
        for (vector, taken) in [TIMER, SYSTEM_TIMER].into_iter().zip(&mut taken) {
            if processor_takes(&machine, vector) {
                *taken += 1;
                machine.exit(Exit::EndOfInterrupt { vector });
            }
        }
        machine.platform.advance_ns(700 * US);
        machine.exit(Exit::HostNmi);
        machine.exit(Exit::HostNmi);
    }
    assert_eq!(taken, [3, 3]);
    assert_eq!(machine.vcpu.registers_mut().0.awaited_ends, [None; 2]);
}

/// There the end of a fast tick's interrupt, in its handler, is followed by an interrupt window.
#[test]
fn fast_ticks_follow_the_ends_of_others() {
    let mut machine = machine();
    machine.vcpu.registers_mut().0.delivers_interrupts = true;
    write_ports(&mut machine, &[(0x43, 0x34), (0x40, 54), (0x40, 0)]);
    THROUGH_IO_APIC.0(&mut machine);
    machine.platform.advance_ns(137 * US);
    machine.exit(Exit::HostNmi);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.registers_mut().0.awaited_ends, [None, Some(PIT_VECTOR)]);
    for _ in 0..2 {
        assert!(processor_takes(&machine, PIT_VECTOR));
        machine.vcpu.registers_mut().1.set(Gpr::Rsp, 0xff0);
        machine.exit(Exit::EndOfInterrupt { vector: PIT_VECTOR });
        assert_eq!(machine.vcpu.registers_mut().0.window, Some(15));
        let (backend, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rsp, 0x1000);
        backend.rflags.set_interrupt(true);
        machine.exit(Exit::InterruptWindow);
        assert!(
            machine.vcpu.registers_mut().0.interrupt_shadow,
            "the processor waits for one instruction"
        );
        machine.vcpu.registers_mut().0.rflags.set_interrupt(false);
        machine.exit(Exit::HostNmi);
    }
    assert!(processor_takes(&machine, PIT_VECTOR));
    machine.exit(Exit::EndOfInterrupt { vector: PIT_VECTOR });
    assert_eq!(machine.vcpu.registers_mut().0.window, None);
}

/// The host's interrupt may be late, or lost: a deadline that has passed is served with whatever
/// exit comes first.
#[test]
fn a_deadline_does_not_wait_for_the_hosts_interrupt() {
    let mut machine = machine();
    write_msr(&mut machine, APIC_BASE, APIC_IN_X2APIC_MODE);
    // Local APIC on; its timer at vector 40h, divided by 1, 100 ticks.
    for (register, value) in [(0x80f, 0x1ff), (0x832, 0x40), (0x83e, 0xb), (0x838, 100)] {
        write_msr(&mut machine, register, value);
    }
    assert_ne!(machine.platform.timer_tsc(), u64::MAX);
    machine.platform.advance_ns(1_000 * US);
    machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
    machine.exit(Exit::HostNmi);
    assert_eq!(next_event(&mut machine), Some(Event::Interrupt(0x40)));
}

/// Counts the calls.
struct Attended(u32);

impl<B: Backend> Housekeeping<B> for Attended {
    fn attend(&mut self, _vcpu: &mut Vcpu<B>) {
        self.0 += 1;
    }

    fn attend_paused(&mut self, _vcpu: &mut Vcpu<B>) -> u64 {
        u64::MAX
    }
}

#[test]
fn a_guest_that_spins_lets_the_host_work() {
    let mut machine = machine();
    let mut host = Attended(0);
    for (exit, attended) in [(Exit::HostNmi, 0), (Exit::Pause, 1), (Exit::ExternalInterrupt, 2)] {
        machine.vcpu.registers_mut().0.exit = exit;
        machine.vcpu.turn(&mut host);
        assert_eq!(host.0, attended, "{exit:?}");
    }
    let pauses = machine.vcpu.counters().iter().find(|&(name, _)| name == "pause");
    assert_eq!(pauses, Some(("pause", 1)));
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
    space.set_areas(&[area]).unwrap();
    let mut last_look = space.look_for_video_writes(0, VIDEO_BYTES);
    for (exit, page) in [(Exit::WriteLogFull, 3), (Exit::ExternalInterrupt, 9)] {
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

/// Breakpoint 0 of 4 bytes at `address`, of a kind.
fn set_breakpoint(machine: &mut Machine, address: u64, kind: u64) {
    let (backend, _) = machine.vcpu.registers_mut();
    backend.breakpoint_addresses[0] = address;
    backend.system[SystemRegister::Dr7 as usize] = 0x401 | kind << 16 | 3 << 18;
    backend.cr4.set_de(true);
}

#[test]
fn breakpoints_on_what_is_emulated_trap_behind_it() {
    const DEBUG: Fault = Fault { exception: Exception::Debug, error_code: None, address: None };
    let port = |string| PortAccess { port: 0x82, size_bytes: 1, direction: Direction::In, string };
    let hpet = MemoryAccess { gpa: 0xfed0_0004, write: false, execute: false, page_walk: false };
    for (code, exit, kind, address, done) in [
        (&[0xec][..], Exit::Port(port(false)), 2, 0x80, true),
        (&[0xf3, 0x6c], Exit::Port(port(true)), 2, 0x80, false),
        (&[0x8b, 0x07], Exit::Memory(hpet), 3, hpet.gpa, true),
    ] {
        for (address, met) in [(address, true), (address + 8, false)] {
            let mut machine = machine();
            machine.put_instruction(code);
            set_breakpoint(&mut machine, address, kind);
            let (_, gprs) = machine.vcpu.registers_mut();
            gprs.set(Gpr::Rdx, 0x82);
            gprs.set(Gpr::Rcx, 5);
            gprs.set(Gpr::Rdi, if exit == Exit::Memory(hpet) { hpet.gpa } else { 0x1_0000 });
            machine.exit(exit);
            let (backend, gprs) = machine.vcpu.registers_mut();
            assert_eq!(
                backend.system[SystemRegister::Dr6 as usize] & 0xf,
                u64::from(met),
                "{exit:?}"
            );
            assert_eq!(backend.rip > 0x8000, done, "{exit:?}");
            assert!(done || gprs.get(Gpr::Rcx) == 4, "one by one");
            assert_eq!(next_event(&mut machine), met.then_some(Event::Fault(DEBUG)), "{exit:?}");
        }
    }
}

#[test]
fn steps_by_the_branch_are_not_offered() {
    let mut machine = machine();
    write_msr(&mut machine, 0x1d9, 3);
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.read_msr(0x1d9), Ok(0));
}

#[test]
fn a_trap_that_is_pending_comes_before_an_interrupt_and_an_nmi() {
    for is_nmi in [false, true] {
        let mut machine = machine();
        machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
        let (backend, _) = machine.vcpu.registers_mut();
        backend.rflags.set_interrupt(true);
        backend.pending_debug = true;
        match is_nmi {
            true => machine.vcpu.apic.inbox().post_nmi(),
            false => assert!(machine.vcpu.apic.inbox().post_vector(0x41, false)),
        }
        assert_eq!(next_event(&mut machine), None);
        assert_eq!(machine.vcpu.registers_mut().0.window, (!is_nmi).then_some(4));
        machine.exit(Exit::Exception(Exception::Debug));
        machine.vcpu.registers_mut().0.pending_debug = false;
        let debug = Fault { exception: Exception::Debug, error_code: None, address: None };
        assert_eq!(next_event(&mut machine), Some(Event::Fault(debug)));
        let event = if is_nmi { Event::Nmi } else { Event::Interrupt(0x41) };
        assert_eq!(next_event(&mut machine), Some(event));
    }
}

#[test]
fn second_level_tables_that_the_processor_refuses_stop_the_guest() {
    let mut machine = machine();
    machine.exit(Exit::TableMisconfigured { gpa: 0x1000 });
    assert_eq!(machine.vcpu.vm().stop.requested(), Some(Stop::Crash));
}

#[test]
fn exceptions_have_no_error_code_in_real_mode() {
    for protected in [false, true] {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.cr0.set_protection(protected);
        machine.exit(Exit::Forbidden);
        let fault = Fault { error_code: protected.then_some(0), ..Fault::PROTECTION };
        assert_eq!(next_event(&mut machine), Some(Event::Fault(fault)));
    }
}

#[test]
fn an_access_to_cr8_that_the_backend_carried_out_ends_as_an_instruction_does() {
    let mut machine = machine();
    let (backend, _) = machine.vcpu.registers_mut();
    (backend.next_rip, backend.interrupt_shadow) = (Some(0x8004), true);
    backend.rflags.set_trap(true);
    machine.exit(Exit::AccessedCr8);
    let (backend, _) = machine.vcpu.registers_mut();
    assert_eq!((backend.rip, backend.interrupt_shadow), (0x8004, false));
    let step = Fault { exception: Exception::Debug, error_code: None, address: None };
    assert_eq!(next_event(&mut machine), Some(Event::Fault(step)));
}

#[test]
fn an_nmi_that_no_window_is_for_steps_the_guest() {
    let mut machine = machine();
    let (backend, _) = machine.vcpu.registers_mut();
    (backend.interrupt_shadow, backend.needs_steps_for_nmis) = (true, true);
    machine.vcpu.apic.inbox().post_nmi();
    machine.put_instruction(&[0x48, 0xcf]);
    assert_eq!(next_event(&mut machine), None);
    let (backend, _) = machine.vcpu.registers_mut();
    assert_eq!(backend.stepped.len(), 1);
    assert_eq!(backend.stepped[0][..2], [0x48, 0xcf]);
    backend.interrupt_shadow = false;
    assert_eq!(next_event(&mut machine), Some(Event::Nmi));
    assert_eq!(machine.vcpu.registers_mut().0.stepped.len(), 1, "once");
}

#[test]
fn an_nmi_that_waits_asks_for_its_window() {
    for (shadow, pending) in [(true, None), (false, Some(Event::Interrupt(0x30)))] {
        let mut machine = machine();
        let (backend, _) = machine.vcpu.registers_mut();
        backend.interrupt_shadow = shadow;
        machine.vcpu.pending = pending;
        machine.vcpu.apic.inbox().post_nmi();
        assert_eq!(next_event(&mut machine), pending);
        let (backend, _) = machine.vcpu.registers_mut();
        assert!(backend.nmi_window);
        backend.interrupt_shadow = false;
        assert_eq!(next_event(&mut machine), Some(Event::Nmi));
    }
}
