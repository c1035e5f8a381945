//! The 8254 (Intel 231164) by its counter 2, whose gate and output are in port 61h: modes, latches,
//! read-back, formats.

#![no_std]
#![no_main]

use conformance::clock::{self, until};
use conformance::cpu::{inb, outb};
use conformance::report::{check, equal};

conformance::topic!(run);

const COUNTER2: u16 = 0x42;
const CONTROL: u16 = 0x43;
const PORT61: u16 = 0x61;

const GATE: u8 = 1;
const OUTPUT: u8 = 0x20;

/// Both bytes, binary; a mode is to be added.
const PROGRAM: u8 = 0xb0;
const LATCH: u8 = 0x80;
/// Read-back of counter 2: status, count, or both.
const STATUS: u8 = 0xe8;
const COUNT: u8 = 0xd8;
const STATUS_AND_COUNT: u8 = 0xc8;
const NULL_COUNT: u8 = 0x40;

/// In ticks of the power management timer: much less than the 27 ms of half the longest count.
const SHORT: u64 = clock::HZ / 100;

fn run() {
    set_gate(true);
    port61();
    modes_with_a_level_gate();
    modes_with_a_triggering_gate();
    repeating_modes();
    latches();
    formats();
    set_gate(false);
}

fn set_gate(open: bool) {
    outb(PORT61, inb(PORT61) & 0x0c | if open { GATE } else { 0 });
}

fn output() -> bool {
    inb(PORT61) & OUTPUT != 0
}

fn mode(mode: u8) {
    outb(CONTROL, PROGRAM | mode << 1);
}

fn load(count: u16) {
    let [low, high] = count.to_le_bytes();
    outb(COUNTER2, low);
    outb(COUNTER2, high);
}

fn read() -> u16 {
    u16::from_le_bytes([inb(COUNTER2), inb(COUNTER2)])
}

fn count() -> u16 {
    outb(CONTROL, LATCH);
    read()
}

fn status() -> u8 {
    outb(CONTROL, STATUS);
    inb(COUNTER2)
}

fn port61() {
    set_gate(false);
    equal("gate-reads-back-closed", inb(PORT61) & 3, 0);
    set_gate(true);
    equal("gate-reads-back-open", inb(PORT61) & 3, 1);
    let first = inb(PORT61) & 0x10;
    check("refresh-toggles", until(|| inb(PORT61) & 0x10 != first));
}

/// Whether the count moves.
fn runs() -> bool {
    let first = count();
    clock::wait(40);
    count() != first
}

/// The output after a control word for `number` that follows a long count of that mode.
fn output_before_the_count(number: u8) -> bool {
    clock::within(SHORT, || {
        mode(number);
        load(0xffff);
        mode(number);
        output()
    })
}

/// The output right after loading a long count.
fn output_of_a_long_count() -> bool {
    clock::within(SHORT, || {
        load(0xffff);
        clock::wait(10);
        output()
    })
}

fn modes_with_a_level_gate() {
    check("mode-0-output-low-before-the-count", !output_before_the_count(0));
    check("mode-0-output-low-while-it-counts", !output_of_a_long_count());
    check("mode-0-counts", runs());
    set_gate(false);
    // The pulse under way may still count.
    clock::wait(10);
    check("mode-0-gate-stops", !runs());
    set_gate(true);
    check("mode-0-gate-resumes", runs());
    load(2000);
    check("mode-0-output-rises", until(output));
    check("mode-0-counts-on", until(|| count() > 0x8000));
    check("mode-0-output-stays", output());
    check("mode-0-new-count-lowers-output", !output_of_a_long_count());

    check("mode-4-output-high", output_before_the_count(4));
    load(2000);
    check("mode-4-counts", runs());
    check("mode-4-counts-on", until(|| count() > 0x8000));
    check("mode-4-output-high-after-it", output());
}

fn trigger() {
    set_gate(false);
    set_gate(true);
}

fn modes_with_a_triggering_gate() {
    check("mode-1-output-high", output_before_the_count(1));
    check("mode-1-waits-for-the-gate", output_of_a_long_count());
    let triggered = clock::within(SHORT, || {
        trigger();
        clock::wait(10);
        output()
    });
    check("mode-1-output-low-when-triggered", !triggered);
    set_gate(false);
    check("mode-1-counts-with-the-gate-closed", runs());
    load(1000);
    trigger();
    check("mode-1-output-rises", until(output));
    trigger();
    check("mode-1-triggered-again", until(output));

    check("mode-5-output-high", output_before_the_count(5));
    load(1000);
    trigger();
    check("mode-5-counts", until(|| count() < 1000));
    check("mode-5-counts-on", until(|| count() > 0x8000));
    check("mode-5-output-high-after-it", output());
}

fn repeating_modes() {
    check("mode-2-output-high", output_before_the_count(2));
    load(1000);
    clock::wait(10);
    check("mode-2-stays-below-its-count", (0..200).all(|_| (1..=1000).contains(&count())));
    check("mode-2-repeats", {
        let mut last = count();
        until(|| {
            let now = count();
            let wrapped = now > last;
            last = now;
            wrapped
        })
    });
    // The new count waits for the end of the period, which does not come.
    load(0xffff);
    set_gate(false);
    clock::wait(clock::HZ / 1000);
    check("mode-2-gate-stops", !runs());
    check("mode-2-output-high-while-stopped", output());
    set_gate(true);

    check("mode-3-output-high", output_before_the_count(3));
    load(20_000);
    clock::wait(10);
    check("mode-3-counts-even-numbers", (0..50).all(|_| count().is_multiple_of(2)));
    check("mode-3-output-falls", until(|| !output()));
    check("mode-3-output-rises", until(output));
    check("mode-3-output-falls-again", until(|| !output()));
    check(
        "mode-3-gate-raises-output",
        (0..4).all(|_| {
            until(|| !output());
            set_gate(false);
            let raised = output();
            set_gate(true);
            raised
        }),
    );
}

fn latches() {
    mode(0);
    let (first, later, status_byte, latched, held) = clock::within(SHORT, || {
        load(0xffff);
        clock::wait(10);
        outb(CONTROL, LATCH);
        clock::wait(40);
        outb(CONTROL, LATCH);
        let first = read();
        // Without a latch the two bytes are of two moments.
        outb(CONTROL, LATCH);
        let later = read();
        outb(CONTROL, STATUS_AND_COUNT);
        let (status_byte, latched) = (inb(COUNTER2), read());
        outb(CONTROL, COUNT);
        (first, later, status_byte, latched, read())
    });
    check("latch-holds-the-first", first > later);
    equal("read-back-gives-status-first", status_byte, 0x30);
    check("read-back-then-the-count", latched <= later && latched > 0x8000);
    check("read-back-of-the-count", held <= latched);
    for (case, number, output) in [
        ("status-of-mode-0", 0, 0),
        ("status-of-mode-2", 2, 0x80),
        ("status-of-mode-3", 3, 0x80),
        ("status-of-mode-4", 4, 0x80),
        ("status-of-mode-5", 5, 0x80),
    ] {
        let status_byte = clock::within(SHORT, || {
            mode(number);
            load(0xffff);
            // Null count clears with the next pulse, or the trigger in mode 5.
            trigger();
            clock::wait(10);
            status()
        });
        equal(case, status_byte & !NULL_COUNT, output | 0x30 | number << 1);
    }
    mode(0);
    check("null-count-before-the-count", status() & NULL_COUNT != 0);
    outb(COUNTER2, 0xff);
    check("null-count-after-half-a-count", status() & NULL_COUNT != 0);
    outb(COUNTER2, 0xff);
    clock::wait(10);
    check("no-null-count-when-loaded", status() & NULL_COUNT == 0);
}

fn formats() {
    // Mode 0 with the gate closed stands still.
    set_gate(false);
    for (case, control, byte) in [("low-byte-only", 0x90, 0x34), ("high-byte-only", 0xa0, 0x12)] {
        let latched = [0; 4].map(|_: u8| {
            outb(CONTROL, control);
            outb(COUNTER2, byte);
            clock::wait(10);
            outb(CONTROL, LATCH);
            inb(COUNTER2)
        });
        equal(case, latched, [byte; 4]);
    }
    mode(0);
    load(0x1234);
    clock::wait(10);
    equal("both-bytes", count(), 0x1234);
    equal("both-bytes-unlatched", [inb(COUNTER2), inb(COUNTER2)], [0x34, 0x12]);
    // Decimal.
    set_gate(true);
    outb(CONTROL, PROGRAM | 2 << 1 | 1);
    load(0x0150);
    clock::wait(10);
    let is_decimal = |count: u16| (0..4).all(|digit| count >> (4 * digit) & 0xf <= 9);
    check(
        "decimal",
        (0..200).map(|_| count()).all(|count| is_decimal(count) && (1..=0x150).contains(&count)),
    );
}
