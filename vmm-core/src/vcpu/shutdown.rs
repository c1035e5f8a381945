//! Triple faults. The chipset answers the processor's shutdown with INIT (82371SB datasheet, Intel
//! 290550, signal INIT), so that a guest may use them to get back to real mode, as often as it
//! likes: not each one is worth a dump.

use super::Vcpu;
use crate::backend::Backend;
use devices::system_control::SystemControl;

/// From one dump to the next, at the least.
const DUMP_GAP_S: u64 = 1;

/// Triple faults that were told of, and the others.
#[derive(Debug, Default)]
pub struct Shutdowns {
    next_dump_tsc: u64,
    untold: u64,
}

impl Shutdowns {
    /// One more at `now_tsc`. If it is to be told of: how many were not, since the last that was.
    fn count(&mut self, now_tsc: u64, tsc_hz: u64) -> Option<u64> {
        if now_tsc < self.next_dump_tsc {
            self.untold += 1;
            return None;
        }
        self.next_dump_tsc = now_tsc.saturating_add(tsc_hz.saturating_mul(DUMP_GAP_S));
        Some(core::mem::take(&mut self.untold))
    }
}

impl<B: Backend> Vcpu<B> {
    /// The guest's CPU shut down.
    #[cold]
    pub(super) fn triple_fault(&mut self) {
        if let Some(untold) = self.shutdowns.count(self.platform.tsc(), self.platform.tsc_hz()) {
            let (name, index) = (&self.vm.name, self.index);
            log::warn!(
                "{name}: vCPU {index}: triple fault: INIT ({untold} untold before it)\n{}",
                self.dump()
            );
        }
        self.vm.chipset.init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_follow_at_once_are_only_counted() {
        let mut shutdowns = Shutdowns::default();
        assert_eq!(shutdowns.count(5, 100), Some(0));
        assert_eq!((shutdowns.count(6, 100), shutdowns.count(104, 100)), (None, None));
        assert_eq!(shutdowns.count(105, 100), Some(2));
        assert_eq!(shutdowns.count(1000, 100), Some(0));
    }
}
