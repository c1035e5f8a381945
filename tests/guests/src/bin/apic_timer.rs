//! The local APIC's timer (Intel SDM volume 3, section 11.5.4): modes, divider, masks.

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, is_set, read, register::*, write};
use conformance::arrivals;
use conformance::clock::{self, Stopwatch, until};
use conformance::cpu;
use conformance::interrupts::handle;
use conformance::pic;
use conformance::report::{check, equal};

conformance::topic!(run);

const VECTOR: u8 = 0x61;
const ENTRY: u32 = VECTOR as u32;
const PERIODIC: u32 = 1 << 17;

/// The encodings of the divide configuration register, by the power of two.
const DIVIDE_BY: [u32; 8] = [0xb, 0, 1, 2, 3, 8, 9, 0xa];

/// Some milliseconds, whatever the timer's clock.
const SHORT: u32 = 100_000;
const FOR_EVER: u32 = 0xffff_ffff;

fn run() {
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(arrivals::note_and_end));
    write(DIVIDE, DIVIDE_BY[0]);
    one_shot();
    periodic();
    divider();
}

fn is_requested() -> bool {
    is_set(IRR, VECTOR)
}

fn stop() {
    write(LVT_TIMER, MASKED | ENTRY);
    write(INITIAL_COUNT, 0);
    arrivals::let_in();
}

fn one_shot() {
    write(LVT_TIMER, ENTRY);
    write(INITIAL_COUNT, FOR_EVER);
    equal("initial-count-reads-back", read(INITIAL_COUNT), FOR_EVER);
    let first = read(CURRENT_COUNT);
    check("counts-down", until(|| read(CURRENT_COUNT) < first));
    write(CURRENT_COUNT, FOR_EVER);
    check("current-count-is-read-only", read(CURRENT_COUNT) < first);
    write(INITIAL_COUNT, 0);
    equal("zero-stops", read(CURRENT_COUNT), 0);
    check("stopped-requests-nothing", !is_requested());

    write(INITIAL_COUNT, SHORT);
    check("one-shot-requests", until(is_requested));
    equal("one-shot-ends-at-zero", read(CURRENT_COUNT), 0);
    equal("one-shot-delivered", arrivals::let_in().vectors(), &[VECTOR]);
    clock::wait(clock::HZ / 200);
    check("one-shot-requests-once", !is_requested());

    write(LVT_TIMER, MASKED | ENTRY);
    write(INITIAL_COUNT, SHORT);
    check("masked-counts", until(|| read(CURRENT_COUNT) == 0));
    check("masked-requests-nothing", !is_requested());
    write(LVT_TIMER, ENTRY);
    check("unmasked-too-late", !is_requested());
}

fn periodic() {
    write(LVT_TIMER, PERIODIC | ENTRY);
    write(INITIAL_COUNT, SHORT);
    let mut in_bounds = true;
    let repeats = until(|| {
        cpu::sti();
        let count = read(CURRENT_COUNT);
        cpu::cli();
        in_bounds &= count <= SHORT;
        arrivals::count() >= 3
    });
    check("periodic-repeats", repeats);
    check("periodic-count-in-bounds", in_bounds);
    write(LVT_TIMER, PERIODIC | MASKED | ENTRY);
    arrivals::let_in();
    clock::wait(clock::HZ / 100);
    check("periodic-masked-requests-nothing", !is_requested());
    write(LVT_TIMER, PERIODIC | ENTRY);
    check("periodic-unmasked-requests", until(is_requested));
    stop();
    clock::wait(clock::HZ / 200);
    check("periodic-stopped", !is_requested());
}

/// The timer's count in 100,000 ticks of the power management timer.
fn rate() -> u64 {
    let start = read(CURRENT_COUNT);
    let mut watch = Stopwatch::start();
    while watch.ticks() < 7_000 {}
    let counted = start.wrapping_sub(read(CURRENT_COUNT));
    u64::from(counted) * 100_000 / watch.ticks()
}

fn divider() {
    const CASES: [&str; 8] = [
        "divide-by-1",
        "divide-by-2",
        "divide-by-4",
        "divide-by-8",
        "divide-by-16",
        "divide-by-32",
        "divide-by-64",
        "divide-by-128",
    ];
    write(LVT_TIMER, MASKED | ENTRY);
    write(DIVIDE, DIVIDE_BY[0]);
    write(INITIAL_COUNT, FOR_EVER);
    let mut undivided: [u64; 5] = core::array::from_fn(|_| rate());
    undivided.sort_unstable();
    for (power, (case, encoding)) in CASES.into_iter().zip(DIVIDE_BY).enumerate() {
        write(DIVIDE, encoding);
        write(INITIAL_COUNT, FOR_EVER);
        check(case, read(DIVIDE) == encoding && clock::agrees(undivided[2] >> power, rate));
    }
    write(DIVIDE, DIVIDE_BY[0]);
    stop();
}
