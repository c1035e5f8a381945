//! Second-level page tables: guest-physical to host-physical addresses, in Intel's EPT and AMD's
//! NPT formats.
//!
//! The tables live in memory behind the [`TableMemory`] trait, so that the same code runs on bare
//! metal and on the development host, where tests look at every entry that is written. An entry is
//! always written whole and points only to what is complete, so that a CPU that walks the tables at
//! the same time sees the old or the new translation, never a third one.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cover;
mod dirty;
mod entry;
mod flush;
mod table_memory;
mod tables;
#[cfg(test)]
mod tests;

pub use cover::Cover;
pub use entry::{Attributes, Caching, Format, Permissions};
pub use flush::Flush;
pub use table_memory::{PointsTo, TableMemory};
pub use tables::{Mapping, NestedTables, OutOfMemory, PageSize};
