//! The real-time clock and CMOS memory (Motorola MC146818A): formats, setting, roll-over, alarm,
//! flags, interrupts.

#![no_std]
#![no_main]

use conformance::clock::until;
use conformance::cpu::{inb, outb};
use conformance::pic;
use conformance::report::{check, equal};

conformance::topic!(run);

const SECONDS_ALARM: u8 = 1;
const MINUTES_ALARM: u8 = 3;
const HOURS: u8 = 4;
const HOURS_ALARM: u8 = 5;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// Seconds, minutes, hours, day of the month, month, year.
const TIME: [u8; 6] = [0, 2, 4, 7, 8, 9];

const UPDATE_IN_PROGRESS: u8 = 0x80;
const SET: u8 = 0x80;
/// In register C: the clock asks for an interrupt.
const REQUEST: u8 = 0x80;
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE_ENDED: u8 = 0x10;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;

const IRQ8: u16 = 1 << 8;

fn run() {
    pic::set_up();
    write(REGISTER_A, 0x26);
    write(REGISTER_B, HOURS_24);
    memory();
    formats();
    periodic();
    roll_over();
}

fn read(register: u8) -> u8 {
    outb(0x70, register);
    inb(0x71)
}

fn write(register: u8, value: u8) {
    outb(0x70, register);
    outb(0x71, value);
}

fn time() -> [u8; 6] {
    TIME.map(read)
}

fn set_time(mode: u8, time: [u8; 6]) {
    write(REGISTER_B, SET | mode);
    for (register, value) in TIME.into_iter().zip(time) {
        write(register, value);
    }
}

fn memory() {
    const FREE: u8 = 0x6e;
    let before = read(FREE);
    write(FREE, 0xa5);
    write(FREE + 1, 0x5a);
    equal("memory", [read(FREE), read(FREE + 1)], [0xa5, 0x5a]);
    write(FREE, before);
    equal("valid-memory-and-time", read(REGISTER_D), 0x80);
    write(REGISTER_D, 0);
    equal("register-d-is-read-only", read(REGISTER_D), 0x80);
    equal("register-a-reads-back", read(REGISTER_A) & !UPDATE_IN_PROGRESS, 0x26);
}

fn formats() {
    let is_decimal = |value: u8| value & 0xf <= 9 && value >> 4 <= 9;
    check("decimal-time", time().into_iter().all(is_decimal));
    check("decimal-century", matches!(read(CENTURY), 0x19..=0x21));
    let noon = [0x56, 0x34, 0x12, 0x28, 0x02, 0x24];
    set_time(HOURS_24, noon);
    equal("set-time-stands-still", time(), noon);
    write(REGISTER_B, HOURS_24);
    equal("decimal-time-set", read(HOURS), 0x12);
    let afternoon = [56, 34, 0x80 | 3, 28, 2, 24];
    set_time(BINARY, afternoon);
    equal("binary-12-hours-set", time(), afternoon);
}

fn periodic() {
    write(REGISTER_B, HOURS_24);
    read(REGISTER_C);
    check("no-request-without-cause", pic::requested() & IRQ8 == 0);
    write(REGISTER_B, PERIODIC | HOURS_24);
    check("periodic-requests", until(|| pic::requested() & IRQ8 != 0));
    let flags = read(REGISTER_C);
    equal("periodic-flags", flags & (REQUEST | PERIODIC), REQUEST | PERIODIC);
    check("periodic-repeats", until(|| read(REGISTER_C) & PERIODIC != 0));
    write(REGISTER_B, HOURS_24);
    read(REGISTER_C);
    equal("register-c-is-read-once", read(REGISTER_C) & (REQUEST | ALARM), 0);
}

/// The last second of a century, an alarm for the first of the next.
fn roll_over() {
    set_time(HOURS_24, [0x59, 0x59, 0x23, 0x31, 0x12, 0x99]);
    write(CENTURY, 0x19);
    for register in [SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM] {
        write(register, 0);
    }
    read(REGISTER_C);
    // Edges are remembered.
    pic::set_up();
    write(REGISTER_B, UPDATE_ENDED | ALARM | HOURS_24);
    check("update-requests", until(|| pic::requested() & IRQ8 != 0));
    equal("update-flags", read(REGISTER_C) & !PERIODIC, REQUEST | ALARM | UPDATE_ENDED);
    // The machine may have stood still meanwhile.
    equal("new-year", &time()[1..], &[0, 0, 1, 1, 0]);
    equal("new-century", read(CENTURY), 0x20);
    equal("alarm-comes-once", read(REGISTER_C) & ALARM, 0);
    write(REGISTER_B, HOURS_24);
}
