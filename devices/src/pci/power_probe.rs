//! A [`SystemPower`] for tests: it notes resets and counts power-offs.

use super::{ResetKind, SystemPower};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// Notes resets and counts power-offs.
#[derive(Debug, Default)]
pub struct PowerProbe {
    resets: Mutex<Vec<ResetKind>>,
    power_offs: AtomicU32,
}

impl PowerProbe {
    /// Resets since the last call.
    pub fn take_resets(&self) -> Vec<ResetKind> {
        core::mem::take(&mut self.resets.lock())
    }

    /// Power-offs so far.
    pub fn power_offs(&self) -> u32 {
        self.power_offs.load(Ordering::Relaxed)
    }
}

impl SystemPower for PowerProbe {
    fn reset(&self, kind: ResetKind) {
        self.resets.lock().push(kind);
    }

    fn power_off(&self) {
        self.power_offs.fetch_add(1, Ordering::Relaxed);
    }
}
