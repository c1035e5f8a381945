//! The consoles with a guest's devices, on a machine that the test scripts.

mod display;
mod management;
mod seat;
mod serial;
mod several;

use super::test_guest::{Control, FACTS, TestGuest};
use super::*;
use control::mailbox::{Answer, Request};
use control::test_host::TestHost;
use devices::bus::{Access, PioDevice};
use devices::memory::{DeviceMemory, TestMemory};
use devices::time::{Clock, TestClock, Timed};

const SWITCH: &[u8] = b"\x01\x01\x01";

/// A machine, the consoles and a guest called `linux`.
struct Bench {
    host: &'static TestHost,
    consoles: Consoles,
    control: Control,
    clock: Arc<TestClock>,
    guest: GuestPorts,
    mailbox: Arc<Mailbox>,
    odd_even: Arc<TestMemory>,
    vram: Arc<TestMemory>,
}

impl Bench {
    fn new(command_line: &str) -> Self {
        Self::on(TestHost::leak(), command_line)
    }

    fn on(host: &'static TestHost, command_line: &str) -> Self {
        let (options, warnings) = CommandLine::parse(command_line);
        assert!(warnings.is_empty(), "{warnings:?}");
        let TestGuest { clock, ports: guest, mailbox, odd_even, vram, .. } = TestGuest::new();
        let mut consoles = Consoles::new(host, &options, Arc::new(Mailbox::of_machine()));
        consoles.introduce(mailbox.clone(), FACTS);
        consoles.attach(1, guest.clone());
        let control = Control::default();
        Self { host, consoles, control, clock, guest, mailbox, odd_even, vram }
    }

    fn advance_ns(&self, ns: u64) {
        self.host.advance_ns(ns);
        self.clock.advance_ns(ns);
    }

    fn attend(&mut self) {
        self.control.attend(&mut self.consoles, &self.mailbox);
    }

    /// The guest is gone for good.
    fn end_guest(&mut self) {
        self.consoles.detach(1);
        self.mailbox.close();
    }

    /// The same without a guest.
    fn attend_alone(&mut self) -> u64 {
        self.consoles.attend();
        self.consoles.set_alarm(None);
        self.consoles.due_tsc()
    }

    /// Lets `ns` pass, in steps of a millisecond, and attends after each.
    fn run_ns(&mut self, ns: u64) {
        for _ in 0..ns / 1_000_000 {
            self.advance_ns(1_000_000);
            self.attend();
        }
    }

    /// Time until the alarm rings.
    fn alarm_in_ns(&self) -> Option<u64> {
        let due_ns = self.consoles.alarm.due_ns();
        (due_ns != u64::MAX).then(|| due_ns.saturating_sub(host_ns(self.host)))
    }

    fn sent(&self, port: SerialPort) -> String {
        String::from_utf8(self.host.take_sent(port)).unwrap()
    }

    /// The guest transmits on COM1.
    fn guest_prints(&self, text: &str) {
        for byte in text.bytes() {
            self.guest.uart.pio_write(Access::new(0, 1), byte.into());
        }
    }

    /// The guest reads what COM1 received.
    fn guest_reads(&mut self) -> String {
        let mut text = String::new();
        while self.guest.uart.pio_read(Access::new(5, 1)) == Some(0x61) {
            text.push(self.guest.uart.pio_read(Access::new(0, 1)).unwrap() as u8 as char);
            // The next character takes 1,042 us at 9,600 baud.
            self.advance_ns(1_100_000);
            self.guest.uart.expired(self.clock.now());
            self.attend();
        }
        text
    }

    /// The guest reads what the keyboard controller has: scan codes of set 1.
    fn guest_reads_keys(&mut self) -> Vec<u8> {
        let read = |region| {
            let access = Access { region, offset: 0, size_bytes: 1 };
            self.guest.i8042.pio_read(access).unwrap() as u8
        };
        if read(1) & 1 == 1 { vec![read(0)] } else { Vec::new() }
    }

    fn vga_out(&self, port: u16, value: u16, size_bytes: u8) {
        vga_out(&self.guest.vga, port, value, size_bytes);
    }

    fn set_text_mode(&self) {
        set_text_mode(&self.guest.vga);
        self.write_text(0, &" ".repeat(2000));
    }

    /// 256 columns and 1024 rows, all of them the first one, of a character of three bytes.
    fn set_largest_text_mode(&self) {
        self.set_text_mode();
        self.vga_out(0x3d4, 0x0011, 2);
        for (index, value) in [(0x01, 0xff), (0x07, 0x5f), (0x09, 0x40), (0x12, 0xff), (0x13, 0)] {
            self.vga_out(0x3d4, value << 8 | index, 2);
        }
        DeviceMemory::write(&*self.odd_even, 0, &[0xdb; 512]);
    }

    fn set_graphics_mode(&self, width: u16, height: u16) {
        for (index, value) in [(4, 0), (1, width), (2, height), (3, 32), (4, 0x41)] {
            self.vga_out(0x1ce, index, 2);
            self.vga_out(0x1cf, value, 2);
        }
        // The attribute controller's palette, without which the screen is dark.
        self.vga_out(0x3c0, 0x20, 1);
    }

    fn write_text(&self, cell: usize, text: &str) {
        for (index, byte) in text.bytes().enumerate() {
            DeviceMemory::write(&*self.odd_even, (cell + index) * 2, &[byte, 0x07]);
        }
    }
}

fn vga_out(vga: &Vga, port: u16, value: u16, size_bytes: u8) {
    let (region, base) = if port < 0x200 { (2, 0x1ce) } else { (1, 0x3c0) };
    let access = Access { region, offset: u64::from(port - base), size_bytes };
    vga.pio_write(access, value.into());
}

/// The registers of mode 3, in a BIOS's order.
fn set_text_mode(vga: &Vga) {
    const CRTC: [u8; 25] = [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ];
    let set =
        |port, index: usize, value: u8| vga_out(vga, port, u16::from(value) << 8 | index as u16, 2);
    vga_out(vga, 0x3c2, 0x67, 1);
    [0x03, 0x00, 0x03, 0x00, 0x02]
        .into_iter()
        .enumerate()
        .for_each(|(n, value)| set(0x3c4, n, value));
    set(0x3d4, 0x11, 0);
    CRTC.into_iter().enumerate().for_each(|(n, value)| set(0x3d4, n, value));
    [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff]
        .into_iter()
        .enumerate()
        .for_each(|(n, v)| set(0x3ce, n, v));
    let attribute = |index: u16, value: u16| {
        let status = Access { region: 1, offset: 0x1a, size_bytes: 1 };
        vga.pio_read(status);
        vga_out(vga, 0x3c0, index, 1);
        vga_out(vga, 0x3c0, value, 1);
    };
    (0..16).for_each(|n| attribute(n, n));
    attribute(0x10, 0x0c);
    attribute(0x12, 0x0f);
    attribute(0x13, 0x08);
    vga_out(vga, 0x3c0, 0x20, 1);
}
