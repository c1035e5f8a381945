//! A split virtqueue (2.7), whose descriptors the caller uses as it likes.

use core::sync::atomic::{Ordering, fence};

use crate::dma::DmaMemory;

/// Its length in memory.
pub const fn length_bytes(size: u16) -> usize {
    used_offset(size) + 4 + USED_BYTES * size as usize + 4
}

/// A descriptor's length.
pub const DESCRIPTOR_BYTES: usize = 16;
const USED_BYTES: usize = 8;
const NO_NOTIFICATION: u32 = 1 << 0;

/// Bits of a descriptor (2.7.5).
pub mod flag {
    pub const NEXT: u16 = 1 << 0;
    pub const WRITE: u16 = 1 << 1;
    pub const INDIRECT: u16 = 1 << 2;
}

const fn available_offset(size: u16) -> usize {
    DESCRIPTOR_BYTES * size as usize
}

/// The device writes from here on.
const fn used_offset(size: u16) -> usize {
    (available_offset(size) + 6 + 2 * size as usize).next_multiple_of(8)
}

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub address: u64,
    pub length_bytes: u32,
    pub flags: u16,
    pub next: u16,
}

impl Descriptor {
    /// Writes it.
    pub fn write(&self, memory: &DmaMemory, offset: usize) {
        memory.write_u64(offset, self.address);
        let flags = u64::from(self.flags) << 32 | u64::from(self.next) << 48;
        memory.write_u64(offset + 8, u64::from(self.length_bytes) | flags);
    }
}

/// A chain of descriptors that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its first descriptor, as the device says.
    pub head: u32,
    /// Bytes that it has written, as it says.
    pub length_bytes: u32,
}

/// The queue.
#[derive(Debug)]
pub struct Ring {
    memory: DmaMemory,
    /// A power of two.
    size: u16,
    next_available: u16,
    next_used: u16,
}

impl Ring {
    /// A queue that is empty, in memory of [`length_bytes`].
    pub fn new(memory: DmaMemory, size: u16) -> Self {
        let mut ring = Self { memory, size, next_available: 0, next_used: 0 };
        ring.clear();
        ring
    }

    /// Empties it, for a device that was reset.
    pub fn clear(&mut self) {
        (0..length_bytes(self.size)).step_by(8).for_each(|at| self.memory.write_u64(at, 0));
        (self.next_available, self.next_used) = (0, 0);
    }

    /// Where the device finds its descriptors, what is available, and what is used.
    pub const fn addresses(&self) -> [u64; 3] {
        [
            self.memory.bus_address(0),
            self.memory.bus_address(available_offset(self.size)),
            self.memory.bus_address(used_offset(self.size)),
        ]
    }

    /// Writes one of its descriptors.
    pub fn write(&self, index: u16, descriptor: &Descriptor) {
        descriptor.write(&self.memory, usize::from(index) * DESCRIPTOR_BYTES);
    }

    /// Makes a chain of descriptors available.
    pub fn offer(&mut self, head: u16) {
        let available = available_offset(self.size);
        let entry = usize::from(self.next_available % self.size);
        self.memory.write_u16(available + 4 + 2 * entry, head);
        self.next_available = self.next_available.wrapping_add(1);
        fence(Ordering::Release);
        self.memory.write_u16(available + 2, self.next_available);
    }

    /// True if the device wants to be notified of what was made available.
    pub fn wants_notification(&self) -> bool {
        fence(Ordering::SeqCst);
        self.memory.read_u32(used_offset(self.size)) & NO_NOTIFICATION == 0
    }

    /// Takes what the device has used next.
    pub fn take(&mut self) -> Option<Used> {
        let used = used_offset(self.size);
        let device_at = (self.memory.read_u32(used) >> 16) as u16;
        if device_at == self.next_used {
            return None;
        }
        fence(Ordering::Acquire);
        let entry = used + 4 + USED_BYTES * usize::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        Some(Used {
            head: self.memory.read_u32(entry),
            length_bytes: self.memory.read_u32(entry + 4),
        })
    }
}
