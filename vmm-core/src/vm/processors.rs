//! A guest's virtual CPUs, for what concerns all of them: none may run on in the guest with what
//! has changed, and all stand still while one is examined.

use crate::host::kick::VcpuKick;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use devices::local_apic::Kick;

/// The virtual CPUs of a guest, by their wires.
#[derive(Debug, Default)]
pub struct Processors {
    kicks: Box<[Arc<VcpuKick>]>,
    held: AtomicBool,
    used_ticks: AtomicU64,
}

impl Processors {
    /// Those of `kicks`, by their numbers.
    pub fn new(kicks: &[Arc<VcpuKick>]) -> Arc<Self> {
        Arc::new(Self { kicks: kicks.into(), ..Self::default() })
    }

    /// True if there is more than one.
    pub fn are_several(&self) -> bool {
        self.kicks.len() > 1
    }

    /// One of them has had a CPU for so many ticks of the time stamp counter.
    pub fn note_use(&self, ticks: u64) {
        self.used_ticks.fetch_add(ticks, Ordering::Relaxed);
    }

    /// The time that all have had, as far as they have counted it.
    pub fn used_ticks(&self) -> u64 {
        self.used_ticks.load(Ordering::Relaxed)
    }

    /// All look at what has changed before they enter the guest again, and those that wait wake.
    pub fn kick_all(&self) {
        self.kicks.iter().for_each(|kick| kick.kick());
    }

    /// Those that run look at what has changed before they enter the guest again.
    pub fn interrupt_running(&self) {
        self.kicks.iter().for_each(|kick| kick.interrupt_running());
    }

    /// All but the one that calls this leave the guest, and do not enter it until
    /// [`Processors::release`].
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        self.interrupt_running();
    }

    /// They go on.
    pub fn release(&self) {
        if self.held.swap(false, Ordering::SeqCst) {
            self.kick_all();
        }
    }

    /// They have to stay out of the guest.
    pub fn are_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// No other one than number `index` is on a CPU.
    pub fn is_alone(&self, index: usize) -> bool {
        let others = self.kicks.iter().enumerate().filter(|&(number, _)| number != index);
        others.map(|(_, kick)| kick.cpu()).all(|cpu| cpu.is_none())
    }
}
