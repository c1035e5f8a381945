//! The virtual CPU that was entered last, for the hypervisor's own panic message.

use crate::dump::dump;
use crate::spec::Vmcb;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use emulator::registers::Gprs;

static VMCB: AtomicUsize = AtomicUsize::new(0);
static GPRS: AtomicUsize = AtomicUsize::new(0);

/// A virtual CPU runs from now on.
pub fn note(vmcb_address: usize, gprs: &Gprs) {
    VMCB.store(vmcb_address, Ordering::Relaxed);
    GPRS.store(core::ptr::from_ref(gprs) as usize, Ordering::Relaxed);
}

/// A virtual CPU is gone: what was noted of it must not be read any more.
pub fn forget(vmcb_address: usize) {
    let _ = VMCB.compare_exchange(vmcb_address, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// Prints the virtual CPU that was entered last: what a panic calls.
pub fn dump_running(f: &mut dyn fmt::Write) -> fmt::Result {
    let (vmcb, gprs) = (VMCB.load(Ordering::Relaxed), GPRS.load(Ordering::Relaxed));
    if vmcb == 0 {
        return writeln!(f, "no vCPU was running");
    }
    // SAFETY: both were noted by `Svm::load` and belong to a virtual CPU that lives until `forget`;
    // one CPU runs guests, and it is in its panic: nobody else changes them.
    let (vmcb, gprs) = unsafe { (&*(vmcb as *const Vmcb), &*(gprs as *const Gprs)) };
    writeln!(f, "vCPU: rax to r15 {:x?}", gprs.0)?;
    dump(vmcb, f)
}
