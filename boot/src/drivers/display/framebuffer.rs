//! Pixels in memory.

use crate::memory::{host, paging::Mapping};
use control::host::DisplayMode;
use core::ops::Range;
use handover::Framebuffer;

/// A framebuffer that is mapped, and the part of it that pictures are shown in.
#[derive(Clone)]
pub struct Surface {
    framebuffer: Framebuffer,
    /// The picture's part of the screen.
    columns: Range<usize>,
    rows: Range<usize>,
}

/// Maps a display's memory; false if there are no frames for the page tables.
pub(super) fn map(address: u64, bytes: u64) -> bool {
    let mapped = host::map(address, bytes, Mapping::FRAMEBUFFER).is_ok();
    if !mapped {
        log::error!("no memory left to map the display");
    }
    mapped
}

impl Surface {
    /// Maps a framebuffer; `None` if its format or its memory cannot be used.
    pub fn new(framebuffer: &Framebuffer) -> Option<Self> {
        let row_bytes =
            u64::from(framebuffer.width) * u64::from(framebuffer.bits_per_pixel.div_ceil(8));
        let fits = |&(lowest, bits): &(u8, u8)| (1..=8).contains(&bits) && lowest <= 32 - bits;
        let usable = matches!(framebuffer.bits_per_pixel, 15 | 16 | 24 | 32)
            && framebuffer.fields.iter().all(fits)
            && framebuffer.address != 0
            && row_bytes <= framebuffer.pitch_bytes.into();
        let bytes = u64::from(framebuffer.pitch_bytes) * u64::from(framebuffer.height);
        (usable && map(framebuffer.address, bytes)).then(|| Self::mapped(*framebuffer))
    }

    /// A framebuffer whose format is sound, and whose memory is mapped.
    pub(super) fn mapped(framebuffer: Framebuffer) -> Self {
        let (columns, rows) = (0..framebuffer.width as usize, 0..framebuffer.height as usize);
        Self { framebuffer, columns, rows }
    }

    /// The mode that this is.
    pub fn mode(&self) -> DisplayMode {
        let clamp = |value: u32| value.min(u16::MAX.into()) as u16;
        DisplayMode::Graphics {
            width: clamp(self.framebuffer.width),
            height: clamp(self.framebuffer.height),
        }
    }

    /// Shows pictures of this size in the middle of the screen from now on, and clears it if that
    /// moves them.
    pub fn center(&mut self, width: u16, height: u16) {
        let middle = |screen: u32, picture: u16| {
            let (screen, picture) = (screen as usize, usize::from(picture));
            let start = screen.saturating_sub(picture) / 2;
            start..screen.min(start + picture)
        };
        let columns = middle(self.framebuffer.width, width);
        let rows = middle(self.framebuffer.height, height);
        if (&columns, &rows) != (&self.columns, &self.rows) {
            self.clear();
            (self.columns, self.rows) = (columns, rows);
        }
    }

    /// Takes the whole screen for one picture, and clears it; returns its height.
    pub fn fill(&mut self) -> usize {
        (self.columns, self.rows) =
            (0..self.framebuffer.width as usize, 0..self.framebuffer.height as usize);
        self.clear();
        self.rows.end
    }

    fn clear(&self) {
        let bytes = self.framebuffer.pitch_bytes as usize * self.framebuffer.height as usize;
        // SAFETY: `map` has mapped these bytes, which are the display's alone.
        unsafe { core::ptr::write_bytes(self.framebuffer.address as *mut u8, 0, bytes) };
    }

    /// Writes pixels of one row of the picture; what is outside is ignored.
    pub fn write_pixels(&self, x: u16, y: u16, pixels: &[u32]) {
        let (column, row) = (self.columns.start + usize::from(x), self.rows.start + usize::from(y));
        if row >= self.rows.end || column >= self.columns.end {
            return;
        }
        let pixels = &pixels[..pixels.len().min(self.columns.end - column)];
        let bytes_per_pixel = usize::from(self.framebuffer.bits_per_pixel.div_ceil(8));
        let start = self.framebuffer.address as usize
            + row * self.framebuffer.pitch_bytes as usize
            + column * bytes_per_pixel;
        if bytes_per_pixel == 4 && self.framebuffer.fields == [(16, 8), (8, 8), (0, 8)] {
            // SAFETY: row and columns lie within the framebuffer, which `map` has mapped; it
            // overlaps nothing else.
            unsafe {
                core::ptr::copy_nonoverlapping(pixels.as_ptr(), start as *mut u32, pixels.len())
            };
            return;
        }
        for (index, &pixel) in pixels.iter().enumerate() {
            let value = self.encode(pixel).to_le_bytes();
            let target = (start + index * bytes_per_pixel) as *mut u8;
            // SAFETY: as above.
            unsafe { core::ptr::copy_nonoverlapping(value.as_ptr(), target, bytes_per_pixel) };
        }
    }

    /// 0x00RRGGBB in the framebuffer's format.
    fn encode(&self, pixel: u32) -> u32 {
        let [_, red, green, blue] = pixel.to_be_bytes();
        self.framebuffer
            .fields
            .iter()
            .zip([red, green, blue])
            .fold(0, |value, (&(lowest, bits), color)| {
                value | (u32::from(color) >> (8 - bits)) << lowest
            })
    }
}
