//! Timers and their ticks.

use super::{APIC_BASE, machine, next_event, write_msr, write_ports};
use crate::backend::exit::Exit;
use crate::fuzzing::Machine;
use crate::vcpu::events::EXTINT_CLASS;
use control::host::Host;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::Gpr;

/// The local APIC is on, and that of the first CPU.
const APIC_IN_X2APIC_MODE: u64 = 0xfee0_0d00;
const US: u64 = 1_000;

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
        if before > machine.platform.tsc() {
            continue;
        }
        machine.exit(Exit::ExternalInterrupt);
        expiries += 1;
        let wait = machine.platform.timer_tsc() - machine.platform.tsc();
        assert!(wait >= 20 * US, "the next interrupt comes after {wait} ns");
    }
    assert!((10..50).contains(&expiries), "{expiries} interrupts in a millisecond");
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
            assert_eq!(backend.window, (left != 0).then_some(EXTINT_CLASS));
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
    assert_eq!(machine.vcpu.registers_mut().0.window, Some(EXTINT_CLASS));
}

fn is_requested(machine: &Machine, vector: u8) -> bool {
    machine.vcpu.apic.page().get(0x20 + vector / 32) & 1 << (vector % 32) != 0
}

/// The processor takes `vector` out of the register page and ends it; false if it is not
/// requested.
fn processor_takes(machine: &Machine, vector: u8) -> bool {
    let (page, register, bit) = (machine.vcpu.apic.page(), 0x20 + vector / 32, 1 << (vector % 32));
    let is_requested = is_requested(machine, vector);
    page.set(register, page.get(register) & !bit);
    is_requested
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
        assert_eq!(machine.vcpu.registers_mut().0.window, Some(EXTINT_CLASS));
        let (backend, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rsp, 0x1000);
        backend.rflags.set_interrupt(true);
        machine.exit(Exit::InterruptWindow);
        assert!(
            machine.vcpu.registers_mut().0.interrupt_shadow,
            "the processor waits for one instruction"
        );
        assert!(!is_requested(&machine, PIT_VECTOR));
        machine.vcpu.registers_mut().0.interrupt_shadow = false;
        machine.exit(Exit::InterruptWindow);
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
