//! Byte streams: what a serial port's transmitted bytes go into.

use alloc::vec::Vec;

/// Where bytes go that a device transmits.
pub trait ByteSink: Send + Sync {
    /// Takes one byte; false if there is no room now (the device keeps the byte and tries again
    /// later).
    fn put(&self, byte: u8) -> bool;
}

/// A sink for tests that keeps what it is given, up to a capacity.
#[derive(Debug)]
pub struct TestSink {
    bytes: spin::Mutex<Vec<u8>>,
    capacity: usize,
}

impl TestSink {
    /// A sink with room for `capacity` bytes.
    pub fn new(capacity: usize) -> alloc::sync::Arc<Self> {
        alloc::sync::Arc::new(Self { bytes: spin::Mutex::default(), capacity })
    }

    /// Everything taken since the last call.
    pub fn take(&self) -> Vec<u8> {
        core::mem::take(&mut *self.bytes.lock())
    }
}

impl ByteSink for TestSink {
    fn put(&self, byte: u8) -> bool {
        let mut bytes = self.bytes.lock();
        let room = bytes.len() < self.capacity;
        if room {
            bytes.push(byte);
        }
        room
    }
}
