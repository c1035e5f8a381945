//! The watchdog: each CPU looks whether the next one's loop turns, and asks it to if it does not.
//!
//! A CPU may sleep, or be in its guest, for as long as it likes: it is asked by an interrupt, which
//! ends both. One that does not turn then is in the hypervisor, and comes back from nowhere.
//! Patience is a number of looks and not a time: where the whole machine stands still, as an
//! emulator's may, the looks stand still with it.

use core::num::NonZeroU32;
use devices::atomic::{AtomicU32, Ordering};

/// So many looks in a row show that a loop does not turn. They are shared out over the time that
/// is given to it.
const LOOKS: u32 = 5;

/// The turns of a CPU's loop.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU32);

impl Pulse {
    /// A loop is not watched before its first turn.
    const NONE: u32 = 0;

    /// The loop turns.
    pub fn beat(&self) {
        let next = self.0.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.0.store(next, Ordering::Relaxed);
    }

    /// The loop has come to its end, and turns no more.
    pub fn end(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    fn read(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The outcome of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It turns, or it is not time to look.
    Turns,
    /// It has not turned since the last look: it is to be interrupted.
    Silent,
    /// It has not turned although it was interrupted more than once.
    Hangs,
}

/// The watch that a CPU keeps over the next one.
#[derive(Debug)]
pub struct Watch {
    period_ticks: u64,
    due_tsc: u64,
    seen: u32,
    silent_looks: u32,
}

impl Watch {
    /// A loop may take up to `timeout_s` for a turn, of whose seconds the time stamp counter counts
    /// `tsc_hz` ticks each.
    pub fn new(timeout_s: NonZeroU32, tsc_hz: u64) -> Self {
        let period_ticks = (tsc_hz / u64::from(LOOKS)).saturating_mul(timeout_s.get().into());
        Self { period_ticks, due_tsc: 0, seen: Pulse::NONE, silent_looks: 0 }
    }

    /// When it is time to look.
    pub const fn due_tsc(&self) -> u64 {
        self.due_tsc
    }

    /// Looks at the other CPU's pulse, if it is time.
    pub fn look(&mut self, pulse: &Pulse, now_tsc: u64) -> Finding {
        if now_tsc < self.due_tsc {
            return Finding::Turns;
        }
        self.due_tsc = now_tsc.saturating_add(self.period_ticks);
        let seen = pulse.read();
        if seen == Pulse::NONE || seen != self.seen {
            (self.seen, self.silent_looks) = (seen, 0);
            return Finding::Turns;
        }
        self.silent_looks += 1;
        if self.silent_looks < LOOKS { Finding::Silent } else { Finding::Hangs }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use Finding::{Hangs, Silent, Turns};

    const HZ: u64 = 1_000;

    fn watch() -> Watch {
        Watch::new(NonZeroU32::new(5).expect("not 0"), HZ)
    }

    fn beating() -> Pulse {
        let pulse = Pulse::default();
        pulse.beat();
        pulse
    }

    /// The findings of looks at these times, between which the loop does not turn.
    fn findings(watch: &mut Watch, pulse: &Pulse, times: &[u64]) -> Vec<Finding> {
        times.iter().map(|&tsc| watch.look(pulse, tsc)).collect()
    }

    #[test]
    fn a_loop_that_does_not_turn_for_its_time_hangs_and_is_asked_before() {
        let (mut watch, pulse) = (watch(), beating());
        let times = [0, 1000, 2000, 3000, 4000, 5000];
        let expected = [Turns, Silent, Silent, Silent, Silent, Hangs];
        assert_eq!(findings(&mut watch, &pulse, &times), expected);
    }

    #[test]
    fn one_that_turns_only_when_it_is_asked_is_left_alone() {
        let (mut watch, pulse) = (watch(), beating());
        for look in 0..1000 {
            if watch.look(&pulse, look * HZ) == Silent {
                pulse.beat();
            }
        }
        for (looks, patient) in [(LOOKS - 1, true), (LOOKS, false)] {
            let mut watch = self::watch();
            let times: Vec<u64> = (0..=u64::from(looks)).map(|look| look * HZ).collect();
            assert_eq!(findings(&mut watch, &pulse, &times).contains(&Hangs), !patient);
        }
    }

    #[test]
    fn time_for_which_the_machine_stood_still_counts_as_one_look() {
        let (mut watch, pulse) = (watch(), beating());
        let times = [0, 1_000_000, 1_000_500, 2_000_000, 3_000_000];
        assert_eq!(findings(&mut watch, &pulse, &times), [Turns, Silent, Turns, Silent, Silent]);
        assert_eq!(watch.due_tsc(), 3_000_000 + HZ);
        pulse.beat();
        let times = [4_000_000, 5_000_000];
        assert_eq!(findings(&mut watch, &pulse, &times), [Turns, Silent]);
    }

    #[test]
    fn a_loop_is_not_looked_at_before_it_begins_nor_after_its_end() {
        let (mut watch, pulse) = (watch(), Pulse::default());
        let times: Vec<u64> = (0..20).map(|look| look * HZ).collect();
        assert_eq!(findings(&mut watch, &pulse, &times), [Turns; 20]);
        pulse.beat();
        pulse.end();
        let times: Vec<u64> = (20..40).map(|look| look * HZ).collect();
        assert_eq!(findings(&mut watch, &pulse, &times), [Turns; 20]);
    }

    #[test]
    fn the_count_of_turns_may_come_round() {
        let pulse = Pulse(AtomicU32::new(u32::MAX));
        pulse.beat();
        assert_eq!(pulse.read(), 1, "not that of a loop that has not begun");
    }

    #[test]
    fn the_time_is_shared_out_over_the_looks() {
        for (timeout_s, period_ticks) in [(1, HZ / 5), (5, HZ), (60, 12 * HZ)] {
            let timeout_s = NonZeroU32::new(timeout_s).expect("not 0");
            let mut watch = Watch::new(timeout_s, HZ);
            watch.look(&Pulse::default(), 7);
            assert_eq!(watch.due_tsc(), 7 + period_ticks);
        }
        let endless = Watch::new(NonZeroU32::MAX, u64::MAX);
        assert_eq!(endless.period_ticks, u64::MAX);
    }
}
