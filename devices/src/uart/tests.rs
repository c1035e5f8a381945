use super::*;
use crate::console::TestSink;
use crate::irq::LineProbe;
use crate::time::{Deadlines, TestClock};
use proptest::prelude::*;

struct Bench {
    uart: Uart,
    line: Arc<LineProbe>,
    sink: Arc<TestSink>,
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        let (line, irq) = LineProbe::wired();
        let sink = TestSink::new(capacity);
        let clock = TestClock::new();
        let deadlines = Deadlines::new(1);
        let uart = Uart::new(0x3f8, irq, sink.clone(), clock.clone(), deadlines.alarm(0));
        Self { uart, line, sink, clock, deadlines }
    }

    fn read(&self, register: u8) -> u8 {
        self.uart.pio_read(Access::new(register.into(), 1)).unwrap() as u8
    }

    fn write(&self, register: u8, value: u8) {
        self.uart.pio_write(Access::new(register.into(), 1), value.into());
    }

    fn run_ns(&self, ns: u64) {
        self.clock.advance_ns(ns);
        while self.deadlines.take_expired(self.clock.now()).is_some() {
            self.uart.expired(self.clock.now());
        }
    }
}

const IER: u8 = offset::IER;
const IIR: u8 = offset::IIR_FCR;
const FCR: u8 = offset::IIR_FCR;
const LCR: u8 = offset::LCR;
const MCR: u8 = offset::MCR;
const LSR: u8 = offset::LSR;
const MSR: u8 = offset::MSR;

#[test]
fn linux_finds_a_16550a() {
    let bench = Bench::new(100);
    // autoconfig: the interrupt enable register keeps four bits.
    bench.write(IER, 0);
    assert_eq!(bench.read(IER), 0);
    bench.write(IER, 0x0f);
    assert_eq!(bench.read(IER), 0x0f);
    bench.write(IER, 0);
    // Loopback: RTS and OUT2 come back as CTS and DCD.
    bench.write(MCR, 0x1a);
    assert_eq!(bench.read(MSR) & 0xf0, 0x90);
    bench.write(MCR, 0);
    // FIFOs.
    bench.write(LCR, 0xbf);
    bench.write(2, 0);
    bench.write(LCR, 0);
    bench.write(FCR, 1);
    assert_eq!(bench.read(IIR) >> 6, 3);
    // Not a 16650 or 16850: no extended feature register.
    bench.write(LCR, 0x80);
    assert_ne!(bench.read(2), 0);
    bench.write(LCR, 0xbf);
    assert_ne!(bench.read(2), 0);
    // Not a 16750: no 64-byte FIFO.
    bench.write(LCR, 0);
    bench.write(FCR, 0x21);
    assert_eq!(bench.read(IIR) >> 5, 6);
    // Not an XScale: no unit enable.
    bench.write(IER, 0x40);
    assert_eq!(bench.read(IER), 0);
    // size_fifo: how many of 256 bytes come back in loopback mode.
    bench.write(FCR, 0x07);
    bench.write(MCR, 0x10);
    for byte in 0..=255 {
        bench.write(0, byte);
    }
    bench.run_ns(20_000_000);
    let mut count = 0;
    while bench.read(LSR) & 1 != 0 && count < 256 {
        assert_eq!(bench.read(0), count as u8);
        count += 1;
    }
    assert_eq!(count, 16);
    assert!(bench.sink.take().is_empty());
}

#[test]
fn linux_trusts_the_transmitter_interrupt() {
    // serial8250_do_startup: THRE must be raised again each time that it is enabled.
    let bench = Bench::new(100);
    for _ in 0..2 {
        bench.write(IER, 2);
        assert_eq!(bench.read(IIR), 2);
        bench.write(IER, 0);
        assert_eq!(bench.read(IIR), 1);
    }
}

#[test]
fn transmits_with_an_edge_for_each_load() {
    let bench = Bench::new(100);
    bench.write(MCR, 0x0b);
    bench.write(IER, 2);
    assert_eq!(bench.line.take_edges(), 1);
    assert_eq!(bench.read(IIR), 2);
    assert!(!bench.line.is_high());
    bench.write(0, b'a');
    assert_eq!(bench.line.take_edges(), 1);
    bench.write(0, b'b');
    assert_eq!(bench.line.take_edges(), 1, "the interrupt ended and came back");
    assert_eq!(bench.sink.take(), b"ab");
    bench.write(IER, 0);
    assert!(!bench.line.is_high());
}

#[test]
fn out2_gates_the_interrupt() {
    let bench = Bench::new(100);
    bench.write(IER, 1);
    assert!(bench.uart.receive(1));
    assert!(!bench.line.is_high());
    bench.write(MCR, 8);
    assert!(bench.line.is_high());
    bench.write(MCR, 0x18);
    assert!(!bench.line.is_high());
}

#[test]
fn trigger_level_and_character_timeout() {
    let bench = Bench::new(0);
    bench.write(LCR, 0x83);
    bench.write(0, 1);
    bench.write(1, 0);
    bench.write(LCR, 0x03);
    bench.write(FCR, 0x87);
    bench.write(MCR, 8);
    bench.write(IER, 1);
    for byte in 0..7 {
        assert!(bench.uart.receive(byte));
    }
    assert_eq!(bench.read(IIR), 0xc1);
    bench.run_ns(4 * 86_805 - 10);
    assert_eq!(bench.read(IIR), 0xc1);
    bench.run_ns(20);
    assert_eq!(bench.read(IIR), 0xcc);
    assert!(bench.line.is_high());
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.read(IIR), 0xc1, "reading ends the timeout");
    for byte in 7..9 {
        assert!(bench.uart.receive(byte));
    }
    assert_eq!(bench.read(IIR), 0xc4);
    for byte in 1..9 {
        assert_eq!(bench.read(LSR) & 1, 1);
        assert_eq!(bench.read(0), byte);
    }
    assert_eq!(bench.read(LSR) & 1, 0);
    assert_eq!(bench.read(IIR), 0xc1);
    assert_eq!(bench.deadlines.earliest(), None);
}

#[test]
fn the_receiver_is_full_after_one_or_sixteen() {
    let bench = Bench::new(0);
    assert!(bench.uart.receive(b'x'));
    assert!(!bench.uart.receive(b'y'));
    bench.write(FCR, 1);
    assert_eq!(bench.read(LSR) & 1, 0, "switching the FIFOs empties them");
    for byte in 0..16 {
        assert!(bench.uart.receive(byte));
    }
    assert!(!bench.uart.receive(16));
    bench.write(MCR, 0x10);
    bench.write(FCR, 3);
    assert!(!bench.uart.receive(1), "loopback disconnects the line");
}

#[test]
fn a_full_sink_keeps_the_transmitter_busy() {
    let bench = Bench::new(2);
    bench.write(FCR, 1);
    for byte in *b"abcd" {
        bench.write(0, byte);
    }
    assert_eq!(bench.read(LSR) & 0x60, 0);
    assert_eq!(bench.sink.take(), b"ab");
    bench.run_ns(SINK_RETRY_NS);
    assert_eq!(bench.read(LSR) & 0x60, 0x60);
    assert_eq!(bench.sink.take(), b"cd");
    assert_eq!(bench.deadlines.earliest(), None);
}

#[test]
fn a_break_is_a_line_status_interrupt() {
    let bench = Bench::new(0);
    bench.write(FCR, 1);
    bench.write(IER, 5);
    assert!(bench.uart.receive(b'a'));
    assert!(bench.uart.receive_break());
    assert_eq!(bench.read(LSR) & 0x9f, 0x81, "an error further back in the FIFO");
    assert_eq!(bench.read(0), b'a');
    assert_eq!(bench.read(IIR), 0xc6);
    assert_eq!(bench.read(LSR) & 0x1f, 0x11);
    assert_eq!(bench.read(IIR), 0xc4);
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.read(LSR), 0x60);
}

#[test]
fn modem_lines_and_deltas() {
    let bench = Bench::new(0);
    assert_eq!(bench.read(MSR), 0xb0);
    bench.write(IER, 8);
    bench.write(MCR, 0x14);
    assert_eq!(bench.read(IIR), 0);
    assert_eq!(bench.read(MSR), 0x4b);
    assert_eq!(bench.read(MSR), 0x40);
    bench.write(MCR, 0x00);
    assert_eq!(bench.read(MSR), 0xbf, "with the trailing edge of RI");
}

#[test]
fn a_wide_access_is_split() {
    let bench = Bench::new(0);
    bench.write(LCR, 0x80);
    bench.uart.pio_write(Access::new(0, 2), 0x1234);
    assert_eq!(bench.uart.pio_read(Access::new(0, 2)), Some(0x1234));
    assert_eq!(bench.uart.pio_read(Access::new(7, 2)), Some(0xff00));
}

proptest! {
    #[test]
    fn what_is_accepted_is_read_in_order(
        accesses in prop::collection::vec((any::<bool>(), 0u64..10, 1u8..5, any::<u32>()), 0..200),
        bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let bench = Bench::new(64);
        for (write, offset, size_bytes, value) in accesses {
            let access = Access::new(offset, size_bytes);
            if write {
                bench.uart.pio_write(access, value);
            } else {
                bench.uart.pio_read(access);
            }
            bench.uart.receive(value as u8);
            bench.run_ns(u64::from(value));
        }
        bench.write(LCR, 3);
        bench.write(MCR, 0);
        bench.write(FCR, 0);
        bench.write(FCR, 7);
        let accepted = bytes.iter().take_while(|byte| bench.uart.receive(**byte)).count();
        prop_assert_eq!(accepted, bytes.len().min(16));
        for byte in &bytes[..accepted] {
            prop_assert_eq!(bench.read(LSR) & 1, 1);
            prop_assert_eq!(bench.read(0), *byte);
        }
        prop_assert_eq!(bench.read(LSR) & 1, 0);
    }
}
