//! A machine's consoles for tests: a clock that the test moves, ports and a keyboard that it
//! scripts.

use crate::host::{Display, Host, InputEvent, SerialPort};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::{Mutex, Once};

/// The bytes in use of the hypervisor's heap, as this machine says.
pub const TEST_HEAP_BYTES: u64 = 1 << 20;

/// The machine.
#[derive(Default)]
pub struct TestHost {
    tsc: AtomicU64,
    /// Memory that [`Host::free_bytes`] does not count.
    taken: AtomicU64,
    serial: [Mutex<TestSerial>; 2],
    input: Mutex<VecDeque<InputEvent>>,
    display: Once<Box<dyn Display>>,
    log: Mutex<Vec<u8>>,
    reserved_heap: AtomicU64,
    calls: AtomicU64,
    /// Reservations of heap that are granted before all others are refused; `None` if none is.
    heap_grants: Mutex<Option<u64>>,
}

/// A serial port.
#[derive(Debug, Default)]
struct TestSerial {
    received: VecDeque<u8>,
    sent: Vec<u8>,
    /// Bytes that a write takes at most, if limited.
    room: Option<usize>,
}

impl TestHost {
    /// A machine with a TSC of 1 GHz that stands still. Leaked, as the hypervisor's machine lives
    /// for ever.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Moves the clock on.
    pub fn advance_ns(&self, ns: u64) {
        self.tsc.fetch_add(ns, Ordering::Relaxed);
    }

    /// Sets the clock.
    pub fn set_tsc(&self, tsc: u64) {
        self.tsc.store(tsc, Ordering::Relaxed);
    }

    /// Bytes arrive at a serial port.
    pub fn type_at(&self, port: SerialPort, bytes: impl AsRef<[u8]>) {
        self.serial[port as usize].lock().received.extend(bytes.as_ref());
    }

    /// The bytes that were sent to a serial port since the last call.
    pub fn take_sent(&self, port: SerialPort) -> Vec<u8> {
        core::mem::take(&mut self.serial[port as usize].lock().sent)
    }

    /// Each write to a serial port takes so many bytes at most.
    pub fn limit_serial(&self, port: SerialPort, room: Option<usize>) {
        self.serial[port as usize].lock().room = room;
    }

    /// A person does something at the keyboard or the mouse.
    pub fn input(&self, event: InputEvent) {
        self.input.lock().push_back(event);
    }

    /// Plugs a display in, once.
    pub fn plug_display(&self, display: impl Display + 'static) {
        self.display.call_once(|| Box::new(display));
    }

    /// Fills the log.
    pub fn set_log(&self, text: &str) {
        *self.log.lock() = text.into();
    }

    /// From now on only so much memory seems to be free.
    pub fn limit_free_bytes(&self, bytes: u64) {
        self.taken.store(u64::MAX - bytes, Ordering::Relaxed);
    }

    /// From now on so many reservations of heap are granted, and then none.
    pub fn refuse_heap_after(&self, grants: u64) {
        *self.heap_grants.lock() = Some(grants);
    }

    /// From now on all reservations of heap are granted again; returns whether one was refused.
    pub fn grant_heap(&self) -> bool {
        self.heap_grants.lock().take() == Some(0)
    }

    /// How often the CPU of the consoles was called since the last time.
    pub fn take_calls(&self) -> u64 {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// Bytes of the heap that are set aside now.
    pub fn reserved_heap_bytes(&self) -> u64 {
        self.reserved_heap.load(Ordering::Relaxed)
    }
}

impl Host for TestHost {
    fn tsc(&self) -> u64 {
        self.tsc.load(Ordering::Relaxed)
    }

    fn tsc_hz(&self) -> u64 {
        1_000_000_000
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX - self.taken.load(Ordering::Relaxed)
    }

    fn heap_bytes(&self) -> u64 {
        TEST_HEAP_BYTES
    }

    fn reserve_heap(&self, bytes: u64) -> bool {
        match &mut *self.heap_grants.lock() {
            Some(0) => return false,
            Some(grants) => *grants -= 1,
            None => {}
        }
        self.reserved_heap.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn return_heap(&self, bytes: u64) {
        self.reserved_heap.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn drain_log(&self) -> bool {
        false
    }

    fn serial_write(&self, port: SerialPort, bytes: &[u8]) -> usize {
        let mut serial = self.serial[port as usize].lock();
        let taken = bytes.len().min(serial.room.unwrap_or(usize::MAX));
        serial.sent.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn serial_read(&self, port: SerialPort) -> Option<u8> {
        self.serial[port as usize].lock().received.pop_front()
    }

    fn take_input(&self) -> Option<InputEvent> {
        self.input.lock().pop_front()
    }

    fn display(&self) -> Option<&dyn Display> {
        self.display.get().map(|display| &**display)
    }

    fn log_text(&self) -> Vec<u8> {
        self.log.lock().clone()
    }

    fn log_bytes(&self) -> u64 {
        self.log.lock().len() as u64
    }

    fn call_attendant(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn power_off(&self) {}

    fn reboot(&self) -> ! {
        panic!("rebooted")
    }
}
