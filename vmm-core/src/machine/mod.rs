//! Guests: building their PC, running them, and what happens when they stop.

mod attendant;
mod choice;
mod cpus;
#[cfg(test)]
mod cpus_tests;
mod disk;
mod disks;
mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guests;
#[cfg(test)]
mod guests_tests;
mod host_disks;
mod life;
mod network;
pub(crate) mod pc;
mod pv;
#[cfg(test)]
mod ram_tests;
mod scheduling;
mod shared;
#[cfg(test)]
mod shortage_tests;
mod start;
mod store;

pub use start::start;
