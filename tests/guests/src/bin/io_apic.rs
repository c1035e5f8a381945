//! The I/O APIC (Intel 290566): registers, edge and level inputs, destinations, delivery modes;
//! interrupts of ISA devices through it.

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, io, register::*};
use conformance::arrivals;
use conformance::clock;
use conformance::cpu::{inb, outb};
use conformance::interrupts::{Frame, NMI, catch, handle};
use conformance::report::{check, equal};
use conformance::serial::Com1;
use conformance::{pic, pit};

conformance::topic!(run);

const VECTOR: u8 = 0x61;
const FIXED: u32 = VECTOR as u32;
const LOWEST_PRIORITY: u32 = 1 << 8;
const NMI_MODE: u32 = 4 << 8;
const LOGICAL: u32 = 1 << 11;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
/// Bits that only the I/O APIC changes.
const STATUS: u32 = REMOTE_IRR | 1 << 12;

const TIMER_INPUT: u8 = 2;
const COM1_INPUT: u8 = 4;
const RTC_INPUT: u8 = 8;

fn run() {
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(arrivals::note_and_end));
    registers();
    edge();
    level();
    destinations();
    sources();
}

fn registers() {
    let version = io::read(io::VERSION);
    equal("inputs", version >> 16 & 0xff, 23);
    io::write(io::VERSION, !version);
    equal("version-is-read-only", io::read(io::VERSION), version);
    let id = io::read(io::ID);
    io::write(io::ID, 0x0500_0000);
    equal("id-reads-back", io::read(io::ID) & 0x0f00_0000, 0x0500_0000);
    io::write(io::ID, id);
    let entry = io::entry(23);
    io::write(entry, 0xffff_ffff);
    io::write(entry + 1, 0xffff_ffff);
    equal("bits-of-an-entry", io::read(entry) & 0x1_ffff, 0x1_ffff & !STATUS);
    equal("destination-of-an-entry", io::read(entry + 1) >> 24, 0xff);
    io::write(entry, MASKED);
    equal("entries-are-their-own", io::read(io::entry(22)) & 0xff, 0);
}

/// The arrivals after an edge on COM1's input with this entry.
fn after_edge(low: u32, destination: u8) -> arrivals::Arrivals {
    io::route(COM1_INPUT, low, destination);
    Com1::lower_irq();
    Com1::raise_irq();
    let arrivals = arrivals::let_in();
    Com1::lower_irq();
    io::write(io::entry(COM1_INPUT), MASKED);
    arrivals
}

fn edge() {
    equal("edge", after_edge(FIXED, apic::id()).vectors(), &[VECTOR]);
    equal("edge-masked", after_edge(MASKED | FIXED, apic::id()).vectors(), &[]);
    io::route(COM1_INPUT, FIXED, apic::id());
    Com1::raise_irq();
    let first = arrivals::let_in();
    let second = arrivals::let_in();
    Com1::lower_irq();
    equal("edge-delivered", first.vectors(), &[VECTOR]);
    equal("edge-is-delivered-once", second.vectors(), &[]);
    equal("edge-has-no-remote-irr", io::read(io::entry(COM1_INPUT)) & REMOTE_IRR, 0);
    io::write(io::entry(COM1_INPUT), MASKED);
}

fn level() {
    let entry = io::entry(COM1_INPUT);
    // It ends its interrupts with the line high, until the third.
    let repeating: fn(&mut Frame) = |frame| {
        arrivals::note(frame);
        if arrivals::count() == 3 {
            Com1::lower_irq();
        }
        apic::end_of_interrupt();
    };
    handle(VECTOR, Some(repeating));
    io::route(COM1_INPUT, LEVEL | FIXED, apic::id());
    Com1::raise_irq();
    let pending = io::read(entry) & REMOTE_IRR;
    let level_in_apic = apic::is_set(TMR, VECTOR);
    let arrived = arrivals::let_in();
    let ended = io::read(entry) & REMOTE_IRR;
    Com1::lower_irq();
    equal("level-sets-remote-irr", pending, REMOTE_IRR);
    check("level-sets-trigger-mode", level_in_apic);
    equal("level-is-delivered-while-it-lasts", arrived.vectors(), &[VECTOR; 3]);
    equal("end-clears-remote-irr", ended, 0);

    // Without an end nothing comes through.
    handle(VECTOR, Some(arrivals::note));
    Com1::raise_irq();
    let first = arrivals::let_in();
    let in_service = io::read(entry) & REMOTE_IRR;
    Com1::lower_irq();
    Com1::raise_irq();
    let second = arrivals::let_in();
    Com1::lower_irq();
    let still = io::read(entry) & REMOTE_IRR;
    apic::end_of_interrupt();
    let third = arrivals::let_in();
    let after = io::read(entry) & REMOTE_IRR;
    // Where it was delivered again after all.
    if apic::is_set(ISR, VECTOR) {
        apic::end_of_interrupt();
    }
    equal("level-delivered", first.vectors(), &[VECTOR]);
    equal("remote-irr-in-service", in_service, REMOTE_IRR);
    equal("level-not-again-before-its-end", second.vectors(), &[]);
    equal("remote-irr-outlasts-the-level", still, REMOTE_IRR);
    equal("level-that-fell-is-not-delivered", third.vectors(), &[]);
    equal("remote-irr-after-the-end", after, 0);
    handle(VECTOR, Some(arrivals::note_and_end));

    io::route(COM1_INPUT, MASKED | LEVEL | FIXED, apic::id());
    Com1::raise_irq();
    let masked = arrivals::let_in();
    let ends_it: fn(&mut Frame) = |frame| {
        Com1::lower_irq();
        arrivals::note_and_end(frame);
    };
    handle(VECTOR, Some(ends_it));
    io::write(entry, LEVEL | FIXED);
    let unmasked = arrivals::let_in();
    Com1::lower_irq();
    equal("level-masked", masked.vectors(), &[]);
    equal("level-delivered-when-unmasked", unmasked.vectors(), &[VECTOR]);
    io::write(entry, MASKED);
    handle(VECTOR, Some(arrivals::note_and_end));
}

fn destinations() {
    let here: &[u8] = &[VECTOR];
    equal("physical-elsewhere", after_edge(FIXED, apic::id() ^ 7).vectors(), &[]);
    apic::write(DFR, 0xffff_ffff);
    apic::write(LDR, 0x04 << 24);
    equal("logical", after_edge(LOGICAL | FIXED, 0x06).vectors(), here);
    equal("logical-elsewhere", after_edge(LOGICAL | FIXED, 0x03).vectors(), &[]);
    equal("lowest-priority", after_edge(LOGICAL | LOWEST_PRIORITY | FIXED, 0x04).vectors(), here);
    let event = catch(|| after_edge(NMI_MODE, apic::id()).vectors().len()).err();
    Com1::lower_irq();
    io::write(io::entry(COM1_INPUT), MASKED);
    equal("nmi", event.map(|fault| fault.event), Some(NMI));
}

fn sources() {
    io::route(TIMER_INPUT, FIXED, apic::id());
    pit::edge();
    check("timer-at-input-2", apic::is_set(IRR, VECTOR));
    equal("timer-delivered", arrivals::let_in().vectors(), &[VECTOR]);
    io::write(io::entry(TIMER_INPUT), MASKED);

    io::route(RTC_INPUT, FIXED, apic::id());
    let register = |index, value| {
        outb(0x70, index);
        outb(0x71, value);
    };
    let acknowledge = || {
        outb(0x70, 0x0c);
        inb(0x71)
    };
    acknowledge();
    register(0x0a, 0x26);
    register(0x0b, 0x42);
    equal("clock-at-input-8", arrivals::wait().vectors(), &[VECTOR]);
    // Ten periods, in which the line stays high.
    clock::wait(clock::HZ / 100);
    equal("clock-waits-for-register-c", arrivals::let_in().vectors(), &[]);
    acknowledge();
    equal("clock-repeats", arrivals::wait().vectors(), &[VECTOR]);
    register(0x0b, 0x02);
    acknowledge();
    arrivals::let_in();
    io::write(io::entry(RTC_INPUT), MASKED);
}
