//! Bulkhead's bare-metal image: it takes the machine over from the boot loader, sets up memory, the
//! CPU and the host's devices, and starts the hypervisor proper (`vmm-core`) on the backend that
//! the CPU has.
//!
//! The parts without hardware are also compiled for the development host, to be tested there.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

extern crate alloc;

#[cfg(target_os = "none")]
mod acpi;
mod boot_rom;
#[cfg(target_os = "none")]
mod cpu;
mod drivers;
mod entry;
mod memory;
#[cfg(target_os = "none")]
mod platform;
#[cfg(target_os = "none")]
mod power;
mod report;
#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the bare-metal image: build it with `cargo xtask image`");
}
