//! The guest's picture as a PNG file (ISO/IEC 15948), made piece by piece as it is sent: neither
//! picture nor file is ever held whole, and a guest that shows noise takes no more memory than one
//! whose screen is empty.

use super::deflate::Compressor;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use devices::vga::{FrameInfo, Painter, Surface, Vga};

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// Bits a sample, true colour, the one compression and filter method, not interlaced (11.2.2).
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
const NO_FILTER: u8 = 0;
/// A chunk of picture data has about so many bytes at the least, but for the last.
const CHUNK_BYTES: usize = 4096;
/// Rows that are painted for a piece at the most: an empty screen becomes next to nothing.
const MAX_ROWS: u32 = 64;

/// A picture on its way out.
#[derive(Debug)]
pub struct PngStream {
    /// A guest that ends meanwhile takes its screen along.
    vga: Weak<Vga>,
    painter: Painter,
    width: u32,
    height: u32,
    stage: Stage,
    rows: RowWriter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    /// This row is next.
    Row(u32),
    End,
}

impl PngStream {
    /// A file of what `vga` shows, from the size it has now on.
    pub fn new(vga: &Arc<Vga>) -> Self {
        let FrameInfo { width, height, .. } = vga.frame();
        let rows =
            RowWriter { compressor: Compressor::new(), line: Vec::new(), width, painted: false };
        Self {
            vga: Arc::downgrade(vga),
            painter: Painter::new(),
            width,
            height,
            stage: Stage::Header,
            rows,
        }
    }

    /// The most heap that the making of a picture of this size takes, its pieces included.
    pub fn heap_bytes(frame: &FrameInfo) -> u64 {
        const FIXED_BYTES: u64 = 256 << 10;
        // The painter's row, as dots, as bytes in video memory and compressed, and each while it
        // grows; a hash of each row.
        const BYTES_PER_COLUMN: u64 = 64;
        const BYTES_PER_ROW: u64 = 32;
        FIXED_BYTES
            + u64::from(frame.width) * BYTES_PER_COLUMN
            + u64::from(frame.height) * BYTES_PER_ROW
    }

    /// Columns and rows of the picture.
    pub const fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Appends the next piece of the file to `file`; false if there is none left. A screen that has
    /// another size by now, or is gone, is black where it does not fill the picture.
    pub fn next(&mut self, file: &mut Vec<u8>) -> bool {
        match self.stage {
            Stage::Header => {
                let mut header = [0; 13];
                header[..4].copy_from_slice(&self.width.to_be_bytes());
                header[4..8].copy_from_slice(&self.height.to_be_bytes());
                header[8..].copy_from_slice(&FORMAT);
                file.extend_from_slice(&SIGNATURE);
                put_chunk(file, b"IHDR", &header);
                self.stage = Stage::Row(0);
            }
            Stage::Row(first) => {
                let next = self.paint(first);
                let is_last = next == self.height;
                if is_last {
                    self.rows.compressor.finish();
                }
                put_chunk(file, b"IDAT", self.rows.compressor.output());
                self.rows.compressor.clear_output();
                self.stage = Stage::Row(next);
                if is_last {
                    put_chunk(file, b"IEND", &[]);
                    self.stage = Stage::End;
                }
            }
            Stage::End => return false,
        }
        true
    }

    /// Paints rows from `first` on until they make a chunk; returns the row after them.
    fn paint(&mut self, first: u32) -> u32 {
        let vga = self.vga.upgrade();
        let last = self.height.min(first.saturating_add(MAX_ROWS));
        for row in first..last {
            if let Some(vga) = &vga {
                self.painter.paint_rows(vga, row..row + 1, &mut self.rows);
            }
            self.rows.end_row();
            if self.rows.compressor.output().len() >= CHUNK_BYTES {
                return row + 1;
            }
        }
        last
    }
}

/// Compresses rows as they are painted.
#[derive(Debug)]
struct RowWriter {
    compressor: Compressor,
    line: Vec<u8>,
    width: u32,
    painted: bool,
}

impl RowWriter {
    /// The row is done: a black one if nothing was painted.
    fn end_row(&mut self) {
        if !core::mem::take(&mut self.painted) {
            self.row(0, &[]);
            self.painted = false;
        }
    }
}

impl Surface for RowWriter {
    fn resize(&mut self, _frame: FrameInfo) {}

    fn row(&mut self, _y: u32, dots: &[u32]) {
        let width = self.width as usize;
        self.line.clear();
        self.line.push(NO_FILTER);
        self.line.extend(dots.iter().take(width).flat_map(|dot| {
            let [blue, green, red, _] = dot.to_le_bytes();
            [red, green, blue]
        }));
        self.line.resize(1 + 3 * width, 0);
        self.compressor.row(&self.line);
        self.painted = true;
    }
}

/// A chunk: length, type, data, CRC of type and data (5.3).
fn put_chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(kind);
    crc.update(data);
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    file.extend_from_slice(&crc.finalize().to_be_bytes());
}
