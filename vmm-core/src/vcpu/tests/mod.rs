//! Exits that a hostile guest causes.

mod exceptions;
mod host;
mod interrupts;
mod pv;
mod registers;
mod resets;
mod tasks;
mod ticks;

use crate::backend::exit::Exit;
use crate::fuzzing::Machine;
use crate::test_platform::TestPlatform;
use crate::vcpu::Housekeeping;
use emulator::event::Event;
use emulator::registers::Gpr;

const WRMSR: &[u8] = &[0x0f, 0x30];
const APIC_BASE: u32 = 0x1b;

fn machine() -> Machine {
    Machine::new(TestPlatform::leak())
}

/// The event that the guest gets at its next entry.
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

fn write_ports(machine: &mut Machine, writes: &[(u16, u32)]) {
    for &(port, value) in writes {
        machine.vcpu.vm().ports.write(port, 1, value);
    }
}

/// Counts its turns.
pub(super) struct Attended(pub(super) u32);

impl Housekeeping for Attended {
    fn attend(&mut self) {
        self.0 += 1;
    }

    fn take_answers(&mut self) {}

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}
