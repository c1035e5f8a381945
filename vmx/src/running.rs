//! The virtual CPU that each CPU entered last, for the hypervisor's own panic message.

use crate::dump::dump;
use crate::instructions;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use emulator::registers::Gprs;
use vmm_core::host::platform::MAX_CPUS;

/// The addresses of general registers, by CPU; 0 for none.
static GPRS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// A virtual CPU runs on CPU `cpu` from now on.
pub fn note(cpu: usize, gprs: &Gprs) {
    if let Some(noted) = GPRS.get(cpu) {
        noted.store(core::ptr::from_ref(gprs) as usize, Ordering::Relaxed);
    }
}

/// It has left CPU `cpu`: what was noted must not be read any more.
pub fn forget(cpu: usize) {
    if let Some(noted) = GPRS.get(cpu) {
        noted.store(0, Ordering::Relaxed);
    }
}

/// Prints the virtual CPU that CPU `cpu`, which this runs on, entered last, from the current VMCS:
/// what a panic calls.
pub fn dump_running(cpu: usize, f: &mut dyn fmt::Write) -> fmt::Result {
    let noted = GPRS.get(cpu).map(|noted| noted.load(Ordering::Relaxed));
    let Some(gprs) = noted.filter(|&gprs| gprs != 0) else {
        return writeln!(f, "no vCPU was running");
    };
    // SAFETY: noted by `Vmx::load`, it belongs to a virtual CPU that lives, and is on this CPU,
    // until `forget`; this CPU is in its panic: nothing else changes it.
    let gprs = unsafe { &*(gprs as *const Gprs) };
    writeln!(f, "vCPU: rax to r15 {:x?}", gprs.0)?;
    // SAFETY: VMX operation is on, as a guest ran.
    dump(|field| unsafe { instructions::vmread(field.encoding()) }.ok(), f)
}
