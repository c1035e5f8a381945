//! How the image is entered, and what the boot loader hands over.

#[cfg(target_os = "none")]
pub mod loader_memory;

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"));
#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("start_up.s"));
