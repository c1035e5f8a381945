//! Virtual machines and their CPUs: what is common to AMD-V and VT-x.
//!
//! The crate stands between the bare-metal image (`boot`), which offers it a
//! [`host::platform::Platform`], the two [`backend::Backend`]s, and the guest's PC (`devices`,
//! `firmware`, `ept`).
#![cfg_attr(not(any(test, feature = "test-platform")), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod backend;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
pub mod machine;
pub mod scheduler;
#[cfg(any(test, feature = "test-platform"))]
pub mod test_backend;
#[cfg(any(test, feature = "test-platform"))]
pub mod test_platform;
pub mod vcpu;
pub mod vm;
