//! Exceptions, and breakpoints on what is emulated.

use super::{machine, next_event};
use crate::backend::SystemRegister;
use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::fuzzing::Machine;
use crate::vm::Stop;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::{Exception, Fault, Gpr};
use emulator::task_switch::{Source, TaskSwitch};

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
fn exceptions_have_no_error_code_in_real_mode() {
    for protected in [false, true] {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.cr0.set_protection(protected);
        machine.exit(Exit::Forbidden);
        let fault = Fault { error_code: protected.then_some(0), ..Fault::PROTECTION };
        assert_eq!(next_event(&mut machine), Some(Event::Fault(fault)));
    }
}
