//! The timers that a CPU keeps beside those of the virtual CPU that it runs: of virtual CPUs that
//! are on no CPU, and of one that runs on another CPU.
//!
//! Where a processor takes posted interrupts, a tick then reaches a guest that runs without an
//! exit: the timekeeper posts it, and nothing rings on the guest's own CPU.

use crate::host::platform::{CpuInterrupt, Platform};
use crate::host::timers::{TimerQueue, TimerServer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::lock::{Ranked, rank};

/// The timers that it keeps, held while one rings.
type Servers = Ranked<Vec<TimerServer>, { rank::TIMEKEEPER }>;

/// The timekeeper, and what it keeps.
pub struct Timekeeper {
    platform: &'static dyn Platform,
    cpu: usize,
    /// The deadline of its timer; `u64::MAX` while it looks anew.
    armed_tsc: AtomicU64,
    servers: Servers,
}

impl Timekeeper {
    /// A timekeeper on CPU `cpu`, with nothing to keep.
    pub const fn new(platform: &'static dyn Platform, cpu: usize) -> Self {
        Self {
            platform,
            cpu,
            armed_tsc: AtomicU64::new(u64::MAX),
            servers: Servers::new(Vec::new()),
        }
    }

    /// The CPU's number.
    pub const fn cpu(&self) -> usize {
        self.cpu
    }

    /// For its CPU: serves the queues that are due; returns when the next one is, to be called
    /// again then, and after each interrupt.
    pub fn serve(&self) -> u64 {
        // A CPU that sets a deadline which is not seen below finds this, and gives notice.
        self.armed_tsc.store(u64::MAX, Ordering::SeqCst);
        let mut servers = self.servers.lock();
        let mut due_tsc = u64::MAX;
        for server in &mut *servers {
            let now_tsc = self.platform.tsc();
            if server.due_tsc() <= now_tsc {
                server.serve(now_tsc);
            }
            due_tsc = due_tsc.min(server.due_tsc());
        }
        self.armed_tsc.store(due_tsc, Ordering::SeqCst);
        due_tsc
    }

    /// Keeps the timers of a queue from now on.
    pub fn keep(&self, queue: &Arc<TimerQueue>) {
        self.servers.lock().push(TimerServer::new(queue.clone()));
        queue.set_keeper(Some(self.cpu));
        if self.platform.cpu() != self.cpu {
            self.notice(queue);
        }
    }

    /// Keeps them no more. None of them is being served when this returns.
    pub fn release(&self, queue: &Arc<TimerQueue>) {
        queue.set_keeper(None);
        self.servers.lock().retain(|server| !Arc::ptr_eq(server.queue(), queue));
    }

    /// Deadlines of a queue that it keeps have changed, or its guest's time goes on.
    pub fn notice(&self, queue: &TimerQueue) {
        if queue.due_tsc() >= self.armed_tsc.load(Ordering::SeqCst) {
            return;
        }
        if self.cpu == self.platform.cpu() {
            self.platform.interrupt_self();
        } else {
            self.platform.interrupt_cpu(self.cpu, CpuInterrupt::Kick);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::VmClock;
    use crate::host::kick::VcpuKick;
    use crate::test_platform::TestPlatform;
    use devices::time::{Clock, GuestTime, Timed};

    const CPU: usize = 3;
    const MS: u64 = 1_000_000;

    /// Counts its expiries.
    #[derive(Default)]
    struct Device(AtomicU64);

    impl Timed for Device {
        fn expired(&self, _now: GuestTime) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Bench {
        platform: &'static TestPlatform,
        clock: Arc<VmClock>,
        queue: Arc<TimerQueue>,
        device: Arc<Device>,
        keeper: Timekeeper,
    }

    impl Bench {
        fn new() -> Self {
            let platform = TestPlatform::leak();
            platform.advance_ns(5 * MS);
            let clock = Arc::new(VmClock::new(platform));
            let kick = Arc::new(VcpuKick::new(platform));
            let queue = TimerQueue::new(clock.clone(), kick, 1);
            let device = Arc::new(Device::default());
            queue.connect(0, device.clone());
            let keeper = Timekeeper::new(platform, CPU);
            keeper.keep(&queue);
            Self { platform, clock, queue, device, keeper }
        }

        /// The device wants to be told `ns` from now; true if the timekeeper is interrupted for it.
        fn set_alarm(&self, ns: u64) -> bool {
            self.queue.device_alarm(0).set(Some(self.clock.now() + ns));
            self.keeper.notice(&self.queue);
            self.platform.take_interrupts(CPU, CpuInterrupt::Kick) > 0
        }

        fn expiries(&self) -> u64 {
            self.device.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_device_is_told_when_its_deadline_has_come_and_not_before() {
        let bench = Bench::new();
        assert!(bench.set_alarm(3 * MS));
        assert_eq!((bench.keeper.serve(), bench.expiries()), (8 * MS, 0));
        bench.platform.advance_ns(3 * MS);
        bench.keeper.serve();
        assert_eq!(bench.expiries(), 1);
    }

    #[test]
    fn only_what_is_earlier_than_its_timer_interrupts_it() {
        let bench = Bench::new();
        bench.set_alarm(3 * MS);
        assert_eq!(bench.keeper.serve(), 8 * MS);
        assert!(!bench.set_alarm(4 * MS), "it looks again before that anyway");
        assert!(bench.set_alarm(2 * MS));
        assert_eq!(bench.keeper.serve(), 7 * MS);
    }

    #[test]
    fn a_guest_whose_time_stands_still_is_left_alone() {
        let bench = Bench::new();
        bench.set_alarm(3 * MS);
        bench.clock.stop();
        bench.platform.advance_ns(10 * MS);
        assert_eq!(bench.keeper.serve(), u64::MAX);
        assert_eq!(bench.expiries(), 0);
        bench.clock.start();
        assert_eq!(bench.keeper.serve(), 18 * MS);
    }

    #[test]
    fn what_it_does_not_keep_any_more_does_not_ring() {
        let bench = Bench::new();
        bench.set_alarm(MS);
        bench.keeper.release(&bench.queue);
        bench.platform.advance_ns(2 * MS);
        assert_eq!((bench.keeper.serve(), bench.expiries()), (u64::MAX, 0));
        assert_eq!(Arc::strong_count(&bench.queue), 1);
    }
}
