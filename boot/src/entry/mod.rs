//! How the image is entered, and what the boot loader hands over.

#[cfg(target_os = "none")]
pub mod loader_memory;

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"));
#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("start_up.s"));

/// Bounds of the image, from the linker script.
#[cfg(target_os = "none")]
pub mod image {
    use crate::cpu::stacks::Stacks;
    use core::ops::Range;

    // SAFETY: the linker script and the assembly code define these; but for `entry_tsc`, a word that is written before Rust code
    // runs, only their addresses are used.
    unsafe extern "C" {
        static image_start: u8;
        static image_text_end: u8;
        static image_rodata_end: u8;
        static image_end: u8;
        static entry_tsc: u64;
        static boot_stack_guard: u8;
        static boot_stack_top: u8;
        static nmi_stack_guard: u8;
        static nmi_stack_top: u8;
        static double_fault_stack_guard: u8;
        static double_fault_stack_top: u8;
        static machine_check_stack_guard: u8;
        static machine_check_stack_top: u8;
    }

    /// The boot CPU's stacks.
    pub fn stacks() -> Stacks {
        Stacks([
            (&raw const boot_stack_guard as u64)..(&raw const boot_stack_top as u64),
            (&raw const nmi_stack_guard as u64)..(&raw const nmi_stack_top as u64),
            (&raw const double_fault_stack_guard as u64)..(&raw const double_fault_stack_top as u64),
            (&raw const machine_check_stack_guard as u64)..(&raw const machine_check_stack_top as u64),
        ])
    }

    /// The whole image in memory, .bss included.
    pub fn all() -> Range<u64> {
        (&raw const image_start as u64)..(&raw const image_end as u64)
    }

    /// Code.
    pub fn text() -> Range<u64> {
        (&raw const image_start as u64)..(&raw const image_text_end as u64)
    }

    /// Constants.
    pub fn rodata() -> Range<u64> {
        (&raw const image_text_end as u64)..(&raw const image_rodata_end as u64)
    }

    /// Variables.
    pub fn data() -> Range<u64> {
        (&raw const image_rodata_end as u64)..(&raw const image_end as u64)
    }

    /// The time stamp counter when the image was entered.
    pub fn boot_tsc() -> u64 {
        // SAFETY: the entry code wrote it before any Rust code ran and nothing writes it since.
        unsafe { entry_tsc }
    }
}
