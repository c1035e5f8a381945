//! Output of guests on its way to the machine's ports: the bytes of COM1 and of the PV console, and
//! the lines of the debug console.

use crate::alarm::ConsoleAlarm;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use devices::atomic::{AtomicU8, AtomicUsize, Ordering, fence};
use devices::console::ByteSink;
use log::Level;
use spin::Once;

/// Bytes by which a console of a guest can be ahead of the machine's ports; then its serial port is
/// busy, or its PV console's page stays full. A power of two.
pub const OUTPUT_BYTES: usize = if cfg!(feature = "loom") { 4 } else { 32 << 10 };

/// How long the first byte waits for others before the console is woken.
const GATHER_NS: u64 = 2_000_000;

/// A ring from one of a guest's consoles to the machine's ports: one writer, one reader, no lock.
pub struct OutputRing {
    bytes: Box<[AtomicU8]>,
    /// Bytes ever written and ever read, modulo 2^64.
    written: AtomicUsize,
    read: AtomicUsize,
    /// Brought forward when a byte comes into the empty ring.
    alarm: Once<Arc<ConsoleAlarm>>,
}

impl Default for OutputRing {
    fn default() -> Self {
        Self {
            bytes: (0..OUTPUT_BYTES).map(|_| AtomicU8::new(0)).collect(),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            alarm: Once::new(),
        }
    }
}

impl OutputRing {
    /// An empty ring, without an alarm.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `alarm` is brought forward whenever a byte comes into the empty ring. Only the
    /// first call counts.
    pub fn connect(&self, alarm: &Arc<ConsoleAlarm>) {
        self.alarm.call_once(|| alarm.clone());
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.written.load(Ordering::Acquire) == self.read.load(Ordering::Relaxed)
    }

    /// Moves the oldest bytes, as many as fit, to `into`; returns how many. For the one reader.
    pub fn take(&self, into: &mut [u8]) -> usize {
        let read = self.read.load(Ordering::Relaxed);
        let waiting = self.written.load(Ordering::Acquire).wrapping_sub(read);
        let count = waiting.min(into.len());
        for (index, byte) in into.iter_mut().take(count).enumerate() {
            *byte = self.slot(read.wrapping_add(index)).load(Ordering::Relaxed);
        }
        self.read.store(read.wrapping_add(count), Ordering::Release);
        count
    }

    fn slot(&self, number: usize) -> &AtomicU8 {
        &self.bytes[number % OUTPUT_BYTES]
    }
}

impl ByteSink for OutputRing {
    fn put(&self, byte: u8) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let waiting = written.wrapping_sub(self.read.load(Ordering::Acquire));
        if waiting >= OUTPUT_BYTES {
            return false;
        }
        self.slot(written).store(byte, Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Release);
        // Either the reader sees this byte when it looks once more, or what it did before is seen
        // here.
        fence(Ordering::SeqCst);
        if self.read.load(Ordering::Relaxed) == written
            && let Some(alarm) = self.alarm.get()
        {
            alarm.bring_forward(GATHER_NS);
        }
        true
    }
}

impl fmt::Debug for OutputRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputRing")
            .field("written", &self.written)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// Longer lines of the debug console are cut into several.
const MAX_DEBUG_LINE_BYTES: usize = 256;

/// Collects the bytes of a guest's debug console into lines of the log, at debug level.
#[derive(Debug)]
pub struct DebugLines {
    name: String,
    line: spin::Mutex<Vec<u8>>,
}

impl DebugLines {
    /// For the guest called `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), line: spin::Mutex::new(Vec::with_capacity(MAX_DEBUG_LINE_BYTES)) }
    }
}

impl ByteSink for DebugLines {
    fn put(&self, byte: u8) -> bool {
        if !log::log_enabled!(Level::Debug) {
            return true;
        }
        let mut line = self.line.lock();
        match byte {
            b'\r' | b'\n' | 0 => {}
            _ => line.push(byte),
        }
        if byte == b'\n' || line.len() >= MAX_DEBUG_LINE_BYTES {
            log::debug!("{}: {}", self.name, String::from_utf8_lossy(&line));
            line.clear();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn a_full_ring_refuses_and_keeps_the_order() {
        let ring = OutputRing::new();
        let mut taken = [0; 100];
        assert!(ring.put(b'x') && ring.take(&mut taken) == 1);
        let text: Vec<u8> = (0..OUTPUT_BYTES).map(|n| n as u8).collect();
        assert!(text.iter().all(|&byte| ring.put(byte)));
        assert!(!ring.put(0));
        let mut all = Vec::new();
        while !ring.is_empty() {
            let count = ring.take(&mut taken);
            all.extend_from_slice(&taken[..count]);
        }
        assert_eq!(all, text);
        assert!(ring.put(0));
    }

    #[test]
    fn the_first_byte_wakes_the_console_and_no_earlier_alarm_is_lost() {
        let host = TestHost::leak();
        let alarm = Arc::new(ConsoleAlarm::new(host));
        let ring = OutputRing::new();
        ring.connect(&alarm);
        ring.put(b'a');
        assert_eq!((alarm.due_ns(), host.take_calls()), (GATHER_NS, 1));
        host.advance_ns(10);
        ring.put(b'b');
        assert_eq!((alarm.due_ns(), host.take_calls()), (GATHER_NS, 0));
        ring.take(&mut [0; 2]);
        alarm.set(20, 15, || !ring.is_empty());
        ring.put(b'c');
        assert_eq!((alarm.due_ns(), host.take_calls()), (20, 0));
        alarm.set(u64::MAX, 15, || !ring.is_empty());
        assert_eq!(alarm.due_ns(), 15, "a byte waits");
    }
}

/// Every order of the guest on one CPU and the console on another.
#[cfg(all(test, feature = "loom"))]
mod model {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn a_byte_is_taken_or_an_alarm_is_set() {
        let host = TestHost::leak();
        loom::model(|| {
            let alarm = Arc::new(ConsoleAlarm::new(host));
            let ring = Arc::new(OutputRing::new());
            ring.connect(&alarm);
            assert!(ring.put(b'a'));
            let guest = ring.clone();
            let writer = loom::thread::spawn(move || assert!(guest.put(b'b')));
            let taken = ring.take(&mut [0; 4]);
            alarm.set(u64::MAX, 1, || !ring.is_empty());
            writer.join().unwrap();
            assert!(
                taken == 2 || alarm.due_ns() != u64::MAX,
                "a byte waits, and nobody comes for it"
            );
        });
    }
}
