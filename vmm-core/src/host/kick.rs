//! How others reach a virtual CPU that runs, or sleeps, on a physical one.

use crate::host::platform::{CpuInterrupt, Platform};
use alloc::boxed::Box;
use core::fmt;
use devices::atomic::{AtomicUsize, Ordering};
use devices::irq::LineTarget;
use devices::local_apic::Kick;
use spin::Once;

/// Lets a virtual CPU that waits on no CPU run again: the scheduler's part of a kick. Called on any
/// CPU, perhaps with a device's lock held.
pub trait Wake: Send + Sync {
    /// It is to run.
    fn wake(&self);
}

/// The wire to a virtual CPU. A kick is never lost: it interrupts the CPU that runs the virtual
/// one, wakes one that waits for it, and stays for the virtual CPU's next look before it sleeps or
/// waits, wherever that is.
pub struct VcpuKick {
    platform: &'static dyn Platform,
    place: Place,
    wake: Once<Box<dyn Wake>>,
}

impl VcpuKick {
    /// A wire to a virtual CPU that does not run yet.
    pub fn new(platform: &'static dyn Platform) -> Self {
        Self { platform, place: Place::new(), wake: Once::new() }
    }

    /// Names what wakes the virtual CPU while it waits ([`VcpuKick::wait`]). Only the first call
    /// counts.
    pub fn connect(&self, wake: impl Wake + 'static) {
        self.wake.call_once(|| Box::new(wake));
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

    /// The virtual CPU has nothing to run, and leaves its CPU until it is kicked. False if it was
    /// kicked since the last [`VcpuKick::take`], which this is too: it has to look once more.
    pub fn wait(&self) -> bool {
        self.place.wait()
    }

    /// Interrupts the CPU that runs the virtual one, if another does: it looks at what was changed
    /// before it enters the guest again. One that does not run will look anyway.
    pub fn interrupt_running(&self) {
        if let Some(cpu) = self.cpu().filter(|&cpu| cpu != self.platform.cpu()) {
            self.platform.interrupt_cpu(cpu, CpuInterrupt::Kick);
        }
    }

    /// The machine.
    pub(super) const fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    /// The CPU that it is on.
    pub fn cpu(&self) -> Option<usize> {
        self.place.cpu()
    }

    #[inline]
    fn interrupt(&self, interrupt: CpuInterrupt) {
        match self.place.kick() {
            Where::On(cpu) if cpu != self.platform.cpu() => {
                self.platform.interrupt_cpu(cpu, interrupt);
            }
            Where::Waits => self.wake.get().map_or((), |wake| wake.wake()),
            Where::On(_) | Where::Nowhere => {}
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

/// Where a virtual CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// On this CPU.
    On(usize),
    /// On none, until it is kicked.
    Waits,
    /// On none.
    Nowhere,
}

/// Where a virtual CPU is, and whether it was kicked: one word, so that a kick and an arrival come
/// one after the other.
struct Place(AtomicUsize);

impl Place {
    const KICKED: usize = 1;
    const WAITS: usize = 2;
    const CPU_SHIFT: u32 = 2;

    /// On no CPU.
    fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The number of the CPU has one added, so that none is 0.
    const fn of(word: usize) -> Where {
        match (word >> Self::CPU_SHIFT).checked_sub(1) {
            Some(cpu) => Where::On(cpu),
            None if word & Self::WAITS != 0 => Where::Waits,
            None => Where::Nowhere,
        }
    }

    fn arrive(&self, cpu: usize) {
        self.leave();
        self.0.fetch_or((cpu + 1) << Self::CPU_SHIFT, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.0.fetch_and(Self::KICKED, Ordering::SeqCst);
    }

    fn wait(&self) -> bool {
        let waits = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
            (word & Self::KICKED == 0).then_some(Self::WAITS)
        });
        if waits.is_err() {
            self.take();
        }
        waits.is_ok()
    }

    /// Of several kicks the first alone finds that it waits.
    fn kick(&self) -> Where {
        let before = self.0.fetch_or(Self::KICKED, Ordering::SeqCst);
        match Self::of(before) {
            Where::Waits if before & Self::KICKED != 0 => Where::Nowhere,
            place => place,
        }
    }

    fn take(&self) -> bool {
        self.0.fetch_and(!Self::KICKED, Ordering::SeqCst) & Self::KICKED != 0
    }

    fn cpu(&self) -> Option<usize> {
        match Self::of(self.0.load(Ordering::SeqCst)) {
            Where::On(cpu) => Some(cpu),
            Where::Waits | Where::Nowhere => None,
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use alloc::sync::Arc;

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
    fn one_that_waits_is_woken_once_and_one_that_was_kicked_does_not_wait() {
        struct Count(Arc<AtomicUsize>);
        impl Wake for Count {
            fn wake(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let platform = TestPlatform::leak();
        let (kick, wakes) = (VcpuKick::new(platform), Arc::new(AtomicUsize::new(0)));
        kick.connect(Count(wakes.clone()));
        platform.be_cpu(1);
        kick.arrive();
        kick.kick();
        assert!(!kick.wait(), "it was kicked on its own CPU");
        assert!(kick.wait());
        kick.interrupt_running();
        assert_eq!((kick.cpu(), wakes.load(Ordering::Relaxed)), (None, 0));
        kick.kick();
        kick.notify();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        kick.arrive();
        platform.be_cpu(0);
        kick.interrupt_running();
        assert_eq!(platform.take_interrupts(1, CpuInterrupt::Kick), 1);
        assert!(kick.take(), "the kick that woke it");
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
        wakes: AtomicUsize,
    }

    impl Bench {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                message: AtomicBool::new(false),
                place: Place::new(),
                interrupts: [AtomicBool::new(false), AtomicBool::new(false)],
                wakes: AtomicUsize::new(0),
            })
        }

        fn post(&self) {
            self.message.swap(true, Ordering::SeqCst);
            match self.place.kick() {
                Where::On(cpu) => _ = self.interrupts[cpu].swap(true, Ordering::SeqCst),
                Where::Waits => _ = self.wakes.fetch_add(1, Ordering::SeqCst),
                Where::Nowhere => {}
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

    #[test]
    fn a_message_is_seen_or_wakes_a_virtual_cpu_that_waits_once() {
        loom::model(|| {
            let bench = Bench::new();
            let posters = [bench.clone(), bench.clone()];
            let posters = posters.map(|poster| loom::thread::spawn(move || poster.post()));
            bench.place.arrive(0);
            let mut seen = false;
            loop {
                seen |= bench.look();
                if bench.place.wait() {
                    break;
                }
            }
            posters.into_iter().for_each(|poster| poster.join().unwrap());
            let wakes = bench.wakes.swap(0, Ordering::SeqCst);
            assert!(wakes <= 1, "it is woken twice");
            let is_left = bench.look();
            assert!(!is_left || wakes == 1, "a message waits, and nothing wakes the virtual CPU");
            assert!(seen || is_left);
        });
    }
}
