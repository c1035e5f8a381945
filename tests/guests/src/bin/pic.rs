//! The 8259A pair: initialisation, masks, priorities, ways to end an interrupt, poll, level
//! triggering (Intel 231468; ELCR: Intel 290550, section 2.5.5).
//!
//! Requests come from COM1 (IRQ 4, a level that stays while its transmitter has room), from the
//! interval timer (IRQ 0, an edge), and from the real-time clock (IRQ 8).

#![no_std]
#![no_main]

use conformance::apic::{self, register::LVT_LINT0};
use conformance::arrivals;
use conformance::clock::until;
use conformance::cpu::{inb, outb};
use conformance::interrupts::handle;
use conformance::pic::{self, MASTER, SLAVE};
use conformance::pit;
use conformance::report::check;
use conformance::serial::Com1;

conformance::topic!(run);

const TIMER: u16 = 1 << 0;
const CASCADE: u16 = 1 << 2;
const COM1: u16 = 1 << 4;
const RTC: u16 = 1 << 8;

const TIMER_VECTOR: u8 = 0x20;
const COM1_VECTOR: u8 = 0x24;
const RTC_VECTOR: u8 = 0x28;
const LEVEL_7_VECTOR: u8 = 0x27;
const LEVEL_15_VECTOR: u8 = 0x2f;

const EXTINT: u32 = 7 << 8;

fn run() {
    apic::enable();
    apic::write(LVT_LINT0, EXTINT);
    pic::set_up();
    for vector in [TIMER_VECTOR, COM1_VECTOR, RTC_VECTOR] {
        handle(vector, Some(arrivals::note_and_end_irq));
    }
    let mut cases = Cases { list: [("", true); CAPACITY], count: 0 };
    initialisation(&mut cases);
    requests(&mut cases);
    priorities(&mut cases);
    ends(&mut cases);
    special_mask(&mut cases);
    poll(&mut cases);
    second_controller(&mut cases);
    level(&mut cases);
    for (case, holds) in cases.list.into_iter().take(cases.count) {
        check(case, holds);
    }
}

const CAPACITY: usize = 64;

/// Cases to be reported later: while COM1 is a source of interrupts, it cannot send.
struct Cases {
    list: [(&'static str, bool); CAPACITY],
    count: usize,
}

impl Cases {
    fn check(&mut self, case: &'static str, holds: bool) {
        self.list[self.count] = (case, holds);
        self.count += 1;
    }
}

/// An edge of IRQ 4.
fn request_com1() {
    Com1::lower_irq();
    Com1::raise_irq();
}

/// IRQ 8, by periodic interrupts 1024 times a second until register C is read.
fn raise_rtc() {
    lower_rtc();
    outb(0x70, 0x0a);
    outb(0x71, 0x26);
    outb(0x70, 0x0b);
    outb(0x71, 0x42);
    until(|| pic::requested() & RTC != 0);
}

fn lower_rtc() {
    outb(0x70, 0x0b);
    outb(0x71, 0x02);
    outb(0x70, 0x0c);
    inb(0x71);
}

/// Nothing requested, nothing in service, all masked.
fn start_over() {
    Com1::lower_irq();
    lower_rtc();
    pic::set_up();
    arrivals::let_in();
}

fn let_in(sources: u16) -> arrivals::Arrivals {
    pic::set_masks(!sources);
    arrivals::let_in()
}

fn initialisation(cases: &mut Cases) {
    start_over();
    pic::set_masks(0xa55a);
    cases.check("masks-read-back", pic::masks() == 0xa55a);
    pic::initialise(MASTER, 0x20, 4, 1);
    pic::initialise(SLAVE, 0x28, 2, 1);
    cases.check("initialisation-unmasks", pic::masks() == 0);
    cases.check("initialisation-clears-service", pic::in_service() == 0);
    start_over();
    handle(0x84, Some(arrivals::note));
    pic::initialise(MASTER, 0x80, 4, 1);
    request_com1();
    cases.check("vectors-as-initialised", let_in(COM1).vectors() == [0x84]);
    handle(0x84, None);
    start_over();
    pic::initialise(MASTER, 0x20, 4, 3);
    request_com1();
    handle(COM1_VECTOR, Some(arrivals::note));
    cases.check("automatic-end-delivers", let_in(COM1).vectors() == [COM1_VECTOR]);
    cases.check("automatic-end-ends", pic::in_service() == 0);
    handle(COM1_VECTOR, Some(arrivals::note_and_end_irq));
    start_over();
}

fn requests(cases: &mut Cases) {
    request_com1();
    cases.check("request-shows-though-masked", pic::requested() & COM1 != 0);
    cases.check("masked-is-not-delivered", let_in(0).vectors().is_empty());
    cases.check("unmasked-is-delivered", let_in(COM1).vectors() == [COM1_VECTOR]);
    cases.check("edge-is-delivered-once", let_in(COM1).vectors().is_empty());
    Com1::lower_irq();
    cases.check("no-request-of-a-low-input", pic::requested() & COM1 == 0);
    pit::edge();
    cases.check("timer-is-irq-0", let_in(TIMER).vectors() == [TIMER_VECTOR]);
    start_over();
    // An input, edge-triggered or not, has to stay high until it is acknowledged.
    request_com1();
    Com1::lower_irq();
    cases.check("request-falls-with-its-edge", pic::requested() & COM1 == 0);
    cases.check("edge-that-fell-is-not-delivered", let_in(COM1).vectors().is_empty());
    request_com1();
    cases.check("edge-after-one-that-fell", let_in(COM1).vectors() == [COM1_VECTOR]);
    pit::edge();
    pit::lower();
    cases.check("timer-request-falls-with-its-output", pic::requested() & TIMER == 0);
    start_over();
}

fn priorities(cases: &mut Cases) {
    request_com1();
    pit::edge();
    cases
        .check("lower-number-first", let_in(TIMER | COM1).vectors() == [TIMER_VECTOR, COM1_VECTOR]);
    start_over();
    // The lowest priority is that of input 3 now: 4 is the first, 0 is behind 7.
    outb(MASTER, 0xc3);
    request_com1();
    pit::edge();
    cases.check("set-priority", let_in(TIMER | COM1).vectors() == [COM1_VECTOR, TIMER_VECTOR]);
    start_over();
    // Specific end with rotation: input 0 becomes the last.
    handle(TIMER_VECTOR, Some(arrivals::note));
    pit::edge();
    let_in(TIMER);
    outb(MASTER, 0xe0);
    handle(TIMER_VECTOR, Some(arrivals::note_and_end_irq));
    cases.check("specific-end-with-rotation-ends", pic::in_service() == 0);
    // Bochs chooses an interrupt when it asks for it, not when the processor takes it: it does not
    // ask for masked ones.
    pic::set_masks(0xffff);
    request_com1();
    pit::edge();
    cases.check(
        "specific-end-with-rotation-rotates",
        let_in(TIMER | COM1).vectors() == [COM1_VECTOR, TIMER_VECTOR],
    );
    start_over();
}

fn ends(cases: &mut Cases) {
    handle(COM1_VECTOR, Some(arrivals::note));
    request_com1();
    let_in(COM1);
    cases.check("in-service", pic::in_service() == COM1);
    request_com1();
    cases.check("not-again-while-in-service", let_in(COM1).vectors().is_empty());
    pit::edge();
    cases.check("higher-priority-nests", let_in(COM1 | TIMER).vectors() == [TIMER_VECTOR]);
    // Specific ends of the other and of this one.
    outb(MASTER, 0x63);
    cases.check("specific-end-of-another", pic::in_service() == COM1);
    outb(MASTER, 0x64);
    cases.check("specific-end", pic::in_service() == 0);
    cases.check("again-after-its-end", let_in(COM1).vectors() == [COM1_VECTOR]);
    outb(MASTER, 0x20);
    cases.check("end-of-the-highest", pic::in_service() == 0);
    handle(COM1_VECTOR, Some(arrivals::note_and_end_irq));
    start_over();
}

fn special_mask(cases: &mut Cases) {
    handle(TIMER_VECTOR, Some(arrivals::note));
    pit::edge();
    let_in(TIMER);
    request_com1();
    cases.check("masked-service-holds-back", let_in(COM1).vectors().is_empty());
    outb(MASTER, 0x68);
    handle(COM1_VECTOR, Some(arrivals::note));
    cases.check("special-mask-lets-lower-in", let_in(COM1).vectors() == [COM1_VECTOR]);
    cases.check("special-mask-both-in-service", pic::in_service() == TIMER | COM1);
    outb(MASTER, 0x48);
    for vector in [TIMER_VECTOR, COM1_VECTOR] {
        handle(vector, Some(arrivals::note_and_end_irq));
    }
    start_over();
}

fn poll(cases: &mut Cases) {
    const POLL: u8 = 0x0c;
    pic::set_masks(!COM1);
    outb(MASTER, POLL);
    cases.check("poll-of-nothing", inb(MASTER) & 0x80 == 0);
    request_com1();
    outb(MASTER, POLL);
    cases.check("poll-names-the-input", inb(MASTER) & 0x87 == 0x84);
    cases.check("poll-acknowledges", pic::in_service() == COM1);
    cases.check("poll-takes-the-request", let_in(COM1).vectors().is_empty());
    outb(MASTER, 0x20);
    start_over();
}

fn second_controller(cases: &mut Cases) {
    handle(RTC_VECTOR, Some(arrivals::note));
    raise_rtc();
    cases.check("second-controller-behind-the-cascade", let_in(RTC).vectors().is_empty());
    cases.check("second-controller", let_in(RTC | CASCADE).vectors() == [RTC_VECTOR]);
    cases.check("second-controller-in-service-in-both", pic::in_service() == RTC | CASCADE);
    request_com1();
    cases
        .check("second-controller-before-irq-4", let_in(RTC | CASCADE | COM1).vectors().is_empty());
    outb(SLAVE, 0x20);
    cases.check("first-controller-has-its-own-end", pic::in_service() == CASCADE);
    outb(MASTER, 0x20);
    cases.check("irq-4-after-the-end", let_in(COM1).vectors() == [COM1_VECTOR]);
    handle(RTC_VECTOR, Some(arrivals::note_and_end_irq));
    start_over();
    raise_rtc();
    cases.check("masked-request-stays-in-the-second", pic::requested() & (RTC | CASCADE) == RTC);
    lower_rtc();
    cases.check("request-falls-in-the-second", pic::requested() & (RTC | CASCADE) == 0);
    pic::set_masks(!(RTC | CASCADE));
    raise_rtc();
    cases.check("request-shows-in-both", pic::requested() & (RTC | CASCADE) == RTC | CASCADE);
    // The second controller has asked: the first one finds out by an interrupt of level 15 that
    // there is none.
    lower_rtc();
    handle(LEVEL_15_VECTOR, Some(arrivals::note));
    cases.check(
        "level-15-of-a-request-that-fell",
        arrivals::let_in().vectors() == [LEVEL_15_VECTOR],
    );
    cases.check("level-15-in-service-at-the-cascade", pic::in_service() == CASCADE);
    handle(LEVEL_15_VECTOR, None);
    start_over();
    pic::set_masks(!COM1);
    request_com1();
    Com1::lower_irq();
    handle(LEVEL_7_VECTOR, Some(arrivals::note));
    cases.check("level-7-of-a-request-that-fell", arrivals::let_in().vectors() == [LEVEL_7_VECTOR]);
    cases.check("level-7-is-not-in-service", pic::in_service() == 0);
    handle(LEVEL_7_VECTOR, None);
    start_over();
}

fn level(cases: &mut Cases) {
    const ELCR: u16 = 0x4d0;
    let before = [inb(ELCR), inb(ELCR + 1)];
    outb(ELCR, 0xff);
    outb(ELCR + 1, 0xff);
    cases.check("level-register-keeps-isa-inputs-edge", [inb(ELCR), inb(ELCR + 1)] == [0xf8, 0xde]);
    outb(ELCR, 1 << 4);
    outb(ELCR + 1, 0);
    Com1::raise_irq();
    pic::set_masks(!COM1);
    // Each end lets the same level in again.
    let again: fn(&mut conformance::interrupts::Frame) = |frame| {
        arrivals::note(frame);
        if arrivals::count() == 3 {
            Com1::lower_irq();
        }
        pic::end_of_interrupt(4);
    };
    handle(COM1_VECTOR, Some(again));
    cases.check(
        "level-is-delivered-while-it-lasts",
        arrivals::let_in().vectors() == [COM1_VECTOR; 3],
    );
    cases.check("level-request-falls-with-it", pic::requested() & COM1 == 0);
    Com1::raise_irq();
    Com1::lower_irq();
    cases.check("level-that-fell-is-not-delivered", let_in(COM1).vectors().is_empty());
    for (port, value) in (ELCR..).zip(before) {
        outb(port, value);
    }
    handle(COM1_VECTOR, Some(arrivals::note_and_end_irq));
    start_over();
}
