//! Tells an emulator that has stalled from a guest that is slow, silent or broken.
//!
//! Bochs stops making progress in a run of a dozen or so. The evidence is the hypervisor's
//! management port: it is served from the host's timer, whatever the guest does, so a guest that
//! hangs never silences it.

use std::time::{Duration, Instant};

/// No byte from the machine for so long: the management port is asked whether anybody is there.
const SILENCE: Duration = Duration::from_secs(40);

/// A loader that reads large modules says nothing on the serial port, and there is no hypervisor to
/// ask yet.
const LOADING: Duration = Duration::from_secs(300);

/// How long the management port may take for its answer.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(40);

/// When the machine was last heard of.
pub struct Watchdog {
    heard: Instant,
    received: usize,
}

impl Watchdog {
    /// For a machine that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, received: 0 }
    }

    /// Whether the machine, from which `received` bytes have come so far, was silent for so long
    /// that it must be asked.
    pub fn is_suspicious(&mut self, received: usize, now: Instant) -> bool {
        if received != self.received {
            self.received = received;
            self.heard = now;
        }
        let patience = if received == 0 { LOADING } else { SILENCE };
        now.saturating_duration_since(self.heard) > patience
    }

    /// It was asked, and answered at `now`.
    pub fn answered(&mut self, now: Instant) {
        self.heard = now;
    }

    /// How long the machine has been silent at `now`.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silent_machine_is_asked() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(start);
        let loaded = start + LOADING;
        assert!(!watchdog.is_suspicious(0, loaded), "it may be loading");
        assert!(!watchdog.is_suspicious(1, loaded), "the hypervisor's first message");
        assert!(!watchdog.is_suspicious(1, loaded + SILENCE));
        let silent = loaded + SILENCE + Duration::from_secs(1);
        assert!(watchdog.is_suspicious(1, silent));
        watchdog.answered(silent);
        assert!(
            !watchdog.is_suspicious(1, silent + SILENCE),
            "it is there, its guest has nothing to say"
        );
    }

    #[test]
    fn a_machine_that_never_says_anything_is_asked_too() {
        let start = Instant::now();
        assert!(Watchdog::new(start).is_suspicious(0, start + LOADING + Duration::from_secs(1)));
    }
}
