//! Guest time, from the CPU's time stamp counter.

use crate::platform::Platform;
use devices::time::{Clock, GuestTime};

/// The clock of one virtual machine: it starts at zero when the machine is made.
pub struct VmClock {
    platform: &'static dyn Platform,
    start_tsc: u64,
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
        Self { platform, start_tsc: platform.tsc(), tsc_hz, ns_per_tick_q32 }
    }

    /// The host's time stamp counter when the clock stood at zero.
    pub const fn start_tsc(&self) -> u64 {
        self.start_tsc
    }

    /// The moment at which the host's time stamp counter has a value.
    pub fn at_tsc(&self, tsc: u64) -> GuestTime {
        let ticks = tsc.saturating_sub(self.start_tsc);
        GuestTime::from_ns(((u128::from(ticks) * u128::from(self.ns_per_tick_q32)) >> 32) as u64)
    }

    /// The first value of the host's time stamp counter at which `time` has come.
    pub fn tsc_at(&self, time: GuestTime) -> u64 {
        let ticks = (u128::from(time.as_ns()) << 32).div_ceil(u128::from(self.ns_per_tick_q32.max(1)));
        self.start_tsc.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Rate of the time stamp counter in Hz.
    pub const fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }
}

impl Clock for VmClock {
    fn now(&self) -> GuestTime {
        self.at_tsc(self.platform.tsc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;

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
