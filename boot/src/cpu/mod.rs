//! The physical CPU: descriptor tables, interrupts, local APIC, time stamp counter.

pub mod descriptors;
pub mod interrupts;
pub mod ioapic;
pub mod lapic;
pub mod percpu;
pub mod pic;
pub mod tsc;

/// Interrupts on for as long as it takes to handle those that are pending.
pub fn interrupt_window() {
    // SAFETY: the handlers need nothing of the interrupted code, which holds none of their locks. STI holds interrupts
    // off for one instruction, hence the NOP.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
}

/// Sleeps until an interrupt has been handled.
pub fn idle() {
    // SAFETY: as above; STI's shadow covers HLT, so an interrupt that is pending ends the sleep.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Stops this CPU for good.
pub fn stop() -> ! {
    loop {
        // SAFETY: with interrupts off only an NMI goes on from here, to the next HLT.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
