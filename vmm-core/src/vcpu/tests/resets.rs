//! INIT and resets.

use super::{machine, write_msr};
use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::backend::{Backend, SystemRegister};
use crate::fuzzing::Machine;
use crate::vm::Stop;
use devices::memory::GuestMemory;
use devices::system_control::SystemControl;
use emulator::registers::Gpr;

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
fn a_virtual_cpu_that_is_removed_begins_anew_and_keeps_the_time() {
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    const TSC: u32 = 0x10;
    let mut machine = machine();
    let offset = machine.vcpu.registers_mut().0.tsc_offset;
    write_msr(&mut machine, MTRR_DEFAULT_TYPE, 0xc06);
    write_msr(&mut machine, TSC, 0x1234_5678_9abc);
    let (backend, _) = machine.vcpu.registers_mut();
    assert_ne!(backend.tsc_offset, offset);
    backend.set_system_register(SystemRegister::LStar, 0x5678);
    (backend.xcr0, backend.vectors[5]) = (7, [0x11; 32]);
    let processors = machine.vcpu.vm().chipset.processors.clone();
    processors.remove(0);
    machine.exit(Exit::HostNmi);
    assert!(processors.inbox(0).is_none(), "messages pass it by");
    processors.plug(0);
    assert!(processors.inbox(0).is_some_and(|inbox| inbox.routing().enabled()));
    let (backend, gprs) = machine.vcpu.registers_mut();
    assert_eq!(gprs.get(Gpr::Rcx), 0, "it came");
    assert_eq!(backend.system_register(SystemRegister::LStar), 0);
    assert_eq!((backend.xcr0, backend.vectors[5], backend.tsc_offset), (1, [0; 32], offset));
    assert_eq!(machine.vcpu.read_msr(MTRR_DEFAULT_TYPE), Ok(0));
    // The same once guest time has stood still.
    let clock = machine.vcpu.vm().clock.clone();
    clock.stop();
    machine.platform.advance_ns(5_000);
    clock.start();
    machine.vcpu.follow_clock();
    let offset = machine.vcpu.registers_mut().0.tsc_offset;
    processors.remove(0);
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.registers_mut().0.tsc_offset, offset);
}
