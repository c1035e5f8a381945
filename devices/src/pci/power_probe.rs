//! A [`SystemPower`] for tests: it counts.

use super::SystemPower;
use core::sync::atomic::{AtomicU32, Ordering};

/// Counts resets and power-offs.
#[derive(Debug, Default)]
pub struct PowerProbe {
    resets: AtomicU32,
    power_offs: AtomicU32,
}

impl PowerProbe {
    /// Resets so far.
    pub fn resets(&self) -> u32 {
        self.resets.load(Ordering::Relaxed)
    }

    /// Power-offs so far.
    pub fn power_offs(&self) -> u32 {
        self.power_offs.load(Ordering::Relaxed)
    }
}

impl SystemPower for PowerProbe {
    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    fn power_off(&self) {
        self.power_offs.fetch_add(1, Ordering::Relaxed);
    }
}
