//! A machine for tests: memory from the host's heap, a clock and ports that do nothing.

use crate::platform::{CrashDump, Display, Frame, FrameSize, InputEvent, Platform, SerialPort};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::Layout;

/// The machine. Leaked, as the hypervisor's platform lives for ever.
#[derive(Debug, Default)]
pub struct TestPlatform {
    tsc: AtomicU64,
    allocated: AtomicU64,
}

impl TestPlatform {
    /// A machine with a TSC of 1 GHz that stands still.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Moves the clock on.
    pub fn advance_ns(&self, ns: u64) {
        self.tsc.fetch_add(ns, Ordering::Relaxed);
    }

    /// Bytes that are handed out now.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }
}

fn layout(size: FrameSize) -> Layout {
    Layout::from_size_align(size.bytes() as usize, size.bytes() as usize).unwrap()
}

impl Platform for TestPlatform {
    fn tsc(&self) -> u64 {
        self.tsc.load(Ordering::Relaxed)
    }

    fn tsc_hz(&self) -> u64 {
        1_000_000_000
    }

    fn boot_time_unix_s(&self) -> u64 {
        1_700_000_000
    }

    fn boot_tsc(&self) -> u64 {
        0
    }

    #[allow(unsafe_code)]
    fn allocate_frame(&self, size: FrameSize) -> Option<Frame> {
        // SAFETY: the layout is not empty.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout(size)) };
        if pointer.is_null() {
            return None;
        }
        self.allocated.fetch_add(size.bytes(), Ordering::Relaxed);
        Some(Frame { address: pointer as usize, hpa: pointer as u64, size })
    }

    #[allow(unsafe_code)]
    fn free_frame(&self, frame: Frame) {
        self.allocated.fetch_sub(frame.size.bytes(), Ordering::Relaxed);
        // SAFETY: `allocate_frame` made it with this layout, and the owner gives it back.
        unsafe { std::alloc::dealloc(frame.address as *mut u8, layout(frame.size)) };
    }

    fn hpa_of(&self, address: usize) -> u64 {
        address as u64
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX
    }

    fn set_timer(&self, _deadline_tsc: u64) {}
    fn idle(&self) {}
    fn handle_interrupts(&self) {}
    fn drain_log(&self) {}
    fn set_crash_dump(&self, _dump: CrashDump) {}

    fn serial_write(&self, _port: SerialPort, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn serial_read(&self, _port: SerialPort) -> Option<u8> {
        None
    }

    fn take_input(&self) -> Option<InputEvent> {
        None
    }

    fn display(&self) -> Option<&dyn Display> {
        None
    }

    fn log_text(&self) -> Vec<u8> {
        Vec::new()
    }

    fn power_off(&self) {}

    fn reboot(&self) -> ! {
        panic!("rebooted")
    }
}
