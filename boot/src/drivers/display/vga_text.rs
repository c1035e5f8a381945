//! VGA text mode: cells, cursor, and the way back to it from a graphics mode (VGA registers: IBM
//! VGA/XGA Technical Reference, chapter 2).

use alloc::vec::Vec;
use control::host::DisplayMode;
use x86::io::{inb, outb};

/// The mode that BIOS and boot loaders leave.
pub const MODE: DisplayMode = DisplayMode::Text { columns: COLUMNS as u16, rows: ROWS as u16 };

const COLUMNS: usize = 80;
/// Rows of text.
pub const ROWS: usize = 25;
const CELLS: usize = 0xb_8000;
/// A blank in grey on black.
pub const BLANK: u16 = 0x0720;

const MISC_READ: u16 = 0x3cc;
const MISC_WRITE: u16 = 0x3c2;
const SEQUENCER: u16 = 0x3c4;
const GRAPHICS: u16 = 0x3ce;
const CRTC: u16 = 0x3d4;
const ATTRIBUTE: u16 = 0x3c0;
const ATTRIBUTE_READ: u16 = 0x3c1;
const INPUT_STATUS: u16 = 0x3da;
const PALETTE_READ_INDEX: u16 = 0x3c7;
const PALETTE_WRITE_INDEX: u16 = 0x3c8;
const PALETTE_DATA: u16 = 0x3c9;

const CURSOR_START: u8 = 0x0a;
const CURSOR_HIGH: u8 = 0x0e;
const CURSOR_LOW: u8 = 0x0f;
const CURSOR_OFF: u8 = 1 << 5;
const CRTC_PROTECT: u8 = 0x11;
const ATTRIBUTE_VIDEO_ON: u8 = 1 << 5;

fn read_indexed(port: u16, index: u8) -> u8 {
    // SAFETY: an index and data register pair of the VGA; reading has no side effect beyond the
    // index.
    unsafe {
        outb(port, index);
        inb(port + 1)
    }
}

fn write_indexed(port: u16, index: u8, value: u8) {
    // SAFETY: an index and data register pair of the VGA, which is the hypervisor's; the values are
    // ones that the BIOS had set, or of the documented sequence for plane access.
    unsafe {
        outb(port, index);
        outb(port + 1, value);
    }
}

/// A VGA in text mode.
pub struct VgaText {
    cursor_start: u8,
}

impl VgaText {
    /// A VGA that is in a color text mode now.
    pub fn find() -> Option<Self> {
        const MISCELLANEOUS: u8 = 6;
        const GRAPHICS_MODE: u8 = 1 << 0;
        const MAP: u8 = 0b11 << 2;
        const COLOR: u8 = 1 << 0;
        // SAFETY: reads the VGA's miscellaneous output register; all ones where there is no VGA.
        let misc = unsafe { inb(MISC_READ) };
        if misc == 0xff || misc & COLOR == 0 {
            return None;
        }
        let text = read_indexed(GRAPHICS, MISCELLANEOUS) & (MAP | GRAPHICS_MODE) == MAP;
        text.then(|| Self { cursor_start: read_indexed(CRTC, CURSOR_START) & !CURSOR_OFF })
    }

    /// Writes cells; what is outside is ignored.
    pub fn write_cells(&self, column: u16, row: u16, cells: &[u16]) {
        let (column, row) = (usize::from(column), usize::from(row));
        if row >= ROWS || column >= COLUMNS {
            return;
        }
        let start = (CELLS as *mut u16).wrapping_add(row * COLUMNS + column);
        for (index, &cell) in cells.iter().take(COLUMNS - column).enumerate() {
            // SAFETY: within the text screen's memory, which is mapped and the display's alone.
            unsafe { start.wrapping_add(index).write_volatile(cell) };
        }
    }

    /// Clears the screen.
    pub fn clear(&self) {
        for row in 0..ROWS as u16 {
            self.write_cells(0, row, &[BLANK; COLUMNS]);
        }
    }

    /// Moves the cursor, or hides it.
    pub fn set_cursor(&mut self, position: Option<(u16, u16)>) {
        let Some((column, row)) = position else {
            write_indexed(CRTC, CURSOR_START, self.cursor_start | CURSOR_OFF);
            return;
        };
        let cell = usize::from(row) * COLUMNS + usize::from(column);
        let [high, low] = (cell.min(0xffff) as u16).to_be_bytes();
        write_indexed(CRTC, CURSOR_START, self.cursor_start);
        write_indexed(CRTC, CURSOR_HIGH, high);
        write_indexed(CRTC, CURSOR_LOW, low);
    }
}

/// The VGA's registers, font and palette in text mode.
pub struct SavedText {
    misc: u8,
    sequencer: [u8; 5],
    graphics: [u8; 9],
    crtc: [u8; 25],
    attribute: [u8; 21],
    palette: Vec<u8>,
    font: Vec<u8>,
}

const PALETTE_BYTES: usize = 3 * 256;
/// 256 characters of 32 rows, at the start of plane 2.
const FONT_BYTES: usize = 32 * 256;
const PLANES: *mut u8 = 0xa_0000 as *mut u8;

impl SavedText {
    /// Saves what a graphics mode spoils.
    pub fn save() -> Self {
        // SAFETY: the VGA's documented registers; reading INPUT_STATUS makes the attribute port
        // take an index next.
        let (misc, attribute, palette) = unsafe {
            let misc = inb(MISC_READ);
            let attribute = core::array::from_fn(|index| {
                inb(INPUT_STATUS);
                outb(ATTRIBUTE, index as u8);
                inb(ATTRIBUTE_READ)
            });
            inb(INPUT_STATUS);
            outb(ATTRIBUTE, ATTRIBUTE_VIDEO_ON);
            outb(PALETTE_READ_INDEX, 0);
            (misc, attribute, (0..PALETTE_BYTES).map(|_| inb(PALETTE_DATA)).collect())
        };
        let mut saved = Self {
            misc,
            sequencer: core::array::from_fn(|index| read_indexed(SEQUENCER, index as u8)),
            graphics: core::array::from_fn(|index| read_indexed(GRAPHICS, index as u8)),
            crtc: core::array::from_fn(|index| read_indexed(CRTC, index as u8)),
            attribute,
            palette,
            font: Vec::new(),
        };
        select_font_plane();
        // SAFETY: the font plane is at a0000h now, mapped as device memory.
        saved.font =
            (0..FONT_BYTES).map(|index| unsafe { PLANES.add(index).read_volatile() }).collect();
        saved.restore_memory_access();
        saved
    }

    fn restore_memory_access(&self) {
        for index in [2, 4] {
            write_indexed(SEQUENCER, index, self.sequencer[usize::from(index)]);
        }
        for index in [4, 5, 6] {
            write_indexed(GRAPHICS, index, self.graphics[usize::from(index)]);
        }
    }

    /// Back to text mode.
    pub fn restore(&self) {
        // SAFETY: the VGA's documented registers, with the values that it had.
        unsafe { outb(MISC_WRITE, self.misc) };
        for (index, &value) in self.sequencer.iter().enumerate() {
            write_indexed(SEQUENCER, index as u8, value);
        }
        // The protection bit guards the CRTC's first registers.
        write_indexed(CRTC, CRTC_PROTECT, self.crtc[usize::from(CRTC_PROTECT)] & 0x7f);
        for (index, &value) in self.crtc.iter().enumerate() {
            write_indexed(CRTC, index as u8, value);
        }
        for (index, &value) in self.graphics.iter().enumerate() {
            write_indexed(GRAPHICS, index as u8, value);
        }
        // SAFETY: as above; each attribute register takes its index, then its value.
        unsafe {
            inb(INPUT_STATUS);
            for (index, &value) in self.attribute.iter().enumerate() {
                outb(ATTRIBUTE, index as u8);
                outb(ATTRIBUTE, value);
            }
            outb(ATTRIBUTE, ATTRIBUTE_VIDEO_ON);
            outb(PALETTE_WRITE_INDEX, 0);
            for &value in &self.palette {
                outb(PALETTE_DATA, value);
            }
        }
        select_font_plane();
        for (index, &byte) in self.font.iter().enumerate() {
            // SAFETY: the font plane is at a0000h now, mapped as device memory.
            unsafe { PLANES.add(index).write_volatile(byte) };
        }
        self.restore_memory_access();
    }
}

/// Plane 2, where fonts are, at a0000h.
fn select_font_plane() {
    write_indexed(SEQUENCER, 2, 0b0100);
    write_indexed(SEQUENCER, 4, 0b0110);
    write_indexed(GRAPHICS, 4, 2);
    write_indexed(GRAPHICS, 5, 0);
    write_indexed(GRAPHICS, 6, 0b0100);
}
