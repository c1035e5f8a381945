//! Text on whatever the display shows when the hypervisor has its last words.

use super::framebuffer::Surface;
use super::vga_text::VgaText;
use arrayvec::ArrayVec;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Characters in a line.
pub const COLUMNS: usize = 80;

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
const GLYPH_HEIGHT: usize = HEIGHT.val();
const GLYPH_WIDTH: usize = get_raster_width(WEIGHT, HEIGHT);
/// More rows are not used.
const MAX_ROWS: usize = 64;

type Line = ArrayVec<u8, COLUMNS>;

/// A screen that lines are added to.
pub enum LastScreen {
    /// VGA text.
    Text(VgaText),
    /// Pixels.
    Pixels(PixelText),
}

impl LastScreen {
    /// Adds a line below the others; what is longer than [`COLUMNS`] is cut off.
    pub fn add_line(&mut self, text: &[u8]) {
        match self {
            Self::Text(screen) => screen.scroll_in(text),
            Self::Pixels(screen) => screen.add_line(text),
        }
    }
}

/// Lines drawn with pixels. The framebuffer, which is slow to read, is only written.
pub struct PixelText {
    surface: Surface,
    rows: usize,
    lines: ArrayVec<Line, MAX_ROWS>,
}

impl PixelText {
    /// An empty screen.
    pub fn new(mut surface: Surface) -> Self {
        let height = surface.fill();
        Self { surface, rows: (height / GLYPH_HEIGHT).clamp(1, MAX_ROWS), lines: ArrayVec::new() }
    }

    fn add_line(&mut self, text: &[u8]) {
        let line = text.iter().copied().take(COLUMNS).collect();
        if self.lines.len() < self.rows {
            self.draw(self.lines.len(), &line);
            self.lines.push(line);
            return;
        }
        self.lines.remove(0);
        self.lines.push(line);
        for (row, line) in self.lines.iter().enumerate() {
            self.draw(row, line);
        }
    }

    fn draw(&self, row: usize, line: &Line) {
        for scan_line in 0..GLYPH_HEIGHT {
            let mut pixels = [0; COLUMNS * GLYPH_WIDTH];
            for (cell, &byte) in pixels.chunks_mut(GLYPH_WIDTH).zip(line) {
                let Some(glyph) = get_raster(char::from(byte), WEIGHT, HEIGHT) else { continue };
                for (pixel, &shade) in cell.iter_mut().zip(glyph.raster()[scan_line]) {
                    *pixel = u32::from_be_bytes([0, shade, shade, shade]);
                }
            }
            self.surface.write_pixels(0, (row * GLYPH_HEIGHT + scan_line) as u16, &pixels);
        }
    }
}
