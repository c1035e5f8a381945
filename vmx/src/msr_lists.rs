//! The MSRs that the processor itself loads at entries and exits (SDM volume 3, 25.7.2, 25.8.2): no
//! instruction of the hypervisor's runs with the guest's value.

use alloc::boxed::Box;
use arrayvec::ArrayVec;
use vmm_core::backend::speculation::{Barrier, Defences, MSR_SPEC_CTRL};

/// An entry of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Load {
    index: u32,
    reserved: u32,
    value: u64,
}

impl Load {
    const fn new(index: u32, value: u64) -> Self {
        Self { index, reserved: 0, value }
    }

    const fn command(barrier: Barrier) -> Self {
        Self::new(barrier.msr(), Barrier::COMMAND)
    }
}

/// The most loads of a list.
const MOST_LOADS: usize = 2;

type List = ArrayVec<Load, MOST_LOADS>;

/// The lists for a guest that wrote `guest_control` to its IA32_SPEC_CTRL: of entries, of exits.
fn lists(defences: &Defences, guest_control: u64) -> (List, List) {
    let (mut entry, mut exit) = (List::new(), List::new());
    if defences.switches_control(guest_control) {
        entry.push(Load::new(MSR_SPEC_CTRL, defences.guest_control(guest_control)));
        exit.push(Load::new(MSR_SPEC_CTRL, defences.host_control));
    }
    if defences.l1d_flush {
        // Last: nothing is to come into the cache behind it.
        entry.push(Load::command(Barrier::L1Data));
    }
    if defences.exit_barrier {
        exit.push(Load::command(Barrier::BranchPredictors));
    }
    (entry, exit)
}

/// The lists of a virtual CPU, as the processor reads them.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct MsrLists {
    entry: [Load; MOST_LOADS],
    exit: [Load; MOST_LOADS],
}

impl MsrLists {
    /// Empty lists.
    pub fn new() -> Box<Self> {
        Box::default()
    }

    /// Where the lists are in the hypervisor's memory: of entries, of exits.
    pub fn addresses(&self) -> [usize; 2] {
        [&raw const self.entry as usize, &raw const self.exit as usize]
    }

    /// Fills them; returns how many loads each has.
    pub fn fill(&mut self, defences: &Defences, guest_control: u64) -> [usize; 2] {
        let (entry, exit) = lists(defences, guest_control);
        self.entry[..entry.len()].copy_from_slice(&entry);
        self.exit[..exit.len()].copy_from_slice(&exit);
        [entry.len(), exit.len()]
    }
}

const _: () = assert!(size_of::<Load>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_where_the_processor_wants_them() {
        let lists = MsrLists::new();
        assert!(lists.addresses().iter().all(|address| address.is_multiple_of(16)));
    }

    #[test]
    fn the_control_is_loaded_where_guest_and_host_differ() {
        let defences = Defences { has_control: true, host_control: 1, ..Defences::default() };
        let mut lists = MsrLists::new();
        assert_eq!(lists.fill(&defences, 1), [0, 0]);
        assert_eq!(lists.fill(&defences, 4), [1, 1]);
        assert_eq!((lists.entry[0], lists.exit[0]), (Load::new(0x48, 4), Load::new(0x48, 1)));
        let renewing = Defences { renews_control: true, kept_control: 2, ..defences };
        assert_eq!(lists.fill(&renewing, 1), [1, 1]);
        assert_eq!((lists.entry[0], lists.exit[0]), (Load::new(0x48, 3), Load::new(0x48, 1)));
    }

    #[test]
    fn the_cache_is_emptied_last_and_predictions_are_forgotten_first_thing() {
        let defences = Defences {
            has_control: true,
            host_control: 1,
            l1d_flush: true,
            exit_barrier: true,
            ..Defences::default()
        };
        let mut lists = MsrLists::new();
        assert_eq!(lists.fill(&defences, 0), [2, 2]);
        assert_eq!(lists.entry[1], Load::new(0x10b, 1));
        assert_eq!(lists.exit[1], Load::new(0x49, 1));
        assert_eq!(lists.fill(&defences, 1), [1, 1]);
        assert_eq!((lists.entry[0], lists.exit[0]), (Load::new(0x10b, 1), Load::new(0x49, 1)));
    }
}
