//! Access to memory that the guest may change at any moment.

#[cfg_attr(miri, path = "raw/interpreted.rs")]
mod assembly;

use assembly::{clear, copy, load_4, load_8, store_4, store_8};
use core::sync::atomic::{AtomicU8, Ordering};

/// A run of bytes at a fixed address: memory of a frame that has an owner for as long as the run is
/// used.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    address: usize,
    length: usize,
}

impl Run {
    /// The run of `length` bytes at `address`.
    ///
    /// # Safety
    /// The memory is mapped readable and writable for as long as the run or a copy of it is used,
    /// and no Rust reference to it exists but of [`Run::bytes_mut`].
    pub const unsafe fn new(address: usize, length: usize) -> Self {
        Self { address, length }
    }

    /// Its length.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Copies out `data.len()` bytes from `offset` on; false, and nothing is copied, if the run is
    /// too short.
    pub fn read(&self, offset: usize, data: &mut [u8]) -> bool {
        if !self.holds(offset, data.len()) {
            return false;
        }
        let source = (self.address + offset) as *const u8;
        // SAFETY: the range is inside the run, which is mapped (condition of `new`), and `data` is
        // ours alone, so it cannot overlap it. Small sizes are single accesses: a guest
        // sees no torn values.
        unsafe {
            match data.len() {
                1 => data[0] = source.read_volatile(),
                4 => data.copy_from_slice(&load_4(source).to_ne_bytes()),
                8 => data.copy_from_slice(&load_8(source).to_ne_bytes()),
                // Instructions: two loads that overlap.
                count @ 9..=16 => {
                    data[..8].copy_from_slice(&load_8(source).to_ne_bytes());
                    data[count - 8..].copy_from_slice(&load_8(source.add(count - 8)).to_ne_bytes());
                }
                count => copy(source, data.as_mut_ptr(), count),
            }
        }
        true
    }

    /// Copies `data` in from `offset` on; false, and nothing is copied, if the run is too short.
    pub fn write(&self, offset: usize, data: &[u8]) -> bool {
        if !self.holds(offset, data.len()) {
            return false;
        }
        let destination = (self.address + offset) as *mut u8;
        // SAFETY: as in `read`.
        unsafe {
            match *data {
                [byte] => destination.write_volatile(byte),
                [a, b, c, d] => store_4(destination, u32::from_ne_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => {
                    store_8(destination, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
                }
                _ => copy(data.as_ptr(), destination, data.len()),
            }
        }
        true
    }

    /// All of it, to be borrowed.
    ///
    /// # Safety
    /// The memory is accessed by no one else for as long as the reference lives, and stays mapped.
    pub const unsafe fn bytes_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: the run is mapped (condition of `new`), any bytes are initialised ones, and the
        // rest is as the caller promises.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, self.length) }
    }

    /// Replaces the byte at `offset` by `new` if it is still `expected`, in one piece; `None` if it
    /// is outside.
    pub fn compare_exchange(&self, offset: usize, expected: u8, new: u8) -> Option<bool> {
        let byte = self.byte(offset)?;
        Some(byte.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Sets bits of the byte at `offset` in one piece, and returns it as it was; `None` if it is
    /// outside.
    pub fn fetch_or(&self, offset: usize, bits: u8) -> Option<u8> {
        Some(self.byte(offset)?.fetch_or(bits, Ordering::AcqRel))
    }

    /// Keeps only `bits` of the byte at `offset`: the counterpart of [`Run::fetch_or`].
    pub fn fetch_and(&self, offset: usize, bits: u8) -> Option<u8> {
        Some(self.byte(offset)?.fetch_and(bits, Ordering::AcqRel))
    }

    /// The byte at `offset`, for accesses in one piece.
    fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        if !self.holds(offset, 1) {
            return None;
        }
        // SAFETY: the byte is inside the run, which is mapped (condition of `new`), and is never
        // accessed by another kind of reference. The run is mapped for as long as it is used.
        Some(unsafe { AtomicU8::from_ptr((self.address + offset) as *mut u8) })
    }

    /// Fills the run with zeroes.
    pub fn clear(&self) {
        // SAFETY: the run is mapped (condition of `new`).
        unsafe { clear(self.address as *mut u8, self.length) }
    }

    const fn holds(&self, offset: usize, count: usize) -> bool {
        offset <= self.length && count <= self.length - offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 61;

    /// A run of the host's heap, between bytes that stay as they are.
    fn with_run(test: impl FnOnce(Run)) -> Vec<u8> {
        let mut bytes = vec![0xaa_u8; LENGTH + 2];
        let start = bytes.as_mut_ptr().wrapping_add(1);
        // SAFETY: `bytes` outlives the run, and is not looked at meanwhile.
        test(unsafe { Run::new(start.expose_provenance(), LENGTH) });
        assert_eq!((bytes[0], bytes[LENGTH + 1]), (0xaa, 0xaa));
        bytes
    }

    #[test]
    fn what_is_written_is_read_in_every_size_at_every_place() {
        with_run(|run| {
            for size in 0..=LENGTH {
                for offset in 0..=LENGTH - size {
                    let data: Vec<u8> =
                        (0..size).map(|at| (at * 7 + offset + size) as u8).collect();
                    let mut found = vec![0; size];
                    assert!(run.write(offset, &data));
                    assert!(run.read(offset, &mut found));
                    assert_eq!(found, data);
                }
            }
        });
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let bytes = with_run(|run| {
            let mut data = [0x55; 9];
            for (offset, size) in [(LENGTH, 1), (LENGTH - 3, 4), (usize::MAX, 8), (LENGTH + 1, 0)] {
                assert!(!run.read(offset, &mut data[..size]));
                assert!(!run.write(offset, &data[..size]));
            }
            assert_eq!(data, [0x55; 9]);
            assert_eq!(run.compare_exchange(LENGTH, 0xaa, 1), None);
        });
        assert_eq!(bytes, [0xaa; LENGTH + 2]);
    }

    #[test]
    fn a_run_is_cleared_to_its_end() {
        let bytes = with_run(|run| run.clear());
        assert_eq!(bytes[1..=LENGTH], [0; LENGTH]);
    }

    #[test]
    fn bits_of_a_byte_are_set_and_cleared() {
        let bytes = with_run(|run| {
            assert_eq!(run.fetch_or(5, 0x05), Some(0xaa));
            assert_eq!(run.fetch_and(5, 0x0f), Some(0xaf));
            assert_eq!((run.fetch_or(LENGTH, 1), run.fetch_and(LENGTH, 1)), (None, None));
        });
        assert_eq!(bytes[6], 0x0f);
    }

    #[test]
    fn a_byte_is_exchanged_if_it_is_as_expected() {
        let bytes = with_run(|run| {
            assert_eq!(run.compare_exchange(5, 0xaa, 1), Some(true));
            assert_eq!(run.compare_exchange(5, 0xaa, 2), Some(false));
        });
        assert_eq!(bytes[6], 1);
    }
}
