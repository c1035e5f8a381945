//! How others reach a virtual CPU that runs, or sleeps, on a physical one.

use crate::host::platform::{CpuInterrupt, Platform};
use core::sync::atomic::{AtomicUsize, Ordering};
use devices::irq::LineTarget;
use devices::local_apic::Kick;

/// No CPU runs it.
const NOWHERE: usize = usize::MAX;

/// The wire to a virtual CPU. On its own CPU nothing need be done: it looks at what waits before it
/// enters the guest.
pub struct VcpuKick {
    platform: &'static dyn Platform,
    cpu: AtomicUsize,
}

impl VcpuKick {
    /// A wire to a virtual CPU that does not run yet.
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self { platform, cpu: AtomicUsize::new(NOWHERE) }
    }

    /// The virtual CPU is on the CPU that calls this from now on.
    pub(super) fn arrive(&self) {
        self.cpu.store(self.platform.cpu(), Ordering::SeqCst);
    }

    /// It is nowhere from now on.
    pub(super) fn leave(&self) {
        self.cpu.store(NOWHERE, Ordering::SeqCst);
    }

    #[inline]
    fn interrupt(&self, interrupt: CpuInterrupt) {
        let cpu = self.cpu.load(Ordering::SeqCst);
        if cpu != NOWHERE && cpu != self.platform.cpu() {
            self.platform.interrupt_cpu(cpu, interrupt);
        }
    }
}

impl Kick for VcpuKick {
    fn kick(&self) {
        self.interrupt(CpuInterrupt::Kick);
    }

    fn notify(&self) {
        self.interrupt(CpuInterrupt::Notification);
    }
}

/// As what a wire leads to that the virtual CPU looks at before each entry.
impl LineTarget for VcpuKick {
    fn set_line(&self, _input: u32, high: bool) {
        if high {
            self.kick();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;

    #[test]
    fn only_others_interrupt_the_cpu_that_runs_it() {
        let platform = TestPlatform::leak();
        let kick = VcpuKick::new(platform);
        kick.kick();
        platform.be_cpu(2);
        kick.arrive();
        kick.notify();
        platform.be_cpu(0);
        kick.notify();
        kick.set_line(0, true);
        kick.set_line(0, false);
        assert_eq!(platform.take_interrupts(2, CpuInterrupt::Notification), 1);
        assert_eq!(platform.take_interrupts(2, CpuInterrupt::Kick), 1);
        kick.leave();
        kick.kick();
        assert_eq!(
            (0..4).map(|cpu| platform.take_interrupts(cpu, CpuInterrupt::Kick)).sum::<u64>(),
            0
        );
    }
}
