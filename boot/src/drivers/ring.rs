//! Bytes from an interrupt handler to whoever takes them.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A ring for one writer and one reader at a time, without a lock. `N` is a power of two.
#[derive(Debug)]
pub struct ByteRing<const N: usize> {
    bytes: [AtomicU8; N],
    written: AtomicU32,
    read: AtomicU32,
}

impl<const N: usize> ByteRing<N> {
    /// An empty ring.
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two() && N <= 1 << 30) };
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            written: AtomicU32::new(0),
            read: AtomicU32::new(0),
        }
    }

    /// Adds a byte; false if there is no room.
    pub fn push(&self, byte: u8) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let room = written.wrapping_sub(self.read.load(Ordering::Acquire)) < N as u32;
        if room {
            self.bytes[written as usize % N].store(byte, Ordering::Relaxed);
            self.written.store(written.wrapping_add(1), Ordering::Release);
        }
        room
    }

    /// Takes the oldest byte.
    pub fn pop(&self) -> Option<u8> {
        let read = self.read.load(Ordering::Relaxed);
        if read == self.written.load(Ordering::Acquire) {
            return None;
        }
        let byte = self.bytes[read as usize % N].load(Ordering::Relaxed);
        self.read.store(read.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::ByteRing;

    #[test]
    fn bytes_come_out_in_order_and_the_newest_is_refused_when_full() {
        let ring = ByteRing::<4>::new();
        for round in 0..100u8 {
            assert_eq!(ring.pop(), None);
            for byte in 0..4 {
                assert!(ring.push(round.wrapping_add(byte)));
            }
            assert!(!ring.push(0xff));
            for byte in 0..4 {
                assert_eq!(ring.pop(), Some(round.wrapping_add(byte)));
            }
        }
    }
}
