//! The 82441FX (i440FX) host bridge: shadow memory between C0000h and FFFFFh (PAM) and the SMRAM
//! window.
//!
//! System management mode does not exist. SMRAM's D_OPEN is honoured all the same: it shows RAM
//! instead of video memory at A0000h to BFFFFh, which is what firmware relies on.

use super::{ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion};
use crate::lock::DeviceLock;
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use core::ops::Range;
use spec::Smram;

/// Registers of the 82441FX datasheet (Intel 290549).
pub mod spec {
    use super::bitfield;

    /// Vendor 8086h, device 1237h.
    pub const DEVICE: u16 = 0x1237;
    /// Programmable attribute map registers, 59h to 5Fh (section 3.2.18).
    pub const PAM0: u8 = 0x59;
    /// System management RAM control (section 3.2.22).
    pub const SMRAM: u8 = 0x72;

    /// System management RAM control.
    #[bitfield(u8)]
    pub struct Smram {
        /// Where SMRAM is: 2, the only value, for A0000h.
        #[bits(3)]
        pub c_base_seg: u8,
        pub g_smrame: bool,
        pub d_lck: bool,
        pub d_cls: bool,
        pub d_open: bool,
        __: bool,
    }

    /// One half of a PAM register.
    #[bitfield(u8)]
    pub struct Attributes {
        pub read_enable: bool,
        pub write_enable: bool,
        #[bits(6)]
        __: u8,
    }
}

/// Where accesses to one segment of C0000h to FFFFFh go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PamState {
    /// Reads come from RAM; otherwise from ROM.
    pub read_ram: bool,
    /// Writes go to RAM; otherwise to ROM, that is nowhere.
    pub write_ram: bool,
}

/// How many segments have their own [`PamState`].
pub const PAM_SEGMENTS: usize = 13;

/// The addresses of segment `segment`: 0 is F0000h to FFFFFh, 1 to 12 are the
/// 16 KiB pieces from C0000h up.
pub const fn pam_range(segment: usize) -> Range<u64> {
    const LOWEST: u64 = 0xc_0000;
    const TOP: Range<u64> = 0xf_0000..0x10_0000;
    const SEGMENT_BYTES: u64 = 0x4000;
    match segment.checked_sub(1) {
        None => TOP,
        Some(below) => {
            let start = LOWEST.saturating_add((below as u64).saturating_mul(SEGMENT_BYTES));
            start..start.saturating_add(SEGMENT_BYTES)
        }
    }
}

/// The host bridge, device 0 function 0.
#[derive(Debug)]
pub struct I440fx {
    state: DeviceLock<ConfigSpace>,
}

impl Default for I440fx {
    fn default() -> Self {
        Self::new()
    }
}

impl I440fx {
    /// A host bridge that shows ROM everywhere.
    pub fn new() -> Self {
        let identity = Identity {
            vendor: 0x8086,
            device: spec::DEVICE,
            revision: 2,
            class: 0x06_00_00,
            subsystem: 0x1100_1af4,
        };
        let mut config = ConfigSpace::new(identity);
        // 57h DRAM control, 58h DRAM timing, 59h-5Fh PAM: read and write enables of each half.
        config.define(0x58, 0, 0x3333_3000);
        config.define(0x5c, 0, 0x3333_3333);
        // DRAM row boundaries, of which firmware asks fw_cfg instead.
        config.define(0x60, 0, u32::MAX);
        config.define(0x64, 0, u32::MAX);
        // SMRAM control is byte 72h; SeaBIOS never asks for the rest.
        config.define(
            0x70,
            u32::from(u8::from(Smram::new().with_c_base_seg(2))) << 16,
            0x0078_0000,
        );
        Self { state: DeviceLock::new(config) }
    }

    /// Where each segment's accesses go now; see [`pam_range`].
    pub fn pam(&self) -> [PamState; PAM_SEGMENTS] {
        let state = self.state.lock();
        core::array::from_fn(|segment| {
            // Two segments a register, the lower half first; the lower half of the first register
            // is reserved.
            let half = segment + 1;
            let register = state.byte(spec::PAM0 + (half / 2) as u8);
            let attributes =
                spec::Attributes::from(if half % 2 == 0 { register } else { register >> 4 });
            PamState { read_ram: attributes.read_enable(), write_ram: attributes.write_enable() }
        })
    }

    /// True while A0000h to BFFFFh shows RAM instead of video memory.
    pub fn smram_open(&self) -> bool {
        let smram = Smram::from(self.state.lock().byte(spec::SMRAM));
        smram.g_smrame() && smram.d_open()
    }
}

impl PciFunction for I440fx {
    fn config_read(&self, register: u8) -> u32 {
        self.state.lock().read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        let mut state = self.state.lock();
        let old = state.read(register);
        let smram = Smram::from(state.byte(spec::SMRAM));
        let effect = state.write(register, value, mask);
        if register == spec::SMRAM & 0xfc && smram.d_lck() {
            // Locked until reset: only D_CLS still changes.
            let new = Smram::from(state.byte(spec::SMRAM));
            state.set_byte(spec::SMRAM, smram.with_d_cls(new.d_cls()).into());
        } else if Smram::from(state.byte(spec::SMRAM)).d_lck() {
            // Locking closes the window (section 3.2.22).
            let locked = Smram::from(state.byte(spec::SMRAM)).with_d_open(false);
            state.set_byte(spec::SMRAM, locked.into());
        }
        let shapes_memory = matches!(register, 0x58 | 0x5c | 0x70);
        if shapes_memory && state.read(register) != old { ConfigEffect::Map } else { effect }
    }

    fn regions(&self) -> Vec<PciRegion> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write_byte(bridge: &I440fx, offset: u8, value: u8) -> ConfigEffect {
        let shift = u32::from(offset & 3) * 8;
        bridge.config_write(offset & 0xfc, u32::from(value) << shift, 0xff << shift)
    }

    const RAM: PamState = PamState { read_ram: true, write_ram: true };
    const ROM: PamState = PamState { read_ram: false, write_ram: false };

    #[test]
    fn the_bios_shadows_itself_and_then_write_protects() {
        let bridge = I440fx::new();
        assert_eq!(bridge.config_read(0), 0x1237_8086);
        assert_eq!(bridge.pam(), [ROM; 13]);
        assert_eq!(write_byte(&bridge, 0x59, 0x30), ConfigEffect::Map);
        assert_eq!(write_byte(&bridge, 0x59, 0x30), ConfigEffect::None);
        for register in 0x5a..=0x5f {
            assert_eq!(write_byte(&bridge, register, 0x33), ConfigEffect::Map);
        }
        assert_eq!(bridge.pam(), [RAM; 13]);
        let _ = write_byte(&bridge, 0x59, 0x10);
        let _ = write_byte(&bridge, 0x5b, 0x12);
        let pam = bridge.pam();
        assert_eq!(pam[0], PamState { read_ram: true, write_ram: false });
        assert_eq!(pam[3], PamState { read_ram: false, write_ram: true });
        assert_eq!(pam[4], PamState { read_ram: true, write_ram: false });
        assert_eq!(pam_range(3), 0xc_8000..0xc_c000);
        assert_eq!(pam_range(12), 0xe_c000..0xf_0000);
    }

    #[test]
    fn smram_opens_closes_and_locks() {
        let bridge = I440fx::new();
        assert_eq!(bridge.config_read(0x70) >> 16 & 0xff, 0x02);
        assert_eq!(write_byte(&bridge, 0x72, 0x4a), ConfigEffect::Map);
        assert!(bridge.smram_open());
        let _ = write_byte(&bridge, 0x72, 0x0a);
        assert!(!bridge.smram_open());
        let _ = write_byte(&bridge, 0x72, 0x5a);
        assert!(!bridge.smram_open());
        let _ = write_byte(&bridge, 0x72, 0x4a);
        assert!(!bridge.smram_open());
    }

    proptest! {
        #[test]
        fn a_change_of_the_map_is_never_missed(writes in prop::collection::vec((0x50u8..0x80, any::<u8>()), 0..60)) {
            let bridge = I440fx::new();
            for (offset, value) in writes {
                let before = (bridge.pam(), bridge.smram_open());
                if write_byte(&bridge, offset, value) == ConfigEffect::None {
                    prop_assert_eq!(before, (bridge.pam(), bridge.smram_open()));
                }
            }
        }
    }
}
