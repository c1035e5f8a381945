//! Locked instructions on device memory.

use core::sync::atomic::{AtomicBool, Ordering};
use devices::lock::{self, rank};

/// Held by a virtual CPU from the first to the last access of a locked instruction to a device, and
/// by its siblings for each of their writes. Nothing is waited for with it held, but a device's own
/// lock.
#[derive(Debug, Default)]
pub struct BusLock(AtomicBool);

impl BusLock {
    /// Waits until no other virtual CPU holds it.
    pub fn acquire(&self) {
        lock::take(rank::BUS);
        while self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
    }

    /// The next one may have it.
    pub fn release(&self) {
        self.0.store(false, Ordering::Release);
        lock::leave(rank::BUS);
    }
}

/// A virtual CPU's writes to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusUse {
    /// It has no siblings.
    Alone,
    /// Siblings may carry out a locked instruction meanwhile.
    Shared,
    /// It carries out one, and holds the lock.
    Locked,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::thread;

    #[test]
    fn reads_and_writes_under_the_lock_belong_together() {
        const ROUNDS: u32 = 2000;
        let (lock, count) = (BusLock::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        lock.acquire();
                        let before = count.load(Ordering::Relaxed);
                        thread::yield_now();
                        count.store(before + 1, Ordering::Relaxed);
                        lock.release();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * ROUNDS);
    }
}
