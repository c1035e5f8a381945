//! Data of each physical CPU's own, found through its GS base.

use super::descriptors::{Descriptors, TrapFrame};
use super::stacks::Stacks;
use crate::memory::image;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use spin::Once;

/// One physical CPU. Its address is the CPU's GS base; the backends save and restore GS base around
/// the guest.
#[repr(C)]
pub struct PerCpu {
    /// Its own address: `mov reg, gs:[0]` finds it.
    this: *const PerCpu,
    /// Where its stack begins: the start-up code takes it from here.
    stack_top: u64,
    /// Its number, the boot CPU being 0.
    pub index: u32,
    /// The deadline that its timer is set to, or `u64::MAX`.
    pub timer_deadline_tsc: AtomicU64,
    /// Interrupts that it has handled, but for those that CPUs send each other.
    pub work: AtomicU32,
    /// There was a machine check, whose banks are still to be looked at.
    pub machine_check: AtomicBool,
    /// How far it has come, if it is not the boot CPU: see [`super::start_up`].
    pub progress: AtomicU8,
    /// Its time stamp counter when it came there.
    pub start_tsc: AtomicU64,
    /// The code that it ran when another CPU's crash stopped it.
    pub stopped_at: Once<TrapFrame>,
    stacks: Once<Stacks>,
    descriptors: UnsafeCell<Descriptors>,
}

// SAFETY: `this` never changes; `descriptors` is only written by `load`, before its CPU goes on.
unsafe impl Sync for PerCpu {}
// SAFETY: as above; the pointer is to itself, wherever it is used.
unsafe impl Send for PerCpu {}

static BOOT_CPU: PerCpu = PerCpu {
    this: &raw const BOOT_CPU,
    stack_top: 0,
    index: 0,
    timer_deadline_tsc: AtomicU64::new(u64::MAX),
    work: AtomicU32::new(0),
    machine_check: AtomicBool::new(false),
    progress: AtomicU8::new(0),
    start_tsc: AtomicU64::new(0),
    stopped_at: Once::new(),
    stacks: Once::new(),
    descriptors: UnsafeCell::new(Descriptors::new()),
};

/// Gives the boot CPU its descriptor tables and its GS base.
pub fn init_boot_cpu() {
    super::descriptors::fill_idt();
    BOOT_CPU.stacks.call_once(|| Stacks(image::stacks()));
    // SAFETY: runs once, on the boot CPU, before anything else looks at the descriptors; the tables
    // live for ever.
    unsafe { BOOT_CPU.load() };
}

impl PerCpu {
    /// CPU `index`, which is to run on `stacks`. It lives for ever, as the CPU does.
    pub fn leak(index: u32, stacks: Stacks) -> &'static Self {
        let cpu = Box::leak(Box::new(Self {
            this: core::ptr::null(),
            stack_top: stacks.main().end,
            index,
            timer_deadline_tsc: AtomicU64::new(u64::MAX),
            work: AtomicU32::new(0),
            machine_check: AtomicBool::new(false),
            progress: AtomicU8::new(0),
            start_tsc: AtomicU64::new(0),
            stopped_at: Once::new(),
            stacks: Once::initialized(stacks),
            descriptors: UnsafeCell::new(Descriptors::new()),
        }));
        cpu.this = cpu;
        cpu
    }

    /// Loads its descriptor tables and its GS base into the CPU that this runs on.
    ///
    /// # Safety
    /// This is that CPU; called once.
    pub unsafe fn load(&'static self) {
        let [nmi, double_fault, machine_check] = self.stacks().interrupt_tops();
        // SAFETY: nobody else looks at the descriptors before this (caller's promise); tables and
        // stacks live for ever.
        unsafe {
            (*self.descriptors.get()).load([nmi, double_fault, machine_check]);
            x86::msr::wrmsr(x86::msr::IA32_GS_BASE, core::ptr::from_ref(self) as u64);
        }
    }

    /// Its stacks.
    pub fn stacks(&self) -> Stacks {
        self.stacks.get().cloned().unwrap_or_default()
    }
}

/// The CPU that this runs on.
pub fn current() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: GS base is that of a `PerCpu` from the start of `rust_entry` and `rust_start_up` on,
    // and its first field is its address.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
        &*this
    }
}
