//! The clocks against each other: each runs at the rate that it has or says it has.

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, register::*};
use conformance::clock::{HZ, Stopwatch, agrees};
use conformance::cpu::{inb, outb, peek, poke, rdtsc};
use conformance::pic;
use conformance::report::check;

conformance::topic!(run);

/// A comparison takes some ten milliseconds.
const INTERVAL: u64 = HZ / 100;

const HPET: u64 = 0xfed0_0000;

fn run() {
    pic::set_up();
    check("interval-timer", agrees(HZ / 3, || rate(pit())));
    let period_fs: u32 = peek(HPET + 4);
    poke(HPET + 0x10, 1_u64);
    check(
        "hpet",
        agrees(1_000_000_000_000_000 / u64::from(period_fs), || rate(|| peek(HPET + 0xf0))),
    );
    poke(HPET + 0x10, 0_u64);
    steady("time-stamp-counter", rdtsc);
    apic::enable();
    apic::write(LVT_TIMER, MASKED);
    apic::write(DIVIDE, 3);
    apic::write(INITIAL_COUNT, u32::MAX);
    steady("local-apic-timer", || u64::from(u32::MAX - apic::read(CURRENT_COUNT)));
    apic::write(INITIAL_COUNT, 0);
    check("real-time-clock", agrees(1024, periodic_rate));
}

/// How often `clock` counts in a second of the power management timer.
fn rate(mut clock: impl FnMut() -> u64) -> u64 {
    let start = clock();
    let mut watch = Stopwatch::start();
    while watch.ticks() < INTERVAL {}
    let counted = clock() - start;
    counted * HZ / watch.ticks()
}

/// The case is that the clock has the same rate again and again.
fn steady(case: &str, mut clock: impl FnMut() -> u64) {
    let mut rates: [u64; 5] = core::array::from_fn(|_| rate(&mut clock));
    rates.sort_unstable();
    check(case, rates[2] != 0 && agrees(rates[2], || rate(&mut clock)));
}

/// Counter 2 of the interval timer, counting up; an interval is shorter than a round.
fn pit() -> impl FnMut() -> u64 {
    outb(0x61, inb(0x61) & 0x0c | 1);
    outb(0x43, 0xb4);
    outb(0x42, 0);
    outb(0x42, 0);
    let mut total = 0_u64;
    let mut last = None;
    move || {
        outb(0x43, 0x80);
        let now = u16::from_le_bytes([inb(0x42), inb(0x42)]);
        total += last.map_or(0, |last: u16| u64::from(last.wrapping_sub(now)));
        last = Some(now);
        total
    }
}

/// Periodic interrupts of the real-time clock at 1024 Hz in a second of the power management timer:
/// from the time between two that were each seen at once. Flags that were there when the machine
/// had stood still may be older, and more than one.
fn periodic_rate() -> u64 {
    const AT_ONCE: u64 = HZ / 1024 / 8;
    const FLAGS: u32 = 100;
    let register = |index, value| {
        outb(0x70, index);
        outb(0x71, value);
    };
    register(0x0a, 0x26);
    register(0x0b, 0x42);
    outb(0x70, 0x0c);
    let mut watch = Stopwatch::start();
    // The times before and after the last look at the flag, and that of the last flag if it was
    // seen at once.
    let (mut before, mut after) = (None, None);
    let mut seen = None;
    let mut flags = 0;
    let mut rate = 0;
    while rate == 0 && flags < FLAGS && after.is_none_or(|after| after < HZ) {
        let is_set = inb(0x71) & 0x40 != 0;
        let now = watch.ticks();
        if is_set {
            flags += 1;
            let at_once = before.filter(|before| now - before <= AT_ONCE).map(|_| now);
            rate = seen.zip(at_once).map_or(0, |(last, now): (u64, u64)| HZ / (now - last).max(1));
            seen = at_once;
        }
        (before, after) = (after, Some(now));
    }
    register(0x0b, 0x02);
    rate
}
