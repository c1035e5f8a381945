//! Guests: building their PC, running them, and what happens when they stop.

mod attendant;
mod choice;
mod cpus;
#[cfg(test)]
mod cpus_tests;
mod disk;
mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod pc;
#[cfg(test)]
mod ram_tests;
mod restart;
#[cfg(test)]
mod shortage_tests;
mod start;

pub use start::start;
