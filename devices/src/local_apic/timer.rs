//! The local APIC's timer (SDM 11.5.4): counting, without the interrupt that it raises.

use super::spec::{Divide, TimerMode};
use crate::irq::Ticks;
use crate::time::{GuestTime, next_after_missed};

/// The shortest time between two interrupts of a periodic timer, whatever the guest asks for: a
/// shorter period would keep the host busy with nothing but this timer. Several ticks come at once
/// then.
pub const MIN_PERIOD_NS: u64 = 50_000;

/// Expiries of the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiries {
    /// A count or deadline that comes once.
    One,
    /// Ticks of the periodic mode.
    Periodic(Ticks),
}

/// Counts down at 1 GHz through a divider.
#[derive(Clone, Debug)]
pub struct Timer {
    mode: TimerMode,
    divide: Divide,
    initial_count: u32,
    /// When the count was `initial_count`, in ns of guest time; wraps below zero if the divider
    /// changed.
    start_ns: u64,
    /// The number, from `start_ns`, of the expiry to wait for; 0: none.
    next_tick: u64,
    /// The least moment for the next interrupt of the periodic mode.
    not_before: GuestTime,
    deadline: Option<GuestTime>,
    raw_deadline: u64,
}

impl Timer {
    /// A timer that stands still.
    pub const fn new() -> Self {
        Self {
            mode: TimerMode::OneShot,
            divide: Divide::new(),
            initial_count: 0,
            start_ns: 0,
            next_tick: 0,
            not_before: GuestTime::ZERO,
            deadline: None,
            raw_deadline: 0,
        }
    }

    /// The register as written.
    pub const fn divide(&self) -> Divide {
        self.divide
    }

    /// The register as written.
    pub const fn initial_count(&self) -> u32 {
        self.initial_count
    }

    /// The guest's last write to IA32_TSC_DEADLINE, 0 once that moment has come.
    pub const fn raw_deadline(&self) -> u64 {
        self.raw_deadline
    }

    const fn period_ns(&self) -> u64 {
        (self.initial_count as u64) << self.divide.shift()
    }

    fn elapsed_ns(&self, now: GuestTime) -> u64 {
        now.as_ns().wrapping_sub(self.start_ns)
    }

    /// Starts a count; 0 stops. Ignored in TSC-deadline mode.
    pub fn set_initial_count(&mut self, count: u32, now: GuestTime) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial_count = count;
        self.start_ns = now.as_ns();
        self.next_tick = u64::from(count != 0);
    }

    /// Changes the divider; a running count goes on at the new rate.
    pub fn set_divide(&mut self, divide: Divide, now: GuestTime) {
        let counted = self.initial_count.wrapping_sub(self.current_count(now));
        self.divide = divide;
        self.start_ns = now.as_ns().wrapping_sub(u64::from(counted) << divide.shift());
        self.next_tick = self.next_tick.min(1);
    }

    /// Changes the mode; changing from or to TSC-deadline mode stops the timer.
    pub fn set_mode(&mut self, mode: TimerMode, now: GuestTime) {
        if mode == self.mode {
            return;
        }
        if mode == TimerMode::TscDeadline || self.mode == TimerMode::TscDeadline {
            *self = Self { mode, divide: self.divide, ..Self::new() };
            return;
        }
        // The current period ends under the new mode.
        let counted = self.initial_count.wrapping_sub(self.current_count(now));
        self.start_ns = now.as_ns().wrapping_sub(u64::from(counted) << self.divide.shift());
        self.next_tick = self.next_tick.min(1);
        self.mode = mode;
    }

    /// Waits for `deadline`, which the guest gave as TSC value `raw`; false if not in TSC-deadline
    /// mode.
    pub fn set_tsc_deadline(&mut self, deadline: Option<GuestTime>, raw: u64) -> bool {
        if self.mode != TimerMode::TscDeadline {
            return false;
        }
        self.deadline = if raw == 0 { None } else { deadline };
        self.raw_deadline = raw;
        true
    }

    /// The current count register.
    pub fn current_count(&self, now: GuestTime) -> u32 {
        if self.initial_count == 0 {
            return 0;
        }
        let counted = self.elapsed_ns(now) >> self.divide.shift();
        let initial = u64::from(self.initial_count);
        match self.mode {
            TimerMode::OneShot | TimerMode::Reserved => initial.saturating_sub(counted) as u32,
            TimerMode::Periodic if self.next_tick == 0 => 0,
            TimerMode::Periodic => (initial - counted % initial) as u32,
            TimerMode::TscDeadline => 0,
        }
    }

    /// Notes expiries up to `now`, and returns them.
    pub fn expire(&mut self, now: GuestTime) -> Option<Expiries> {
        if self.mode == TimerMode::TscDeadline {
            let is_due = self.deadline.is_some_and(|deadline| deadline <= now);
            if is_due {
                self.deadline = None;
                self.raw_deadline = 0;
            }
            return is_due.then_some(Expiries::One);
        }
        if self.next_tick == 0 || self.mode == TimerMode::Reserved {
            return None;
        }
        let period_ns = self.period_ns();
        let elapsed_ns = self.elapsed_ns(now);
        let elapsed = elapsed_ns / period_ns;
        if elapsed < self.next_tick {
            return None;
        }
        if self.mode != TimerMode::Periodic {
            self.next_tick = 0;
            return Some(Expiries::One);
        }
        let count = elapsed + 1 - self.next_tick;
        self.next_tick = next_after_missed(self.next_tick, elapsed);
        self.not_before = now + MIN_PERIOD_NS;
        Some(Expiries::Periodic(Ticks { count, period_ns, late_ns: elapsed_ns % period_ns }))
    }

    /// When to call [`Timer::expire`] next.
    pub fn next_deadline(&self, now: GuestTime) -> Option<GuestTime> {
        if self.mode == TimerMode::TscDeadline {
            return self.deadline;
        }
        if self.next_tick == 0 || self.mode == TimerMode::Reserved {
            return None;
        }
        let due_ns = self.period_ns().saturating_mul(self.next_tick);
        let left_ns = due_ns.saturating_sub(self.elapsed_ns(now));
        let due = now + left_ns;
        if self.mode != TimerMode::Periodic {
            return Some(due);
        }
        // One that would come too soon after the last one comes with another that follows.
        let wait_ns = self.not_before.since(due);
        Some(due + wait_ns.div_ceil(self.period_ns()).saturating_mul(self.period_ns()))
    }
}
