//! Memory that a device reads and writes by itself.

use core::sync::atomic::{AtomicU64, Ordering};

/// The memory of one device: rings, commands and the data of those that are under way.
pub const MEMORY_BYTES: usize = 2 << 20;
/// The unit in which devices are given memory for data.
pub(crate) const PAGE_BYTES: usize = 4096;

const WORD_BYTES: usize = 8;

/// Memory that a device may change at any moment: it is made of atomics, and no other reference to
/// it exists. Its first byte is at a multiple of its length in the device's addresses; offsets are
/// in bytes, and those beyond its end are a driver's mistake, which panics.
#[derive(Clone, Copy, Debug)]
pub struct DmaMemory {
    bus_address: u64,
    words: &'static [AtomicU64],
}

impl DmaMemory {
    /// Memory that the device finds at `bus_address`.
    pub const fn new(bus_address: u64, words: &'static [AtomicU64]) -> Self {
        Self { bus_address, words }
    }

    /// Where the device finds an offset.
    pub(crate) const fn bus_address(&self, offset: usize) -> u64 {
        self.bus_address + offset as u64
    }

    pub(crate) const fn length_bytes(&self) -> usize {
        self.words.len() * WORD_BYTES
    }

    /// Takes so many bytes from its begin, rounded up to whole pages.
    pub(crate) fn take(&mut self, length_bytes: usize) -> Self {
        let bytes = length_bytes.next_multiple_of(PAGE_BYTES);
        let (taken, rest) = self.words.split_at(bytes / WORD_BYTES);
        let taken = Self { bus_address: self.bus_address, words: taken };
        *self = Self { bus_address: self.bus_address + bytes as u64, words: rest };
        taken
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words[offset / WORD_BYTES]
    }

    /// Reads 4 bytes at a multiple of 4.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        let word = self.word(offset).load(Ordering::Relaxed);
        (word >> (8 * (offset % WORD_BYTES))) as u32
    }

    /// Writes 2 bytes at a multiple of 2, in 8 that the device does not write.
    pub(crate) fn write_u16(&self, offset: usize, value: u16) {
        let shift = 8 * (offset % WORD_BYTES);
        let word = self.word(offset);
        let kept = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
    }

    /// Writes 8 bytes at a multiple of 8.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// Copies out of it from a multiple of 8 on.
    pub(crate) fn read_bytes(&self, offset: usize, data: &mut [u8]) {
        for (word, bytes) in self.words[offset / WORD_BYTES..].iter().zip(data.chunks_mut(8)) {
            let value = word.load(Ordering::Relaxed).to_le_bytes();
            match <&mut [u8; WORD_BYTES]>::try_from(&mut *bytes) {
                Ok(bytes) => *bytes = value,
                Err(_) => bytes.iter_mut().zip(value).for_each(|(to, from)| *to = from),
            }
        }
    }

    /// Copies into it from a multiple of 8 on; of the last 8 bytes the rest becomes zeroes.
    pub(crate) fn write_bytes(&self, offset: usize, data: &[u8]) {
        for (word, bytes) in self.words[offset / WORD_BYTES..].iter().zip(data.chunks(8)) {
            let value = <[u8; WORD_BYTES]>::try_from(bytes).unwrap_or_else(|_| {
                let mut value = [0; WORD_BYTES];
                value.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                value
            });
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
    }
}
