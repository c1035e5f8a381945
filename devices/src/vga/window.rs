//! How the CPU reaches video memory through the legacy window (a0000h to bffffh), and when that can
//! be a plain mapping.

use super::dispi::BANK_BYTES;
use super::planes::{Layout, ODD_EVEN_BYTES};
use super::state::State;

/// First guest-physical address of the legacy window.
pub const LEGACY_BASE: u64 = 0xa_0000;
/// Length of the legacy window in bytes.
pub const LEGACY_BYTES: u64 = 0x2_0000;

/// A memory of the card that can be mapped into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowMemory {
    /// Video memory.
    Vram,
    /// The characters and attributes of the text modes.
    OddEven,
}

/// How the legacy window is to be mapped now. Everything is a multiple of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Nothing is mapped: accesses go through the device.
    #[default]
    Trapped,
    /// A part of the window shows memory; the rest goes through the device.
    Linear {
        /// The first guest-physical address that is mapped.
        gpa: u64,
        /// The memory that is mapped there.
        memory: WindowMemory,
        /// Where in that memory.
        offset_bytes: usize,
        /// How much.
        length_bytes: usize,
    },
}

/// The part of the legacy window that the card answers: its start from [`LEGACY_BASE`] and its
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aperture {
    pub start: usize,
    pub length: usize,
}

/// How the planes are addressed by the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// The low two bits choose the plane.
    Chain4,
    /// The low bit chooses between planes 0, 2 and planes 1, 3.
    OddEven,
    /// Every address reaches all planes.
    Sequential,
}

impl State {
    /// The part of the legacy window that the card answers.
    pub fn aperture(&self) -> Option<Aperture> {
        if !self.misc.ram_enable() {
            return None;
        }
        if self.dispi.is_enabled() {
            return Some(Aperture { start: 0, length: BANK_BYTES });
        }
        let (start, length) = match self.graphics.misc.memory_map() {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        Some(Aperture { start, length })
    }

    /// How addresses select planes.
    ///
    /// Odd/even needs both the sequencer and the graphics controller to ask for it; programs that
    /// set one of them only do so on the way from one mode to another.
    pub fn addressing(&self) -> Addressing {
        let mode = self.sequencer.memory_mode;
        if mode.chain_4() {
            Addressing::Chain4
        } else if self.graphics.mode.odd_even() && !mode.sequential() {
            Addressing::OddEven
        } else {
            Addressing::Sequential
        }
    }

    /// True if DISPI shows a packed mode, in which the window is a plain view of video memory.
    fn is_packed_dispi(&self) -> bool {
        self.dispi.is_enabled() && self.dispi.bits() != 4
    }

    /// The mapping that the registers ask for, given the sizes of video memory.
    pub fn wanted_window(&self, vram_bytes: usize) -> Window {
        let Some(aperture) = self.aperture() else { return Window::Trapped };
        let gpa = LEGACY_BASE + aperture.start as u64;
        if self.is_packed_dispi() {
            let offset_bytes = self.dispi.bank_offset_bytes();
            let length_bytes = aperture.length.min(vram_bytes.saturating_sub(offset_bytes));
            return Window::Linear { gpa, memory: WindowMemory::Vram, offset_bytes, length_bytes };
        }
        if self.dispi.is_enabled() || !self.graphics.is_transparent() {
            return Window::Trapped;
        }
        let planes = self.sequencer.map_mask;
        match self.addressing() {
            Addressing::Chain4 if planes == 0x0f => Window::Linear {
                gpa,
                memory: WindowMemory::Vram,
                offset_bytes: 0,
                length_bytes: aperture.length.min(vram_bytes),
            },
            Addressing::OddEven if planes == 0x03 && self.graphics.read_map < 2 => Window::Linear {
                gpa,
                memory: WindowMemory::OddEven,
                offset_bytes: 0,
                length_bytes: aperture.length.min(ODD_EVEN_BYTES),
            },
            _ => Window::Trapped,
        }
    }

    /// The layout that `window` and the mode need; the present one where either would do.
    ///
    /// Moving planes 0 and 1 costs some 100 us, so that the short visits to plane 2 in which the
    /// firmware loads fonts leave the layout alone.
    pub fn wanted_layout(&self, window: Window) -> Layout {
        match window {
            Window::Linear { memory: WindowMemory::OddEven, .. } => Layout::OddEven,
            Window::Linear { memory: WindowMemory::Vram, .. } => Layout::Planar,
            Window::Trapped => {
                let graphics =
                    self.graphics.misc.graphics() && self.addressing() != Addressing::OddEven;
                if graphics || self.dispi.is_enabled() { Layout::Planar } else { self.layout }
            }
        }
    }
}
