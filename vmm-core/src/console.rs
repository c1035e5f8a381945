//! Interim console.
use crate::backend::Backend;
use crate::config::CommandLine;
use crate::platform::{Platform, SerialPort};
use crate::vcpu::{Housekeeping, Vcpu};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use devices::console::ByteSink;
use devices::i8042::I8042;
use devices::time::Alarm;
use devices::uart::Uart;
use devices::vga::Vga;
use spin::Mutex;

#[derive(Default)]
pub struct OutputRing(Mutex<VecDeque<u8>>);
impl ByteSink for OutputRing {
    fn put(&self, byte: u8) -> bool {
        self.0.lock().push_back(byte);
        true
    }
}
pub struct OpenPorts {
    pub output: Arc<OutputRing>,
    pub debug: Arc<dyn ByteSink>,
}
pub struct GuestPorts {
    pub name: String,
    pub uart: Arc<Uart>,
    pub vga: Arc<Vga>,
    pub i8042: Arc<I8042>,
    pub output: Arc<OutputRing>,
    pub alarm: Alarm,
}
pub struct Consoles {
    platform: &'static dyn Platform,
    guest: Option<GuestPorts>,
    last: u64,
}
impl Consoles {
    pub fn new(platform: &'static dyn Platform, _options: &CommandLine) -> Self {
        Self { platform, guest: None, last: 0 }
    }
    pub fn open(&self, _name: &str) -> OpenPorts {
        let ring: Arc<OutputRing> = Arc::default();
        OpenPorts { output: ring.clone(), debug: ring }
    }
    pub fn attach(&mut self, guest: GuestPorts) {
        self.guest = Some(guest);
    }
    pub fn detach(&mut self) {
        self.guest = None;
    }
}
impl Housekeeping for Consoles {
    fn attend<B: Backend>(&mut self, vcpu: &mut Vcpu<B>) {
        self.platform.drain_log();
        let Some(guest) = &self.guest else { return };
        let mut ring = guest.output.0.lock();
        while let Some(&byte) = ring.front() {
            if self.platform.serial_write(SerialPort::Com1, &[byte]) == 0 {
                break;
            }
            ring.pop_front();
        }
        while let Some(byte) = self.platform.serial_read(SerialPort::Com1) {
            guest.uart.receive(byte);
        }
        use devices::time::Clock;
        let now = vcpu.vm().clock.now();
        guest.alarm.set(Some(now + 10_000_000));
        if now.as_ns() - self.last > 2_000_000_000 {
            self.last = now.as_ns();
            if let Some(text) = guest.vga.text_screen() {
                log::info!("screen:\n{text}");
            }
            log::info!("exits {:?}", vcpu.counters());
        }
    }
}
