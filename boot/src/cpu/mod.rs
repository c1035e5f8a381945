//! The physical CPU: descriptor tables, interrupts, local APIC, time stamp counter.

pub mod descriptors;
pub mod interrupts;
pub mod ioapic;
pub mod lapic;
pub mod machine_check;
pub mod percpu;
pub mod pic;
pub mod stacks;
pub mod start_up;
pub mod tsc;

use core::sync::atomic::Ordering;
use x86::controlregs::{self, Cr0, Cr4};

/// Sets CR0 and CR4 as the hypervisor needs them: write protection, machine checks as exceptions,
/// the FPU's instructions allowed, as the guest's state is saved and restored by them, and neither
/// code nor data in user pages (SMEP, SMAP): there are none, whatever corrupts a page table entry.
pub fn init_control_registers() {
    let cpuid = raw_cpuid::CpuId::new();
    let features = cpuid.get_feature_info();
    let mut cr4 = Cr4::CR4_ENABLE_PAE | Cr4::CR4_ENABLE_SSE | Cr4::CR4_UNMASKED_SSE;
    if features.as_ref().is_some_and(raw_cpuid::FeatureInfo::has_mce) {
        cr4 |= Cr4::CR4_ENABLE_MACHINE_CHECK;
    }
    if features.as_ref().is_some_and(raw_cpuid::FeatureInfo::has_xsave) {
        cr4 |= Cr4::CR4_ENABLE_OS_XSAVE;
    }
    let extended = cpuid.get_extended_feature_info();
    if extended.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_smep) {
        cr4 |= Cr4::CR4_ENABLE_SMEP;
    }
    if extended.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_smap) {
        cr4 |= Cr4::CR4_ENABLE_SMAP;
    }
    let cr0 = Cr0::CR0_PROTECTED_MODE
        | Cr0::CR0_MONITOR_COPROCESSOR
        | Cr0::CR0_EXTENSION_TYPE
        | Cr0::CR0_NUMERIC_ERROR
        | Cr0::CR0_WRITE_PROTECT
        | Cr0::CR0_ENABLE_PAGING;
    // SAFETY: paging and its mode stay as they are; the rest changes nothing that this code uses.
    unsafe {
        controlregs::cr0_write(cr0);
        controlregs::cr4_write(cr4);
    }
}

/// Interrupts on for as long as it takes to handle those that are pending; true if there was work
/// among them.
pub fn interrupt_window() -> bool {
    let work = &percpu::current().work;
    let before = work.load(Ordering::Relaxed);
    // SAFETY: the handlers need nothing of the interrupted code, which holds none of their locks.
    // STI holds interrupts off for one instruction, hence the NOP.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
    work.load(Ordering::Relaxed) != before
}

/// Sleeps until an interrupt has been handled.
pub fn idle() {
    // SAFETY: as above; STI's shadow covers HLT, so an interrupt that is pending ends the sleep.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Clears DR0 to DR3.
pub fn clear_breakpoints() {
    // SAFETY: the hypervisor sets no breakpoints, so nothing here depends on where they would be.
    unsafe {
        core::arch::asm!(
            "mov dr0, {zero}",
            "mov dr1, {zero}",
            "mov dr2, {zero}",
            "mov dr3, {zero}",
            zero = in(reg) 0u64,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Stops this CPU for good.
pub fn stop() -> ! {
    loop {
        // SAFETY: with interrupts off only an NMI goes on from here, to the next HLT.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
