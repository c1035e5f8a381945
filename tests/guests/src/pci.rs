//! PCI configuration by mechanism 1, bus 0.

use crate::cpu::{inb, inl, inw, outb, outl, outw};

/// Holds the address of the register that [`DATA`] shows.
pub const ADDRESS: u16 = 0xcf8;
/// The register; its bytes at the ports that follow.
pub const DATA: u16 = 0xcfc;
/// Address register: an access to [`DATA`] is one to configuration space.
pub const ENABLE: u32 = 1 << 31;

/// Offset of the command register.
pub const COMMAND: u8 = 4;
/// Command: answers in I/O space.
pub const COMMAND_IO: u16 = 1;
/// Command: answers in memory space.
pub const COMMAND_MEMORY: u16 = 2;
/// Command: may be bus master.
pub const COMMAND_BUS_MASTER: u16 = 4;

/// A function: its device and function number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl Function {
    /// The first on the bus that has this vendor (low half) and device ID.
    pub fn find(id: u32) -> Option<Self> {
        Self::all().find(|function| function.read(0) == id)
    }

    /// The first on the bus of this class and subclass.
    pub fn find_class(class: u16) -> Option<Self> {
        Self::all()
            .find(|function| function.read(0) != u32::MAX && function.read(8) >> 16 == class.into())
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..32).flat_map(|device| (0..8).map(move |function| Self { device, function }))
    }

    /// The address of a register, for [`ADDRESS`].
    pub fn address(self, register: u8) -> u32 {
        ENABLE
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(register & !3)
    }

    /// Reads four bytes.
    pub fn read(self, register: u8) -> u32 {
        outl(ADDRESS, self.address(register));
        inl(DATA)
    }

    /// Reads two bytes.
    pub fn read16(self, register: u8) -> u16 {
        outl(ADDRESS, self.address(register));
        inw(DATA + u16::from(register & 2))
    }

    /// Reads a byte.
    pub fn read8(self, register: u8) -> u8 {
        outl(ADDRESS, self.address(register));
        inb(DATA + u16::from(register & 3))
    }

    /// Writes four bytes.
    pub fn write(self, register: u8, value: u32) {
        outl(ADDRESS, self.address(register));
        outl(DATA, value);
    }

    /// Writes two bytes.
    pub fn write16(self, register: u8, value: u16) {
        outl(ADDRESS, self.address(register));
        outw(DATA + u16::from(register & 2), value);
    }

    /// Writes a byte.
    pub fn write8(self, register: u8, value: u8) {
        outl(ADDRESS, self.address(register));
        outb(DATA + u16::from(register & 3), value);
    }
}
