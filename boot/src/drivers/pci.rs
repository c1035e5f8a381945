//! PCI configuration space of bus 0, by configuration mechanism 1 (PCI Local Bus Specification 3.0,
//! 3.2.2.3).

use x86::io::{inl, outl};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Function 0 of a device on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(u8);

impl Device {
    /// The first device with this vendor and device number.
    pub fn find(vendor: u16, device: u16) -> Option<Self> {
        let wanted = u32::from(device) << 16 | u32::from(vendor);
        (0..32).map(Self).find(|candidate| candidate.read(0) == wanted)
    }

    /// Reads a register, a multiple of 4.
    fn read(self, register: u8) -> u32 {
        // SAFETY: the configuration ports; reading configuration space has no side effect.
        unsafe {
            outl(ADDRESS, ENABLE | u32::from(self.0) << 11 | u32::from(register));
            inl(DATA)
        }
    }

    /// The address in memory that base address register `index` holds, if it holds one.
    pub fn memory_base(self, index: u8) -> Option<u64> {
        const IO_SPACE: u32 = 1 << 0;
        const TYPE: u32 = 0b110;
        const TYPE_64_BIT: u32 = 0b100;
        let low = self.read(0x10 + 4 * index);
        if low & IO_SPACE != 0 {
            return None;
        }
        let high = if low & TYPE == TYPE_64_BIT { self.read(0x14 + 4 * index) } else { 0 };
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        (base != 0).then_some(base)
    }
}
