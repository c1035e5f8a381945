//! All that the card remembers outside video memory, and its I/O ports.

use super::blocks::{Attribute, Graphics, Sequencer};
use super::crtc::Crtc;
use super::dac::Dac;
use super::dispi::Dispi;
use super::planes::Layout;
use super::spec::*;
use super::window::Window;

/// The card's volatile state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub misc: MiscOutput,
    pub feature_control: u8,
    pub enable: u8,
    pub sequencer: Sequencer,
    pub graphics: Graphics,
    pub attribute: Attribute,
    pub crtc: Crtc,
    pub dac: Dac,
    pub dispi: Dispi,
    /// The four plane bytes last read by the CPU.
    pub latches: u32,
    /// Where planes 0 and 1 are kept.
    pub layout: Layout,
    /// How the legacy window is to be mapped.
    pub window: Window,
    /// Counts changes of plane 2, where the fonts are.
    pub font_generation: u32,
}

/// The effect of a port write beyond the register itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The way in which the CPU reaches video memory.
    Memory,
    /// The timing of the beam.
    Timing,
    /// Both.
    MemoryAndTiming,
}

/// The value of input status 0: a colour monitor is connected, no interrupt.
const INPUT_STATUS_0: u8 = 0x10;

impl State {
    /// Reads VGA port `port` (3b0h to 3dfh).
    pub fn read_port(&mut self, port: u16, now_ns: impl FnOnce() -> u64) -> Option<u8> {
        Some(match self.decode(port)? {
            0x3c0 => self.attribute.read_index(),
            0x3c1 => self.attribute.read_data(),
            0x3c2 => INPUT_STATUS_0,
            0x3c3 => self.enable,
            0x3c4 => self.sequencer.index,
            0x3c5 => self.sequencer.read(),
            0x3c6 => self.dac.pel_mask,
            0x3c7 => self.dac.state(),
            0x3c8 => self.dac.write_index(),
            0x3c9 => self.dac.read_data(),
            0x3ca => self.feature_control,
            0x3cc => self.misc.into(),
            0x3ce => self.graphics.index,
            0x3cf => self.graphics.read(),
            0x3d4 => self.crtc.index,
            0x3d5 => self.read_crtc(),
            0x3da => {
                self.attribute.expect_index();
                self.crtc.timing.status(now_ns()).into()
            }
            _ => return None,
        })
    }

    /// Writes VGA port `port` (3b0h to 3dfh).
    pub fn write_port(&mut self, port: u16, value: u8) -> Effect {
        let Some(port) = self.decode(port) else { return Effect::None };
        match port {
            0x3c0 => self.attribute.write(value),
            0x3c2 => {
                self.misc = value.into();
                return Effect::MemoryAndTiming;
            }
            0x3c3 => self.enable = value & 1,
            0x3c4 => self.sequencer.index = value & 7,
            0x3c5 => {
                self.sequencer.write(value);
                return match self.sequencer.index {
                    1 => Effect::Timing,
                    2 | 4 => Effect::Memory,
                    _ => Effect::None,
                };
            }
            0x3c6 => self.dac.pel_mask = value,
            0x3c7 => self.dac.set_read_index(value),
            0x3c8 => self.dac.set_write_index(value),
            0x3c9 => self.dac.write_data(value),
            0x3ce => self.graphics.index = value & 0x0f,
            0x3cf => {
                self.graphics.write(value);
                return Effect::Memory;
            }
            0x3d4 => self.crtc.index = value,
            0x3d5 => {
                self.crtc.write(value);
                return if self.crtc.drives_timing() { Effect::Timing } else { Effect::None };
            }
            0x3da => self.feature_control = value & 0x0b,
            _ => {}
        }
        Effect::None
    }

    /// Maps the CRTC's ports to the addresses of the colour emulation. The addresses of the other
    /// emulation are not decoded.
    fn decode(&self, port: u16) -> Option<u16> {
        let colour = self.misc.colour_ports();
        match port {
            0x3b4 | 0x3b5 | 0x3ba => (!colour).then_some(port + 0x20),
            0x3d4 | 0x3d5 | 0x3da => colour.then_some(port),
            0x3c0..=0x3cf => Some(port),
            _ => None,
        }
    }

    /// CRTC registers; beyond IBM's, 22h shows the latch of the read plane and 24h the attribute
    /// flip-flop, as on most VGAs.
    fn read_crtc(&self) -> u8 {
        match self.crtc.index {
            0x22 => self.latches.to_le_bytes()[usize::from(self.graphics.read_map & 3)],
            0x24 => self.attribute.phase(),
            _ => self.crtc.read(),
        }
    }
}
