//! How others reach a virtual CPU that runs, or sleeps, on a physical one.

use crate::host::platform::{CpuInterrupt, Platform};
use core::fmt;
use devices::atomic::{AtomicUsize, Ordering};
use devices::irq::LineTarget;
use devices::local_apic::Kick;

/// The wire to a virtual CPU. A kick is never lost: it interrupts the CPU that runs the virtual
/// one, and it stays for the virtual CPU's next look before it sleeps, wherever that is.
pub struct VcpuKick {
    platform: &'static dyn Platform,
    place: Place,
}

impl VcpuKick {
    /// A wire to a virtual CPU that does not run yet.
    pub fn new(platform: &'static dyn Platform) -> Self {
        Self { platform, place: Place::new() }
    }

    /// The virtual CPU is on the CPU that calls this from now on. It looks at all that waits before
    /// it enters the guest.
    pub fn arrive(&self) {
        self.place.arrive(self.platform.cpu());
    }

    /// It is nowhere from now on.
    pub fn leave(&self) {
        self.place.leave();
    }

    /// True if it was kicked since the last call: it has to look once more before it sleeps. To be
    /// asked with interrupts off; a kick that comes later interrupts the sleep.
    pub fn take(&self) -> bool {
        self.place.take()
    }

    /// The machine.
    pub(super) const fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    /// The CPU that it is on.
    pub(super) fn cpu(&self) -> Option<usize> {
        self.place.cpu()
    }

    #[inline]
    fn interrupt(&self, interrupt: CpuInterrupt) {
        if let Some(cpu) = self.place.kick()
            && cpu != self.platform.cpu()
        {
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

impl fmt::Debug for VcpuKick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VcpuKick(on {:?})", self.cpu())
    }
}

/// The CPU that a virtual CPU is on, and whether it was kicked: one word, so that a kick and an
/// arrival come one after the other.
struct Place(AtomicUsize);

impl Place {
    const KICKED: usize = 1;
    const CPU_SHIFT: u32 = 1;

    /// On no CPU.
    fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The number of the CPU has one added, so that none is 0.
    const fn cpu_of(word: usize) -> Option<usize> {
        (word >> Self::CPU_SHIFT).checked_sub(1)
    }

    fn arrive(&self, cpu: usize) {
        self.leave();
        self.0.fetch_or((cpu + 1) << Self::CPU_SHIFT, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.0.fetch_and(Self::KICKED, Ordering::SeqCst);
    }

    /// Returns the CPU to interrupt.
    fn kick(&self) -> Option<usize> {
        Self::cpu_of(self.0.fetch_or(Self::KICKED, Ordering::SeqCst))
    }

    fn take(&self) -> bool {
        self.0.fetch_and(!Self::KICKED, Ordering::SeqCst) & Self::KICKED != 0
    }

    fn cpu(&self) -> Option<usize> {
        Self::cpu_of(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(all(test, not(feature = "loom")))]
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

    #[test]
    fn a_kick_stays_until_it_is_taken_wherever_the_vcpu_goes_meanwhile() {
        let platform = TestPlatform::leak();
        let kick = VcpuKick::new(platform);
        assert!(!kick.take());
        kick.kick();
        kick.arrive();
        assert!(kick.take() && !kick.take(), "from before it ran");
        kick.notify();
        kick.leave();
        platform.be_cpu(3);
        kick.arrive();
        assert_eq!(kick.cpu(), Some(3));
        assert!(kick.take() && !kick.take(), "from its own CPU, before it moved");
    }
}

/// Every order of a CPU that posts and a virtual CPU that moves, looks and sleeps.
#[cfg(all(test, feature = "loom"))]
mod model {
    use super::*;
    use alloc::sync::Arc;
    use devices::atomic::AtomicBool;

    /// State that the two share: a message, the wire, and for each CPU whether an interrupt is
    /// pending.
    struct Bench {
        message: AtomicBool,
        place: Place,
        interrupts: [AtomicBool; 2],
    }

    impl Bench {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                message: AtomicBool::new(false),
                place: Place::new(),
                interrupts: [AtomicBool::new(false), AtomicBool::new(false)],
            })
        }

        fn post(&self) {
            self.message.swap(true, Ordering::SeqCst);
            if let Some(cpu) = self.place.kick() {
                self.interrupts[cpu].swap(true, Ordering::SeqCst);
            }
        }

        fn look(&self) -> bool {
            self.message.swap(false, Ordering::SeqCst)
        }
    }

    #[test]
    fn a_message_is_seen_or_its_kick_ends_the_sleep_or_the_guests_run() {
        for sleeps in [true, false] {
            loom::model(move || {
                let bench = Bench::new();
                let poster = bench.clone();
                let poster = loom::thread::spawn(move || poster.post());
                bench.place.arrive(0);
                let mut seen = bench.look();
                bench.place.leave();
                bench.place.arrive(1);
                loop {
                    seen |= bench.look();
                    if !sleeps || !bench.place.take() {
                        break;
                    }
                }
                poster.join().unwrap();
                let is_interrupted = bench.interrupts[1].swap(false, Ordering::SeqCst);
                assert!(seen || is_interrupted, "a message waits, and nothing ends the wait");
            });
        }
    }
}
