//! Access to memory that the guest may change at any moment.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// Copies `count` bytes. Written in assembly so that the compiler assumes nothing about memory that
/// the guest shares.
///
/// # Safety
/// `source` is valid for reads and `destination` for writes of `count` bytes, and the two do not
/// overlap.
unsafe fn copy(source: *const u8, destination: *mut u8, count: usize) {
    // SAFETY: as the caller promises; DF is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) count % 8,
            inout("rcx") count / 8 => _,
            inout("rsi") source => _,
            inout("rdi") destination => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Loads eight bytes, aligned or not.
///
/// # Safety
/// `source` is valid for reads of eight bytes.
#[inline(always)]
unsafe fn load(source: *const u8) -> u64 {
    let value;
    // SAFETY: as the caller promises.
    unsafe {
        asm!("mov {}, [{}]", lateout(reg) value, in(reg) source, options(nostack, preserves_flags, readonly));
    }
    value
}

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
    /// and no Rust reference to it exists.
    pub const unsafe fn new(address: usize, length: usize) -> Self {
        Self { address, length }
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
                4 => {
                    let value: u32;
                    asm!("mov {:e}, [{}]", lateout(reg) value, in(reg) source, options(nostack, preserves_flags));
                    data.copy_from_slice(&value.to_ne_bytes());
                }
                8 => data.copy_from_slice(&load(source).to_ne_bytes()),
                // Instructions: two loads that overlap.
                count @ 9..=16 => {
                    data[..8].copy_from_slice(&load(source).to_ne_bytes());
                    data[count - 8..].copy_from_slice(&load(source.add(count - 8)).to_ne_bytes());
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
                [a, b, c, d] => {
                    let value = u32::from_ne_bytes([a, b, c, d]);
                    asm!("mov [{}], {:e}", in(reg) destination, in(reg) value, options(nostack, preserves_flags));
                }
                [a, b, c, d, e, f, g, h] => {
                    let value = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                    asm!("mov [{}], {}", in(reg) destination, in(reg) value, options(nostack, preserves_flags));
                }
                _ => copy(data.as_ptr(), destination, data.len()),
            }
        }
        true
    }

    /// Replaces the byte at `offset` by `new` if it is still `expected`, in one piece; `None` if it
    /// is outside.
    pub fn compare_exchange(&self, offset: usize, expected: u8, new: u8) -> Option<bool> {
        if !self.holds(offset, 1) {
            return None;
        }
        // SAFETY: the byte is inside the run, which is mapped (condition of `new`), and is never
        // accessed by reference.
        let byte = unsafe { AtomicU8::from_ptr((self.address + offset) as *mut u8) };
        Some(byte.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Fills the run with zeroes.
    pub fn clear(&self) {
        // SAFETY: the run is mapped (condition of `new`) and its length a multiple of 8 or its tail
        // is cleared by bytes.
        unsafe {
            asm!(
                "rep stosq",
                "mov ecx, {tail:e}",
                "rep stosb",
                tail = in(reg) self.length % 8,
                inout("rcx") self.length / 8 => _,
                inout("rdi") self.address => _,
                in("rax") 0,
                options(nostack, preserves_flags)
            );
        }
    }

    const fn holds(&self, offset: usize, count: usize) -> bool {
        offset <= self.length && count <= self.length - offset
    }
}
