//! The HPET (IA-PC HPET specification 1.0a): main counter, comparators, legacy replacement,
//! routing.

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, io, register::IRR};
use conformance::arrivals;
use conformance::clock::{self, until};
use conformance::cpu::{peek, poke};
use conformance::interrupts::{Frame, handle};
use conformance::report::{check, equal, skip};
use conformance::{pic, pit};

conformance::topic!(run);

const BASE: u64 = 0xfed0_0000;
const CAPABILITIES: u64 = 0;
const CONFIGURATION: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xf0;
const TIMER0: u64 = 0x100;
const COMPARATOR0: u64 = 0x108;

const ENABLE: u64 = 1;
const LEGACY: u64 = 2;

const LEVEL: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const CAN_BE_PERIODIC: u64 = 1 << 4;
const SET_ACCUMULATOR: u64 = 1 << 6;
const SEND_MESSAGE: u64 = 1 << 14;
const CAN_SEND_MESSAGES: u64 = 1 << 15;

const VECTOR: u8 = 0x61;
const IRQ0: u16 = 1;

fn run() {
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(arrivals::note_and_end));
    write(CONFIGURATION, 0);
    for timer in 0..3 {
        write(TIMER0 + 0x20 * timer, 0);
    }
    capabilities();
    counter();
    legacy();
    routed();
    messages();
    write(CONFIGURATION, 0);
}

fn read(register: u64) -> u64 {
    peek(BASE + register)
}

fn write(register: u64, value: u64) {
    poke(BASE + register, value);
}

/// In femtoseconds.
fn period_fs() -> u64 {
    read(CAPABILITIES) >> 32
}

fn ticks(microseconds: u64) -> u64 {
    microseconds * 1_000_000_000 / period_fs()
}

fn capabilities() {
    let capabilities = read(CAPABILITIES);
    check("period", (1..=100_000_000).contains(&(capabilities >> 32)));
    check("three-timers", capabilities >> 8 & 0x1f >= 2);
    check("counter-has-64-bits", capabilities >> 13 & 1 == 1);
    check("legacy-replacement-offered", capabilities >> 15 & 1 == 1);
    equal(
        "halves",
        [peek::<u32>(BASE), peek::<u32>(BASE + 4)],
        [capabilities as u32, (capabilities >> 32) as u32],
    );
    write(CAPABILITIES, 0);
    equal("capabilities-are-read-only", read(CAPABILITIES), capabilities);
    check("timer-0-is-periodic", read(TIMER0) & CAN_BE_PERIODIC != 0);
}

fn counter() {
    write(COUNTER, 0x1234_5678_9abc);
    equal("halted-counter-reads-back", read(COUNTER), 0x1234_5678_9abc);
    equal(
        "counter-halves",
        [peek::<u32>(BASE + COUNTER), peek(BASE + COUNTER + 4)],
        [0x5678_9abc, 0x1234],
    );
    poke::<u32>(BASE + COUNTER + 4, 0x77);
    equal("counter-half-written", read(COUNTER), 0x77_5678_9abc);
    write(CONFIGURATION, ENABLE);
    let first = read(COUNTER);
    check("enabled-counts-from-there", first >= 0x77_5678_9abc);
    check("counts", until(|| read(COUNTER) > first));
    write(CONFIGURATION, 0);
    let halted = read(COUNTER);
    clock::wait(100);
    equal("halted", read(COUNTER), halted);
    write(COUNTER, 0xffff_ff00);
    write(CONFIGURATION, ENABLE);
    check("carries-into-the-upper-half", until(|| read(COUNTER) >> 32 == 1));
    write(CONFIGURATION, 0);
}

fn legacy() {
    // Its output is high, and comes no more.
    pit::edge();
    pic::set_up();
    handle(pic::FIRST_VECTOR, Some(arrivals::note_and_end_irq));
    let requested = || pic::requested() & IRQ0 != 0;

    write(COUNTER, 0);
    write(TIMER0, INTERRUPT);
    write(COMPARATOR0, ticks(200));
    write(CONFIGURATION, ENABLE | LEGACY);
    check("legacy-one-shot-requests-irq-0", until(requested));
    check("one-shot-not-before", read(COUNTER) >= ticks(200));
    pic::set_up();
    clock::wait(clock::HZ / 500);
    check("one-shot-once", !requested());
    write(CONFIGURATION, 0);

    write(COUNTER, 0);
    write(TIMER0, INTERRUPT | PERIODIC | SET_ACCUMULATOR);
    write(COMPARATOR0, ticks(500));
    write(COMPARATOR0, ticks(500));
    write(CONFIGURATION, ENABLE | LEGACY);
    for case in ["periodic", "periodic-again", "periodic-a-third-time"] {
        check(case, until(requested));
        pic::set_up();
    }
    check("periodic-comparator-moves-on", read(COMPARATOR0) > ticks(500));
    write(TIMER0, PERIODIC);
    pic::set_up();
    clock::wait(clock::HZ / 500);
    check("disabled-requests-nothing", !requested());
    write(CONFIGURATION, 0);

    pit::edge();
    check("pit-is-back", requested());
    pic::set_up();
    // A timer without interrupts lowers its line when it would ring, in QEMU, which knows one line
    // only.
    write(TIMER0, 0);
    write(COMPARATOR0, u64::MAX);
}

fn routed() {
    let routes = (read(TIMER0 + 0x20) >> 32) as u32;
    check("routes-offered", routes != 0);
    // The highest inputs are nobody else's.
    let input = (31 - routes.leading_zeros()) as u8;
    let entry = io::entry(input);
    let route = u64::from(input) << 9;
    let timer1 = TIMER0 + 0x20;

    io::route(input, u32::from(VECTOR), apic::id());
    write(COUNTER, 0);
    write(timer1, INTERRUPT | route);
    equal("route-reads-back", read(timer1) >> 9 & 0x1f, u64::from(input));
    write(COMPARATOR0 + 0x20, ticks(200));
    write(CONFIGURATION, ENABLE);
    check("routed-edge", until(|| apic::is_set(IRR, VECTOR)));
    equal("routed-edge-delivered", arrivals::let_in().vectors(), &[VECTOR]);
    equal("edge-sets-no-status", read(STATUS) & 2, 0);
    write(CONFIGURATION, 0);

    const IO_APIC_LEVEL: u32 = 1 << 15;
    io::route(input, IO_APIC_LEVEL | u32::from(VECTOR), apic::id());
    write(COUNTER, 0);
    write(timer1, INTERRUPT | LEVEL | route);
    write(COMPARATOR0 + 0x20, ticks(200));
    write(CONFIGURATION, ENABLE);
    check("routed-level", until(|| apic::is_set(IRR, VECTOR)));
    equal("level-sets-status", read(STATUS) & 2, 2);
    let repeating: fn(&mut Frame) = |frame| {
        arrivals::note(frame);
        if arrivals::count() == 3 {
            write(STATUS, 2);
        }
        apic::end_of_interrupt();
    };
    handle(VECTOR, Some(repeating));
    equal("level-lasts-until-its-status-is-cleared", arrivals::let_in().vectors(), &[VECTOR; 3]);
    write(STATUS, 2);
    equal("status-cleared-by-a-one", read(STATUS) & 2, 0);
    write(CONFIGURATION, 0);
    write(timer1, 0);
    io::write(entry, MASKED);
}

/// FSB delivery: timer 2 writes to the local APIC's address.
fn messages() {
    let (timer2, message) = (TIMER0 + 0x40, TIMER0 + 0x50);
    if read(timer2) & CAN_SEND_MESSAGES == 0 {
        for case in [
            "message-reads-back",
            "message",
            "message-delivered",
            "message-sets-no-status",
            "messages-of-a-periodic-timer",
            "disabled-sends-no-message",
        ] {
            skip(case, "the HPET sends no messages");
        }
        return;
    }
    handle(VECTOR, Some(arrivals::note_and_end));
    let address = 0xfee0_0000 | u64::from(apic::id()) << 12;
    // By halves, as drivers do.
    poke::<u32>(BASE + message, VECTOR.into());
    poke::<u32>(BASE + message + 4, address as u32);
    equal("message-reads-back", read(message), address << 32 | u64::from(VECTOR));

    write(COUNTER, 0);
    write(timer2, INTERRUPT | SEND_MESSAGE);
    write(COMPARATOR0 + 0x40, ticks(200));
    write(CONFIGURATION, ENABLE);
    check("message", until(|| apic::is_set(IRR, VECTOR)));
    equal("message-delivered", arrivals::let_in().vectors(), &[VECTOR]);
    equal("message-sets-no-status", read(STATUS) & 4, 0);
    write(CONFIGURATION, 0);

    if read(timer2) & CAN_BE_PERIODIC == 0 {
        skip("messages-of-a-periodic-timer", "timer 2 is not periodic");
    } else {
        write(COUNTER, 0);
        write(timer2, INTERRUPT | SEND_MESSAGE | PERIODIC | SET_ACCUMULATOR);
        write(COMPARATOR0 + 0x40, ticks(500));
        write(COMPARATOR0 + 0x40, ticks(500));
        write(CONFIGURATION, ENABLE);
        let mut arrived = 0;
        let arrives = || {
            let comes = until(|| apic::is_set(IRR, VECTOR));
            comes && !arrivals::let_in().vectors().is_empty()
        };
        while arrived < 3 && arrives() {
            arrived += 1;
        }
        equal("messages-of-a-periodic-timer", arrived, 3);
        write(CONFIGURATION, 0);
        // One more may have come.
        arrivals::let_in();
    }

    write(COUNTER, 0);
    write(timer2, SEND_MESSAGE);
    write(COMPARATOR0 + 0x40, ticks(200));
    write(CONFIGURATION, ENABLE);
    clock::wait(clock::HZ / 500);
    check("disabled-sends-no-message", !apic::is_set(IRR, VECTOR));
    write(CONFIGURATION, 0);
    write(timer2, 0);
}
