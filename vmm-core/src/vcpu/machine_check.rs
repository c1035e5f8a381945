//! A machine check while a guest ran, or was about to.

use super::Vcpu;
use super::counters::ExitKind;
use crate::backend::Backend;
use crate::host::machine_check::{self, Interrupted, Verdict};

impl<B: Backend> Vcpu<B> {
    /// Says what it was, and ends what cannot go on. A guest has no banks (MCG_CAP), and could not
    /// be told.
    #[cold]
    pub(super) fn machine_check(&mut self) -> ExitKind {
        let kind = ExitKind::MachineCheck;
        let Some(registers) = self.platform.machine_check_registers() else {
            return self.crash("a machine check that no register tells of", kind);
        };
        let space = &self.vm.space;
        let verdict =
            machine_check::verdict(registers, Interrupted::Guest(&|hpa| space.holds(hpa)));
        if verdict == Verdict::MachineIsLost {
            // The banks stay as they are: the panic shows them, and what is started next finds
            // them.
            panic!("a machine check that the machine does not survive, while {} ran", self.vm.name);
        }
        machine_check::log_and_clear(registers, self.platform.cpu());
        match verdict {
            Verdict::GuestIsLost => self.crash("a machine check in what the guest does", kind),
            _ => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::exit::Exit;
    use crate::fuzzing::Machine;
    use crate::host::machine_check::Register;
    use crate::host::machine_check::tests::{DATA_LOAD, Fake, PHYSICAL_LINE, RECOVERS, RESTART};
    use crate::host::platform::Platform;
    use crate::test_platform::TestPlatform;
    use crate::vm::Stop;
    use crate::vm::memory::Backing;
    use emulator::event::Event;
    use emulator::registers::Exception;

    /// The end, if it is one, of a guest whose run is ended by a #MC.
    fn stop_by(
        platform: &'static TestPlatform,
        machine: &mut Machine,
        registers: Fake,
    ) -> Option<Stop> {
        platform.set_machine_checks(registers);
        machine.exit(Exit::Exception(Exception::MachineCheck));
        let registers = platform.machine_check_registers()?;
        assert_eq!(registers.read(Register::BankStatus(1)), 0);
        assert_eq!(registers.read(Register::Status), 0, "another one may come");
        machine.vcpu.vm().stop.requested()
    }

    #[test]
    fn a_guest_goes_on_after_an_error_that_was_corrected() {
        let platform = TestPlatform::leak();
        let mut machine = Machine::new(platform);
        let registers = Fake::new(RECOVERS, RESTART | 4).with(1, 1 << 63 | 0x135, 0, 0);
        assert_eq!(stop_by(platform, &mut machine, registers), None);
    }

    /// As VT-x reports one at an entry, the event with it.
    #[test]
    fn an_event_that_a_corrected_error_kept_from_the_guest_comes_with_the_next_entry() {
        let platform = TestPlatform::leak();
        let mut machine = Machine::new(platform);
        machine.vcpu.registers_mut().0.interrupted = Some(Event::Interrupt(0x30));
        let registers = Fake::new(RECOVERS, RESTART | 4).with(1, 1 << 63 | 0x135, 0, 0);
        assert_eq!(stop_by(platform, &mut machine, registers), None);
        machine.exit(Exit::HostNmi);
        let injected = &machine.vcpu.registers_mut().0.injected;
        assert_eq!(injected.last(), Some(&Event::Interrupt(0x30)));
    }

    #[test]
    fn a_guest_that_met_an_error_in_its_memory_is_stopped() {
        for backing in [Backing::Ram, Backing::Video] {
            let platform = TestPlatform::leak();
            let mut machine = Machine::new(platform);
            let address = machine.vcpu.vm().space.host_address(backing, 0x1234);
            let registers =
                Fake::new(RECOVERS, RESTART | 4).with(1, DATA_LOAD, address, PHYSICAL_LINE);
            assert_eq!(stop_by(platform, &mut machine, registers), Some(Stop::Crash));
        }
    }

    #[test]
    #[should_panic(expected = "a machine check that the machine does not survive")]
    fn an_error_in_the_hypervisors_memory_ends_it() {
        let platform = TestPlatform::leak();
        let mut machine = Machine::new(platform);
        let registers = Fake::new(RECOVERS, RESTART | 4).with(1, DATA_LOAD, 0x10, PHYSICAL_LINE);
        stop_by(platform, &mut machine, registers);
    }

    #[test]
    fn a_check_that_no_register_tells_of_stops_the_guest() {
        let mut machine = Machine::new(TestPlatform::leak());
        machine.exit(Exit::Exception(Exception::MachineCheck));
        assert_eq!(machine.vcpu.vm().stop.requested(), Some(Stop::Crash));
    }
}
