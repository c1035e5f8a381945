//! The virtual CPU that was entered last, for the hypervisor's own panic message.

use crate::dump::dump;
use crate::instructions;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use emulator::registers::Gprs;

static GPRS: AtomicUsize = AtomicUsize::new(0);

/// A virtual CPU runs from now on.
pub fn note(gprs: &Gprs) {
    GPRS.store(core::ptr::from_ref(gprs) as usize, Ordering::Relaxed);
}

/// A virtual CPU is gone: what was noted must not be read any more.
pub fn forget() {
    GPRS.store(0, Ordering::Relaxed);
}

/// Prints the virtual CPU that was entered last, from the current VMCS: what a panic calls.
pub fn dump_running(f: &mut dyn fmt::Write) -> fmt::Result {
    let gprs = GPRS.load(Ordering::Relaxed);
    if gprs == 0 {
        return writeln!(f, "no vCPU was running");
    }
    // SAFETY: noted by `Vmx::load`, it belongs to a virtual CPU that lives until `forget`; one CPU
    // runs guests, and it is in its panic: nobody else changes it.
    let gprs = unsafe { &*(gprs as *const Gprs) };
    writeln!(f, "vCPU: rax to r15 {:x?}", gprs.0)?;
    // SAFETY: VMX operation is on, as a guest ran.
    dump(|field| unsafe { instructions::vmread(field.encoding()) }.ok(), f)
}
