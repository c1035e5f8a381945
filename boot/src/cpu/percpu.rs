//! What each physical CPU has for itself, found through its GS base.

use super::descriptors::Descriptors;
use crate::entry::image;
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;

/// One physical CPU. Its address is the CPU's GS base; the backends save and restore GS base around the guest.
#[repr(C)]
pub struct PerCpu {
    /// Its own address: `mov reg, gs:[0]` finds it.
    this: *const PerCpu,
    /// Its number, the boot CPU being 0.
    pub index: u32,
    /// The deadline that its timer is set to, or `u64::MAX`.
    pub timer_deadline_tsc: AtomicU64,
    descriptors: UnsafeCell<Descriptors>,
}

// SAFETY: `this` never changes; `descriptors` is only written by `load`, before its CPU goes on.
unsafe impl Sync for PerCpu {}

static BOOT_CPU: PerCpu = PerCpu {
    this: &raw const BOOT_CPU,
    index: 0,
    timer_deadline_tsc: AtomicU64::new(u64::MAX),
    descriptors: UnsafeCell::new(Descriptors::new()),
};

/// Gives the boot CPU its descriptor tables and its GS base.
pub fn init_boot_cpu() {
    let [_, nmi, double_fault, machine_check] = image::stacks();
    // SAFETY: runs once, before anything else looks at the descriptors; the tables live for ever.
    unsafe {
        (*BOOT_CPU.descriptors.get()).load([nmi.end, double_fault.end, machine_check.end]);
        x86::msr::wrmsr(x86::msr::IA32_GS_BASE, &raw const BOOT_CPU as u64);
    }
}

/// The CPU that this runs on.
pub fn current() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: GS base is that of a `PerCpu` from the start of `rust_entry` on, and its first field is its address.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
        &*this
    }
}
