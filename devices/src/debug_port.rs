//! Ports for diagnostics: the POST code latch (80h), and the debug console (402h of QEMU's
//! firmware, e9h of Bochs).

use crate::bus::{Access, PioDevice, Region};
use crate::console::ByteSink;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

/// Port 80h: keeps what was written last. Operating systems write it only to let time pass.
#[derive(Debug, Default)]
pub struct PostCode(AtomicU8);

impl PostCode {
    /// A latch that holds 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The code written last.
    pub fn code(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PioDevice for PostCode {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, 0x80, 1)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        Some(self.code().into())
    }

    fn pio_write(&self, _access: Access, value: u32) {
        self.0.store(value as u8, Ordering::Relaxed);
    }
}

/// Ports 402h and e9h: bytes of text, and a value by which firmware finds the port. Bytes that the
/// sink has no room for are lost.
pub struct DebugConsole {
    sink: Arc<dyn ByteSink>,
}

impl DebugConsole {
    /// The value that a read of either port gives.
    pub const PRESENT: u8 = 0xe9;

    /// A console that writes to `sink`.
    pub fn new(sink: Arc<dyn ByteSink>) -> Self {
        Self { sink }
    }
}

impl PioDevice for DebugConsole {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, 0x402, 1), Region::new(1, 0xe9, 1)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        Some(Self::PRESENT.into())
    }

    fn pio_write(&self, _access: Access, value: u32) {
        self.sink.put(value as u8);
    }

    fn pio_write_string(&self, access: Access, data: &[u8]) -> usize {
        let size = usize::from(access.size_bytes).max(1);
        let elements = data.chunks_exact(size);
        let rest = elements.remainder().len();
        for element in elements {
            self.sink.put(element[0]);
        }
        data.len() - rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::TestSink;

    #[test]
    fn firmware_finds_the_console_and_prints() {
        let sink = TestSink::new(10);
        let console = DebugConsole::new(sink.clone());
        let access = Access::new(0, 1);
        assert_eq!(console.pio_read(access), Some(0xe9));
        console.pio_write(access, u32::from(b'S'));
        assert_eq!(console.pio_write_string(access, b"eaBIOS"), 6);
        assert_eq!(sink.take(), b"SeaBIOS");
    }

    #[test]
    fn the_latch_keeps_the_last_code() {
        let post = PostCode::new();
        post.pio_write(Access::new(0, 1), 0x1234);
        assert_eq!(post.pio_read(Access::new(0, 1)), Some(0x34));
    }
}
