//! A type 0 configuration space: registers with write masks, base address registers, partial-width
//! access.

use super::{ConfigEffect, PciRegion, Space};
use crate::bus::Region;
use alloc::vec::Vec;
use bitfield_struct::bitfield;

/// Byte offsets of the registers of a type 0 header (PCI Local Bus Specification 3.0, section 6.1).
pub mod offset {
    /// Vendor and device identification.
    pub const ID: u8 = 0x00;
    /// Command and status.
    pub const COMMAND_STATUS: u8 = 0x04;
    /// Revision and class code.
    pub const CLASS: u8 = 0x08;
    /// Cache line size, latency timer, header type, BIST.
    pub const HEADER: u8 = 0x0c;
    /// The first of six base address registers.
    pub const BAR0: u8 = 0x10;
    /// Subsystem vendor and device identification.
    pub const SUBSYSTEM: u8 = 0x2c;
    /// Expansion ROM base address.
    pub const ROM: u8 = 0x30;
    /// Interrupt line and pin.
    pub const INTERRUPT: u8 = 0x3c;
}

/// Command (low half) and status (high half), section 6.2.2 and 6.2.3.
#[bitfield(u32)]
pub struct CommandStatus {
    /// I/O space is decoded.
    pub io: bool,
    /// Memory space is decoded.
    pub memory: bool,
    /// The function may do DMA.
    pub bus_master: bool,
    #[bits(5)]
    __: u8,
    pub serr: bool,
    __: bool,
    /// INTx is not to be asserted.
    pub intx_disable: bool,
    #[bits(8)]
    __: u8,
    /// INTx is asserted.
    pub interrupt: bool,
    #[bits(3)]
    __: u8,
    pub fast_back_to_back: bool,
    pub master_parity_error: bool,
    /// 0 fast, 1 medium, 2 slow.
    #[bits(2)]
    pub devsel: u8,
    #[bits(5)]
    pub errors: u8,
}

/// The bits of the command register that a guest can write.
const COMMAND_WRITABLE: CommandStatus = CommandStatus::new()
    .with_io(true)
    .with_memory(true)
    .with_bus_master(true)
    .with_serr(true)
    .with_intx_disable(true);
/// Status bits that a guest clears by writing ones.
const STATUS_CLEAR_ON_ONE: CommandStatus =
    CommandStatus::new().with_master_parity_error(true).with_errors(0x1f);
/// Bit 23 of the header register: the device has more than one function.
const MULTIFUNCTION: u32 = 1 << 23;
/// Bit 0 of the ROM base address register.
const ROM_ENABLE: u32 = 1;
const ROM_INDEX: u8 = 6;

/// The constant part of a header.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Base class, subclass, programming interface, as in the upper 24 bits of register 08h.
    pub class: u32,
    /// Subsystem vendor and subsystem, the vendor in the low half.
    pub subsystem: u32,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports.
    Pio {
        /// A power of two, at least 4.
        length: u32,
    },
    /// Memory below 4 GiB.
    Memory {
        /// A power of two, at least 16.
        length: u32,
        /// Reads have no side effects.
        prefetchable: bool,
        /// [`Space::Mmio`] or [`Space::Ram`].
        space: Space,
    },
}

impl Bar {
    const fn length(self) -> u32 {
        match self {
            Self::Pio { length } | Self::Memory { length, .. } => length,
        }
    }

    const fn type_bits(self) -> u32 {
        match self {
            Self::Pio { .. } => 1,
            Self::Memory { prefetchable, .. } => (prefetchable as u32) << 3,
        }
    }

    const fn space(self) -> Space {
        match self {
            Self::Pio { .. } => Space::Pio,
            Self::Memory { space, .. } => space,
        }
    }
}

/// The 256 bytes of configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    registers: [u32; 64],
    writable: [u32; 64],
    clear_on_one: [u32; 64],
    bars: [Option<Bar>; 6],
    rom_length: Option<u32>,
}

impl ConfigSpace {
    /// A header without base address registers.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            registers: [0; 64],
            writable: [0; 64],
            clear_on_one: [0; 64],
            bars: [None; 6],
            rom_length: None,
        };
        space.define(offset::ID, u32::from(identity.device) << 16 | u32::from(identity.vendor), 0);
        let status = CommandStatus::new().with_devsel(1).with_fast_back_to_back(true);
        space.define(offset::COMMAND_STATUS, status.into(), COMMAND_WRITABLE.into());
        space.clear_on_one[usize::from(offset::COMMAND_STATUS / 4)] = STATUS_CLEAR_ON_ONE.into();
        space.define(offset::CLASS, identity.class << 8 | u32::from(identity.revision), 0);
        // The cache line size and the latency timer are read back and mean nothing.
        space.define(offset::HEADER, 0, 0xffff);
        space.define(offset::SUBSYSTEM, identity.subsystem, 0);
        space
    }

    /// Defines the register at byte offset `register` (a multiple of four): its value at power-on,
    /// and the bits that a guest can write.
    pub fn define(&mut self, register: u8, power_on: u32, writable: u32) {
        let index = index(register);
        self.registers[index] = power_on;
        self.writable[index] = writable;
    }

    /// Adds base address register `number` (0 to 5).
    pub fn with_bar(mut self, number: u8, bar: Bar) -> Self {
        assert!(
            number < 6 && bar.length().is_power_of_two() && bar.length() >= 4,
            "a malformed base address register"
        );
        self.bars[usize::from(number)] = Some(bar);
        self.define(offset::BAR0 + 4 * number, bar.type_bits(), !(bar.length() - 1));
        self
    }

    /// Adds an expansion ROM of `length` bytes, a power of two of at least 2 KiB.
    pub fn with_rom(mut self, length: u32) -> Self {
        assert!(length.is_power_of_two() && length >= 2048, "a malformed expansion ROM");
        self.rom_length = Some(length);
        self.define(offset::ROM, 0, !(length - 1) | ROM_ENABLE);
        self
    }

    /// Gives the function an interrupt pin: 1 for INTA to 4 for INTD.
    pub fn with_interrupt_pin(mut self, pin: u8) -> Self {
        self.define(offset::INTERRUPT, u32::from(pin) << 8, 0xff);
        self
    }

    /// Marks function 0 of a device that has more functions.
    pub fn with_multifunction(mut self) -> Self {
        self.define(offset::HEADER, MULTIFUNCTION, 0xffff);
        self
    }

    /// Sets what the command and status register holds at power-on.
    pub fn with_command_status(mut self, value: CommandStatus) -> Self {
        self.define(offset::COMMAND_STATUS, value.into(), COMMAND_WRITABLE.into());
        self
    }

    /// Reads the register at byte offset `register`, a multiple of four.
    pub fn read(&self, register: u8) -> u32 {
        self.registers[index(register)]
    }

    /// Writes the writable ones of the bits in `mask`. The effect is [`ConfigEffect::Map`] if a
    /// base address register that is decoded moved, or if decoding was switched.
    pub fn write(&mut self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        let index = index(register);
        let old = self.registers[index];
        let writable = self.writable[index] & mask;
        let new = (old & !writable | value & writable) & !(value & self.clear_on_one[index] & mask);
        self.registers[index] = new;
        if new == old {
            return ConfigEffect::None;
        }
        let command = self.command_status();
        let changed = match register & 0xfc {
            offset::COMMAND_STATUS => {
                let old = CommandStatus::from(old);
                old.io() != command.io() || old.memory() != command.memory()
            }
            offset::ROM => command.memory() && (old | new) & ROM_ENABLE != 0,
            register => match self.bar(register) {
                Some(Bar::Pio { .. }) => command.io(),
                Some(Bar::Memory { .. }) => command.memory(),
                None => false,
            },
        };
        if changed { ConfigEffect::Map } else { ConfigEffect::None }
    }

    /// The byte at `offset`.
    pub fn byte(&self, offset: u8) -> u8 {
        self.registers[index(offset)].to_le_bytes()[usize::from(offset & 3)]
    }

    /// Sets the byte at `offset`, writable by the guest or not.
    pub fn set_byte(&mut self, offset: u8, value: u8) {
        let shift = u32::from(offset & 3) * 8;
        let register = &mut self.registers[index(offset)];
        *register = *register & !(0xff << shift) | u32::from(value) << shift;
    }

    /// The command and status register.
    pub fn command_status(&self) -> CommandStatus {
        self.read(offset::COMMAND_STATUS).into()
    }

    /// The ranges that the base address registers and the ROM decode now. A range that is
    /// unassigned (0), that is being sized, or that passes the end of its space is not decoded.
    pub fn regions(&self) -> Vec<PciRegion> {
        let command = self.command_status();
        let mut regions = Vec::new();
        for (number, bar) in (0u8..).zip(&self.bars) {
            let Some(bar) = bar else { continue };
            let space = bar.space();
            let enabled = if space == Space::Pio { command.io() } else { command.memory() };
            let base = self.read(offset::BAR0 + 4 * number) & !(bar.length() - 1);
            if enabled && is_decodable(space, base, bar.length()) {
                regions.push(region(space, number, base, bar.length()));
            }
        }
        let rom = self.read(offset::ROM);
        if let Some(length) = self.rom_length
            && command.memory()
            && rom & ROM_ENABLE != 0
            && is_decodable(Space::Rom, rom & !(length - 1), length)
        {
            regions.push(region(Space::Rom, ROM_INDEX, rom & !(length - 1), length));
        }
        regions
    }

    fn bar(&self, register: u8) -> Option<Bar> {
        let number = register.checked_sub(offset::BAR0)? / 4;
        self.bars.get(usize::from(number)).copied().flatten()
    }
}

const fn index(register: u8) -> usize {
    (register >> 2) as usize
}

fn region(space: Space, number: u8, base: u32, length: u32) -> PciRegion {
    PciRegion { space, region: Region::new(number, base.into(), length.into()) }
}

fn is_decodable(space: Space, base: u32, length: u32) -> bool {
    let last_of_space = if space == Space::Pio { 0xffff } else { u32::MAX - 1 };
    base != 0 && base.checked_add(length - 1).is_some_and(|last| last <= last_of_space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: Identity = Identity {
        vendor: 0x1234,
        device: 0x1111,
        revision: 2,
        class: 0x03_00_00,
        subsystem: 0x1100_1af4,
    };

    fn vga() -> ConfigSpace {
        ConfigSpace::new(IDENTITY)
            .with_bar(0, Bar::Memory { length: 16 << 20, prefetchable: true, space: Space::Ram })
            .with_bar(1, Bar::Pio { length: 32 })
            .with_rom(64 << 10)
            .with_interrupt_pin(1)
    }

    #[test]
    fn a_base_address_register_tells_its_size_and_moves() {
        let mut space = vga();
        assert_eq!(space.write(0x10, u32::MAX, u32::MAX), ConfigEffect::None);
        assert_eq!(space.read(0x10), 0xff00_0008);
        let _ = space.write(0x14, u32::MAX, u32::MAX);
        assert_eq!(space.read(0x14), 0xffff_ffe1);
        let _ = space.write(0x30, 0xffff_f800, u32::MAX);
        assert_eq!(space.read(0x30), 0xffff_0000);
        assert_eq!(space.read(0x18), 0);

        assert_eq!(space.write(0x10, 0xe000_0000, u32::MAX), ConfigEffect::None);
        assert_eq!(space.write(0x14, 0xc000, u32::MAX), ConfigEffect::None);
        assert!(space.regions().is_empty());
        assert_eq!(space.write(0x04, 3, 0xffff), ConfigEffect::Map);
        assert_eq!(
            space.regions(),
            [region(Space::Ram, 0, 0xe000_0000, 16 << 20), region(Space::Pio, 1, 0xc000, 32)]
        );
        assert_eq!(space.write(0x10, 0xfd00_0000, u32::MAX), ConfigEffect::Map);
        assert_eq!(space.write(0x30, 0xfeb0_0001, u32::MAX), ConfigEffect::Map);
        assert_eq!(space.regions()[2], region(Space::Rom, 6, 0xfeb0_0000, 64 << 10));
        assert_eq!(space.write(0x04, 4, 0xff), ConfigEffect::Map);
        assert!(space.regions().is_empty());
    }

    #[test]
    fn what_is_read_only_stays() {
        let mut space = vga();
        for register in (0..=0xfc).step_by(4) {
            let _ = space.write(register, u32::MAX, u32::MAX);
        }
        assert_eq!(space.read(0x00), 0x1111_1234);
        assert_eq!(space.read(0x04), 0x0280_0507);
        assert_eq!(space.read(0x08), 0x0300_0002);
        assert_eq!(space.read(0x0c), 0x0000_ffff);
        assert_eq!(space.read(0x2c), 0x1100_1af4);
        assert_eq!(space.read(0x3c), 0x0000_01ff);
    }

    proptest! {
        #[test]
        fn decoded_ranges_are_aligned_and_inside_their_space(
            writes in prop::collection::vec((any::<u8>(), any::<u32>(), 0u32..16), 0..40)
        ) {
            let mut space = vga();
            for (register, value, enables) in writes {
                let mask = (0..4).map(|byte| if enables >> byte & 1 != 0 { 0xff << (8 * byte) } else { 0 }).sum();
                let before = space.regions();
                let effect = space.write(register & 0xfc, value, mask);
                if effect == ConfigEffect::None {
                    prop_assert_eq!(before, space.regions());
                }
                for PciRegion { space, region } in space.regions() {
                    prop_assert_eq!(region.base % region.length, 0);
                    let end = if space == Space::Pio { 1 << 16 } else { 1 << 32 };
                    prop_assert!(region.base != 0 && region.base + region.length <= end);
                }
            }
        }
    }
}
