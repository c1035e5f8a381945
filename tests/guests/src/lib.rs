//! The code that the conformance guests share: a guest (`src/bin/TOPIC.rs`) boots as an ordinary
//! system from a CD-ROM, tests from inside what the virtual CPU and PC promise about its topic, and
//! writes the results to COM1 ([`report`]).
//!
//! A guest runs in 64-bit mode at ring 0 with interrupts off, on one CPU unless it starts others
//! ([`smp`]), with the first 4 GiB mapped to themselves. Nothing else runs on its machine. That is
//! why functions here are not marked `unsafe` although most could break the program: a topic exists
//! to do such things, and a mark on every line would mark nothing.

#![no_std]

pub mod acpi;
pub mod apic;
pub mod arrivals;
mod boot;
pub mod clock;
pub mod cpu;
pub mod descriptors;
pub mod extended;
mod global;
pub mod ide;
pub mod interrupts;
pub mod legacy;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod planes;
pub mod report;
pub mod serial;
pub mod smp;
pub mod user;
pub mod xen;

pub use boot::page_tables;
pub use global::Global;

/// Makes the function given the guest's main program: its name is that of the binary, its end is
/// the end of the results.
#[macro_export]
macro_rules! topic {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn topic_main() -> ! {
            $crate::report::begin(env!("CARGO_BIN_NAME"));
            let main: fn() = $main;
            main();
            $crate::report::end()
        }
    };
}

/// Functions in assembly, for modes and rings of their own:
/// `assembly! { fn name() { "instruction" "instruction" } }`. Those of 16 and 32 bits begin with
/// `.code16` and `.code32`, and end with `.code64`; real mode reaches those in
/// `#[unsafe(link_section = ".low.text")]`.
#[macro_export]
macro_rules! assembly {
    ($($(#[$attribute:meta])* fn $name:ident() { $($line:literal)* })*) => { $(
        $(#[$attribute])*
        #[unsafe(naked)]
        extern "C" fn $name() {
            core::arch::naked_asm!($($line),*)
        }
    )* };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    report::fail("panic", info.message());
    report::end()
}
