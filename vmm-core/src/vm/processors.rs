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
    uses: Box<[Use]>,
}

/// One's use of the CPU's time.
#[derive(Debug, Default)]
struct Use {
    ticks: AtomicU64,
    is_idle: AtomicBool,
}

impl Processors {
    /// Those of `kicks`, by their numbers.
    pub fn new(kicks: &[Arc<VcpuKick>]) -> Arc<Self> {
        let uses = kicks.iter().map(|_| Use::default()).collect();
        Arc::new(Self { kicks: kicks.into(), held: AtomicBool::new(false), uses })
    }

    /// True if there is more than one.
    pub fn are_several(&self) -> bool {
        self.kicks.len() > 1
    }

    /// Number `index` has had a CPU for so many ticks of the time stamp counter.
    pub fn note_use(&self, index: usize, ticks: u64) {
        if let Some(its) = self.uses.get(index) {
            its.ticks.fetch_add(ticks, Ordering::Relaxed);
        }
    }

    /// The time that number `index` has had, as far as it has counted it.
    pub fn used_ticks(&self, index: usize) -> u64 {
        self.uses.get(index).map_or(0, |its| its.ticks.load(Ordering::Relaxed))
    }

    /// The time that all have had.
    pub fn all_used_ticks(&self) -> u64 {
        (0..self.uses.len()).map(|index| self.used_ticks(index)).sum()
    }

    /// Number `index` has nothing to run and stays on its CPU, or goes on.
    pub fn note_idle(&self, index: usize, is_idle: bool) {
        if let Some(its) = self.uses.get(index) {
            its.is_idle.store(is_idle, Ordering::Relaxed);
        }
    }

    /// Number `index` has nothing to run, and stays on its CPU.
    pub fn is_idle(&self, index: usize) -> bool {
        self.uses.get(index).is_some_and(|its| its.is_idle.load(Ordering::Relaxed))
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
