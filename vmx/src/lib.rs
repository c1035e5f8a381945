//! The Intel VT-x backend: VMCS, world switch, decoded exits.
//!
//! All section numbers are those of the Intel 64 and IA-32 Architectures Software Developer's
//! Manual (SDM), volume 3, edition of 2023 and later (VMX starts with chapter 24 there).
#![cfg_attr(not(any(test, feature = "fuzzing")), no_std)]

extern crate alloc;

mod backend;
mod capabilities;
mod checks;
mod control_bits;
mod control_registers;
mod controls;
mod cpu;
mod decode;
mod dump;
mod events;
mod field;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod host_state;
mod instructions;
mod msr_bitmap;
mod msr_lists;
mod page_log;
mod running;
mod segments;
mod spec;
mod vmcs;
mod world_switch;

pub use backend::Vmx;
pub use cpu::Cpu;
