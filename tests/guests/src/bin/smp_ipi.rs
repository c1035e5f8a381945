//! Interprocessor interrupts between four processors: destinations, shorthands, delivery modes,
//! priorities, errors, storms (Intel SDM volume 3, sections 11.5.3, 11.6 and 11.8; APM volume 2,
//! section 16.5).

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use conformance::apic::{self, MASKED, register::*};
use conformance::cpu::{self, has_feature};
use conformance::interrupts::{NMI, handle};
use conformance::pic;
use conformance::report::{check, equal, skip};
use conformance::smp::{self, MAX, command::*};

conformance::topic!(run);

const VECTOR: u8 = 0x61;
const LOWER: u8 = 0x41;
const HIGHER: u8 = 0x81;
const FIXED: u32 = ASSERT | VECTOR as u32;
/// The log of a processor that took it once.
const ONE: u64 = VECTOR as u64;

fn run() {
    pic::set_up();
    smp::set_up(None);
    for vector in [VECTOR, LOWER, HIGHER] {
        handle(vector, Some(smp::note_and_end));
    }
    handle(NMI.vector, Some(smp::note));
    check("all-start", smp::start_others(MAX - 1));
    physical();
    shorthands();
    logical();
    lowest_priority();
    non_maskable();
    priorities();
    disabled();
    errors();
    storms();
    x2apic();
}

/// The arrivals at all processors after an interrupt that this one sends.
fn sent(destination: u8, command: u32) -> [u64; MAX] {
    smp::send(destination, command);
    smp::arrivals()
}

/// The same of one that the processor `sender` sends.
fn sent_by(sender: usize, destination: u8, command: u32) -> [u64; MAX] {
    let send = |argument: u64| {
        smp::send(argument as u8, (argument >> 32) as u32);
        1
    };
    let argument = u64::from(destination) | u64::from(command) << 32;
    let _ = smp::call(sender, send, argument);
    smp::arrivals()
}

/// The logs of processors that took it once: those whose bits are set.
fn at(processors: u8) -> [u64; MAX] {
    logs(processors, ONE)
}

fn logs(processors: u8, log: u64) -> [u64; MAX] {
    core::array::from_fn(|index| if processors >> index & 1 != 0 { log } else { 0 })
}

fn physical() {
    let all = || core::array::from_fn(|index| sent(index as u8, FIXED));
    let one_each: [[u64; MAX]; MAX] = core::array::from_fn(|index| at(1 << index));
    equal("physical", all(), one_each);
    let back = core::array::from_fn(|index| sent_by(index, 0, FIXED));
    equal("physical-to-the-first", back, [at(1); MAX]);
    equal("physical-between-others", sent_by(1, 3, FIXED), at(0b1000));
    equal("physical-to-nobody", sent(0x0d, FIXED), at(0));
    equal("physical-broadcast", sent(0xff, FIXED), at(0b1111));
    equal("physical-broadcast-by-another", sent_by(2, 0xff, FIXED), at(0b1111));
    equal("level-is-delivered-too", sent(2, LEVEL | FIXED), at(0b100));
    check("delivery-status-idle", !smp::is_sending());
}

fn shorthands() {
    for (case, sender, shorthand, expected) in [
        ("to-itself", 0, SELF, 0b0001),
        ("to-itself-elsewhere", 2, SELF, 0b0100),
        ("to-all", 0, ALL, 0b1111),
        ("to-all-by-another", 3, ALL, 0b1111),
        ("to-others", 0, OTHERS, 0b1110),
        ("to-others-by-another", 2, OTHERS, 0b1011),
    ] {
        // The destination does not count.
        equal(case, sent_by(sender, 1, shorthand | FIXED), at(expected));
    }
}

fn set_logical(model: u32, ids: [u8; MAX]) {
    for (index, id) in ids.into_iter().enumerate() {
        let set = |argument: u64| {
            apic::write(DFR, (argument >> 32) as u32);
            apic::write(LDR, (argument as u32) << 24);
            1
        };
        let _ = smp::call(index, set, u64::from(model) << 32 | u64::from(id));
    }
}

const FLAT: u32 = 0xffff_ffff;
const CLUSTERS: u32 = 0x0fff_ffff;

fn logical() {
    set_logical(FLAT, [1, 2, 4, 8]);
    let all = || core::array::from_fn(|index| sent(1 << index, LOGICAL | FIXED));
    let one_each: [[u64; MAX]; MAX] = core::array::from_fn(|index| at(1 << index));
    equal("flat", all(), one_each);
    equal("flat-several", sent(0b1010, LOGICAL | FIXED), at(0b1010));
    equal("flat-several-by-another", sent_by(1, 0b0111, LOGICAL | FIXED), at(0b0111));
    equal("flat-broadcast", sent(0xff, LOGICAL | FIXED), at(0b1111));
    equal("flat-to-nobody", sent(0xf0, LOGICAL | FIXED), at(0));
    set_logical(FLAT, [0x11, 0x21, 0x41, 0x81]);
    equal("flat-in-common", sent(0x01, LOGICAL | FIXED), at(0b1111));
    equal("flat-of-two-bits", sent(0x60, LOGICAL | FIXED), at(0b0110));

    set_logical(CLUSTERS, [0x01, 0x02, 0x11, 0x12]);
    for (case, destination, expected) in [
        ("cluster", 0x01, 0b0001),
        ("cluster-several", 0x03, 0b0011),
        ("another-cluster", 0x12, 0b1000),
        ("another-cluster-whole", 0x1f, 0b1100),
        ("cluster-without-such-member", 0x1c, 0),
        ("cluster-of-nobody", 0x21, 0),
        ("all-clusters", 0xff, 0b1111),
    ] {
        equal(case, sent(destination, LOGICAL | FIXED), at(expected));
    }
    set_logical(FLAT, [1, 2, 4, 8]);
}

fn lowest_priority() {
    const LOWEST: u32 = ASSERT | LOWEST_PRIORITY | VECTOR as u32;
    const ROUNDS: u32 = 16;
    // To physical IDs and by shorthands it depends on the processor's model.
    for (case, destination, set) in [
        ("lowest-priority-takes-one", 0xff, 0b1111),
        ("lowest-priority-takes-one-of-two", 0b1010, 0b1010),
        ("lowest-priority-of-one", 0b0100, 0b0100),
    ] {
        let is_one = |_| {
            let arrivals = sent(destination, LOGICAL | LOWEST);
            let mut takers = (0..MAX).filter(|&index| arrivals[index] != 0);
            let taker = takers.next();
            taker.is_some_and(|taker| set >> taker & 1 != 0 && arrivals[taker] == ONE)
                && takers.next().is_none()
        };
        check(case, (0..ROUNDS).all(is_one));
    }
}

/// A processor spins until it is released, or sleeps before that until an NMI has come.
static RELEASED: AtomicU32 = AtomicU32::new(0);
static IS_WAITING: AtomicU32 = AtomicU32::new(0);

fn spin(_: u64) -> u64 {
    IS_WAITING.store(1, Ordering::SeqCst);
    smp::wait_for(&RELEASED, 1);
    smp::let_in() & 0xff
}

fn sleep(_: u64) -> u64 {
    IS_WAITING.store(1, Ordering::SeqCst);
    cpu::hlt();
    smp::wait_for(&RELEASED, 1);
    smp::let_in() & 0xff
}

fn non_maskable() {
    let nmi = u64::from(NMI.vector);
    equal("nmi-by-id", sent(2, NMI_COMMAND), logs(0b0100, nmi));
    equal("nmi-by-logical-id", sent(0b1010, LOGICAL | NMI_COMMAND), logs(0b1010, nmi));
    equal("nmi-to-others", sent(0, OTHERS | NMI_COMMAND), logs(0b1110, nmi));
    equal("nmi-broadcast", sent_by(1, 0xff, NMI_COMMAND), logs(0b1111, nmi));
    equal("nmi-to-the-first", sent_by(3, 0, NMI_COMMAND), logs(0b0001, nmi));
    for (case, job) in [("nmi-while-it-runs", spin as smp::Job), ("nmi-while-it-sleeps", sleep)] {
        IS_WAITING.store(0, Ordering::SeqCst);
        RELEASED.store(0, Ordering::SeqCst);
        smp::begin(1, job, 0);
        let waits = smp::until(|| IS_WAITING.load(Ordering::SeqCst) == 1);
        smp::settle();
        smp::send(1, NMI_COMMAND);
        let came = smp::until(|| smp::noted(1) == nmi);
        RELEASED.store(1, Ordering::SeqCst);
        equal(case, (waits, came, smp::finish_by_nmi(1)), (true, true, Some(nmi)));
    }
    // The vector field of an NMI counts for nothing.
    equal("nmi-has-no-vector", sent(1, NMI_COMMAND | u32::from(VECTOR)), logs(0b0010, nmi));
    match cpu::is_emulator() {
        // It is one processor's own, in a mode of which a guest's BIOS knows.
        true => skip("smi-is-dropped", "the machine has a system management mode"),
        false => equal("smi-is-dropped", sent(1, SMI | ASSERT), at(0)),
    }
}

const NMI_COMMAND: u32 = NMI_MODE | ASSERT;
const NMI_MODE: u32 = smp::command::NMI;

/// Sends three to a processor that has interrupts off, and lets them in by the priority given.
fn priorities() {
    static SENT: AtomicU32 = AtomicU32::new(0);
    let receive = |priority: u64| {
        apic::write(TPR, priority as u32);
        IS_WAITING.store(1, Ordering::SeqCst);
        smp::wait_for(&SENT, 1);
        let mut requested = 0;
        for vector in [LOWER, VECTOR, HIGHER] {
            requested = requested << 1 | u64::from(apic::is_set(IRR, vector));
        }
        let first = smp::let_in();
        apic::write(TPR, 0);
        requested << 48 | first << 24 | smp::let_in()
    };
    let all = |vectors: &[u8]| vectors.iter().fold(0, |log, &vector| log << 8 | u64::from(vector));
    for (case, priority, first, second) in [
        ("highest-first", 0, &[HIGHER, VECTOR, LOWER][..], &[][..]),
        ("held-back-by-its-task-priority", 0x60, &[HIGHER], &[VECTOR, LOWER]),
        ("held-back-altogether", 0xf0, &[], &[HIGHER, VECTOR, LOWER]),
    ] {
        IS_WAITING.store(0, Ordering::SeqCst);
        SENT.store(0, Ordering::SeqCst);
        smp::begin(2, receive, priority);
        smp::until(|| IS_WAITING.load(Ordering::SeqCst) == 1);
        for vector in [LOWER, HIGHER, VECTOR] {
            smp::send(2, ASSERT | u32::from(vector));
        }
        SENT.store(1, Ordering::SeqCst);
        let expected = 0b111 << 48 | all(first) << 24 | all(second);
        equal(case, smp::finish(2), Some(expected));
    }
}

fn disabled() {
    const ENABLED: u32 = 0x1ff;
    let set = |value: u64| {
        apic::write(SVR, value as u32);
        1
    };
    // It is not woken for a job from here on.
    static DISABLED: AtomicU32 = AtomicU32::new(0);
    DISABLED.store(0, Ordering::SeqCst);
    let disabled = |_| {
        apic::write(SVR, ENABLED & 0xff);
        DISABLED.store(1, Ordering::SeqCst);
        smp::wait_for(&DISABLED, 2);
        let log = smp::let_in();
        apic::write(SVR, ENABLED);
        log << 8 | smp::let_in()
    };
    smp::begin(1, disabled, 0);
    let is_off = smp::until(|| DISABLED.load(Ordering::SeqCst) == 1);
    smp::send(1, FIXED);
    smp::send(0, OTHERS | FIXED);
    smp::send(1, NMI_COMMAND);
    let nmi = u64::from(NMI.vector);
    let came = smp::until(|| smp::noted(1) & 0xff == nmi);
    DISABLED.store(2, Ordering::SeqCst);
    equal("disabled-takes-nmi-only", (is_off, came, smp::finish(1)), (true, true, Some(nmi << 8)));
    let _ = smp::call(1, set, ENABLED.into());
    equal("others-took-it", smp::arrivals(), at(0b1100));

    // An interrupt that finds no one to take it is none.
    apic::write(LVT_LINT0, MASKED);
    equal("works-again", sent(1, FIXED), at(0b0010));
}

fn errors() {
    const SEND_ILLEGAL_VECTOR: u64 = 1 << 5;
    const RECEIVE_ILLEGAL_VECTOR: u64 = 1 << 6;
    let errors = |_| {
        apic::write(ESR, 0);
        apic::read(ESR).into()
    };
    for index in 0..MAX {
        let _ = smp::call(index, errors, 0);
    }
    handle(0x0f, Some(smp::note_and_end));
    equal("illegal-vector-is-not-delivered", sent(1, ASSERT | 0x0f), at(0));
    let all: [Option<u64>; MAX] = core::array::from_fn(|index| smp::call(index, errors, 0));
    let at_sender = all[0].unwrap_or(0) & SEND_ILLEGAL_VECTOR != 0;
    let at_receiver = all[1].unwrap_or(0) & RECEIVE_ILLEGAL_VECTOR != 0;
    check("illegal-vector-is-an-error", at_sender || at_receiver);
    equal("of-nobody-else", (all[2], all[3]), (Some(0), Some(0)));
    handle(0x0f, None);
}

/// Interrupts that each processor has taken, and that it has sent.
static TAKEN: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
const ROUNDS: u32 = 100;
const STORM: u8 = 0x71;

fn count(_: &mut conformance::interrupts::Frame) {
    TAKEN[smp::index()].fetch_add(1, Ordering::SeqCst);
    apic::end_of_interrupt();
}

/// Sends to the next processor, and goes on when that has taken it; takes interrupts itself.
fn send_round(index: u64) -> u64 {
    let next = (index as usize + 1) % MAX;
    cpu::sti();
    for round in 1..=ROUNDS {
        smp::send(next as u8, ASSERT | u32::from(STORM));
        smp::wait_for(&TAKEN[next], round);
    }
    let own = &TAKEN[index as usize];
    smp::wait_for(own, ROUNDS);
    cpu::cli();
    1
}

/// Broadcasts without waiting for anybody.
fn broadcast(_: u64) -> u64 {
    cpu::sti();
    for _ in 0..ROUNDS {
        smp::send(0, ALL | ASSERT | u32::from(STORM));
    }
    cpu::cli();
    smp::let_in();
    1
}

fn taken() -> [u32; MAX] {
    TAKEN.each_ref().map(|taken| taken.swap(0, Ordering::SeqCst))
}

fn storms() {
    handle(STORM, Some(count));
    equal("each-one-arrives", smp::call_all::<MAX>(send_round), [Some(1); MAX]);
    equal("each-one-arrives-once", taken(), [ROUNDS; MAX]);
    equal("storm-of-broadcasts-ends", smp::call_all::<MAX>(broadcast), [Some(1); MAX]);
    // Requests of the same vector merge: how many there were is open.
    let taken = taken();
    check("storm-of-broadcasts-arrives", taken.iter().all(|&taken| taken >= 1));
    check("and-no-more", taken.iter().all(|&taken| taken <= MAX as u32 * ROUNDS));
    equal("all-is-quiet-after-it", smp::arrivals(), at(0));
}

/// The same with 32-bit destinations, and logical IDs that follow from the physical ones.
fn x2apic() {
    const X2APIC_FEATURE: u32 = 21;
    const CASES: [&str; 13] = [
        "x2apic-ids",
        "x2apic-logical-ids",
        "x2apic-physical",
        "x2apic-to-nobody",
        "x2apic-broadcast",
        "x2apic-to-others",
        "x2apic-to-itself",
        "x2apic-self-ipi",
        "x2apic-cluster",
        "x2apic-another-cluster",
        "x2apic-lowest-priority",
        "x2apic-nmi",
        "x2apic-outlasts-init",
    ];
    if !has_feature(1, 2, X2APIC_FEATURE) {
        CASES.iter().for_each(|case| skip(case, "the processor has no x2APIC"));
        return;
    }
    let [
        ids,
        logical_ids,
        physical,
        nobody,
        broadcast,
        others,
        itself,
        own,
        cluster,
        another,
        lowest,
        nmi,
        init,
    ] = CASES;
    for index in (0..MAX).rev() {
        let _ = smp::call(
            index,
            |_| {
                cpu::wrmsr(apic::APIC_BASE, cpu::rdmsr(apic::APIC_BASE) | apic::X2APIC);
                1
            },
            0,
        );
    }
    let each = |job| core::array::from_fn(|index| smp::call(index, job, 0).unwrap_or(u64::MAX));
    equal(ids, each(|_| apic::read(ID).into()), [0, 1, 2, 3]);
    equal(logical_ids, each(|_| apic::read(LDR).into()), [1, 2, 4, 8]);
    let sent = |destination: u32, command: u32| -> [u64; MAX] {
        apic::send(destination, command);
        smp::arrivals()
    };
    let all = core::array::from_fn(|index| sent(index as u32, FIXED));
    let one_each: [[u64; MAX]; MAX] = core::array::from_fn(|index| at(1 << index));
    equal(physical, all, one_each);
    equal(nobody, (sent(0xff, FIXED), sent(0x102, FIXED)), (at(0), at(0)));
    equal(broadcast, sent(u32::MAX, FIXED), at(0b1111));
    equal(others, sent(0, OTHERS | FIXED), at(0b1110));
    equal(itself, sent(3, SELF | FIXED), at(0b0001));
    let self_ipi = |_| {
        const SELF_IPI: u32 = 0x83f;
        cpu::wrmsr(SELF_IPI, VECTOR.into());
        1
    };
    let _ = smp::call(2, self_ipi, 0);
    equal(own, smp::arrivals(), at(0b0100));
    equal(cluster, sent(0b1010, LOGICAL | FIXED), at(0b1010));
    equal(another, sent(0x1_000a, LOGICAL | FIXED), at(0));
    check(lowest, {
        let arrivals = sent(0b0110, LOGICAL | LOWEST_PRIORITY | FIXED);
        arrivals == at(0b0010) || arrivals == at(0b0100)
    });
    equal(nmi, sent(1, NMI_COMMAND), logs(0b0010, NMI.vector.into()));
    let starts = smp::start(1, smp::START_PAGE);
    let mode = |_| cpu::rdmsr(apic::APIC_BASE) & apic::X2APIC;
    equal(init, (starts, smp::call(1, mode, 0)), (true, Some(apic::X2APIC)));
}
