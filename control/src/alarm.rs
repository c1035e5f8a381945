//! The consoles' alarm: when they have something to do.

use crate::host::{Host, host_ns};
use core::fmt;
use devices::atomic::{AtomicU64, Ordering, fence};

/// The moment from which the consoles have something to do, in host time. They set it themselves;
/// a guest that transmits brings it forward, on whatever CPU it runs.
pub struct ConsoleAlarm {
    host: &'static dyn Host,
    due_ns: AtomicU64,
}

impl ConsoleAlarm {
    /// An alarm that is not set.
    pub fn new(host: &'static dyn Host) -> Self {
        Self { host, due_ns: AtomicU64::new(u64::MAX) }
    }

    /// The moment, in nanoseconds of host time; `u64::MAX` if there is none.
    pub fn due_ns(&self) -> u64 {
        self.due_ns.load(Ordering::SeqCst)
    }

    /// Sets it to `due_ns`, but not later than `retry_ns` if `output_waits` then: a guest on
    /// another CPU may have transmitted since the consoles looked. For the consoles.
    pub fn set(&self, due_ns: u64, retry_ns: u64, output_waits: impl FnOnce() -> bool) {
        self.due_ns.store(due_ns, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if due_ns > retry_ns && output_waits() {
            self.due_ns.fetch_min(retry_ns, Ordering::SeqCst);
        }
    }

    /// The consoles are to look in `delay_ns` at the latest.
    pub fn bring_forward(&self, delay_ns: u64) {
        let due_ns = host_ns(self.host).saturating_add(delay_ns);
        if self.due_ns.fetch_min(due_ns, Ordering::SeqCst) > due_ns {
            self.host.call_attendant();
        }
    }
}

impl fmt::Debug for ConsoleAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleAlarm").field("due_ns", &self.due_ns).finish_non_exhaustive()
    }
}
