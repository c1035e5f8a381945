//! One function: its header, base addresses and capabilities.

use core::fmt;

use crate::hardware::{Hardware, Window};

use super::{Address, ConfigSpace, register};

/// Bits of the command register (PCI 6.2.2).
mod command {
    pub const IO: u32 = 1 << 0;
    pub const MEMORY: u32 = 1 << 1;
    pub const MASTER: u32 = 1 << 2;
    pub const NO_LINE: u32 = 1 << 10;
    /// The status register stands above it in the same 4 bytes: ones there clear bits.
    pub const ALL: u32 = 0xffff;
}

/// Capabilities (PCI appendix H).
pub mod capability {
    pub const MSI: u8 = 0x05;
    pub const VENDOR: u8 = 0x09;
    pub const MSI_X: u8 = 0x11;
}

const HAS_CAPABILITIES: u32 = 1 << 20;
const FIRST_CAPABILITY: u8 = 0x40;
/// As many as fit into the space behind the header.
const MAX_CAPABILITIES: usize = 48;
const MULTIPLE: u32 = 1 << 23;
const HEADER_KIND: u32 = 0x7f << 16;
const BRIDGE: u32 = 1 << 16;
const BARS: u8 = 6;

/// Memory that a base address register gives to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Physical address.
    pub address: u64,
    /// Length, a power of two.
    pub length_bytes: u64,
}

/// A function, in the configuration space that it is reached by.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    config: &'a dyn ConfigSpace,
    address: Address,
}

impl fmt::Debug for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.address)
    }
}

impl<'a> Function<'a> {
    /// The function at an address, whether or not there is one.
    pub const fn new(config: &'a dyn ConfigSpace, address: Address) -> Self {
        Self { config, address }
    }

    /// Where it is.
    pub const fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn read(&self, offset: u8) -> u32 {
        self.config.read_config(self.address, offset & !3)
    }

    pub(crate) fn write(&self, offset: u8, value: u32) {
        self.config.write_config(self.address, offset & !3, value);
    }

    /// True if there is one.
    pub fn is_there(&self) -> bool {
        let vendor = self.read(register::ID) & 0xffff;
        vendor != 0xffff && vendor != 0
    }

    /// Vendor and device number.
    pub fn id(&self) -> (u16, u16) {
        let id = self.read(register::ID);
        (id as u16, (id >> 16) as u16)
    }

    /// Class, subclass and programming interface, in 24 bits.
    pub fn class(&self) -> u32 {
        self.read(register::CLASS) >> 8
    }

    pub(super) fn is_multiple(&self) -> bool {
        self.read(register::HEADER) & MULTIPLE != 0
    }

    /// The bus behind it, if it is a bridge.
    pub(super) fn secondary_bus(&self) -> Option<u8> {
        let is_bridge = self.read(register::HEADER) & HEADER_KIND == BRIDGE;
        is_bridge.then(|| (self.read(register::BUSES) >> 8) as u8)
    }

    /// Lets it answer at its memory addresses and read and write memory by itself; its interrupt
    /// line stays silent.
    pub(crate) fn enable(&self) {
        let old = self.read(register::COMMAND) & command::ALL;
        self.write(register::COMMAND, old | command::MEMORY | command::MASTER | command::NO_LINE);
    }

    /// It neither reads nor writes memory any more.
    pub(crate) fn stop(&self) {
        let old = self.read(register::COMMAND) & command::ALL;
        self.write(register::COMMAND, old & !command::MASTER);
    }

    /// The memory of base address register `index`, if it has any there that the firmware gave an
    /// address. While its size is found out it answers nowhere, so it must not be in use.
    pub fn memory_bar(&self, index: u8) -> Option<Bar> {
        const IO_SPACE: u32 = 1 << 0;
        const KIND: u32 = 0b110;
        const KIND_64_BIT: u32 = 0b100;
        const FLAGS: u32 = 0xf;
        if index >= BARS {
            return None;
        }
        let offset = register::BAR_0 + 4 * index;
        let low = self.read(offset);
        let is_wide = low & KIND == KIND_64_BIT;
        if low & IO_SPACE != 0 || (is_wide && index + 1 >= BARS) {
            return None;
        }
        let high = if is_wide { self.read(offset + 4) } else { 0 };
        let address = u64::from(high) << 32 | u64::from(low & !FLAGS);

        let old = self.read(register::COMMAND) & command::ALL;
        self.write(register::COMMAND, old & !(command::IO | command::MEMORY));
        self.write(offset, u32::MAX);
        let low_mask = self.read(offset) & !FLAGS;
        self.write(offset, low);
        let high_mask = if is_wide {
            self.write(offset + 4, u32::MAX);
            let mask = self.read(offset + 4);
            self.write(offset + 4, high);
            mask
        } else {
            u32::MAX
        };
        self.write(register::COMMAND, old);

        let mask = u64::from(high_mask) << 32 | u64::from(low_mask);
        let length_bytes = (!mask).wrapping_add(1);
        let is_sane = low_mask != 0 || (is_wide && high_mask != 0);
        let is_sane = is_sane && length_bytes.is_power_of_two();
        let is_assigned = address != 0 && address.is_multiple_of(length_bytes.max(1));
        (is_sane && is_assigned).then_some(Bar { address, length_bytes })
    }

    /// Maps a part of the memory of a base address register, which must have it all.
    pub(crate) fn map(
        &self,
        hardware: &dyn Hardware,
        bar: u8,
        offset: u64,
        length_bytes: u64,
    ) -> Option<Window> {
        let bar = self.memory_bar(bar)?;
        let end = offset.checked_add(length_bytes)?;
        if end > bar.length_bytes {
            return None;
        }
        let registers = hardware.map(bar.address.checked_add(offset)?, length_bytes)?;
        Some(Window::new(registers, length_bytes))
    }

    /// Number and offset of each capability. A list that does not end is left.
    pub(crate) fn capabilities(&self) -> impl Iterator<Item = (u8, u8)> + use<'a> {
        let this = *self;
        let has_some = this.read(register::COMMAND) & HAS_CAPABILITIES != 0;
        let mut next = if has_some { this.read(register::CAPABILITIES) as u8 & !3 } else { 0 };
        core::iter::from_fn(move || {
            if next < FIRST_CAPABILITY {
                return None;
            }
            let at = next;
            let header = this.read(at);
            next = (header >> 8) as u8 & !3;
            (header != u32::MAX).then_some((header as u8, at))
        })
        .take(MAX_CAPABILITIES)
    }
}
