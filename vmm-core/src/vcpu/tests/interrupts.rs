//! Interrupts, NMIs and the local APIC.

use super::{machine, next_event, write_msr, write_ports};
use crate::backend::exit::Exit;
use crate::fuzzing::Machine;
use crate::vcpu::{Activity, Housekeeping};
use control::host::Host;
use devices::irq::LineTarget;
use devices::local_apic::{Interface, Vectors};
use emulator::event::Event;
use emulator::registers::{Exception, Fault};

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

/// Raises an interrupt, as input for the guest does, when it is attended to for the first time.
struct Raises(Option<Box<dyn Fn()>>);

impl Housekeeping for Raises {
    fn attend(&mut self) {
        if let Some(raise) = self.0.take() {
            raise();
        }
    }

    fn take_answers(&mut self) {}

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}

#[test]
fn a_halted_guest_does_not_sleep_over_an_interrupt_that_the_console_raises() {
    for (by_apic, vector) in [(true, 0x41), (false, 0x0c)] {
        let mut machine = machine();
        machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
        machine.vcpu.apic.mmio_write(0x350, 0x700);
        // The 8259 pair: edge-triggered, vectors from 8 on, nothing masked.
        write_ports(&mut machine, &[(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0)]);
        machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
        machine.vcpu.activity = Activity::Halted;
        let mut consoles = Raises(None);
        // Kicks from before it was halted take a turn of their own.
        for _ in 0..3 {
            machine.vcpu.turn(&mut consoles);
        }
        let (before, used) = (machine.platform.tsc(), machine.vcpu.vm.processors.used_ticks(0));
        machine.vcpu.turn(&mut consoles);
        assert!(machine.platform.tsc() > before, "nothing to do: it slept");
        assert_eq!(machine.vcpu.vm.processors.used_ticks(0), used, "no time of the guest's");
        let before = machine.platform.tsc();
        let (inbox, pic) = (machine.vcpu.apic.inbox().clone(), machine.vcpu.vm.pic.clone());
        consoles.0 = Some(Box::new(move || {
            if by_apic {
                assert!(inbox.post_vector(0x41, false));
            } else {
                pic.set_line(4, true);
            }
        }));
        machine.vcpu.turn(&mut consoles);
        machine.vcpu.turn(&mut consoles);
        assert_eq!(machine.platform.tsc(), before, "it slept");
        assert_eq!(machine.vcpu.activity, Activity::Running);
        assert_eq!(machine.vcpu.registers_mut().0.injected, [Event::Interrupt(vector)]);
    }
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
    assert_eq!(machine.vcpu.registers_mut().0.window, Some(16), "whatever the task priority");
    machine.vcpu.registers_mut().0.rflags.set_interrupt(true);
    assert_eq!(next_event(&mut machine), Some(Event::Interrupt(0x24)));
    assert_eq!(machine.vcpu.registers_mut().0.window, None);
}

/// The notification of a posted interrupt is handled before the entry. Work that is handled with
/// it, or a vector posted meanwhile, has to be attended to.
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
