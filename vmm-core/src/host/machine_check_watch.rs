//! Looking for errors that were corrected, and for those that a #MC in the hypervisor left to be
//! logged.

use crate::host::machine_check::log_and_clear;
use crate::host::platform::Platform;
use control::host::host_ns;
use devices::time::ns_to_ticks;

/// Between two looks: a bank holds one error, so that rare ones are told of one by one, and a storm
/// of them does not fill the log.
const PERIOD_NS: u64 = 10_000_000_000;

/// One CPU's look at its banks.
#[derive(Debug, Default)]
pub struct MachineCheckWatch {
    due_ns: u64,
}

impl MachineCheckWatch {
    /// Logs what there is, if it is time. Returns the host time at which to call again; `None` for
    /// never.
    pub fn attend(&mut self, platform: &dyn Platform, now_ns: u64) -> Option<u64> {
        let registers = platform.machine_check_registers()?;
        if platform.take_machine_check() || now_ns >= self.due_ns {
            log_and_clear(registers, platform.cpu());
            self.due_ns = now_ns.saturating_add(PERIOD_NS);
        }
        Some(self.due_ns)
    }

    /// The same for a CPU that keeps no other time than the time stamp counter's.
    pub fn attend_by_tsc(&mut self, platform: &dyn Platform) -> u64 {
        let due_ns = self.attend(platform, host_ns(platform));
        due_ns.map_or(u64::MAX, |ns| ns_to_ticks(ns, platform.tsc_hz()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::machine_check::Register;
    use crate::host::machine_check::tests::{Fake, RECOVERS};
    use crate::test_platform::TestPlatform;

    const ERROR: u64 = 1 << 63 | 5;

    #[test]
    fn banks_are_looked_at_in_turn_and_emptied() {
        let platform = TestPlatform::leak();
        assert_eq!(
            MachineCheckWatch::default().attend_by_tsc(platform),
            u64::MAX,
            "a CPU without banks"
        );
        platform.set_machine_checks(Fake::new(RECOVERS, 0).with(2, ERROR, 0, 0));
        let status =
            || platform.machine_check_registers().map(|banks| banks.read(Register::BankStatus(2)));
        let mut watch = MachineCheckWatch::default();
        assert_eq!((watch.attend(platform, 0), status()), (Some(PERIOD_NS), Some(0)));
        let put = || {
            let registers = platform.machine_check_registers();
            registers.map(|registers| registers.write(Register::BankStatus(2), ERROR))
        };
        put();
        assert_eq!(
            (watch.attend(platform, PERIOD_NS - 1), status()),
            (Some(PERIOD_NS), Some(ERROR))
        );
        assert_eq!((watch.attend(platform, PERIOD_NS), status()), (Some(2 * PERIOD_NS), Some(0)));
        put();
        platform.note_machine_check();
        assert_eq!(
            (watch.attend(platform, PERIOD_NS + 5), status()),
            (Some(2 * PERIOD_NS + 5), Some(0))
        );
    }
}
