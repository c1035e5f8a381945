//! Interrupts of devices on their way to one of two processors: through the I/O APIC, and through
//! the 8259 pair (Intel 290566; SDM volume 3, sections 11.5.1 and 11.8.5).

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use conformance::apic::{self, MASKED, io, register::*};
use conformance::interrupts::{Frame, NMI, handle};
use conformance::report::{check, equal};
use conformance::serial::Com1;
use conformance::{cpu, pic, pit, smp};

conformance::topic!(run);

const CPUS: usize = 2;
const VECTOR: u8 = 0x61;
const FIXED: u32 = VECTOR as u32;
const ONE: u64 = VECTOR as u64;
const LOWEST_PRIORITY: u32 = 1 << 8;
const NMI_MODE: u32 = 4 << 8;
const LOGICAL: u32 = 1 << 11;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

const COM1_INPUT: u8 = 4;

fn run() {
    pic::set_up();
    smp::set_up(None);
    handle(VECTOR, Some(smp::note_and_end));
    handle(NMI.vector, Some(smp::note));
    check("the-second-starts", smp::start_others(CPUS - 1));
    edges();
    levels();
    external();
}

/// The arrivals after an edge on COM1's input with this entry.
fn after_edge(low: u32, destination: u8) -> [u64; CPUS] {
    io::route(COM1_INPUT, low, destination);
    Com1::lower_irq();
    Com1::raise_irq();
    let arrivals = smp::arrivals();
    Com1::lower_irq();
    io::write(io::entry(COM1_INPUT), MASKED);
    arrivals
}

fn set_logical(model: u32, ids: [u8; CPUS]) {
    for (index, id) in ids.into_iter().enumerate() {
        let set = |argument: u64| {
            apic::write(DFR, (argument >> 32) as u32);
            apic::write(LDR, (argument as u32) << 24);
            1
        };
        let _ = smp::call(index, set, u64::from(model) << 32 | u64::from(id));
    }
}

fn edges() {
    equal("edge-to-the-first", after_edge(FIXED, 0), [ONE, 0]);
    equal("edge-to-the-second", after_edge(FIXED, 1), [0, ONE]);
    equal("edge-to-nobody", after_edge(FIXED, 7), [0, 0]);
    equal("edge-to-all", after_edge(FIXED, 0xff), [ONE, ONE]);
    set_logical(0xffff_ffff, [1, 2]);
    for (case, destination, expected) in [
        ("flat-first", 0b01, [ONE, 0]),
        ("flat-second", 0b10, [0, ONE]),
        ("flat-both", 0b11, [ONE, ONE]),
        ("flat-nobody", 0b1100, [0, 0]),
    ] {
        equal(case, after_edge(LOGICAL | FIXED, destination), expected);
    }
    check("lowest-priority-takes-one", {
        (0..8).all(|_| {
            let arrivals = after_edge(LOGICAL | LOWEST_PRIORITY | FIXED, 0b11);
            arrivals == [ONE, 0] || arrivals == [0, ONE]
        })
    });
    let lowest = after_edge(LOGICAL | LOWEST_PRIORITY | FIXED, 0b10);
    equal("lowest-priority-of-one", lowest, [0, ONE]);
    set_logical(0x0fff_ffff, [0x01, 0x12]);
    equal("first-cluster", after_edge(LOGICAL | FIXED, 0x03), [ONE, 0]);
    equal("second-cluster", after_edge(LOGICAL | FIXED, 0x13), [0, ONE]);
    set_logical(0xffff_ffff, [1, 2]);
    let nmi = u64::from(NMI.vector);
    equal("nmi-to-the-second", after_edge(NMI_MODE, 1), [0, nmi]);
    equal("nmi-to-the-first", after_edge(NMI_MODE, 0), [nmi, 0]);

    // It moves with a request on its way neither lost nor doubled: the second has interrupts off.
    static RAISED: AtomicU32 = AtomicU32::new(0);
    static WAITS: AtomicU32 = AtomicU32::new(0);
    let receive = |_| {
        WAITS.store(1, Ordering::SeqCst);
        smp::wait_for(&RAISED, 1);
        smp::let_in()
    };
    smp::begin(1, receive, 0);
    let mut waits = smp::until(|| WAITS.load(Ordering::SeqCst) == 1);
    io::route(COM1_INPUT, FIXED, 1);
    Com1::lower_irq();
    Com1::raise_irq();
    io::route(COM1_INPUT, FIXED, 0);
    RAISED.store(1, Ordering::SeqCst);
    let second = smp::finish(1);
    waits &= smp::let_in() == 0;
    Com1::lower_irq();
    Com1::raise_irq();
    let first = smp::let_in();
    Com1::lower_irq();
    io::write(io::entry(COM1_INPUT), MASKED);
    equal("moves-between-two-edges", (waits, second, first), (true, Some(ONE), ONE));
}

fn is_remote() -> bool {
    io::read(io::entry(COM1_INPUT)) & REMOTE_IRR != 0
}

fn levels() {
    // It ends its interrupts with the line high, until the third.
    static LEVELS: AtomicU32 = AtomicU32::new(0);
    let repeating: fn(&mut Frame) = |frame| {
        smp::note(frame);
        if LEVELS.fetch_add(1, Ordering::SeqCst) == 2 {
            Com1::lower_irq();
        }
        apic::end_of_interrupt();
    };
    handle(VECTOR, Some(repeating));
    io::route(COM1_INPUT, LEVEL | FIXED, 1);
    Com1::raise_irq();
    let came = smp::until(|| smp::noted(1) == ONE << 16 | ONE << 8 | ONE);
    Com1::lower_irq();
    check("level-comes-again-at-the-second", came);
    let after: [u64; CPUS] = smp::arrivals();
    equal("level-is-not-the-first-s", after[0], 0);
    check("end-by-the-second-clears-remote-irr", !is_remote());

    // The second takes it and does not end it, which the first sees; then it does.
    handle(VECTOR, Some(smp::note));
    let take = |_| smp::let_in();
    Com1::raise_irq();
    let taken = smp::until(|| smp::noted(1) == ONE);
    let pending = is_remote();
    apic::end_of_interrupt();
    let still = is_remote();
    Com1::lower_irq();
    // In service there, it holds back what wakes for jobs of a lower class only.
    let ended = smp::call(
        1,
        |_| {
            apic::end_of_interrupt();
            1
        },
        0,
    );
    let after = is_remote();
    let _ = smp::call(1, take, 0);
    check("level-taken-by-the-second", taken);
    equal(
        "remote-irr-until-its-taker-ends-it",
        (pending, still, ended, after),
        (true, true, Some(1), false),
    );

    // Two processors have it in service: the first end is one.
    handle(VECTOR, Some(smp::note));
    io::route(COM1_INPUT, LEVEL | LOGICAL | FIXED, 0b11);
    Com1::raise_irq();
    let both = [smp::let_in(), smp::call(1, take, 0).unwrap_or(0)];
    Com1::lower_irq();
    apic::end_of_interrupt();
    let after_one = is_remote();
    let _ = smp::call(
        1,
        |_| {
            apic::end_of_interrupt();
            1
        },
        0,
    );
    equal("level-to-both", both, [ONE; CPUS]);
    equal("one-end-is-enough", (after_one, is_remote()), (false, false));
    handle(VECTOR, Some(smp::note_and_end));
    io::write(io::entry(COM1_INPUT), MASKED);
    let quiet: [u64; CPUS] = smp::arrivals();
    equal("quiet-after-it", quiet, [0; CPUS]);
}

/// The 8259 pair interrupts the first processor, whose LINT0 lets it, while the second runs with
/// interrupts on.
fn external() {
    const EXTERNAL_MODE: u32 = 7 << 8;
    let irq: fn(&mut Frame) = |frame| {
        smp::note(frame);
        pic::end_of_interrupt(frame.vector as u8 - pic::FIRST_VECTOR);
    };
    handle(pic::FIRST_VECTOR + COM1_INPUT, Some(irq));
    static IS_OVER: AtomicU32 = AtomicU32::new(0);
    let spin = |_| {
        cpu::sti();
        smp::wait_for(&IS_OVER, 1);
        cpu::cli();
        smp::let_in()
    };
    smp::begin(1, spin, 0);
    pic::set_masks(!(1 << COM1_INPUT));
    apic::write(LVT_LINT0, EXTERNAL_MODE);
    Com1::raise_irq();
    let mut first = 0;
    smp::until(|| {
        first = first << 8 | smp::let_in();
        first != 0
    });
    Com1::lower_irq();
    apic::write(LVT_LINT0, MASKED);
    pic::set_masks(0xffff);
    IS_OVER.store(1, Ordering::SeqCst);
    let second = smp::finish(1);
    equal("external-to-the-first", first, u64::from(pic::FIRST_VECTOR + COM1_INPUT));
    equal("external-not-to-the-second", second, Some(0));
    // The timer's edge, through the I/O APIC, to the second.
    const TIMER_INPUT: u8 = 2;
    io::route(TIMER_INPUT, FIXED, 1);
    pit::edge();
    let came = smp::until(|| smp::noted(1) == ONE);
    pit::lower();
    io::write(io::entry(TIMER_INPUT), MASKED);
    let arrivals: [u64; CPUS] = smp::arrivals();
    equal("timer-to-the-second", (came, arrivals), (true, [0, ONE]));
}
