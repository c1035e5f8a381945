//! Bounds of the image, from the linker script.

use core::ops::Range;

// SAFETY: the linker script and the assembly code define these; but for `entry_tsc`, a word that is
// written before Rust code runs, only their addresses are used.
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

/// The boot CPU's stacks: the one that it runs on, those for NMI, double fault and machine check;
/// guard pages included.
pub fn stacks() -> [Range<u64>; 4] {
    [
        (&raw const boot_stack_guard as u64)..(&raw const boot_stack_top as u64),
        (&raw const nmi_stack_guard as u64)..(&raw const nmi_stack_top as u64),
        (&raw const double_fault_stack_guard as u64)..(&raw const double_fault_stack_top as u64),
        (&raw const machine_check_stack_guard as u64)..(&raw const machine_check_stack_top as u64),
    ]
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
