//! Video memory as four planes.
//!
//! The byte at address `a` of plane `p` is byte `4 * a + p` of video memory, so that chain-4,
//! DISPI's packed modes and the linear framebuffer are plain views of it. The text modes'
//! alternation of planes 0 and 1 is not: while [`Layout::OddEven`] is in force, the first 32 KiB of
//! these two planes live interleaved in a memory of their own, which the guest can have mapped, and
//! their places in video memory are stale.

use crate::memory::DeviceMemory;

/// Length of the memory that holds planes 0 and 1 in the text modes.
pub const ODD_EVEN_BYTES: usize = 64 << 10;
/// Addresses of a plane that the odd/even memory covers.
const ODD_EVEN_ADDRESSES: usize = ODD_EVEN_BYTES / 2;
/// Bytes of one plane that the VGA's own modes reach.
pub const PLANE_BYTES: usize = 64 << 10;

/// The bytes of planes 0 and 1 in a group of four plane bytes.
const PLANES_0_AND_1: u32 = 0xffff;

/// Where planes 0 and 1 are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// In video memory, with the others.
    #[default]
    Planar,
    /// Their first 32 KiB are in the odd/even memory.
    OddEven,
}

/// The four planes, wherever they are kept.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub vram: &'a dyn DeviceMemory,
    pub odd_even: &'a dyn DeviceMemory,
    pub layout: Layout,
}

/// Plane masks of four bits as byte masks of a doubleword.
pub const fn spread(planes: u8) -> u32 {
    let nibble = planes as u32;
    let bits = nibble & 1 | (nibble & 2) << 7 | (nibble & 4) << 14 | (nibble & 8) << 21;
    bits * 0xff
}

impl Planes<'_> {
    /// Number of addresses.
    fn length(&self) -> usize {
        self.vram.length_bytes() / 4
    }

    fn in_odd_even(&self, address: usize) -> bool {
        self.layout == Layout::OddEven && address < ODD_EVEN_ADDRESSES
    }

    /// The four plane bytes at `address`, plane 0 in the low byte; all ones past the end.
    pub fn load(&self, address: usize) -> u32 {
        if address >= self.length() {
            return u32::MAX;
        }
        let stored = self.vram.read_u32(address * 4);
        if !self.in_odd_even(address) {
            return stored;
        }
        let mut text = [0; 2];
        self.odd_even.read(address * 2, &mut text);
        stored & 0xffff_0000 | u32::from(u16::from_le_bytes(text))
    }

    /// Stores those plane bytes at `address` that `mask` covers.
    pub fn store(&self, address: usize, value: u32, mask: u32) {
        if address >= self.length() || mask == 0 {
            return;
        }
        let interleaved = mask & PLANES_0_AND_1 != 0 && self.in_odd_even(address);
        let merged = match mask {
            u32::MAX => value,
            _ if interleaved => self.load(address) & !mask | value & mask,
            _ => self.vram.read_u32(address * 4) & !mask | value & mask,
        };
        self.vram.write_u32(address * 4, merged);
        if interleaved {
            let [plane_0, plane_1, ..] = merged.to_le_bytes();
            self.odd_even.write(address * 2, &[plane_0, plane_1]);
        }
    }

    /// Fills `data` with the four plane bytes of consecutive addresses from `address`.
    pub fn load_run(&self, address: usize, data: &mut [u8]) {
        self.vram.read(address.saturating_mul(4), data);
        if self.layout == Layout::OddEven {
            let mut text = [0; 64];
            for (chunk, base) in data.chunks_mut(4 * 32).zip((address..).step_by(32)) {
                let covered = ODD_EVEN_ADDRESSES.saturating_sub(base).min(chunk.len() / 4);
                let text = &mut text[..covered * 2];
                self.odd_even.read(base.saturating_mul(2), text);
                for (group, pair) in chunk.chunks_exact_mut(4).zip(text.chunks_exact(2)) {
                    group[..2].copy_from_slice(pair);
                }
            }
        }
    }

    /// The characters and attributes (planes 0 and 1) of consecutive addresses from `address`, as
    /// little-endian pairs; addresses wrap at the end of the plane.
    pub fn load_cells(&self, address: usize, cells: &mut [u16]) {
        let first = address % PLANE_BYTES;
        let past = cells.len();
        if self.layout == Layout::OddEven && first + past <= ODD_EVEN_ADDRESSES {
            let mut text = [0; 128];
            for (chunk, base) in cells.chunks_mut(64).zip((first..).step_by(64)) {
                let text = &mut text[..chunk.len() * 2];
                self.odd_even.read(base * 2, text);
                for (cell, pair) in chunk.iter_mut().zip(text.chunks_exact(2)) {
                    *cell = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            return;
        }
        for (cell, address) in cells.iter_mut().zip(first..) {
            *cell = self.load(address % PLANE_BYTES) as u16;
        }
    }

    /// Moves the first 32 KiB of planes 0 and 1 to where `layout` wants them.
    pub fn move_to(&self, layout: Layout) {
        if layout == self.layout {
            return;
        }
        let mut planar = [0; 1024];
        let mut text = [0; 512];
        for index in 0..ODD_EVEN_BYTES / text.len() {
            let (from, to) = (index * planar.len(), index * text.len());
            self.vram.read(from, &mut planar);
            match layout {
                Layout::OddEven => {
                    for (group, pair) in planar.chunks_exact(4).zip(text.chunks_exact_mut(2)) {
                        pair.copy_from_slice(&group[..2]);
                    }
                    self.odd_even.write(to, &text);
                }
                Layout::Planar => {
                    self.odd_even.read(to, &mut text);
                    for (group, pair) in planar.chunks_exact_mut(4).zip(text.chunks_exact(2)) {
                        group[..2].copy_from_slice(pair);
                    }
                    self.vram.write(from, &planar);
                }
            }
        }
    }
}
