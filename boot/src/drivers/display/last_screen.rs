//! Text on whatever the display shows when the hypervisor has its last words.

use super::framebuffer::Surface;
use super::vga_text::{self, VgaText};
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

/// A screen that lines are added to. The display's memory, which may be slow to read, is only
/// written.
pub struct LastScreen {
    canvas: Canvas,
    rows: usize,
    lines: ArrayVec<Line, MAX_ROWS>,
}

enum Canvas {
    Text(VgaText),
    Pixels(Surface),
}

impl LastScreen {
    /// An empty screen of VGA text.
    pub fn text(screen: VgaText) -> Self {
        screen.clear();
        Self { canvas: Canvas::Text(screen), rows: vga_text::ROWS, lines: ArrayVec::new() }
    }

    /// An empty screen of pixels.
    pub fn pixels(mut surface: Surface) -> Self {
        let rows = (surface.fill() / GLYPH_HEIGHT).clamp(1, MAX_ROWS);
        Self { canvas: Canvas::Pixels(surface), rows, lines: ArrayVec::new() }
    }

    /// Adds a line below the others; what is longer than [`COLUMNS`] is cut off.
    pub fn add_line(&mut self, text: &[u8]) {
        let line = text.iter().copied().take(COLUMNS).collect();
        if self.lines.len() < self.rows {
            self.canvas.draw(self.lines.len(), &line);
            self.lines.push(line);
            return;
        }
        self.lines.remove(0);
        self.lines.push(line);
        for (row, line) in self.lines.iter().enumerate() {
            self.canvas.draw(row, line);
        }
    }
}

impl Canvas {
    fn draw(&self, row: usize, line: &Line) {
        match self {
            Self::Text(screen) => {
                let mut cells = [vga_text::BLANK; COLUMNS];
                for (cell, &byte) in cells.iter_mut().zip(line) {
                    *cell = vga_text::BLANK & 0xff00 | u16::from(byte);
                }
                screen.write_cells(0, row as u16, &cells);
            }
            Self::Pixels(surface) => draw_pixels(surface, row, line),
        }
    }
}

fn draw_pixels(surface: &Surface, row: usize, line: &Line) {
    for scan_line in 0..GLYPH_HEIGHT {
        let mut pixels = [0; COLUMNS * GLYPH_WIDTH];
        for (cell, &byte) in pixels.chunks_mut(GLYPH_WIDTH).zip(line) {
            let Some(glyph) = get_raster(char::from(byte), WEIGHT, HEIGHT) else { continue };
            for (pixel, &shade) in cell.iter_mut().zip(glyph.raster()[scan_line]) {
                *pixel = u32::from_be_bytes([0, shade, shade, shade]);
            }
        }
        surface.write_pixels(0, (row * GLYPH_HEIGHT + scan_line) as u16, &pixels);
    }
}
