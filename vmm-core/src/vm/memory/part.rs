//! A part of frame memory, as a device's own memory.

use super::{FrameMemory, GuestSpace};
use alloc::sync::Arc;
use devices::memory::DeviceMemory;

/// `length_bytes` of a [`FrameMemory`] from `offset` on.
pub struct MemoryPart {
    memory: Arc<FrameMemory>,
    offset: usize,
    length_bytes: usize,
    /// Where the guest writes to it, if that is logged.
    shown_in: Option<Arc<GuestSpace>>,
}

impl MemoryPart {
    /// The part, cut off where the memory ends.
    pub fn new(memory: Arc<FrameMemory>, offset: usize, length_bytes: usize) -> Arc<Self> {
        Arc::new(Self::cut_off(memory, offset, length_bytes, None))
    }

    /// A part of a space's video memory, which knows when the guest writes to it.
    pub fn of_video(space: &Arc<GuestSpace>, offset: usize, length_bytes: usize) -> Arc<Self> {
        Arc::new(Self::cut_off(space.video().clone(), offset, length_bytes, Some(space.clone())))
    }

    fn cut_off(
        memory: Arc<FrameMemory>,
        offset: usize,
        length_bytes: usize,
        shown_in: Option<Arc<GuestSpace>>,
    ) -> Self {
        let length_bytes = length_bytes.min(memory.length_bytes().saturating_sub(offset));
        Self { memory, offset, length_bytes, shown_in }
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

    fn look_for_writes(&self, offset: usize, length_bytes: usize) -> u64 {
        let offset = self.offset.saturating_add(offset);
        self.shown_in.as_ref().map_or(0, |space| space.look_for_video_writes(offset, length_bytes))
    }

    fn written_since(&self, offset: usize, length_bytes: usize, look: u64) -> bool {
        let offset = self.offset.saturating_add(offset);
        self.shown_in
            .as_ref()
            .is_none_or(|space| space.video_written_since(offset, length_bytes, look))
    }
}
