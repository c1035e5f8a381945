//! Structures of calls, field by field, as compilers lay them out.

use super::mode::Mode;
use crate::cpu::{peek, poke};

const CAPACITY: usize = 64;

/// A structure that is being filled. A field stands at a multiple of its size.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Bytes {
    /// Without fields.
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }

    fn field<const SIZE: usize>(mut self, field: [u8; SIZE]) -> Self {
        let start = self.length.next_multiple_of(SIZE);
        self.length = start + SIZE;
        self.bytes[start..self.length].copy_from_slice(&field);
        self
    }

    /// A byte.
    pub fn u8(self, value: u8) -> Self {
        self.field(value.to_le_bytes())
    }

    /// Two bytes.
    pub fn u16(self, value: u16) -> Self {
        self.field(value.to_le_bytes())
    }

    /// Four bytes.
    pub fn u32(self, value: u32) -> Self {
        self.field(value.to_le_bytes())
    }

    /// Eight bytes, at a multiple of eight.
    pub fn u64(self, value: u64) -> Self {
        self.field(value.to_le_bytes())
    }

    /// Eight bytes, which 32-bit compilers put at multiples of four.
    pub fn loose_u64(self, mode: Mode, value: u64) -> Self {
        match mode.long_bytes() {
            8 => self.u64(value),
            _ => self.u32(value as u32).u32((value >> 32) as u32),
        }
    }

    /// A `long` or a pointer.
    pub fn long(self, mode: Mode, value: u64) -> Self {
        match mode.long_bytes() {
            8 => self.u64(value),
            _ => self.u32(value as u32),
        }
    }

    /// Writes it to memory.
    pub fn put(self, address: u64) {
        for (offset, byte) in self.bytes[..self.length].iter().enumerate() {
            poke(address + offset as u64, *byte);
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

/// Fills memory with a pattern, so that what is written there can be told.
pub fn fill(address: u64, length: u64, byte: u8) {
    for offset in 0..length {
        poke(address + offset, byte);
    }
}

/// Whether all of a range of memory is `byte`.
pub fn is_filled(address: u64, length: u64, byte: u8) -> bool {
    (0..length).all(|offset| peek::<u8>(address + offset) == byte)
}
