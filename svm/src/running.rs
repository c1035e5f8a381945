//! The virtual CPU that each CPU entered last, for the hypervisor's own panic message.

use crate::dump::dump;
use crate::spec::Vmcb;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use emulator::registers::Gprs;
use vmm_core::host::platform::MAX_CPUS;

/// By CPU.
static RUNNING: [Running; MAX_CPUS] = [const { Running::nothing() }; MAX_CPUS];

/// Addresses; 0 for none.
struct Running {
    vmcb: AtomicUsize,
    gprs: AtomicUsize,
}

impl Running {
    const fn nothing() -> Self {
        Self { vmcb: AtomicUsize::new(0), gprs: AtomicUsize::new(0) }
    }
}

/// A virtual CPU runs on CPU `cpu` from now on.
pub fn note(cpu: usize, vmcb_address: usize, gprs: &Gprs) {
    if let Some(running) = RUNNING.get(cpu) {
        running.gprs.store(core::ptr::from_ref(gprs) as usize, Ordering::Relaxed);
        running.vmcb.store(vmcb_address, Ordering::Relaxed);
    }
}

/// It has left CPU `cpu`: what was noted of it must not be read any more.
pub fn forget(cpu: usize) {
    if let Some(running) = RUNNING.get(cpu) {
        running.vmcb.store(0, Ordering::Relaxed);
    }
}

/// Prints the virtual CPU that CPU `cpu`, which this runs on, entered last: what a panic calls.
pub fn dump_running(cpu: usize, f: &mut dyn fmt::Write) -> fmt::Result {
    let noted = RUNNING.get(cpu).map(|running| {
        (running.vmcb.load(Ordering::Relaxed), running.gprs.load(Ordering::Relaxed))
    });
    let Some((vmcb, gprs)) = noted.filter(|&(vmcb, _)| vmcb != 0) else {
        return writeln!(f, "no vCPU was running");
    };
    // SAFETY: both were noted by `Svm::load` and belong to a virtual CPU that lives, and is on this
    // CPU, until `forget`; this CPU is in its panic: nothing else changes them.
    let (vmcb, gprs) = unsafe { (&*(vmcb as *const Vmcb), &*(gprs as *const Gprs)) };
    writeln!(f, "vCPU: rax to r15 {:x?}", gprs.0)?;
    dump(vmcb, f)
}
