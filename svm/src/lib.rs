//! The AMD-V backend: VMCB, world switch, decoded exits.
//!
//! All section numbers are those of the AMD64 Architecture Programmer's Manual, volume 2
//! (publication 24593).
#![cfg_attr(not(any(test, feature = "fuzzing")), no_std)]

extern crate alloc;

mod backend;
mod cpu;
mod decode;
mod dump;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod permission_maps;
mod running;
mod spec;
mod world_switch;

pub use backend::Svm;
pub use cpu::Cpu;
