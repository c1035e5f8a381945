//! Guest time, from the CPU's time stamp counter.

use crate::host::platform::Platform;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::time::{Clock, GuestTime};

/// The clock of one virtual machine: it starts at zero when the machine is made.
pub struct VmClock {
    platform: &'static dyn Platform,
    start_tsc: AtomicU64,
    /// Ticks of the host's time stamp counter for which it was stopped, all together.
    stood_ticks: AtomicU64,
    /// Where it stands, in the host's time stamp counter; `u64::MAX` while it goes.
    stopped_tsc: AtomicU64,
    tsc_hz: u64,
    /// Nanoseconds a tick, with 32 fractional bits.
    ns_per_tick_q32: u64,
}

const NS_PER_S: u64 = 1_000_000_000;

impl VmClock {
    /// A clock that stands at zero now.
    pub fn new(platform: &'static dyn Platform) -> Self {
        let tsc_hz = platform.tsc_hz().max(1);
        let ns_per_tick_q32 = ((u128::from(NS_PER_S) << 32) / u128::from(tsc_hz)) as u64;
        Self {
            platform,
            start_tsc: AtomicU64::new(platform.tsc()),
            stood_ticks: AtomicU64::new(0),
            stopped_tsc: AtomicU64::new(u64::MAX),
            tsc_hz,
            ns_per_tick_q32,
        }
    }

    /// The host's time stamp counter when the clock stood at zero, not counting the ticks for which
    /// it was stopped.
    pub fn start_tsc(&self) -> u64 {
        self.start_tsc.load(Ordering::Relaxed)
    }

    /// The clock stands still from now on. No virtual CPU runs.
    pub fn stop(&self) {
        self.stopped_tsc.fetch_min(self.platform.tsc(), Ordering::Relaxed);
    }

    /// The clock goes on where it stands, if it was stopped. No virtual CPU runs but the one that
    /// calls this.
    pub fn start(&self) {
        let now_tsc = self.platform.tsc();
        let stood_ticks = now_tsc.saturating_sub(self.stopped_tsc.load(Ordering::Relaxed));
        self.start_tsc.fetch_add(stood_ticks, Ordering::Relaxed);
        self.stood_ticks.fetch_add(stood_ticks, Ordering::Relaxed);
        self.stopped_tsc.store(u64::MAX, Ordering::Relaxed);
    }

    /// Ticks of the host's time stamp counter for which it was stopped, all together: the time
    /// stamp counters of the guest are to lack them.
    pub fn stood_ticks(&self) -> u64 {
        self.stood_ticks.load(Ordering::Relaxed)
    }

    /// The clock stands still.
    pub fn is_stopped(&self) -> bool {
        self.stopped_tsc.load(Ordering::Relaxed) != u64::MAX
    }

    /// The moment at which the host's time stamp counter has a value, if the clock goes until then.
    pub fn at_tsc(&self, tsc: u64) -> GuestTime {
        let ticks = tsc.saturating_sub(self.start_tsc());
        GuestTime::from_ns(((u128::from(ticks) * u128::from(self.ns_per_tick_q32)) >> 32) as u64)
    }

    /// The first value of the host's time stamp counter at which `time` has come.
    pub fn tsc_at(&self, time: GuestTime) -> u64 {
        let ticks =
            (u128::from(time.as_ns()) << 32).div_ceil(u128::from(self.ns_per_tick_q32.max(1)));
        self.start_tsc().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Nanoseconds a tick of the time stamp counter, with 32 fractional bits.
    pub const fn ns_per_tick_q32(&self) -> u64 {
        self.ns_per_tick_q32
    }

    /// Rate of the time stamp counter in Hz.
    pub const fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }
}

impl Clock for VmClock {
    fn now(&self) -> GuestTime {
        self.at_tsc(self.platform.tsc().min(self.stopped_tsc.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;

    #[test]
    fn a_stopped_clock_goes_on_where_it_stood() {
        let platform = TestPlatform::leak();
        platform.advance_ns(10);
        let clock = VmClock::new(platform);
        clock.start();
        assert_eq!(clock.stood_ticks(), 0, "it was not stopped");
        platform.advance_ns(100);
        clock.stop();
        platform.advance_ns(1000);
        clock.stop();
        assert_eq!(clock.now(), GuestTime::from_ns(100));
        clock.start();
        assert_eq!(clock.stood_ticks(), 1000);
        platform.advance_ns(5);
        assert_eq!(clock.now(), GuestTime::from_ns(105));
        assert_eq!(clock.tsc_at(GuestTime::from_ns(105)), 1115);
    }

    #[test]
    fn a_deadline_has_come_at_its_tsc_and_not_before() {
        let platform = TestPlatform::leak();
        platform.advance_ns(12345);
        let clock = VmClock::new(platform);
        assert_eq!(clock.now(), GuestTime::ZERO);
        platform.advance_ns(777);
        assert_eq!(clock.now(), GuestTime::from_ns(777));
        let tsc = clock.tsc_at(GuestTime::from_ns(5_000_000_001));
        assert!(clock.at_tsc(tsc) >= GuestTime::from_ns(5_000_000_001));
        assert!(clock.at_tsc(tsc - 1) < GuestTime::from_ns(5_000_000_001));
    }
}
