//! The Bochs DISPI registers: high resolutions with a linear framebuffer.

use super::spec::DispiEnable;

/// Greatest width in dots.
pub const MAX_WIDTH: u16 = 1920;
/// Greatest height in dots.
pub const MAX_HEIGHT: u16 = 1200;
const MAX_BITS: u16 = 32;
/// The banked window's size, and the unit of register 0ah.
pub const BANK_BYTES: usize = 64 << 10;

mod register {
    pub const ID: u16 = 0;
    pub const WIDTH: u16 = 1;
    pub const HEIGHT: u16 = 2;
    pub const BITS: u16 = 3;
    pub const ENABLE: u16 = 4;
    pub const BANK: u16 = 5;
    pub const VIRTUAL_WIDTH: u16 = 6;
    pub const VIRTUAL_HEIGHT: u16 = 7;
    pub const X_OFFSET: u16 = 8;
    pub const Y_OFFSET: u16 = 9;
    pub const MEMORY_64K: u16 = 10;
}

const ID_FIRST: u16 = 0xb0c0;
const ID_LAST: u16 = 0xb0c5;

/// The DISPI registers (ports 1ceh, 1cfh and 1d0h).
#[derive(Clone, Debug)]
pub struct Dispi {
    pub index: u16,
    id: u16,
    width: u16,
    height: u16,
    bits: u16,
    enable: DispiEnable,
    bank: u16,
    virtual_width: u16,
    x_offset: u16,
    y_offset: u16,
}

/// The change that a register write makes in the rest of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispiChange {
    /// Nothing else changes.
    None,
    /// The mode, the DAC width or the bank changed.
    Mode,
    /// A mode was switched on whose first `length_bytes` of memory are to be cleared.
    ModeAndClear {
        /// Bytes to clear from the start of video memory.
        length_bytes: usize,
    },
}

impl Default for Dispi {
    fn default() -> Self {
        Self {
            index: 0,
            id: ID_LAST,
            width: 0,
            height: 0,
            bits: 8,
            enable: DispiEnable::new(),
            bank: 0,
            virtual_width: 0,
            x_offset: 0,
            y_offset: 0,
        }
    }
}

impl Dispi {
    /// True if DISPI drives the screen in place of the VGA's own modes.
    pub fn is_enabled(&self) -> bool {
        self.enable.enabled()
    }

    pub fn wide_dac(&self) -> bool {
        self.enable.dac_8_bit()
    }

    /// Bits a dot: 4, 8, 15, 16, 24 or 32.
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Width and height in dots.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// Where the banked window starts in video memory, in bytes (in bytes of a plane with four bits
    /// a dot).
    pub fn bank_offset_bytes(&self) -> usize {
        usize::from(self.bank) * BANK_BYTES
    }

    /// From one row to the next in bytes of video memory. Four bits a dot use four planes of one
    /// bit each, which video memory holds side by side.
    pub fn pitch_bytes(&self) -> usize {
        row_bytes(usize::from(self.virtual_width), self.bits)
    }

    /// Where the picture starts in video memory, in bytes.
    pub fn start_bytes(&self) -> usize {
        row_bytes(usize::from(self.x_offset), self.bits)
            + usize::from(self.y_offset) * self.pitch_bytes()
    }

    pub fn read(&self, index: u16, vram_bytes: usize) -> u16 {
        let caps = self.enable.get_caps();
        match index {
            register::ID => self.id,
            register::WIDTH if caps => MAX_WIDTH,
            register::WIDTH => self.width,
            register::HEIGHT if caps => MAX_HEIGHT,
            register::HEIGHT => self.height,
            register::BITS if caps => MAX_BITS,
            register::BITS => self.bits,
            register::ENABLE => self.enable.into(),
            register::BANK => self.bank,
            register::VIRTUAL_WIDTH => self.virtual_width,
            register::VIRTUAL_HEIGHT => self.virtual_height(vram_bytes),
            register::X_OFFSET => self.x_offset,
            register::Y_OFFSET => self.y_offset,
            register::MEMORY_64K => u16::try_from(vram_bytes / BANK_BYTES).unwrap_or(u16::MAX),
            _ => 0,
        }
    }

    pub fn write(&mut self, index: u16, value: u16, vram_bytes: usize) -> DispiChange {
        match index {
            register::ID => {
                if (ID_FIRST..=ID_LAST).contains(&value) {
                    self.id = value;
                }
                return DispiChange::None;
            }
            register::WIDTH => self.width = value,
            register::HEIGHT => self.height = value,
            register::BITS => self.bits = if value == 0 { 8 } else { value },
            register::ENABLE => return self.write_enable(value.into(), vram_bytes),
            register::BANK => {
                let bytes = usize::from(value) * BANK_BYTES * if self.bits == 4 { 4 } else { 1 };
                if bytes >= vram_bytes {
                    return DispiChange::None;
                }
                self.bank = value;
            }
            register::VIRTUAL_WIDTH => self.virtual_width = value,
            register::X_OFFSET => self.x_offset = value,
            register::Y_OFFSET => self.y_offset = value,
            _ => return DispiChange::None,
        }
        if !self.is_enabled() {
            return DispiChange::None;
        }
        self.fit(vram_bytes);
        DispiChange::Mode
    }

    fn write_enable(&mut self, enable: DispiEnable, vram_bytes: usize) -> DispiChange {
        let was_enabled = self.is_enabled();
        self.enable = enable;
        if !enable.enabled() {
            self.bank = 0;
            return DispiChange::Mode;
        }
        if was_enabled {
            return DispiChange::Mode;
        }
        self.virtual_width = 0;
        self.x_offset = 0;
        self.y_offset = 0;
        self.bank = 0;
        self.fit(vram_bytes);
        match enable.keep_memory() {
            true => DispiChange::Mode,
            false => DispiChange::ModeAndClear {
                length_bytes: (self.pitch_bytes() * usize::from(self.height)).min(vram_bytes),
            },
        }
    }

    fn virtual_height(&self, vram_bytes: usize) -> u16 {
        let lines = vram_bytes.checked_div(self.pitch_bytes()).unwrap_or(0);
        u16::try_from(lines).unwrap_or(u16::MAX)
    }

    /// Makes the registers describe a picture that lies within video memory.
    fn fit(&mut self, vram_bytes: usize) {
        if ![4, 8, 15, 16, 24, 32].contains(&self.bits) {
            self.bits = 8;
        }
        self.width = (self.width & !7).clamp(8, MAX_WIDTH);
        self.virtual_width = (self.virtual_width & !7).clamp(self.width, 8 * MAX_WIDTH);
        let pitch = self.pitch_bytes();
        self.height = self.height.clamp(1, MAX_HEIGHT.min(self.virtual_height(vram_bytes).max(1)));
        let picture = pitch * usize::from(self.height);
        if self.start_bytes() + picture > vram_bytes {
            self.y_offset = 0;
        }
        if self.start_bytes() + picture > vram_bytes {
            self.x_offset = 0;
        }
    }
}

fn row_bytes(dots: usize, bits: u16) -> usize {
    match bits {
        4 => dots / 2,
        15 => dots * 2,
        bits => dots * usize::from(bits / 8),
    }
}
