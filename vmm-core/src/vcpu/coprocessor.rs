//! x87 errors while CR0.NE is clear: IRQ 13 tells of them, and the processor waits before the next
//! x87 instruction, until an interrupt comes or port F0h makes it go on (SDM volume 1, appendix D;
//! APM volume 2, 15.14.2).
//!
//! A processor with AMD-V exits when it would wait so. VT-x keeps CR0.NE set, so that it raises #MF
//! there, which exits.

use super::{Activity, Vcpu};
use crate::backend::Backend;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};

/// The error summary in the x87 status word.
const ERROR_SUMMARY: u16 = 1 << 7;
/// The exceptions, and the stack fault.
const ERRORS: u16 = 0x7f;

/// The work that an error leaves to be done before the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCare {
    /// There is none.
    None,
    /// It may have gone.
    Watch,
    /// It is ignored: the instruction at RIP is to run nevertheless.
    Pass,
    /// An instruction has run, or was to, while these errors were hidden.
    Hidden { errors: u16 },
}

impl<B: Backend> Vcpu<B> {
    /// The instruction at RIP waits for the end of an error.
    #[cold]
    pub(super) fn coprocessor_error(&mut self) {
        self.vm.coprocessor.set_error(true);
        if self.vm.coprocessor.is_error_ignored() {
            self.error_care = ErrorCare::Pass;
            return;
        }
        self.error_care = ErrorCare::Watch;
        // The wait ends a shadow of STI or MOV SS: an interrupt comes within the instruction.
        self.backend.complete_instruction(self.backend.rip());
        self.activity = Activity::Frozen;
    }

    /// The part of a turn before the entry, while there is an error.
    #[cold]
    pub(super) fn care_for_error(&mut self) {
        if let ErrorCare::Hidden { errors } = self.error_care {
            self.backend.set_x87_errors(self.backend.x87_status() & ERRORS | errors);
            self.error_care = ErrorCare::Watch;
        }
        if self.backend.x87_status() & ERROR_SUMMARY == 0 {
            self.vm.coprocessor.set_error(false);
            self.error_care = ErrorCare::None;
        } else if self.error_care == ErrorCare::Pass {
            self.pass_error();
        }
    }

    /// Lets the instruction at RIP run as if there were no error. If the processor cannot make a
    /// step, the error is gone for good.
    fn pass_error(&mut self) {
        let errors = self.backend.x87_status() & ERRORS;
        self.backend.set_x87_errors(0);
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes).unwrap_or(0);
        self.error_care = match self.backend.can_step() {
            true if !replaces_status(&bytes[..count], self.backend.code_bits()) => {
                ErrorCare::Hidden { errors }
            }
            _ => ErrorCare::Watch,
        };
        if self.backend.can_step() && !self.is_stepping() {
            self.backend.begin_step(&mut self.gprs, &bytes[..count]);
        }
    }
}

/// The instruction loads the status word: an error before it is gone.
fn replaces_status(bytes: &[u8], code_bits: u32) -> bool {
    let instruction = Decoder::new(code_bits, bytes, DecoderOptions::NONE).decode();
    matches!(instruction.mnemonic(), Mnemonic::Fldenv | Mnemonic::Frstor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::exit::{Direction, Exit, PortAccess};
    use crate::fuzzing::Machine;
    use crate::test_platform::TestPlatform;
    use emulator::event::Event;
    use emulator::registers::{Cr0, Exception, Fault, Gpr, Rflags};

    const FWAIT: &[u8] = &[0x9b];
    const DIVISION_BY_ZERO: u16 = ERROR_SUMMARY | 1 << 2;
    const IRQ_13: u8 = 0x75;

    fn out(machine: &mut Machine, port: u16, value: u8) {
        let (backend, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rax, value.into());
        backend.next_rip = Some(backend.rip);
        machine.exit(Exit::Port(PortAccess {
            port,
            size_bytes: 1,
            direction: Direction::Out,
            string: false,
        }));
    }

    /// Before an FWAIT, with an error; interrupts on, IRQ 13 alone let through.
    fn machine() -> Machine {
        let mut machine = Machine::new(TestPlatform::leak());
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x08),
            (0x21, 4),
            (0x21, 1),
            (0x21, 0xfb),
            (0xa0, 0x11),
            (0xa1, 0x70),
            (0xa1, 2),
            (0xa1, 1),
            (0xa1, 0xdf),
        ] {
            out(&mut machine, port, value);
        }
        // The local APIC is on, its LINT0 is the 8259 pair's.
        machine.vcpu.apic.mmio_write(0xf0, 0x1ff);
        machine.vcpu.apic.mmio_write(0x350, 0x700);
        machine.put_instruction(FWAIT);
        let (backend, _) = machine.vcpu.registers_mut();
        backend.x87_status = DIVISION_BY_ZERO;
        backend.rflags = Rflags::new().with_interrupt(true);
        backend.injected.clear();
        machine
    }

    fn injected(machine: &mut Machine) -> Vec<Event> {
        core::mem::take(&mut machine.vcpu.registers_mut().0.injected)
    }

    #[test]
    fn with_native_errors_it_is_an_exception() {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.cr0 =
            Cr0::new().with_protection(true).with_numeric_error(true);
        machine.exit(Exit::Exception(Exception::X87));
        machine.exit(Exit::HostNmi);
        let fault = Fault { exception: Exception::X87, error_code: None, address: None };
        assert_eq!(injected(&mut machine), [Event::Fault(fault)]);
    }

    #[test]
    fn without_it_is_irq_13_and_the_instruction_waits() {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.interrupt_shadow = true;
        machine.exit(Exit::Exception(Exception::X87));
        assert_eq!(machine.vcpu.activity(), Activity::Frozen);
        machine.exit(Exit::HostNmi);
        assert_eq!(injected(&mut machine), [Event::Interrupt(IRQ_13)]);
        assert_eq!(machine.vcpu.activity(), Activity::Running);
    }

    #[test]
    fn with_interrupts_off_it_waits_for_ever() {
        let mut machine = machine();
        machine.vcpu.registers_mut().0.rflags = Rflags::new();
        machine.exit(Exit::Exception(Exception::X87));
        machine.exit(Exit::HostNmi);
        assert_eq!((machine.vcpu.activity(), injected(&mut machine)), (Activity::Frozen, vec![]));
    }

    #[test]
    fn an_ignored_error_is_hidden_for_one_instruction() {
        let mut machine = machine();
        machine.exit(Exit::Exception(Exception::X87));
        machine.exit(Exit::HostNmi);
        out(&mut machine, 0xf0, 0);
        machine.put_instruction(FWAIT);
        machine.exit(Exit::Exception(Exception::X87));
        assert_eq!(machine.vcpu.activity(), Activity::Running);
        machine.exit(Exit::Stepped);
        let (backend, _) = machine.vcpu.registers_mut();
        assert_eq!(
            (backend.x87_status, backend.stepped.last().map(|bytes| bytes[0])),
            (0, Some(0x9b))
        );
        machine.exit(Exit::HostNmi);
        assert_eq!(machine.vcpu.registers_mut().0.x87_status, DIVISION_BY_ZERO);
    }

    #[test]
    fn the_next_error_interrupts_again() {
        let mut machine = machine();
        for _ in 0..3 {
            machine.vcpu.registers_mut().0.x87_status = DIVISION_BY_ZERO;
            machine.put_instruction(FWAIT);
            machine.exit(Exit::Exception(Exception::X87));
            machine.exit(Exit::HostNmi);
            assert_eq!(injected(&mut machine), [Event::Interrupt(IRQ_13)]);
            out(&mut machine, 0xf0, 0);
            // FNCLEX.
            machine.vcpu.registers_mut().0.x87_status = 0;
            out(&mut machine, 0xa0, 0x20);
            out(&mut machine, 0x20, 0x20);
        }
    }

    #[test]
    fn an_environment_that_is_loaded_has_its_own_errors() {
        assert!(replaces_status(&[0xd9, 0x27], 32), "FLDENV");
        assert!(replaces_status(&[0x67, 0xdd, 0x20], 32), "FRSTOR");
        assert!(!replaces_status(&[0xd9, 0x2f], 32), "FLDCW");
        assert!(!replaces_status(&[], 16));
    }
}
