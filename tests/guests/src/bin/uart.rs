//! The 16550A at COM1 (National PC16550D): registers, FIFO, interrupts, modem lines, loopback.
//! Absent ports float.
//!
//! COM1 is where the results go: they are reported only when it is as it was.

#![no_std]
#![no_main]

use conformance::clock::until;
use conformance::cpu::{inb, outb};
use conformance::pic;
use conformance::report::{check, equal};
use conformance::serial::Com1;

conformance::topic!(run);

const COM1: u16 = 0x3f8;
const DATA: u16 = COM1;
const INTERRUPT_ENABLE: u16 = COM1 + 1;
const INTERRUPT_ID: u16 = COM1 + 2;
const FIFO_CONTROL: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;
const MODEM_STATUS: u16 = COM1 + 6;
const SCRATCH: u16 = COM1 + 7;

const DIVISOR_ACCESS: u8 = 0x80;
const LOOPBACK: u8 = 0x10;
const FIFOS: u8 = 0xc0;
const NO_INTERRUPT: u8 = 1;

const DATA_READY: u8 = 1;
const OVERRUN: u8 = 2;
const ALL_SENT: u8 = 0x60;

fn run() {
    registers();
    modem_lines();
    loopback();
    fifo();
    interrupts();
    line_to_the_8259();
    absent_ports();
}

/// Does `body` with COM1 idle, and puts COM1 back.
fn with_com1<R>(body: impl FnOnce() -> R) -> R {
    Com1::drain();
    let result = body();
    Com1::set_up();
    result
}

fn registers() {
    let written = with_com1(|| {
        outb(SCRATCH, 0xa5);
        let first = inb(SCRATCH);
        outb(SCRATCH, 0x5a);
        [first, inb(SCRATCH)]
    });
    equal("scratch", written, [0xa5, 0x5a]);
    equal(
        "interrupt-enable-has-four-bits",
        with_com1(|| {
            outb(INTERRUPT_ENABLE, 0xff);
            inb(INTERRUPT_ENABLE)
        }),
        0x0f,
    );
    equal(
        "modem-control-has-five-bits",
        with_com1(|| {
            outb(MODEM_CONTROL, 0xff);
            inb(MODEM_CONTROL)
        }),
        0x1f,
    );
    equal(
        "line-control-reads-back",
        with_com1(|| {
            outb(LINE_CONTROL, 0x5e);
            inb(LINE_CONTROL)
        }),
        0x5e,
    );
    let divisor = with_com1(|| {
        outb(LINE_CONTROL, DIVISOR_ACCESS | 3);
        outb(COM1, 0x34);
        outb(COM1 + 1, 0x12);
        let inside = [inb(COM1), inb(COM1 + 1)];
        outb(LINE_CONTROL, 3);
        let outside = inb(INTERRUPT_ENABLE);
        (inside, outside)
    });
    equal("divisor", divisor, ([0x34, 0x12], 0));
    equal("line-status-at-rest", inb(LINE_STATUS) & !ALL_SENT, 0);
    equal("no-interrupt-at-rest", with_com1(|| inb(INTERRUPT_ID)), NO_INTERRUPT);
}

fn modem_lines() {
    let inputs = with_com1(|| {
        [0, 1, 2, 4, 8, 15].map(|outputs| {
            outb(MODEM_CONTROL, LOOPBACK | outputs);
            inb(MODEM_STATUS) & 0xf0
        })
    });
    // DTR is DSR, RTS is CTS, OUT1 is RI, OUT2 is DCD.
    equal("loopback-of-modem-lines", inputs, [0, 0x20, 0x10, 0x40, 0x80, 0xf0]);
    let changes = with_com1(|| {
        outb(MODEM_CONTROL, LOOPBACK);
        inb(MODEM_STATUS);
        outb(MODEM_CONTROL, LOOPBACK | 0x0f);
        let rise = inb(MODEM_STATUS);
        let again = inb(MODEM_STATUS);
        outb(MODEM_CONTROL, LOOPBACK);
        [rise, again, inb(MODEM_STATUS)]
    });
    // RI has a change on its trailing edge only.
    equal("changes-of-modem-lines", changes, [0xfb, 0xf0, 0x0f]);
}

/// Sends to oneself; whether it arrived.
fn send(byte: u8) -> bool {
    outb(DATA, byte);
    until(|| inb(LINE_STATUS) & ALL_SENT == ALL_SENT)
}

/// COM1 in loopback at full speed, FIFOs as `fifo_control`.
fn with_loopback<R>(fifo_control: u8, body: impl FnOnce() -> R) -> R {
    with_com1(|| {
        outb(MODEM_CONTROL, LOOPBACK | 0x0b);
        outb(FIFO_CONTROL, fifo_control);
        let result = body();
        outb(MODEM_CONTROL, 0x0b);
        result
    })
}

fn is_ready() -> bool {
    inb(LINE_STATUS) & DATA_READY != 0
}

fn loopback() {
    let bytes = with_loopback(0, || {
        [0x55, 0xaa, 0x00, 0xff].map(|byte| {
            send(byte);
            until(is_ready);
            inb(DATA)
        })
    });
    equal("loopback-of-data", bytes, [0x55, 0xaa, 0x00, 0xff]);
    check("no-data-after-it-was-read", with_loopback(0, || !is_ready()));
    let overrun = with_loopback(0, || {
        send(1);
        until(is_ready);
        outb(DATA, 2);
        until(|| inb(LINE_STATUS) & OVERRUN != 0)
    });
    check("overrun-without-fifo", overrun);
}

fn fifo() {
    const ENABLE_AND_CLEAR: u8 = 7;
    equal(
        "fifos-in-interrupt-id",
        with_com1(|| {
            outb(FIFO_CONTROL, 1);
            inb(INTERRUPT_ID) & FIFOS
        }),
        FIFOS,
    );
    equal(
        "no-fifos-in-interrupt-id",
        with_com1(|| {
            outb(FIFO_CONTROL, 0);
            inb(INTERRUPT_ID) & FIFOS
        }),
        0,
    );
    let received = with_loopback(ENABLE_AND_CLEAR, || {
        for byte in 0..16 {
            send(byte);
        }
        let mut received = [0xff; 16];
        for byte in &mut received {
            until(is_ready);
            *byte = inb(DATA);
        }
        (received, is_ready())
    });
    let in_order: [u8; 16] = core::array::from_fn(|index| index as u8);
    equal("fifo-holds-sixteen", received, (in_order, false));
    let cleared = with_loopback(ENABLE_AND_CLEAR, || {
        send(1);
        until(is_ready);
        outb(FIFO_CONTROL, 3);
        is_ready()
    });
    check("fifo-cleared", !cleared);
}

fn interrupts() {
    let transmitter = with_loopback(0, || {
        outb(INTERRUPT_ENABLE, 2);
        let first = inb(INTERRUPT_ID);
        let again = inb(INTERRUPT_ID);
        send(0x11);
        // It comes when the character has left, and reading it acknowledges it.
        let mut after = NO_INTERRUPT;
        until(|| {
            after = inb(INTERRUPT_ID);
            after != NO_INTERRUPT
        });
        inb(DATA);
        [first, again, after]
    });
    equal("transmitter-empty", transmitter, [2, NO_INTERRUPT, 2]);
    let receiver = with_loopback(0, || {
        outb(INTERRUPT_ENABLE, 1);
        send(0x22);
        until(is_ready);
        let ready = inb(INTERRUPT_ID);
        inb(DATA);
        [ready, inb(INTERRUPT_ID)]
    });
    equal("data-available", receiver, [4, NO_INTERRUPT]);
    let modem = with_loopback(0, || {
        inb(MODEM_STATUS);
        outb(INTERRUPT_ENABLE, 8);
        let before = inb(INTERRUPT_ID);
        outb(MODEM_CONTROL, LOOPBACK | 0x0a);
        let changed = inb(INTERRUPT_ID);
        inb(MODEM_STATUS);
        [before, changed, inb(INTERRUPT_ID)]
    });
    equal("modem-status", modem, [NO_INTERRUPT, 0, NO_INTERRUPT]);
    let priorities = with_loopback(0, || {
        inb(MODEM_STATUS);
        outb(INTERRUPT_ENABLE, 0x0f);
        send(1);
        until(is_ready);
        // Its status is not read: that would acknowledge the overrun.
        outb(DATA, 2);
        until(|| inb(INTERRUPT_ID) == 6);
        outb(MODEM_CONTROL, LOOPBACK | 0x0a);
        let line_status = inb(INTERRUPT_ID);
        inb(LINE_STATUS);
        let data = inb(INTERRUPT_ID);
        inb(DATA);
        // The transmitter is empty a character's time after the second one, and comes before the
        // modem, of which the register tells until then.
        let mut transmitter = 0;
        until(|| {
            transmitter = inb(INTERRUPT_ID);
            transmitter != 0
        });
        let modem = inb(INTERRUPT_ID);
        inb(MODEM_STATUS);
        [line_status, data, transmitter, modem, inb(INTERRUPT_ID)]
    });
    equal("priorities", priorities, [6, 4, 2, 0, NO_INTERRUPT]);
}

fn line_to_the_8259() {
    let requested = || pic::requested() & 1 << 4 != 0;
    let with_outputs = |outputs| {
        with_com1(|| {
            outb(INTERRUPT_ENABLE, 0);
            pic::set_up();
            outb(MODEM_CONTROL, outputs);
            outb(INTERRUPT_ENABLE, 2);
            requested()
        })
    };
    check("irq-4", with_outputs(0x0b));
    check("no-irq-4-without-out2", !with_outputs(3));
}

fn absent_ports() {
    // COM3 and COM4 are on none of the machines.
    for (case, port) in [("com3-absent", 0x3e8), ("com4-absent", 0x2e8)] {
        equal(case, core::array::from_fn(|register| inb(port + register as u16)), [0xff; 8]);
    }
}
