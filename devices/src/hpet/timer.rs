//! One comparator of the HPET.
//!
//! A *tick* is a period of the main counter since the virtual machine was created, whether the
//! counter runs or not.

use super::spec::{TICK_NS, TimerConfiguration};
use crate::ticks::MIN_SPACING_NS;
use crate::time::next_after_missed;

/// A comparator written with a value that the counter passed at most this long ago (10 ms) matches
/// at once. The chip would wait for the counter to come round; but a guest that asks for a delay of
/// microseconds may find it over when its write arrives here.
const LATE_TICKS: u64 = 1_000_000;

/// Interrupts of a periodic timer are at least this far apart (100 us), so that a guest that
/// programs a tiny period cannot keep the host busy. Several come at once then.
const MIN_INTERRUPT_DISTANCE_TICKS: u64 = MIN_SPACING_NS / TICK_NS;

/// Matches of counter and comparator that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matches {
    pub(super) count: u64,
    /// Ticks since the last of them.
    pub(super) late: u64,
}

/// The volatile state of one timer.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    config: TimerConfiguration,
    comparator: u64,
    period: u64,
    /// Tn_FSB_ROUTE.
    pub(super) message: u64,
    /// When the counter will next equal the comparator.
    next_match: Option<u64>,
    last_match: u64,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self {
            config: TimerConfiguration::initial(),
            comparator: u64::MAX,
            period: 0,
            message: 0,
            next_match: None,
            last_match: 0,
        }
    }

    pub(super) fn config(&self) -> TimerConfiguration {
        self.config
    }

    /// The message that it sends instead of driving a line, its address and its value.
    pub(super) fn message(&self) -> Option<(u64, u32)> {
        self.config.fsb_enable().then_some((self.message >> 32, self.message as u32))
    }

    /// Its line stays high until its status is cleared. Messages are edges.
    pub(super) fn is_level(&self) -> bool {
        self.config.level() && !self.config.fsb_enable()
    }

    pub(super) fn comparator(&self) -> u64 {
        self.comparator
    }

    /// The bits in which counter and comparator are compared.
    fn mask(&self) -> u64 {
        if self.config.mode_32() { u32::MAX.into() } else { u64::MAX }
    }

    /// Ticks from one match to the next, if there is a next.
    fn interval(&self) -> Option<u64> {
        // A one-shot timer matches again when the counter has come round.
        self.period().or_else(|| self.mask().checked_add(1))
    }

    /// The ticks of the counter from one interrupt to the next of a periodic timer.
    pub(super) fn period(&self) -> Option<u64> {
        (self.config.periodic() && self.period != 0).then_some(self.period)
    }

    /// Passes the matches up to `tick`, if there were any.
    pub(super) fn advance(&mut self, tick: u64) -> Option<Matches> {
        let due = self.next_match.filter(|&due| due <= tick)?;
        self.last_match = tick;
        let Some(interval) = self.interval() else {
            self.next_match = None;
            return Some(Matches { count: 1, late: tick - due });
        };
        let count = next_after_missed(0, (tick - due) / interval);
        self.next_match = interval.checked_mul(count).and_then(|passed| due.checked_add(passed));
        if self.config.periodic()
            && let Some(next) = self.next_match
        {
            self.comparator = self.comparator.wrapping_add(next - due) & self.mask();
        }
        Some(Matches { count, late: (tick - due) % interval })
    }

    /// Computes the next match from the counter, which is `counter` at `tick` and runs.
    pub(super) fn schedule(&mut self, tick: u64, counter: u64) {
        let ahead = self.comparator.wrapping_sub(counter) & self.mask();
        self.next_match = if ahead == 0 {
            self.mask().checked_add(1).and_then(|round| tick.checked_add(round))
        } else {
            tick.checked_add(ahead)
        };
    }

    /// The counter has stopped.
    pub(super) fn unschedule(&mut self) {
        self.next_match = None;
    }

    /// Takes a new configuration; the caller schedules.
    pub(super) fn set_config(&mut self, written: TimerConfiguration) {
        self.config = self.config.update(written);
        self.comparator &= self.mask();
        self.period &= self.mask();
    }

    /// Takes a write to the comparator: `merge` puts the bytes written into an old value. `counter`
    /// is the counter's value at `tick` if it runs.
    pub(super) fn write_comparator(
        &mut self,
        tick: u64,
        counter: Option<u64>,
        merge: impl Fn(u64) -> u64,
    ) {
        let sets_comparator = !self.config.periodic() || self.config.set_comparator();
        if self.config.periodic() {
            self.period = merge(self.period) & self.mask();
        }
        self.config.set_set_comparator(false);
        if !sets_comparator {
            return;
        }
        self.comparator = merge(self.comparator) & self.mask();
        let Some(counter) = counter else { return };
        if counter.wrapping_sub(self.comparator) & self.mask() <= LATE_TICKS {
            self.next_match = Some(tick);
        } else {
            self.schedule(tick, counter);
        }
    }

    /// When the next interrupt is due, if it is enabled.
    pub(super) fn next_interrupt(&self) -> Option<u64> {
        let next = self.next_match.filter(|_| self.config.enable())?;
        let allowed = self.last_match.saturating_add(MIN_INTERRUPT_DISTANCE_TICKS);
        let Some(period) = self.period().filter(|_| next < allowed) else { return Some(next) };
        next.checked_add((allowed - next).div_ceil(period).checked_mul(period)?)
    }
}
