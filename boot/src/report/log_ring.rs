//! The bytes of the log: the newest 128 KiB, and how much of them the console has seen.

use alloc::vec::Vec;
use core::fmt;

/// Bytes kept.
pub const CAPACITY: usize = 128 << 10;

/// The ring. Positions count bytes since the start and never wrap.
pub struct LogRing {
    bytes: [u8; CAPACITY],
    written: u64,
    drained: u64,
}

impl LogRing {
    /// An empty ring.
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], written: 0, drained: 0 }
    }

    /// True if the console has not seen everything.
    pub const fn has_pending(&self) -> bool {
        self.drained != self.written
    }

    /// Copies the oldest bytes that the console has not seen; returns how many. Bytes that were
    /// overwritten are skipped.
    pub fn peek(&mut self, out: &mut [u8]) -> usize {
        self.drained = self.drained.max(self.oldest());
        let length = out.len().min((self.written - self.drained) as usize);
        self.copy(self.drained, &mut out[..length]);
        length
    }

    /// The console has taken `count` of the bytes that [`LogRing::peek`] showed.
    pub fn consume(&mut self, count: usize) {
        self.drained = (self.drained + count as u64).min(self.written);
    }

    /// All that is kept, oldest first.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = alloc::vec![0; (self.written - self.oldest()) as usize];
        self.copy(self.oldest(), &mut all);
        all
    }

    const fn oldest(&self) -> u64 {
        self.written.saturating_sub(CAPACITY as u64)
    }

    fn copy(&self, from: u64, out: &mut [u8]) {
        let start = from as usize % CAPACITY;
        let first = out.len().min(CAPACITY - start);
        let (head, tail) = out.split_at_mut(first);
        head.copy_from_slice(&self.bytes[start..start + first]);
        tail.copy_from_slice(&self.bytes[..tail.len()]);
    }
}

impl fmt::Write for LogRing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.bytes[self.written as usize % CAPACITY] = byte;
            self.written += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, LogRing};
    use core::fmt::Write;
    use std::boxed::Box;
    use std::vec::Vec;

    fn drain(ring: &mut LogRing, chunk: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut out = [0; 64];
        loop {
            let length = ring.peek(&mut out[..chunk]);
            if length == 0 {
                return all;
            }
            all.extend_from_slice(&out[..length]);
            ring.consume(length);
        }
    }

    #[test]
    fn the_console_sees_every_byte_once_and_the_ring_keeps_them() {
        let mut ring = Box::new(LogRing::new());
        ring.write_str("one\n").unwrap();
        assert!(ring.has_pending());
        assert_eq!(drain(&mut ring, 3), b"one\n");
        ring.write_str("two\n").unwrap();
        assert_eq!(drain(&mut ring, 64), b"two\n");
        assert!(!ring.has_pending());
        assert_eq!(ring.to_vec(), b"one\ntwo\n");
    }

    #[test]
    fn a_full_ring_keeps_the_newest() {
        let mut ring = Box::new(LogRing::new());
        for number in 0..40_000 {
            writeln!(ring, "{number:07}").unwrap();
        }
        let kept = ring.to_vec();
        assert_eq!(kept.len(), CAPACITY);
        assert!(kept.ends_with(b"0039999\n"));
        assert_eq!(drain(&mut ring, 61), kept);
    }
}
