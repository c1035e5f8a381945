//! Four processors: how they start, what they are told of themselves, and what INIT leaves of them
//! (Intel SDM volume 3, sections 9.1, 9.4 and 11.4.7; Multiprocessor Specification 1.4, appendix
//! B).

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use conformance::apic::{self, APIC_BASE, MASKED, register::*};
use conformance::cpu::{self, cpuid, has_feature, peek, rdmsr, rdtsc, wrmsr};
use conformance::interrupts::{NMI, handle};
use conformance::report::{check, equal};
use conformance::smp::{self, MAX, Registers, command};
use conformance::{acpi, pic};

conformance::topic!(run);

const VECTOR: u8 = 0x61;
/// Pages that note the registers of processors that start there.
const PROBES: [u8; 2] = [2, 3];

fn run() {
    pic::set_up();
    smp::set_up(Some(note_apic));
    handle(VECTOR, Some(smp::note_and_end));
    handle(NMI.vector, Some(smp::note));
    check("broadcast-starts-all", smp::start_others(MAX - 1));
    identity();
    topology();
    starting();
    registers();
    local_apic();
    memory_types();
    halted();
    time();
}

/// A fact of each processor.
fn each(fact: fn(u64) -> u64) -> [u64; MAX] {
    core::array::from_fn(|index| smp::call(index, fact, 0).unwrap_or(u64::MAX))
}

const IN_ORDER: [u64; MAX] = [0, 1, 2, 3];

fn identity() {
    equal("initial-ids", each(|_| u64::from(cpuid(1, 0)[1] >> 24)), IN_ORDER);
    equal("ids-of-the-local-apics", each(|_| apic::id().into()), IN_ORDER);
    equal("one-bootstrap-processor", each(|_| apic::is_bootstrap_processor().into()), [1, 0, 0, 0]);
    let mut ids = [u64::MAX; MAX];
    let mut processors = [u64::MAX; MAX];
    let mut count = 0;
    acpi::local_apics(|processor, id| {
        if count < MAX {
            (processors[count], ids[count]) = (processor.into(), id.into());
        }
        count += 1;
    });
    equal("enabled-in-the-madt", count, MAX);
    equal("ids-in-the-madt", ids, IN_ORDER);
    equal("processors-in-the-madt", processors, IN_ORDER);
}

fn topology() {
    for (case, same, leaf) in [
        ("id-in-leaf-0b", "levels-of-leaf-0b-are-the-same", 0x0b_u32),
        ("id-in-leaf-1f", "levels-of-leaf-1f-are-the-same", 0x1f),
    ] {
        let facts =
            |job| core::array::from_fn(|index| smp::call(index, job, leaf.into()).unwrap_or(99));
        let ids: [u64; MAX] = facts(|leaf| match has_levels(leaf as u32) {
            true => cpuid(leaf as u32, 0)[3].into(),
            false => smp::index() as u64,
        });
        equal(case, ids, IN_ORDER);
        let levels: [u64; MAX] = facts(levels);
        check(same, levels == [levels[0]; MAX]);
    }
    equal("id-in-leaf-8000001e", each(extended_id), IN_ORDER);
    equal("cores-of-leaf-4", each(|_| cores_agree(cores_of_leaf_4()).into()), [1; MAX]);
    equal("cores-of-leaf-80000008", each(|_| cores_agree(cores_of_amd()).into()), [1; MAX]);
}

/// The ID of leaf 8000_001Eh, if there is one.
fn extended_id(_: u64) -> u64 {
    const TOPOLOGY_EXTENSIONS: u32 = 22;
    match has_feature(0x8000_0001, 2, TOPOLOGY_EXTENSIONS) {
        true => cpuid(0x8000_001e, 0)[0].into(),
        false => smp::index() as u64,
    }
}

/// The processor has the extended topology leaf, and says something in it.
fn has_levels(leaf: u32) -> bool {
    cpuid(0, 0)[0] >= leaf && cpuid(leaf, 0)[1] & 0xffff != 0
}

/// IDs that leaf 4 has for the cores of a package.
fn cores_of_leaf_4() -> Option<u32> {
    let eax = if cpuid(0, 0)[0] >= 4 { cpuid(4, 0)[0] } else { 0 };
    (eax & 0x1f != 0).then_some((eax >> 26) + 1)
}

/// The cores of a package as AMD's processors tell: without CmpLegacy all are threads of one.
fn cores_of_amd() -> Option<u32> {
    const CMP_LEGACY: u32 = 1;
    let is_amd = cpuid(0, 0)[1] == u32::from_le_bytes(*b"Auth");
    is_amd.then(|| match has_feature(0x8000_0001, 2, CMP_LEGACY) {
        true => (cpuid(0x8000_0008, 0)[2] & 0xff) + 1,
        false => 1,
    })
}

/// Whether so many cores are not fewer than leaf 0Bh, or without it leaf 1, has.
fn cores_agree(cores: Option<u32>) -> bool {
    const HTT: u32 = 28;
    const LEVELS: u32 = 0xb;
    let threads = match (has_levels(LEVELS), has_feature(1, 3, HTT)) {
        (true, _) => cpuid(LEVELS, 1)[1] / cpuid(LEVELS, 0)[1],
        (false, true) => cpuid(1, 0)[1] >> 16 & 0xff,
        (false, false) => 1,
    };
    cores.is_none_or(|cores| cores >= threads)
}

/// The shifts and numbers of all levels of an extended topology leaf, summed up.
fn levels(leaf: u64) -> u64 {
    (0..4).fold(0, |sum, level| {
        let [shift, number, kind, _] = cpuid(leaf as u32, level);
        sum << 12
            | u64::from(shift & 0xf)
            | u64::from(number & 0xf) << 4
            | u64::from(kind >> 8 & 0xf) << 8
    })
}

fn starting() {
    const THIRD: u8 = 3;
    let starts = smp::starts();
    for (destination, what) in [(0, command::OTHERS), (1, 0)] {
        smp::send(
            destination,
            what | command::START_UP | command::ASSERT | u32::from(smp::START_PAGE),
        );
    }
    // A job that ends shows that the processor has not gone elsewhere.
    let alive = each(|_| 1);
    equal("running-ignores-start-up", (alive, smp::starts()), ([1; MAX], starts));

    // De-assertion once told APICs to arbitrate anew, and resets nothing.
    smp::send(0, command::ALL | command::INIT | command::LEVEL);
    let alive = each(|_| 1);
    equal("init-de-assert-is-nothing", (alive, smp::starts()), ([1; MAX], starts));

    check("init-and-start-up-by-id", smp::start(2, smp::START_PAGE));
    let mut expected = starts;
    expected[2] += 1;
    equal("others-are-left-alone", smp::starts(), expected);

    smp::send(THIRD, command::INIT | command::ASSERT);
    smp::settle();
    smp::send(THIRD, command::INIT | command::ASSERT);
    smp::settle();
    let has_started = smp::start_up(THIRD.into(), smp::START_PAGE);
    smp::send(THIRD, command::START_UP | command::ASSERT | u32::from(smp::START_PAGE));
    let came = has_started.then(|| smp::call(THIRD.into(), |_| 1, 0)).flatten();
    expected[3] += 1;
    equal("second-start-up-is-nothing", (came, smp::starts()), (Some(1), expected));

    // In the middle of a loop with interrupts off.
    static SPINS: AtomicU32 = AtomicU32::new(0);
    smp::begin(
        1,
        |_| {
            SPINS.store(1, Ordering::SeqCst);
            loop {
                core::hint::spin_loop();
            }
        },
        0,
    );
    let spins = smp::until(|| SPINS.load(Ordering::SeqCst) == 1);
    check("init-of-a-running-processor", spins && smp::start(1, smp::START_PAGE));
    equal("works-after-it", smp::call(1, |argument| argument + 1, 41), Some(42));
}

fn registers() {
    for page in PROBES {
        smp::set_probe(page);
    }
    let code_segments = PROBES.map(|page| {
        let has_started = smp::start(1, page);
        (has_started, smp::probed(page).cs)
    });
    equal(
        "start-up-names-the-page",
        code_segments,
        PROBES.map(|page| (true, u16::from(page) << 8)),
    );
    let first = smp::probed(PROBES[0]);
    let expected = Registers {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: first.edx,
        esi: 0,
        edi: 0,
        ebp: 0,
        esp: 0,
        cs: u16::from(PROBES[0]) << 8,
        ds: 0,
        es: 0,
        fs: 0,
        gs: 0,
        ss: 0,
        eflags: 2,
        cr0: first.cr0,
        cr2: 0,
        cr3: 0,
        cr4: 0,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        idtr: [0xffff, 0, 0, 0],
        gdtr: [0xffff, 0, 0, 0],
        efer: 0,
    };
    equal("registers-after-init", first, expected);
    equal("signature-after-init", first.edx, cpuid(1, 0)[0]);
    // The processors had caching on before INIT, which leaves these bits.
    equal("cr0-after-init", first.cr0, 0x10);
}

/// Registers of the local APIC.
const APIC_REGISTERS: [u16; 11] =
    [ID, TPR, LDR, DFR, SVR, LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR, INITIAL_COUNT, DIVIDE];
static AFTER_INIT: [AtomicU32; APIC_REGISTERS.len()] = [const { AtomicU32::new(0) }; 11];
static BASE_AFTER_INIT: AtomicU64 = AtomicU64::new(0);
static REQUESTED_AFTER_INIT: AtomicU32 = AtomicU32::new(0);

fn note_apic(index: usize) {
    if index == 1 {
        for (value, register) in AFTER_INIT.iter().zip(APIC_REGISTERS) {
            value.store(apic::read(register), Ordering::SeqCst);
        }
        BASE_AFTER_INIT.store(rdmsr(APIC_BASE), Ordering::SeqCst);
        let requested = apic::is_set(IRR, VECTOR) || apic::is_set(ISR, VECTOR);
        REQUESTED_AFTER_INIT.store(requested.into(), Ordering::SeqCst);
    }
}

fn local_apic() {
    let disturb = |_| {
        apic::write(LDR, 0x0200_0000);
        apic::write(DFR, 0x0fff_ffff);
        for entry in [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
            apic::write(entry, MASKED | u32::from(VECTOR));
        }
        apic::write(DIVIDE, 0xb);
        apic::write(INITIAL_COUNT, u32::MAX);
        apic::send(0, command::SELF | u32::from(VECTOR));
        apic::write(TPR, 0xf0);
        rdmsr(APIC_BASE)
    };
    let base = smp::call(1, disturb, 0);
    check("starts-after-it", smp::start(1, smp::START_PAGE));
    let registers = AFTER_INIT.each_ref().map(|value| value.load(Ordering::SeqCst));
    let expected = [0x0100_0000, 0, 0, 0xffff_ffff, 0xff, MASKED, MASKED, MASKED, MASKED, 0, 0];
    equal("local-apic-after-init", registers, expected);
    equal("local-apic-base-after-init", Some(BASE_AFTER_INIT.load(Ordering::SeqCst)), base);
    equal("requests-after-init", REQUESTED_AFTER_INIT.load(Ordering::SeqCst), 0);

    // A processor that waits for its start takes no interrupts, and they do not come later: its
    // local APIC is disabled by software.
    smp::send(1, command::INIT | command::ASSERT);
    smp::settle();
    smp::send(1, command::ASSERT | u32::from(VECTOR));
    let arrivals = smp::start_up(1, smp::START_PAGE).then(|| smp::call(1, |_| smp::let_in(), 0));
    equal("no-interrupt-before-its-start", arrivals.flatten(), Some(0));
}

fn memory_types() {
    const PAT: u32 = 0x277;
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    const MTRR_MASK_7: u32 = 0x20f;
    const OWN_PAT: u64 = 0x0606_0606_0606_0606;
    const OWN_MASK: u64 = 0x5000_0000;
    let types = each(|_| rdmsr(MTRR_DEFAULT_TYPE));
    let (pat, mask) = (rdmsr(PAT), rdmsr(MTRR_MASK_7));
    check("memory-types-can-be-set", smp::call(1, set_types, 0).is_some());
    fn set_types(_: u64) -> u64 {
        wrmsr(PAT, OWN_PAT);
        wrmsr(MTRR_MASK_7, OWN_MASK);
        0
    }
    equal("pat-is-each-processors-own", each(|_| rdmsr(PAT)), [pat, OWN_PAT, pat, pat]);
    equal(
        "memory-types-are-each-processors-own",
        each(|_| rdmsr(MTRR_MASK_7)),
        [mask, OWN_MASK, mask, mask],
    );
    check("starts-with-them", smp::start(1, smp::START_PAGE));
    equal("init-keeps-pat", smp::call(1, |_| rdmsr(PAT), 0), Some(OWN_PAT));
    equal(
        "init-keeps-memory-types",
        smp::call(1, |_| rdmsr(MTRR_MASK_7) ^ rdmsr(MTRR_DEFAULT_TYPE), 0),
        Some(OWN_MASK ^ types[1]),
    );
    let _ = smp::call(
        1,
        |_| {
            wrmsr(PAT, 0x0007_0406_0007_0406);
            wrmsr(MTRR_MASK_7, 0);
            0
        },
        0,
    );
}

static PHASE: AtomicU32 = AtomicU32::new(0);

/// HLT with interrupts off; how often it was left.
fn halt(_: u64) -> u64 {
    PHASE.store(1, Ordering::SeqCst);
    cpu::hlt();
    PHASE.store(2, Ordering::SeqCst);
    1
}

fn halted() {
    smp::begin(1, halt, 0);
    let mut sleeps = smp::until(|| PHASE.load(Ordering::SeqCst) == 1);
    smp::settle();
    smp::send(1, command::ASSERT | u32::from(VECTOR));
    // It has had the time to wake, as another one has.
    sleeps &= smp::call(2, |_| smp::let_in(), 0).is_some();
    smp::settle();
    sleeps &= PHASE.load(Ordering::SeqCst) == 1;
    check("halted-with-interrupts-off-stays", sleeps);
    smp::send(1, command::NMI | command::ASSERT);
    equal("nmi-ends-it", smp::finish_by_nmi(1), Some(1));
    // The NMI came inside, the interrupt when the processor let it in again.
    smp::until(|| smp::noted(1) & 0xff != NMI.vector.into());
    let last_two = smp::noted(1) & 0xffff;
    equal("interrupt-comes-after-it", last_two, u64::from(NMI.vector) << 8 | u64::from(VECTOR));
    let _ = smp::arrivals::<MAX>();

    PHASE.store(0, Ordering::SeqCst);
    smp::begin(1, halt, 0);
    let sleeps = smp::until(|| PHASE.load(Ordering::SeqCst) == 1);
    check("init-ends-it", sleeps && smp::start(1, smp::START_PAGE));
    equal("without-going-on", PHASE.load(Ordering::SeqCst), 1);
}

/// Handed from a processor to the next: whose turn it is, and the time of the last turn.
static TURN: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static BACKWARD: AtomicU32 = AtomicU32::new(0);
const ROUNDS: u32 = 200;

/// Takes each fourth turn: the time stamp may not be older than the one of the turn before.
fn take_turns(index: u64) -> u64 {
    for round in 0..ROUNDS {
        smp::wait_for(&TURN, round * MAX as u32 + index as u32);
        let now = rdtsc();
        if now < LAST.swap(now, Ordering::SeqCst) {
            BACKWARD.fetch_add(1, Ordering::SeqCst);
        }
        TURN.fetch_add(1, Ordering::SeqCst);
    }
    1
}

fn time() {
    equal("takes-turns", smp::call_all::<MAX>(take_turns), [Some(1); MAX]);
    equal("time-stamps-in-step", BACKWARD.load(Ordering::SeqCst), 0);
    // The same variable from each processor: nothing is a copy.
    equal("memory-is-shared", each(|_| peek::<u32>(TURN.as_ptr() as u64).into()), [800; MAX]);
}
