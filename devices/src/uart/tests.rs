use super::*;
use crate::console::TestSink;
use crate::irq::LineProbe;
use crate::time::{Deadlines, TestClock};
use core::sync::atomic::AtomicU64;
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

    /// 115,200 baud, 8N1: a character takes [`CHARACTER_NS`].
    fn set_fastest(&self) {
        self.write(LCR, 0x83);
        self.write(0, 1);
        self.write(1, 0);
        self.write(LCR, 0x03);
    }

    /// The far end sends, a character after the other.
    fn send(&self, bytes: &[u8]) {
        for &byte in bytes {
            self.run_ns(CHARACTER_NS);
            assert!(self.uart.receive(byte));
        }
    }

    /// Reads what is there.
    fn take(&self) -> Vec<u8> {
        core::iter::from_fn(|| (self.read(LSR) & 1 != 0).then(|| self.read(0))).collect()
    }

    fn run_ns(&self, ns: u64) {
        self.clock.advance_ns(ns);
        while self.deadlines.take_expired(self.clock.now()).is_some() {
            self.uart.expired(self.clock.now());
        }
    }
}

const CHARACTER_NS: u64 = 86_806;

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
    bench.set_fastest();
    for byte in *b"ab" {
        bench.write(0, byte);
        assert_eq!(bench.read(LSR) & 0x60, 0x60, "a guest that polls does not wait");
        assert!(!bench.line.is_high(), "the interrupt ends");
        bench.run_ns(CHARACTER_NS - 10);
        assert!(!bench.line.is_high());
        bench.run_ns(20);
        assert_eq!(bench.line.take_edges(), 1, "and comes back after a character's time");
    }
    assert_eq!(bench.sink.take(), b"ab");
    // Of several characters the first counts, so that a FIFO of them is faster than the line.
    bench.write(FCR, 1);
    for byte in 0..16 {
        bench.write(0, byte);
    }
    bench.run_ns(CHARACTER_NS);
    assert_eq!(bench.line.take_edges(), 1);
    // Enabled anew, it does not wait; while it is disabled, nothing is timed.
    bench.write(0, 0);
    bench.write(IER, 0);
    assert!(!bench.line.is_high());
    assert_eq!(bench.deadlines.earliest(), None);
    bench.write(0, 0);
    assert_eq!(bench.deadlines.earliest(), None);
    bench.write(IER, 2);
    assert_eq!(bench.line.take_edges(), 1);
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
    bench.set_fastest();
    bench.write(FCR, 0x87);
    bench.write(MCR, 8);
    bench.write(IER, 1);
    bench.send(&[0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(bench.read(IIR), 0xc1);
    bench.run_ns(4 * 86_805 - 10);
    assert_eq!(bench.read(IIR), 0xc1);
    bench.run_ns(20);
    assert_eq!(bench.read(IIR), 0xcc);
    assert!(bench.line.is_high());
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.read(IIR), 0xc1, "reading ends the timeout");
    bench.send(&[7, 8]);
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
fn characters_come_at_the_lines_pace_and_wait_for_room() {
    let bench = Bench::new(0);
    bench.set_fastest();
    bench.write(MCR, 8);
    bench.write(FCR, 0x87);
    bench.write(IER, 1);
    // All at once: the first arrives on an idle line, the eighth raises the interrupt, the ninth
    // waits for the guest.
    let all: Vec<u8> = (0..12).collect();
    for &byte in &all {
        assert!(bench.uart.receive(byte));
    }
    assert_eq!(bench.read(LSR) & 1, 1);
    bench.run_ns(7 * CHARACTER_NS - 100);
    assert_eq!(bench.read(IIR), 0xc1);
    bench.run_ns(200);
    assert_eq!(bench.read(IIR), 0xc4);
    bench.run_ns(100 * CHARACTER_NS);
    assert_eq!(bench.deadlines.earliest(), None);
    assert_eq!(bench.take(), all[..8]);
    bench.run_ns(CHARACTER_NS);
    assert_eq!(bench.take(), all[8..9]);
    bench.run_ns(CHARACTER_NS);
    bench.run_ns(CHARACTER_NS);
    bench.run_ns(CHARACTER_NS);
    assert_eq!(bench.take(), all[9..]);
    // A guest that polls has the whole FIFO; what neither that nor the line takes stays with the
    // sender.
    bench.write(IER, 0);
    bench.run_ns(CHARACTER_NS);
    assert_eq!((0..100).take_while(|byte| bench.uart.receive(*byte)).count(), FIFO_DEPTH + 1);
    for _ in 0..20 {
        bench.run_ns(CHARACTER_NS);
    }
    assert_eq!((17..100).take_while(|byte| bench.uart.receive(*byte)).count(), FIFO_DEPTH - 1);
    let mut read = Vec::new();
    while read.len() < 32 {
        read.extend(bench.take());
        bench.run_ns(CHARACTER_NS);
    }
    assert_eq!(read, (0..32).collect::<Vec<_>>());
    assert_eq!(bench.read(LSR), 0x60, "nothing was lost");
    // Loopback disconnects the line; what was sent before arrives afterwards.
    assert!(bench.uart.receive(b'a') && bench.uart.receive(b'b'));
    bench.write(MCR, 0x10);
    bench.run_ns(10 * CHARACTER_NS);
    assert!(!bench.uart.receive(b'c'));
    assert_eq!(bench.take(), b"a");
    bench.write(MCR, 0);
    bench.run_ns(CHARACTER_NS);
    assert_eq!(bench.take(), b"b");
}

#[test]
fn a_handler_that_reads_one_character_gets_an_interrupt_for_each() {
    for fcr in [0x00, 0x07] {
        let bench = Bench::new(0);
        bench.set_fastest();
        bench.write(MCR, 8);
        bench.write(FCR, fcr);
        bench.write(IER, 1);
        for byte in 1..=3 {
            assert!(bench.uart.receive(byte));
        }
        for byte in 1..=3 {
            // However long the handler takes.
            bench.run_ns(5 * CHARACTER_NS);
            assert_eq!(bench.line.take_edges(), 1);
            assert_eq!(bench.read(0), byte);
            assert!(!bench.line.is_high());
        }
        bench.run_ns(5 * CHARACTER_NS);
        assert_eq!(bench.line.take_edges(), 0);
        assert!(bench.uart.receive(4));
        assert_eq!(bench.line.take_edges(), 1);
        assert_eq!(bench.take(), [4]);
    }
}

/// A clock that moves on by a second between two looks at it: the host was busy elsewhere.
#[derive(Default)]
struct LateClock(AtomicU64);

impl Clock for LateClock {
    fn now(&self) -> GuestTime {
        GuestTime::from_ns(self.0.fetch_add(1_000_000_000, Ordering::Relaxed))
    }
}

#[test]
fn each_character_is_an_edge_even_if_the_next_is_due_when_it_is_read() {
    let (line, irq) = LineProbe::wired();
    let alarm = Deadlines::new(1).alarm(0);
    let uart = Uart::new(0x3f8, irq, TestSink::new(0), Arc::new(LateClock::default()), alarm);
    for (register, value) in [(MCR, 8), (FCR, 7), (IER, 1)] {
        uart.write(register, value);
    }
    for byte in 1..=3 {
        assert!(uart.receive(byte));
    }
    for byte in 1..=3 {
        assert_eq!(line.take_edges(), 1);
        assert_eq!(uart.read(0), byte);
    }
    assert_eq!((line.take_edges(), line.is_high()), (0, false));
}

#[test]
fn without_fifos_the_receiver_holds_one() {
    let bench = Bench::new(0);
    assert!(bench.uart.receive(b'x') && bench.uart.receive(b'y'));
    bench.run_ns(100_000_000);
    bench.write(FCR, 1);
    assert_eq!(
        bench.read(LSR) & 1,
        1,
        "switching the FIFOs empties them, and there is room for what waited"
    );
    assert_eq!(bench.take(), b"y");
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
    bench.write(IER, 4);
    bench.send(b"a");
    assert!(bench.uart.receive_break());
    bench.run_ns(10_000_000);
    assert_eq!(bench.read(LSR) & 0x9f, 0x81, "an error further back in the FIFO");
    assert_eq!(bench.read(0), b'a');
    assert_eq!(bench.read(IIR), 0xc6);
    assert_eq!(bench.read(LSR) & 0x1f, 0x11);
    bench.write(IER, 5);
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
        bench.write(IER, 0);
        bench.write(FCR, 0);
        bench.write(FCR, 7);
        // A character takes almost seven seconds at the slowest.
        let next = || {
            bench.run_ns(7_000_000_000);
            (bench.read(LSR) & 1 != 0).then(|| bench.read(0))
        };
        while next().is_some() {}
        let accepted = bytes.iter().take_while(|byte| bench.uart.receive(**byte)).count();
        prop_assert_eq!(accepted, bytes.len().min(1 + FIFO_DEPTH));
        for byte in &bytes[..accepted] {
            prop_assert_eq!(next(), Some(*byte));
        }
        prop_assert_eq!(next(), None);
    }
}
