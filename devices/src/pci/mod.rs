//! The PCI bus of the guest's PC: functions, their configuration space, and configuration mechanism
//! 1.
//!
//! A function implements [`PciFunction`] and usually keeps a [`ConfigSpace`] in its state. The
//! ranges that it answers are not fixed: [`PciFunction::regions`] tells those that it decodes now,
//! and [`PciBus`] tells a [`MapObserver`] after each configuration write that changed them.

pub mod bus;
pub mod config;
pub mod i440fx;
pub mod piix3;
pub mod piix4_pm;
#[cfg(any(test, feature = "test-wires"))]
pub mod power_probe;

pub use bus::{MapObserver, PciBus};
pub use config::{Bar, ConfigSpace, Identity};

use crate::bus::Region;
use alloc::vec::Vec;

/// Where a function sits on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bdf {
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// Function `function` (0 to 7) of device `device` (0 to 31).
    pub const fn new(device: u8, function: u8) -> Self {
        assert!(device < 32 && function < 8, "no such PCI device or function");
        Self { device, function }
    }

    /// Device and function in one byte, as configuration addresses carry them.
    pub const fn devfn(self) -> u8 {
        self.device << 3 | self.function
    }
}

/// The destination of an address range of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports, answered by the function's [`crate::bus::PioDevice`] side.
    Pio,
    /// Memory, answered by the function's [`crate::bus::MmioDevice`] side.
    Mmio,
    /// Memory backed by the function's [`crate::memory::DeviceMemory`], to be mapped into the
    /// guest.
    Ram,
    /// An expansion ROM, to be mapped read-only.
    Rom,
}

/// A range that a function decodes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciRegion {
    /// The destination of its accesses.
    pub space: Space,
    /// Where it is now. The number is the function's own, passed back in
    /// [`crate::bus::Access::region`]; for a base address register it is the register's index
    /// (0 to 5, the ROM's is 6).
    pub region: Region,
}

/// The effects of a configuration write beyond the function itself.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigEffect {
    /// Nothing.
    None,
    /// The port or memory map: [`PciFunction::regions`] has changed, or, for the host bridge, its
    /// PAM or SMRAM state.
    Map,
}

/// One function on the bus.
pub trait PciFunction: Send + Sync {
    /// Reads the 32-bit configuration register at byte offset `register`, a multiple of four.
    fn config_read(&self, register: u8) -> u32;

    /// Writes the bits in `mask` (whole bytes) of the 32-bit configuration register at byte offset
    /// `register`, a multiple of four.
    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect;

    /// The ranges that the function decodes now, as its base address registers and command register
    /// stand.
    fn regions(&self) -> Vec<PciRegion>;
}

/// How far a reset reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// INIT#: the processors alone.
    Soft,
    /// CPURST, PCIRST# and RSTDRV: processors, chipset and devices. Memory keeps what it holds.
    Hard,
    /// The power goes off and on: memory is lost too.
    Full,
}

/// The wires of the power supply and of the chipset's reset logic.
pub trait SystemPower: Send + Sync {
    /// The guest asked for a reset. The caller holds no lock; the reset may happen later, but
    /// before the writing vCPU runs its next instruction.
    fn reset(&self, kind: ResetKind);
    /// The guest asked to be powered off (ACPI S5).
    fn power_off(&self);
}
