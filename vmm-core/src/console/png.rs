//! The guest's picture as a PNG file (ISO/IEC 15948).

use super::deflate::Compressor;
use alloc::vec::Vec;
use devices::vga::{FrameInfo, Painter, Surface, Vga};

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// Bits a sample, true colour, the one compression and filter method, not interlaced (11.2.2).
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
const NO_FILTER: u8 = 0;

/// A picture.
#[derive(Clone, Debug)]
pub struct Png {
    /// The file.
    pub bytes: Vec<u8>,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What `vga` shows now; `None` if the file would be longer than about `max_bytes`: a guest can show what does not
/// compress.
pub fn screenshot(vga: &Vga, max_bytes: usize) -> Option<Png> {
    let mut writer =
        Writer { compressor: Compressor::new(), line: Vec::new(), width: 0, height: 0, max_bytes };
    Painter::new().paint(vga, &mut writer);
    (!writer.is_full()).then(|| writer.finish())
}

/// Compresses rows as they are painted, so that the whole picture is never held.
struct Writer {
    compressor: Compressor,
    line: Vec<u8>,
    width: u32,
    height: u32,
    max_bytes: usize,
}

impl Writer {
    fn is_full(&self) -> bool {
        self.compressor.len() > self.max_bytes
    }

    fn finish(self) -> Png {
        let mut header = [0; 13];
        header[..4].copy_from_slice(&self.width.to_be_bytes());
        header[4..8].copy_from_slice(&self.height.to_be_bytes());
        header[8..].copy_from_slice(&FORMAT);
        let mut bytes = SIGNATURE.to_vec();
        put_chunk(&mut bytes, b"IHDR", &header);
        put_chunk(&mut bytes, b"IDAT", &self.compressor.finish());
        put_chunk(&mut bytes, b"IEND", &[]);
        Png { bytes, width: self.width, height: self.height }
    }
}

impl Surface for Writer {
    fn resize(&mut self, frame: FrameInfo) {
        (self.width, self.height) = (frame.width, frame.height);
    }

    fn row(&mut self, _y: u32, dots: &[u32]) {
        if self.is_full() {
            return;
        }
        self.line.clear();
        self.line.push(NO_FILTER);
        self.line.extend(dots.iter().flat_map(|dot| {
            let [blue, green, red, _] = dot.to_le_bytes();
            [red, green, blue]
        }));
        self.compressor.row(&self.line);
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
