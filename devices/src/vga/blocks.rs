//! The sequencer, the graphics controller and the attribute controller.

use super::spec::*;

/// The sequencer (ports 3c4h and 3c5h).
#[derive(Clone, Debug, Default)]
pub struct Sequencer {
    pub index: u8,
    reset: u8,
    pub clocking: ClockingMode,
    pub map_mask: u8,
    pub character_maps: CharacterMaps,
    pub memory_mode: MemoryMode,
}

impl Sequencer {
    pub fn read(&self) -> u8 {
        match self.index {
            0 => self.reset,
            1 => self.clocking.into(),
            2 => self.map_mask,
            3 => self.character_maps.into(),
            4 => self.memory_mode.into(),
            _ => 0,
        }
    }

    pub fn write(&mut self, value: u8) {
        match self.index {
            0 => self.reset = value & 0x03,
            1 => self.clocking = (value & 0x3d).into(),
            2 => self.map_mask = value & 0x0f,
            3 => self.character_maps = (value & 0x3f).into(),
            4 => self.memory_mode = (value & 0x0e).into(),
            _ => {}
        }
    }
}

/// The graphics controller (ports 3ceh and 3cfh).
#[derive(Clone, Debug, Default)]
pub struct Graphics {
    pub index: u8,
    pub set_reset: u8,
    pub enable_set_reset: u8,
    pub colour_compare: u8,
    pub rotate: DataRotate,
    pub read_map: u8,
    pub mode: GraphicsMode,
    pub misc: GraphicsMisc,
    pub colour_care: u8,
    pub bit_mask: u8,
}

impl Graphics {
    pub fn read(&self) -> u8 {
        match self.index {
            0 => self.set_reset,
            1 => self.enable_set_reset,
            2 => self.colour_compare,
            3 => self.rotate.into(),
            4 => self.read_map,
            5 => self.mode.into(),
            6 => self.misc.into(),
            7 => self.colour_care,
            8 => self.bit_mask,
            _ => 0,
        }
    }

    pub fn write(&mut self, value: u8) {
        match self.index {
            0 => self.set_reset = value & 0x0f,
            1 => self.enable_set_reset = value & 0x0f,
            2 => self.colour_compare = value & 0x0f,
            3 => self.rotate = (value & 0x1f).into(),
            4 => self.read_map = value & 0x03,
            5 => self.mode = (value & 0x7b).into(),
            6 => self.misc = (value & 0x0f).into(),
            7 => self.colour_care = value & 0x0f,
            8 => self.bit_mask = value,
            _ => {}
        }
    }

    /// True if a byte written reaches the planes unchanged and a byte read comes from one plane.
    pub fn is_transparent(&self) -> bool {
        self.mode.write_mode() == 0
            && !self.mode.compare()
            && self.enable_set_reset == 0
            && u8::from(self.rotate) == 0
            && self.bit_mask == 0xff
    }
}

/// The attribute controller (ports 3c0h and 3c1h).
#[derive(Clone, Debug, Default)]
pub struct Attribute {
    /// Index in the low five bits; bit 5 is the palette address source.
    index: u8,
    /// The flip-flop: the next write to 3c0h is data.
    data_next: bool,
    pub palette: [u8; 16],
    pub mode: AttributeMode,
    pub overscan: u8,
    pub plane_enable: u8,
    pub panning: u8,
    pub colour_select: ColourSelect,
}

impl Attribute {
    const PALETTE_SOURCE: u8 = 0x20;

    /// True if the palette drives the screen; otherwise the screen shows the overscan colour only.
    pub fn shows_picture(&self) -> bool {
        self.index & Self::PALETTE_SOURCE != 0
    }

    /// Reading input status 1 makes the next write to 3c0h an index.
    pub fn expect_index(&mut self) {
        self.data_next = false;
    }

    /// The flip-flop in bit 7 and the index, as CRTC register 24h of most VGAs shows them.
    pub fn phase(&self) -> u8 {
        u8::from(self.data_next) << 7 | self.index
    }

    pub fn read_index(&self) -> u8 {
        self.index
    }

    pub fn read_data(&self) -> u8 {
        let register = self.index & 0x1f;
        match register {
            0x00..=0x0f => self.palette[usize::from(register)],
            0x10 => self.mode.into(),
            0x11 => self.overscan,
            0x12 => self.plane_enable,
            0x13 => self.panning,
            0x14 => self.colour_select.into(),
            _ => 0,
        }
    }

    pub fn write(&mut self, value: u8) {
        if !self.data_next {
            self.index = value & 0x3f;
            self.data_next = true;
            return;
        }
        self.data_next = false;
        let register = self.index & 0x1f;
        match register {
            0x00..=0x0f => self.palette[usize::from(register)] = value & 0x3f,
            0x10 => self.mode = (value & 0xef).into(),
            0x11 => self.overscan = value,
            0x12 => self.plane_enable = value & 0x3f,
            0x13 => self.panning = value & 0x0f,
            0x14 => self.colour_select = (value & 0x0f).into(),
            _ => {}
        }
    }

    /// The DAC index of each of the sixteen attributes, before the pel mask.
    pub fn dac_indexes(&self) -> [u8; 16] {
        core::array::from_fn(|attribute| {
            let colour = self.palette[attribute & usize::from(self.plane_enable & 0x0f)];
            let low = match self.mode.p54_select() {
                true => colour & 0x0f | self.colour_select.p54() << 4,
                false => colour,
            };
            low | self.colour_select.p76() << 6
        })
    }
}
