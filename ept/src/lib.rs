//! Second-level page tables: guest-physical to host-physical addresses, in Intel's EPT and AMD's
//! NPT formats.
//!
//! The tables live in memory behind the [`TableMemory`] trait, so that the same code runs on bare
//! metal and on the development host, where tests look at every entry that is written. An entry is
//! always written whole and points only to what is complete, so that a CPU that walks the tables at
//! the same time sees the old or the new translation, never a third one.
//!
//! ```
//! use ept::{Attributes, Format, NestedTables, PageSize, Permissions, TableMemory};
//!
//! /// Table number N is at address N * 4096.
//! #[derive(Default)]
//! struct Memory(Vec<[u64; 512]>);
//!
//! impl TableMemory for Memory {
//!     fn allocate(&mut self) -> Option<u64> {
//!         self.0.push([0; 512]);
//!         Some((self.0.len() as u64 - 1) << 12)
//!     }
//!     fn free(&mut self, _table_hpa: u64) {}
//!     fn read(&self, table_hpa: u64, index: usize) -> u64 {
//!         self.0[(table_hpa >> 12) as usize][index]
//!     }
//!     fn write(&mut self, table_hpa: u64, index: usize, entry: u64) {
//!         self.0[(table_hpa >> 12) as usize][index] = entry;
//!     }
//! }
//!
//! let mut memory = Memory::default();
//! let mut tables = NestedTables::new(Format::Npt, PageSize::Size1G, &mut memory).expect("memory");
//! let attributes = Attributes::memory(Permissions::ALL);
//! let flush = tables.map(&mut memory, 0, 4 << 20, 0x4000_0000, attributes).expect("memory");
//! assert!(!flush.is_needed(), "nothing was mapped before");
//! let mapping = tables.lookup(&memory, 0x20_1234).expect("a page");
//! assert_eq!((mapping.hpa, mapping.size), (0x4020_1234, PageSize::Size2M));
//! assert_eq!(tables.lookup(&memory, 4 << 20), None);
//! ```
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
