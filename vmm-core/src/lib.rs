//! Virtual machines and their CPUs: what is common to AMD-V and VT-x.
//!
//! The crate stands between the bare-metal image (`boot`), which offers it a [`platform::Platform`], the two
//! [`backend::Backend`]s, and the guest's PC (`devices`, `firmware`, `ept`).
#![cfg_attr(not(any(test, feature = "test-platform")), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod address_tags;
pub mod backend;
pub mod budget;
pub mod bus;
pub mod clock;
pub mod console;
pub mod debug;
pub mod exit;
pub mod extended_state;
#[cfg(any(test, feature = "test-platform"))]
pub mod fuzzing;
pub mod machine;
pub mod memory;
mod physical;
pub mod platform;
pub mod printable;
pub mod reset;
#[cfg(any(test, feature = "test-platform"))]
pub mod test_backend;
#[cfg(any(test, feature = "test-platform"))]
pub mod test_platform;
pub mod timekeeper;
pub mod timers;
pub mod vcpu;
pub mod vm;
