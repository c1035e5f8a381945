//! The PV-on-HVM platform: what guests with Xen drivers in their kernels find under Xen.
//!
//! [`platform`] is one guest's, and [`hypercall`] its calls. [`store`] is XenStore, the tree of
//! settings that guests and back ends share; [`blkback`] serves PV disks, and [`backends`] joins
//! all of them.
#![cfg_attr(not(any(test, feature = "fuzzing")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backends;
pub mod blkback;
pub mod cpuid;
pub mod device;
pub mod errno;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod grants;
pub mod guest;
pub mod hypercall;
pub mod machine;
pub mod netback;
pub mod pages;
pub mod params;
pub mod platform;
pub mod ring;
pub mod store;
#[cfg(any(test, feature = "fuzzing"))]
mod test_grants;
#[cfg(any(test, feature = "fuzzing"))]
mod test_guest;
#[cfg(test)]
mod tests;
pub mod time;
pub mod width;
