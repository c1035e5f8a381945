//! The time between two lives of a guest.

use super::attendant::Attendant;
use crate::host::platform::Platform;
use crate::vcpu::Housekeeping;
use alloc::vec::Vec;
use control::mailbox::{Answer, Mailbox, Request};
use control::state::GuestStats;

/// From one start of a guest to its next, at the least. A guest that resets itself as soon as it
/// runs would otherwise take all of a CPU for being built and torn down, and fill the log with its
/// dumps.
const MIN_LIFE_S: u64 = 1;

/// Waits until a guest that was started at `started_tsc` may start again; false if it was ended
/// meanwhile.
pub fn await_next_life(
    platform: &dyn Platform,
    attendant: &mut Attendant,
    mailbox: &Mailbox,
    started_tsc: u64,
) -> bool {
    let next_tsc = started_tsc.saturating_add(platform.tsc_hz().saturating_mul(MIN_LIFE_S));
    let mut is_ended = false;
    while platform.tsc() < next_tsc && !is_ended {
        attendant.attend();
        while let Some((client, request)) = mailbox.take_request() {
            is_ended |= request == Request::PowerOff;
            mailbox.put_answer(client, answer(&request));
            attendant.take_answers();
        }
        platform.set_timer(attendant.due_tsc().min(next_tsc));
        platform.idle();
    }
    !is_ended
}

/// A guest that will start again has no virtual CPU, but can be ended for good.
fn answer(request: &Request) -> Answer {
    match request {
        Request::Stats => Answer::Stats(GuestStats {
            state: "restarting",
            total_exits: 0,
            exits: Vec::new(),
            guest_time_ns: 0,
        }),
        Request::PowerOff | Request::Reset => Answer::Done,
        _ => Answer::NoGuest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use alloc::string::String;
    use alloc::sync::Arc;
    use config::CommandLine;
    use control::guest::GuestFacts;
    use control::host::{Host, SerialPort};

    fn bench() -> (&'static TestPlatform, Attendant, Arc<Mailbox>) {
        let platform = TestPlatform::leak();
        platform.advance_ns(5_000_000_000);
        let (options, _) = CommandLine::parse("console=com1 rpc=com2");
        let mut attendant = Attendant::new(platform, &options);
        let mailbox = Arc::new(Mailbox::new(1, "g"));
        attendant.consoles.introduce(mailbox.clone(), GuestFacts { memory_mib: 64, vcpus: 1 });
        (platform, attendant, mailbox)
    }

    #[test]
    fn a_short_life_is_followed_by_a_pause_in_which_management_answers() {
        let (platform, mut attendant, mailbox) = bench();
        let started_tsc = platform.tsc() - 10_000_000;
        platform.type_at(
            SerialPort::Com2,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.stats\"}\n",
        );
        assert!(await_next_life(platform, &mut attendant, &mailbox, started_tsc));
        assert!(platform.tsc() >= started_tsc + 1_000_000_000);
        let answer = String::from_utf8(platform.take_sent(SerialPort::Com2)).unwrap();
        assert!(answer.contains("\"restarting\""), "{answer}");
    }

    #[test]
    fn a_long_life_is_followed_at_once() {
        let (platform, mut attendant, mailbox) = bench();
        let now_tsc = platform.tsc();
        assert!(await_next_life(platform, &mut attendant, &mailbox, now_tsc - 1_000_000_000));
        assert_eq!(platform.tsc(), now_tsc);
    }

    #[test]
    fn a_guest_that_restarts_for_ever_can_be_ended() {
        for (port, text) in [
            (SerialPort::Com2, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.poweroff\"}\n"),
            (SerialPort::Com1, "destroy\r"),
        ] {
            let (platform, mut attendant, mailbox) = bench();
            platform.type_at(port, text);
            let now_tsc = platform.tsc();
            assert!(!await_next_life(platform, &mut attendant, &mailbox, now_tsc));
        }
    }
}
