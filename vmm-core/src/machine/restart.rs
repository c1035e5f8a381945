//! The time between two lives of a guest.

use crate::console::{Consoles, GuestControl, GuestStats};
use crate::host::platform::Platform;
use crate::vcpu::debug::DebugTarget;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

/// From one start of a guest to its next, at the least. A guest that resets itself as soon as it
/// runs would otherwise take all of a CPU for being built and torn down, and fill the log with its
/// dumps.
const MIN_LIFE_S: u64 = 1;

/// A guest that will start again, for those who want to end it for good meanwhile.
#[derive(Default)]
struct Restarting {
    power_off: Cell<bool>,
}

impl GuestControl for Restarting {
    fn stats(&self) -> GuestStats {
        GuestStats { state: "restarting", total_exits: 0, exits: Vec::new(), guest_time_ns: 0 }
    }

    fn power_off(&self) {
        self.power_off.set(true);
    }

    fn reset(&self) {}

    fn dump(&self) -> String {
        String::new()
    }

    fn debug_target(&mut self) -> Option<&mut dyn DebugTarget> {
        None
    }
}

/// Waits until a guest that was started at `started_tsc` may start again; false if it was ended
/// meanwhile.
pub fn await_next_life(platform: &dyn Platform, consoles: &mut Consoles, started_tsc: u64) -> bool {
    let next_tsc = started_tsc.saturating_add(platform.tsc_hz().saturating_mul(MIN_LIFE_S));
    let mut guest = Restarting::default();
    while platform.tsc() < next_tsc && !guest.power_off.get() {
        let due_tsc = consoles.attend_by_host_time(Some(&mut guest));
        platform.set_timer(due_tsc.min(next_tsc));
        platform.idle();
    }
    !guest.power_off.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use config::CommandLine;
    use control::host::{Host, SerialPort};

    fn bench() -> (&'static TestPlatform, Consoles) {
        let platform = TestPlatform::leak();
        platform.advance_ns(5_000_000_000);
        let (options, _) = CommandLine::parse("console=com1 rpc=com2");
        (platform, Consoles::new(platform, &options))
    }

    #[test]
    fn a_short_life_is_followed_by_a_pause_in_which_management_answers() {
        let (platform, mut consoles) = bench();
        let started_tsc = platform.tsc() - 10_000_000;
        platform.type_at(
            SerialPort::Com2,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.stats\"}\n",
        );
        assert!(await_next_life(platform, &mut consoles, started_tsc));
        assert!(platform.tsc() >= started_tsc + 1_000_000_000);
        let answer = String::from_utf8(platform.take_sent(SerialPort::Com2)).unwrap();
        assert!(answer.contains("\"restarting\""), "{answer}");
    }

    #[test]
    fn a_long_life_is_followed_at_once() {
        let (platform, mut consoles) = bench();
        let now_tsc = platform.tsc();
        assert!(await_next_life(platform, &mut consoles, now_tsc - 1_000_000_000));
        assert_eq!(platform.tsc(), now_tsc);
    }

    #[test]
    fn a_guest_that_restarts_for_ever_can_be_ended() {
        for (port, text) in [
            (SerialPort::Com2, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.poweroff\"}\n"),
            (SerialPort::Com1, "destroy\r"),
        ] {
            let (platform, mut consoles) = bench();
            platform.type_at(port, text);
            let now_tsc = platform.tsc();
            assert!(!await_next_life(platform, &mut consoles, now_tsc));
        }
    }
}
