//! The screen's content according to the registers: a description that outlives the device's lock.

use super::dispi::Dispi;
use super::planes::PLANE_BYTES;
use super::spec::*;
use super::state::State;

/// The kind of a frame's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Nothing: the screen is switched off, or no mode was set yet.
    Blank,
    /// Characters.
    Text {
        /// Characters in a row.
        columns: u32,
        /// Rows of characters, the last one perhaps cut off.
        rows: u32,
    },
    /// Dots.
    Graphics,
}

/// Size and kind of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Dots in a row, as a monitor would show them (320-dot modes are doubled).
    pub width: u32,
    /// Rows of dots.
    pub height: u32,
    /// Blank, text or graphics.
    pub kind: FrameKind,
}

/// A picture's size where the CRTC was not yet programmed.
const UNSET_SIZE: (u32, u32) = (640, 480);

/// A picture, but for the contents of video memory and the cursor's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub width: u32,
    pub height: u32,
    /// 00RRGGBBh. In all but the 256-colour formats only the first sixteen count.
    pub palette: [u32; 256],
    pub format: Format,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Blank,
    Text { scan: Scan, style: TextStyle },
    Dots { scan: Scan, shift: Shift },
    Packed { start_bytes: usize, pitch_bytes: usize, bits: u16 },
}

/// How a group of four plane bytes becomes dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// Eight dots of one bit from each plane.
    Planar,
    /// Four dots of two bits from planes 0 and 2, then four from planes 1 and 3.
    Interleaved,
    /// Four dots of one byte, each twice as wide.
    Bytes,
}

/// How characters are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextStyle {
    pub cell_dots: u32,
    /// Attribute bit 7 blinks (shown steady) and the background has eight colours.
    pub blink: bool,
    pub line_graphics: bool,
    pub underline_line: u8,
    pub maps: [usize; 2],
}

/// How scan lines follow each other through video memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub columns: u32,
    /// Every dot is shown twice.
    pub wide_dots: bool,
    /// First address, in groups of four plane bytes.
    pub start: usize,
    /// Addresses from one row to the next.
    pub pitch: usize,
    /// Scan lines of a row.
    pub row_lines: u32,
    double_scan: bool,
    preset_row: u32,
    line_compare: u32,
    pan_dots: u32,
    split_unpanned: bool,
    /// Bits of the address that the row scan counter gives, for its bits 0 and 1.
    row_address_bits: [Option<u32>; 2],
    /// Where addresses wrap.
    limit: usize,
}

/// Where a scan line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub address: usize,
    /// Scan line within the row.
    pub row_line: u32,
    /// Dots by which the picture is moved to the left.
    pub pan_dots: u32,
}

impl Scan {
    fn new(state: &State) -> Self {
        let crtc = &state.crtc;
        let (mode, maximum, preset) =
            (crtc.mode(), crtc.maximum_scan_line(), crtc.preset_row_scan());
        // Words are stored side by side here, so that word addresses need no shift: the CGA bits
        // move down by one.
        let bank_bit = if mode.byte_mode() { 13 } else { 12 };
        Self {
            columns: crtc.columns(),
            wide_dots: state.sequencer.clocking.half_dot_clock(),
            start: usize::from(crtc.start_address()) + usize::from(preset.byte_pan()),
            pitch: usize::from(crtc.row_pitch()),
            row_lines: u32::from(maximum.last_line()) + 1,
            double_scan: maximum.double_scan(),
            preset_row: u32::from(preset.row()),
            line_compare: crtc.line_compare(),
            pan_dots: 0,
            split_unpanned: state.attribute.mode.split_unpanned(),
            row_address_bits: [
                (!mode.linear_13()).then_some(bank_bit),
                (!mode.linear_14()).then_some(bank_bit + 1),
            ],
            // Mode 13h: its 64 KiB of video memory, and then the same again.
            limit: if crtc.counts_doublewords() { PLANE_BYTES / 4 } else { PLANE_BYTES },
        }
    }

    fn dispi_planar(dispi: &Dispi, vram_bytes: usize) -> Self {
        let (width, _) = dispi.size();
        Self {
            columns: u32::from(width / 8),
            wide_dots: false,
            start: dispi.start_bytes() / 4,
            pitch: dispi.pitch_bytes() / 4,
            row_lines: 1,
            double_scan: false,
            preset_row: 0,
            line_compare: u32::MAX,
            pan_dots: 0,
            split_unpanned: false,
            row_address_bits: [None; 2],
            limit: vram_bytes / 4,
        }
    }

    /// Where scan line `y` comes from.
    pub fn line(&self, y: u32) -> Line {
        let below_split = y > self.line_compare;
        let (start, line) = match below_split {
            true => (0, (y - self.line_compare - 1) >> u32::from(self.double_scan)),
            false => (self.start, (y >> u32::from(self.double_scan)) + self.preset_row),
        };
        let (row, row_line) = (line / self.row_lines, line % self.row_lines);
        let mut address = start + row as usize * self.pitch;
        for (counter_bit, address_bit) in self.row_address_bits.into_iter().enumerate() {
            if let Some(address_bit) = address_bit {
                let bank = row_line as usize >> counter_bit & 1;
                address = address & !(1 << address_bit) | bank << address_bit;
            }
        }
        let pan_dots = if below_split && self.split_unpanned { 0 } else { self.pan_dots };
        Line { address: address % self.limit, row_line, pan_dots }
    }

    /// `address + offset`, wrapped.
    pub fn wrap(&self, address: usize, offset: usize) -> usize {
        (address + offset) % self.limit
    }

    /// Addresses from `address` up to the wrap.
    pub fn until_wrap(&self, address: usize) -> usize {
        self.limit.saturating_sub(address)
    }
}

impl Picture {
    pub fn new(state: &State, vram_bytes: usize) -> Self {
        let mut picture = if state.dispi.is_enabled() {
            Self::dispi(state, vram_bytes)
        } else if state.graphics.misc.graphics() {
            Self::graphics(state)
        } else {
            Self::text(state)
        };
        let unset = picture.width < 64 || picture.height < 64;
        if unset && !state.dispi.is_enabled() {
            (picture.width, picture.height) = UNSET_SIZE;
            picture.format = Format::Blank;
        }
        if !state.attribute.shows_picture() || state.sequencer.clocking.screen_off() {
            picture.format = Format::Blank;
        }
        picture
    }

    /// Size and kind.
    pub fn info(&self) -> FrameInfo {
        let kind = match &self.format {
            Format::Blank => FrameKind::Blank,
            Format::Text { scan, .. } => FrameKind::Text {
                columns: scan.columns,
                rows: self.height.div_ceil(scan.row_lines << u32::from(scan.double_scan)),
            },
            Format::Dots { .. } | Format::Packed { .. } => FrameKind::Graphics,
        };
        FrameInfo { width: self.width, height: self.height, kind }
    }

    fn dispi(state: &State, vram_bytes: usize) -> Self {
        let dispi = &state.dispi;
        let (width, height) = dispi.size();
        let format = match dispi.bits() {
            4 => Format::Dots { scan: Scan::dispi_planar(dispi, vram_bytes), shift: Shift::Planar },
            bits => Format::Packed {
                start_bytes: dispi.start_bytes(),
                pitch_bytes: dispi.pitch_bytes(),
                bits,
            },
        };
        let palette = match dispi.bits() {
            4 => attribute_palette(state),
            8 => dac_palette(state),
            _ => [0; 256],
        };
        Self { width: u32::from(width), height: u32::from(height), palette, format }
    }

    fn graphics(state: &State) -> Self {
        let mut scan = Scan::new(state);
        let mode = state.graphics.mode;
        let panning = u32::from(state.attribute.panning & 7);
        let (shift, dots, palette) = if mode.colour_256() {
            scan.pan_dots = panning & !1;
            scan.wide_dots = true;
            (Shift::Bytes, 4, dac_palette(state))
        } else {
            scan.pan_dots = panning;
            let shift = if mode.interleaved() { Shift::Interleaved } else { Shift::Planar };
            (shift, 8, attribute_palette(state))
        };
        let dots = dots << u32::from(scan.wide_dots);
        if scan.wide_dots && shift != Shift::Bytes {
            scan.pan_dots *= 2;
        }
        Self {
            width: scan.columns * dots,
            height: state.crtc.lines(),
            palette,
            format: Format::Dots { scan, shift },
        }
    }

    fn text(state: &State) -> Self {
        let mut scan = Scan::new(state);
        let clocking = state.sequencer.clocking;
        let panning = u32::from(state.attribute.panning);
        let wide = u32::from(scan.wide_dots);
        let (cell_dots, pan_dots) = match clocking.eight_dots() {
            true => (8, panning & 7),
            // With nine dots, 8 stands for no panning and 0 for one dot.
            false => (9, if panning >= 8 { 0 } else { panning + 1 }),
        };
        scan.pan_dots = pan_dots << wide;
        let style = TextStyle {
            cell_dots,
            blink: state.attribute.mode.blink(),
            line_graphics: state.attribute.mode.line_graphics(),
            underline_line: state.crtc.underline_line(),
            maps: state.sequencer.character_maps.offsets(),
        };
        Self {
            width: scan.columns * (cell_dots << wide),
            height: state.crtc.lines(),
            palette: attribute_palette(state),
            format: Format::Text { scan, style },
        }
    }
}

fn attribute_palette(state: &State) -> [u32; 256] {
    let mut palette = [0; 256];
    for (colour, index) in palette.iter_mut().zip(state.attribute.dac_indexes()) {
        *colour = state.dac.rgb(index);
    }
    palette
}

fn dac_palette(state: &State) -> [u32; 256] {
    core::array::from_fn(|index| state.dac.rgb(index as u8))
}

/// The text cursor: its address, and the scan lines of the row that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub address: usize,
    pub first_line: u8,
    pub last_line: u8,
}

impl Cursor {
    /// The cursor, if it is switched on and covers any line.
    pub fn new(state: &State) -> Option<Self> {
        let (start, end): (CursorStart, CursorEnd) =
            (state.crtc.cursor_start(), state.crtc.cursor_end());
        (!start.off() && start.line() <= end.line()).then_some(Self {
            address: usize::from(state.crtc.cursor_address()),
            first_line: start.line(),
            last_line: end.line(),
        })
    }
}
