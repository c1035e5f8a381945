//! A part of frame memory, as a device's own memory.

use super::FrameMemory;
use alloc::sync::Arc;
use devices::memory::DeviceMemory;

/// `length_bytes` of a [`FrameMemory`] from `offset` on.
pub struct MemoryPart {
    memory: Arc<FrameMemory>,
    offset: usize,
    length_bytes: usize,
}

impl MemoryPart {
    /// The part, cut off where the memory ends.
    pub fn new(memory: Arc<FrameMemory>, offset: usize, length_bytes: usize) -> Arc<Self> {
        let length_bytes = length_bytes.min(memory.length_bytes().saturating_sub(offset));
        Arc::new(Self { memory, offset, length_bytes })
    }

    fn holds(&self, offset: usize, count: usize) -> bool {
        offset <= self.length_bytes && count <= self.length_bytes - offset
    }
}

impl DeviceMemory for MemoryPart {
    fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        if !self.holds(offset, data.len()) || !self.memory.read(self.offset + offset, data) {
            data.fill(0xff);
        }
    }

    fn write(&self, offset: usize, data: &[u8]) {
        if self.holds(offset, data.len()) {
            self.memory.write(self.offset + offset, data);
        }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0xff; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write_u32(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }
}
