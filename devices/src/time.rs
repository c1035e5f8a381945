//! Guest time: what devices read, and how they ask to be woken.

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::ops::{Add, Sub};

/// A moment of guest time: nanoseconds since the virtual machine was created, not counting the time
/// in which it was not allowed to run. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestTime(u64);

impl GuestTime {
    /// The moment of creation.
    pub const ZERO: Self = Self(0);

    /// The moment `ns` nanoseconds after creation.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since creation.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to here; 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for GuestTime {
    type Output = Self;
    /// The moment `ns` nanoseconds later.
    fn add(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl Sub for GuestTime {
    type Output = u64;
    /// Nanoseconds between; 0 if `earlier` is later.
    fn sub(self, earlier: Self) -> u64 {
        self.since(earlier)
    }
}

const NS_PER_S: u64 = 1_000_000_000;

/// Whole cycles of a clock of `hz` in `ns` nanoseconds, exactly, rounded down. `hz` is below 18
/// GHz.
pub const fn ns_to_ticks(ns: u64, hz: u64) -> u64 {
    // Whole seconds apart, so that 64 bits do: guests poll timers in loops.
    (ns / NS_PER_S).wrapping_mul(hz).wrapping_add((ns % NS_PER_S).wrapping_mul(hz) / NS_PER_S)
}

/// The first nanosecond at which `ticks` whole cycles of a clock of `hz` have passed: the inverse
/// of [`ns_to_ticks`], rounded up.
pub const fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    // Whole seconds apart here too; `hz` is as above.
    let part = (ticks % hz).wrapping_mul(NS_PER_S).div_ceil(hz);
    (ticks / hz).saturating_mul(NS_PER_S).saturating_add(part)
}

/// Where a device reads guest time.
pub trait Clock: Send + Sync {
    /// Guest time now.
    fn now(&self) -> GuestTime;
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// A clock that stands at [`GuestTime::ZERO`].
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Moves the clock on.
    pub fn advance_ns(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> GuestTime {
        GuestTime::from_ns(self.0.load(Ordering::Relaxed))
    }
}

const DISARMED: u64 = u64::MAX;

/// The wire to the CPU whose timer rings for a deadline. Called from any CPU, possibly that one
/// itself, after the deadline is visible.
pub trait TimerWire: Send + Sync + fmt::Debug {
    /// A deadline is an earlier one now: a timer that is set already may be late for it.
    fn brought_forward(&self);
}

/// The deadlines of one virtual machine's devices, written by the devices and read by the run loop.
///
/// ```
/// use devices::time::{Deadlines, GuestTime};
///
/// let deadlines = Deadlines::new(2);
/// let alarm = deadlines.alarm(1);
/// alarm.set(Some(GuestTime::from_ns(500)));
/// assert_eq!(deadlines.earliest(), Some(GuestTime::from_ns(500)));
/// assert_eq!(deadlines.take_expired(GuestTime::from_ns(499)), None);
/// // The run loop calls the device of slot 1 now.
/// assert_eq!(deadlines.take_expired(GuestTime::from_ns(600)), Some(1));
/// assert_eq!(alarm.deadline(), None);
/// ```
#[derive(Debug)]
pub struct Deadlines {
    slots: Box<[AtomicU64]>,
    changed: AtomicBool,
    wire: Option<Arc<dyn TimerWire>>,
}

impl Deadlines {
    /// `count` disarmed slots, which are looked at by those that read them.
    pub fn new(count: usize) -> Arc<Self> {
        Self::build(count, None)
    }

    /// `count` disarmed slots; a deadline that is brought forward is told through `wire`.
    pub fn with_wire(count: usize, wire: Arc<dyn TimerWire>) -> Arc<Self> {
        Self::build(count, Some(wire))
    }

    fn build(count: usize, wire: Option<Arc<dyn TimerWire>>) -> Arc<Self> {
        let slots = (0..count).map(|_| AtomicU64::new(DISARMED)).collect();
        Arc::new(Self { slots, changed: AtomicBool::new(false), wire })
    }

    /// The alarm of slot `slot`, which must be below the count given to [`Deadlines::new`].
    pub fn alarm(self: &Arc<Self>, slot: usize) -> Alarm {
        assert!(slot < self.slots.len(), "no such alarm slot: {slot}");
        Alarm { deadlines: Some(self.clone()), slot }
    }

    /// True if a deadline changed since the last call.
    pub fn take_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::Acquire)
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Option<GuestTime> {
        let ns = self.least();
        (ns != DISARMED).then_some(GuestTime(ns))
    }

    /// The smallest word of the slots.
    fn least(&self) -> u64 {
        self.slots.iter().fold(DISARMED, |least, slot| least.min(slot.load(Ordering::SeqCst)))
    }

    /// A slot has another deadline than before.
    fn tell(&self, before_ns: u64, ns: u64) {
        if before_ns != ns {
            self.changed.store(true, Ordering::Release);
        }
        if ns < before_ns
            && let Some(wire) = &self.wire
        {
            wire.brought_forward();
        }
    }

    /// Disarms and returns a slot whose deadline is not after `now`, the earliest first.
    pub fn take_expired(&self, now: GuestTime) -> Option<usize> {
        let ns = self.least();
        if ns == DISARMED || ns > now.0 {
            return None;
        }
        let is_least = |slot: &AtomicU64| slot.load(Ordering::Relaxed) == ns;
        let slot = self.slots.iter().position(is_least)?;
        let taken =
            self.slots[slot].compare_exchange(ns, DISARMED, Ordering::AcqRel, Ordering::Relaxed);
        self.changed.store(true, Ordering::Release);
        taken.is_ok().then_some(slot)
    }
}

/// A device's wire to the timer queue: when the deadline has come, the owner of the queue calls
/// [`Timed::expired`] once. Arming it again replaces the deadline.
#[derive(Clone)]
pub struct Alarm {
    deadlines: Option<Arc<Deadlines>>,
    slot: usize,
}

impl Alarm {
    /// An alarm that never rings.
    pub fn detached() -> Self {
        Self { deadlines: None, slot: 0 }
    }

    /// Asks to be woken at `deadline` (which may be past: then as soon as possible), or not at all.
    pub fn set(&self, deadline: Option<GuestTime>) {
        let Some(deadlines) = &self.deadlines else { return };
        let ns = deadline.map_or(DISARMED, GuestTime::as_ns);
        deadlines.tell(deadlines.slots[self.slot].swap(ns, Ordering::SeqCst), ns);
    }

    /// Asks to be woken at `deadline`, or before if that was asked for already.
    pub fn set_at_most(&self, deadline: GuestTime) {
        let Some(deadlines) = &self.deadlines else { return };
        let before_ns = deadlines.slots[self.slot].fetch_min(deadline.0, Ordering::SeqCst);
        deadlines.tell(before_ns, deadline.0.min(before_ns));
    }

    /// The deadline now set.
    pub fn deadline(&self) -> Option<GuestTime> {
        let ns = self.deadlines.as_ref()?.slots[self.slot].load(Ordering::Relaxed);
        (ns != DISARMED).then_some(GuestTime(ns))
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alarm({:?})", self.deadline())
    }
}

/// A device that sets an alarm.
pub trait Timed: Send + Sync {
    /// The alarm's deadline is not after `now`. The alarm is disarmed; the device arms it again if
    /// it wants to.
    fn expired(&self, now: GuestTime);
}

/// Periods that passed while nobody could deliver them (the host was busy) come as one, and the
/// next one keeps its phase. Those between are up to
/// [`TickPacer`](crate::ticks::TickPacer).
///
/// `next` is the tick number that was due, `elapsed` the number of whole ticks that have passed by
/// now; the result is the number of the next tick to wait for.
pub const fn next_after_missed(next: u64, elapsed: u64) -> u64 {
    if elapsed >= next { elapsed + 1 } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_exact_over_years() {
        const PIT_HZ: u64 = 1_193_182;
        let year_ns = 365 * 86_400 * 1_000_000_000;
        assert_eq!(ns_to_ticks(year_ns, PIT_HZ), 365 * 86_400 * PIT_HZ);
        for ticks in [1, 2, 65_536, 1_193_181, 1_193_183, 40_000_000_000_000] {
            let ns = ticks_to_ns(ticks, PIT_HZ);
            assert_eq!(ns_to_ticks(ns, PIT_HZ), ticks);
            assert_eq!(ns_to_ticks(ns - 1, PIT_HZ), ticks - 1);
        }
    }

    #[test]
    fn the_earliest_alarm_rings_first_and_once() {
        let deadlines = Deadlines::new(2);
        let (late, early) = (deadlines.alarm(0), deadlines.alarm(1));
        late.set(Some(GuestTime::from_ns(20)));
        early.set(Some(GuestTime::from_ns(10)));
        assert!(deadlines.take_changed());
        assert_eq!(deadlines.earliest(), Some(GuestTime::from_ns(10)));
        assert_eq!(deadlines.take_expired(GuestTime::from_ns(9)), None);
        assert_eq!(deadlines.take_expired(GuestTime::from_ns(30)), Some(1));
        assert_eq!(deadlines.take_expired(GuestTime::from_ns(30)), Some(0));
        assert_eq!(deadlines.take_expired(GuestTime::from_ns(30)), None);
        assert_eq!(deadlines.earliest(), None);
    }

    #[derive(Debug, Default)]
    struct CountCalls(AtomicU64);

    impl TimerWire for CountCalls {
        fn brought_forward(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_deadline_that_is_brought_forward_is_told() {
        let wire = Arc::new(CountCalls::default());
        let alarm = Deadlines::with_wire(8, wire.clone()).alarm(7);
        for (ns, calls) in
            [(Some(20), 1), (Some(20), 1), (Some(30), 1), (None, 1), (Some(40), 2), (Some(1), 3)]
        {
            alarm.set(ns.map(GuestTime::from_ns));
            assert_eq!(wire.0.load(Ordering::Relaxed), calls, "{ns:?}");
        }
    }

    #[test]
    fn an_alarm_that_is_asked_for_at_most_a_deadline_keeps_an_earlier_one() {
        let wire = Arc::new(CountCalls::default());
        let deadlines = Deadlines::with_wire(1, wire.clone());
        let alarm = deadlines.alarm(0);
        for (ns, set_ns, calls) in [(20, 20, 1), (30, 20, 1), (20, 20, 1), (10, 10, 2)] {
            deadlines.take_changed();
            let before = alarm.deadline();
            alarm.set_at_most(GuestTime::from_ns(ns));
            assert_eq!(alarm.deadline(), Some(GuestTime::from_ns(set_ns)));
            assert_eq!(deadlines.take_changed(), alarm.deadline() != before);
            assert_eq!(wire.0.load(Ordering::Relaxed), calls, "{ns}");
        }
    }
}
