//! The machine's own disks: PCI devices are found, and driven for the media that guests use.
//!
//! The crate has no `unsafe`: registers and memory are behind [`Hardware`], which `boot` implements
//! on bare metal and tests implement with devices that are programs. A device that reads and writes
//! memory by itself is trusted with that, as there is no IOMMU; nothing else that it says is: no
//! answer of its makes a driver panic, loop, or reach memory that is not its own.
//!
//! [`Disks::find`] starts the disks, and gives a list of them; [`Disks::attend`] has then to be
//! called when an interrupt has rung a bell, and when it says. No disk's content is read here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ahci;
mod disk;
mod disks;
mod dma;
mod hardware;
mod names;
mod nvme;
pub mod pci;
#[cfg(test)]
mod testing;
mod virtio;

pub use disks::Disks;
pub use dma::{DmaMemory, MEMORY_BYTES};
pub use hardware::{Bell, Hardware, Message, Registers};
