//! The card on the PCI bus: 1234:1111, as QEMU's.

use alloc::vec::Vec;

use super::{REGION_FRAMEBUFFER, REGION_REGISTERS, REGISTERS_BYTES, Vga};
use crate::pci::{Bar, ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion, Space};

const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x1111,
    revision: 2,
    class: 0x03_00_00,
    subsystem: 0x1100_1af4,
};

/// The header of a card with memories of these lengths, which must be powers of two.
pub(super) fn config_space(vram_bytes: usize, rom_bytes: usize) -> ConfigSpace {
    let framebuffer =
        Bar::Memory { length: vram_bytes as u32, prefetchable: true, space: Space::Ram };
    let registers =
        Bar::Memory { length: REGISTERS_BYTES as u32, prefetchable: false, space: Space::Mmio };
    ConfigSpace::new(IDENTITY)
        .with_bar(REGION_FRAMEBUFFER, framebuffer)
        .with_bar(REGION_REGISTERS, registers)
        .with_rom(rom_bytes as u32)
}

/// The framebuffer's range shows [`Vga::vram`], the ROM's [`Vga::rom`]. The legacy window and ports
/// do not depend on the command register: firmware and systems use them before they touch it.
impl PciFunction for Vga {
    fn config_read(&self, register: u8) -> u32 {
        self.config.lock().read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        self.config.lock().write(register, value, mask)
    }

    fn regions(&self) -> Vec<PciRegion> {
        self.config.lock().regions()
    }
}
