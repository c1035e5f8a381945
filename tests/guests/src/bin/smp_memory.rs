//! Memory that four processors share: locked instructions on RAM and on a device, page tables that
//! one changes and the others walk, code that one writes and another runs, and memory that moves
//! while it is used (Intel SDM volume 3, sections 4.10.5, 9.1 and 9.1.3).

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use conformance::apic::{self, APIC_BASE, MASKED};
use conformance::cpu::{self, cpuid, invlpg, peek, poke, rdmsr, set_cr3, wrmsr};
use conformance::interrupts::{Frame, handle};
use conformance::pci::Function;
use conformance::planes::{self, PLANES};
use conformance::report::{check, equal, skip};
use conformance::smp::{self, MAX, command::*};
use conformance::{page_tables, pic};

conformance::topic!(run);

/// Free RAM.
const RAM: u64 = 0x40_0000;
const CODE: u64 = 0x50_0000;
const FRAMES: [u64; 2] = [0x60_0000, 0x60_1000];
const PAGE_TABLE: u64 = 0x70_0000;

/// Where pages of 4 KiB are: the first of the third gigabyte.
const WINDOW: u64 = 0x8000_0000;
const PRESENT_WRITE: u64 = 3;
const ACCESSED_DIRTY: u64 = 0x60;

const SHOOT: u8 = 0x71;
const VECTOR: u8 = 0x61;
const PAGE_FAULT: u8 = 14;

fn run() {
    pic::set_up();
    planes::set_up();
    smp::set_up(None);
    handle(VECTOR, Some(smp::note_and_end));
    check("all-start", smp::start_others(MAX - 1));
    locked(&RAM_CASES, RAM, 1000);
    locked(&DEVICE_CASES, PLANES, 60);
    planes_stay();
    open_window();
    remapped(["shootdown-reaches-all", "shootdown-leaves-nothing-stale"], FRAMES);
    remapped(["shootdown-of-a-device", "nothing-stale-of-a-device"], [PLANES, FRAMES[1]]);
    planes::leave();
    faults();
    marks();
    code();
    framebuffer();
    local_apic();
}

/// A case, how a processor counts there and how far it says that it came, and where the count is.
type Way = (&'static str, smp::Job, u64);

const RAM_CASES: [Way; 8] = [
    ("lock-inc", increment, COUNT),
    ("lock-xadd", exchange_and_add, COUNT),
    ("lock-cmpxchg", compare_and_exchange, COUNT),
    ("lock-cmpxchg8b", compare_and_exchange_8_bytes, COUNT),
    ("lock-inc-across-pages", increment_across_pages, ACROSS),
    ("xchg-as-a-lock", with_exchanged_lock, COUNT),
    ("lock-bts-as-a-lock", with_bit_lock, COUNT),
    ("xchg-loses-nothing", exchange, COUNT),
];

const DEVICE_CASES: [Way; 8] = [
    ("lock-inc-on-a-device", increment, COUNT),
    ("lock-xadd-on-a-device", exchange_and_add, COUNT),
    ("lock-cmpxchg-on-a-device", compare_and_exchange, COUNT),
    ("lock-cmpxchg8b-on-a-device", compare_and_exchange_8_bytes, COUNT),
    ("lock-inc-across-pages-of-a-device", increment_across_pages, ACROSS),
    ("xchg-as-a-lock-on-a-device", with_exchanged_lock, COUNT),
    ("lock-bts-as-a-lock-on-a-device", with_bit_lock, COUNT),
    ("xchg-loses-nothing-on-a-device", exchange, COUNT),
];

/// The memory under test, and how often each processor counts.
static BASE: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// Offsets there.
const COUNT: u64 = 0;
const LOCK: u64 = 0x40;
const ACROSS: u64 = 0xffe;

fn base() -> u64 {
    BASE.load(Ordering::SeqCst)
}

fn rounds() -> u32 {
    ROUNDS.load(Ordering::SeqCst)
}

/// The count is that of all processors together, wherever it is kept.
fn locked(ways: &[Way], base: u64, rounds: u32) {
    BASE.store(base, Ordering::SeqCst);
    ROUNDS.store(rounds, Ordering::SeqCst);
    for &(case, job, place) in ways {
        for offset in [COUNT, COUNT + 4, LOCK, LOCK + 4] {
            poke(base + offset, 0_u32);
        }
        poke(base + ACROSS, 0_u32);
        smp::ready();
        let counts: [Option<u64>; MAX] = smp::call_all(job);
        let count = peek::<u32>(base + place);
        let sum = counts.iter().map(|count| count.unwrap_or(0) as u32).sum();
        equal(case, (counts.contains(&None), count), (false, sum));
    }
}

fn increment(_: u64) -> u64 {
    add_one_at(base() + COUNT)
}

fn increment_across_pages(_: u64) -> u64 {
    add_one_at(base() + ACROSS)
}

fn add_one_at(place: u64) -> u64 {
    smp::meet(MAX);
    for _ in 0..rounds() {
        unsafe { asm!("lock inc dword ptr [{}]", in(reg) place) };
    }
    rounds().into()
}

fn exchange_and_add(index: u64) -> u64 {
    smp::meet(MAX);
    let step = index as u32 + 1;
    for _ in 0..rounds() {
        unsafe { asm!("lock xadd [{}], {:e}", in(reg) base() + COUNT, inout(reg) step => _) };
    }
    u64::from(rounds() * step)
}

fn compare_and_exchange(_: u64) -> u64 {
    smp::meet(MAX);
    let mut done = 0;
    let mut seen: u32 = 0;
    while done < rounds() {
        let old = seen;
        unsafe {
            asm!("lock cmpxchg [{}], {:e}", in(reg) base() + COUNT, in(reg) old + 1, inout("eax") seen);
        }
        if seen == old {
            done += 1;
            seen = old + 1;
        }
    }
    done.into()
}

fn compare_and_exchange_8_bytes(_: u64) -> u64 {
    smp::meet(MAX);
    let (mut low, mut high) = (0_u32, 0_u32);
    let mut done = 0;
    while done < rounds() {
        let (old_low, old_high) = (low, high);
        // The upper half counts down.
        let (new_low, new_high) = (low + 1, high.wrapping_sub(1));
        unsafe {
            asm!(
                "push rbx", "mov ebx, {new_low:e}", "lock cmpxchg8b [{place}]", "pop rbx",
                place = in(reg) base() + COUNT, new_low = in(reg) new_low,
                in("ecx") new_high, inout("eax") low, inout("edx") high,
            );
        }
        if (low, high) == (old_low, old_high) {
            done += 1;
            (low, high) = (new_low, new_high);
        }
    }
    done.into()
}

/// The attempts at a lock, after which it counts as lost.
const ATTEMPTS: u32 = 300_000;

/// Counts by plain instructions between the two given ones, of which the first returns whether it
/// has taken the lock.
fn with_lock(take: impl Fn(u64) -> bool, release: impl Fn(u64)) -> u64 {
    smp::meet(MAX);
    let lock = base() + LOCK;
    let mut done = 0;
    for _ in 0..rounds() {
        let mut attempts = 0;
        while !take(lock) {
            core::hint::spin_loop();
            attempts += 1;
            if attempts == ATTEMPTS {
                return done;
            }
        }
        let count = peek::<u32>(base() + COUNT);
        poke(base() + COUNT, count + 1);
        release(lock);
        done += 1;
    }
    done
}

fn with_exchanged_lock(_: u64) -> u64 {
    let take = |lock: u64| {
        let mut old = 1_u32;
        unsafe { asm!("xchg [{}], {:e}", in(reg) lock, inout(reg) old) };
        old == 0
    };
    with_lock(take, |lock| poke(lock, 0_u32))
}

fn with_bit_lock(_: u64) -> u64 {
    let take = |lock: u64| {
        let was_set: u8;
        unsafe {
            asm!("lock bts dword ptr [{}], 5", "setc {}", in(reg) lock, out(reg_byte) was_set)
        };
        was_set == 0
    };
    with_lock(take, |lock| unsafe { asm!("lock and dword ptr [{}], -33", in(reg) lock) })
}

/// Each processor puts tokens in and takes others out: what is left, and what all hold in the end,
/// is what there was. The sum of the values counts.
fn exchange(index: u64) -> u64 {
    smp::meet(MAX);
    let mut token = 1_u32 << (4 * index);
    let first = token;
    for _ in 0..rounds() {
        unsafe { asm!("xchg [{}], {:e}", in(reg) base() + COUNT, inout(reg) token) };
    }
    // The rest is in memory.
    u64::from(first.wrapping_sub(token))
}

/// Plain writes by all, each to its own bytes beside a counter of the others' by LOCK.
fn planes_stay() {
    let job = |index: u64| {
        smp::meet(MAX);
        let own = PLANES + LOCK + index;
        let mut wrong = 0;
        for round in 0..100_u8 {
            poke(own, round);
            unsafe { asm!("lock add dword ptr [{}], 0", in(reg) PLANES + LOCK) };
            wrong += u64::from(peek::<u8>(own) != round);
        }
        wrong
    };
    smp::ready();
    let wrong = smp::call_all::<MAX>(job);
    equal("plain-writes-beside-locked-ones-on-a-device", wrong, [Some(0); MAX]);
}

// Page tables.

fn page_entry() -> &'static AtomicU64 {
    unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(PAGE_TABLE as usize)) }
}

/// Pages of 4 KiB in the window, on all processors.
fn open_window() {
    const DIRECTORY_OF_THE_THIRD_GIGABYTE: u64 = 0x4000;
    for entry in 0..512 {
        poke(PAGE_TABLE + 8 * entry, 0_u64);
    }
    poke(page_tables() + DIRECTORY_OF_THE_THIRD_GIGABYTE, PAGE_TABLE | PRESENT_WRITE);
    let _ = smp::call_all::<MAX>(|_| {
        set_cr3(page_tables());
        1
    });
}

/// Acknowledgements of a shootdown, and the number of the last that is over: odd while one is
/// under way.
static ACKNOWLEDGED: AtomicU32 = AtomicU32::new(0);
static EPOCH: AtomicU32 = AtomicU32::new(0);
static IS_OVER: AtomicU32 = AtomicU32::new(0);
static READS: AtomicU32 = AtomicU32::new(0);

const MAGIC: [u32; 2] = [0x1111_1111, 0x2222_2222];

fn shot(_: &mut Frame) {
    invlpg(WINDOW);
    ACKNOWLEDGED.fetch_add(1, Ordering::SeqCst);
    apic::end_of_interrupt();
}

/// Reads in the window until all is over: how often it was not the page that was there.
fn read_window(_: u64) -> u64 {
    let mut wrong = 0;
    cpu::sti();
    while IS_OVER.load(Ordering::SeqCst) == 0 {
        let epoch = EPOCH.load(Ordering::SeqCst);
        let value = peek::<u32>(WINDOW + 8);
        if epoch.is_multiple_of(2) && epoch == EPOCH.load(Ordering::SeqCst) {
            wrong += u64::from(value != MAGIC[(epoch / 2 % 2) as usize]);
            READS.fetch_add(1, Ordering::SeqCst);
        } else {
            wrong += u64::from(!MAGIC.contains(&value));
        }
        core::hint::spin_loop();
    }
    cpu::cli();
    wrong
}

fn remapped([reaches, stale]: [&str; 2], frames: [u64; 2]) {
    const FLIPS: u32 = 40;
    handle(SHOOT, Some(shot));
    for (frame, magic) in frames.into_iter().zip(MAGIC) {
        poke(frame + 8, magic);
    }
    page_entry().store(frames[0] | PRESENT_WRITE, Ordering::SeqCst);
    let _ = smp::call_all::<MAX>(|_| {
        invlpg(WINDOW);
        1
    });
    EPOCH.store(0, Ordering::SeqCst);
    IS_OVER.store(0, Ordering::SeqCst);
    (1..MAX).for_each(|index| smp::begin(index, read_window, 0));
    let mut reached = 0;
    for flip in 1..=FLIPS {
        READS.store(0, Ordering::SeqCst);
        if !smp::until(|| READS.load(Ordering::SeqCst) != 0) {
            break;
        }
        ACKNOWLEDGED.store(0, Ordering::SeqCst);
        EPOCH.store(2 * flip - 1, Ordering::SeqCst);
        page_entry().store(frames[(flip % 2) as usize] | PRESENT_WRITE, Ordering::SeqCst);
        invlpg(WINDOW);
        smp::send(0, OTHERS | ASSERT | u32::from(SHOOT));
        if !smp::until(|| ACKNOWLEDGED.load(Ordering::SeqCst) == MAX as u32 - 1) {
            break;
        }
        EPOCH.store(2 * flip, Ordering::SeqCst);
        reached += 1;
    }
    IS_OVER.store(1, Ordering::SeqCst);
    equal(reaches, reached, FLIPS);
    let wrong: [Option<u64>; MAX - 1] = core::array::from_fn(|other| smp::finish(other + 1));
    equal(stale, wrong, [Some(0); MAX - 1]);
}

/// Page faults that wait for an answer.
static FAULTS: AtomicU32 = AtomicU32::new(0);
static ANSWERED: AtomicU32 = AtomicU32::new(0);

fn faults() {
    const TIMES: u32 = 30;
    let wait_for_page: fn(&mut Frame) = |_| {
        let fault = FAULTS.fetch_add(1, Ordering::SeqCst) + 1;
        smp::wait_for(&ANSWERED, fault);
    };
    handle(PAGE_FAULT, Some(wait_for_page));
    let touch = |_| {
        let mut right = 0;
        for _ in 0..TIMES {
            page_entry().store(0, Ordering::SeqCst);
            invlpg(WINDOW);
            right += u64::from(peek::<u32>(WINDOW + 8) == MAGIC[1]);
        }
        right
    };
    FAULTS.store(0, Ordering::SeqCst);
    ANSWERED.store(0, Ordering::SeqCst);
    smp::begin(2, touch, 0);
    let mut answered = 0;
    while answered < TIMES && smp::until(|| FAULTS.load(Ordering::SeqCst) > answered) {
        page_entry().store(FRAMES[1] | PRESENT_WRITE, Ordering::SeqCst);
        answered += 1;
        ANSWERED.store(answered, Ordering::SeqCst);
    }
    let right = smp::finish(2);
    equal("page-that-another-maps", (answered, right), (TIMES, Some(TIMES.into())));
    equal("one-fault-for-each", FAULTS.load(Ordering::SeqCst), TIMES);
    handle(PAGE_FAULT, None);
}

fn marks() {
    let touch = |argument: u64| {
        invlpg(WINDOW);
        match argument {
            0 => peek::<u32>(WINDOW).into(),
            _ => {
                poke(WINDOW, argument as u32);
                argument
            }
        }
    };
    let marks = || page_entry().load(Ordering::SeqCst) & ACCESSED_DIRTY;
    page_entry().store(FRAMES[0] | PRESENT_WRITE, Ordering::SeqCst);
    let _ = smp::call(1, touch, 0);
    equal("accessed-by-another", marks(), 0x20);
    let _ = smp::call(3, touch, 5);
    equal("dirty-by-another", marks(), ACCESSED_DIRTY);

    // All mark, and each takes marks away: none is lost, and no other bit changes.
    let contend = |index: u64| {
        smp::meet(MAX);
        for round in 0..50 {
            page_entry().fetch_and(!ACCESSED_DIRTY, Ordering::SeqCst);
            invlpg(WINDOW);
            poke(WINDOW + 16 * index, round);
        }
        1
    };
    smp::ready();
    let all = smp::call_all::<MAX>(contend);
    let entry = page_entry().load(Ordering::SeqCst) & !ACCESSED_DIRTY;
    equal("marks-contended", (all, entry), ([Some(1); MAX], FRAMES[0] | PRESENT_WRITE));
}

/// The number of the code's last version that was written, and of that which was run.
static WRITTEN: AtomicU32 = AtomicU32::new(0);
static RUN: AtomicU32 = AtomicU32::new(0);

fn code() {
    const VERSIONS: u32 = 50;
    /// MOV EAX, imm32, with the immediate at a multiple of four; RET.
    const START: u64 = CODE + 3;
    poke(START, [0xb8_u8, 0, 0, 0, 0, 0xc3]);
    let run = |_| {
        let mut wrong = 0;
        for version in 1..=VERSIONS {
            smp::wait_for(&WRITTEN, version);
            // Serialising (section 9.1.3).
            cpuid(0, 0);
            let result: u32;
            unsafe { asm!("call {}", in(reg) START, out("eax") result) };
            wrong += u64::from(result != version);
            RUN.store(version, Ordering::SeqCst);
        }
        wrong
    };
    smp::begin(1, run, 0);
    let immediate =
        unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(CODE as usize + 4)) };
    for version in 1..=VERSIONS {
        // A locked store: QEMU lets a plain one pass unseen.
        immediate.swap(version, Ordering::SeqCst);
        WRITTEN.store(version, Ordering::SeqCst);
        if !smp::until(|| RUN.load(Ordering::SeqCst) == version) {
            break;
        }
    }
    equal("code-that-another-writes", smp::finish(1), Some(0));
}

const VGA_CLASS: u16 = 0x0300;
const BAR: u8 = 0x10;
const PLACES: [u64; 2] = [0xd000_0000, 0xd800_0000];
const IN_FRAMEBUFFER: u64 = 0x20_0000;
const PATTERN: u32 = 0x1234_abcd;

fn framebuffer() {
    const CASES: [&str; 3] =
        ["memory-moves-while-it-is-read", "memory-moved-by-two", "memory-is-back"];
    let Some(vga) = Function::find_class(VGA_CLASS) else {
        CASES.iter().for_each(|case| skip(case, "the VGA is on no PCI bus"));
        return;
    };
    let [moves, by_two, back] = CASES;
    let bar = vga.read(BAR);
    let home = u64::from(bar & !0xf);
    poke(home + IN_FRAMEBUFFER, PATTERN);
    IS_OVER.store(0, Ordering::SeqCst);
    READS.store(0, Ordering::SeqCst);
    // Where nothing is, all bits are set or none is.
    let read = |_| {
        let mut wrong = 0;
        while IS_OVER.load(Ordering::SeqCst) == 0 {
            let values = PLACES.map(|place| peek::<u32>(place + IN_FRAMEBUFFER));
            wrong += values.iter().filter(|&value| ![PATTERN, 0, u32::MAX].contains(value)).count();
            READS.fetch_add(1, Ordering::SeqCst);
            core::hint::spin_loop();
        }
        wrong as u64
    };
    (1..MAX).for_each(|index| smp::begin(index, read, 0));
    let mut is_there = true;
    for flip in 0..40 {
        let place = PLACES[flip % 2];
        vga.write(BAR, place as u32);
        is_there &= peek::<u32>(place + IN_FRAMEBUFFER) == PATTERN;
        let reads = READS.load(Ordering::SeqCst);
        is_there &= smp::until(|| READS.load(Ordering::SeqCst) != reads);
    }
    IS_OVER.store(1, Ordering::SeqCst);
    let wrong: [Option<u64>; MAX - 1] = core::array::from_fn(|other| smp::finish(other + 1));
    equal(moves, (is_there, wrong), (true, [Some(0); MAX - 1]));

    // Two write the register at once: the memory is where it then says.
    let mut differs = 0;
    vga.read(BAR);
    for _ in 0..40 {
        let write = |index: u64| {
            smp::meet(2);
            cpu::outl(conformance::pci::DATA, PLACES[index as usize] as u32);
            1
        };
        smp::ready();
        let both = smp::call_all::<2>(write);
        let place = u64::from(vga.read(BAR) & !0xf);
        differs += u32::from(peek::<u32>(place + IN_FRAMEBUFFER) != PATTERN);
        differs += u32::from(both != [Some(1); 2]);
    }
    equal(by_two, differs, 0);
    vga.write(BAR, bar);
    equal(back, peek::<u32>(home + IN_FRAMEBUFFER), PATTERN);
}

/// One processor moves its local APIC and back while the others use theirs.
fn local_apic() {
    const MOVED: u64 = 0xfee1_0000;
    const ADDRESS: u64 = 0xf_ffff_f000;
    let job = |_| {
        let base = rdmsr(APIC_BASE);
        let mut right = 0;
        for _ in 0..20 {
            wrmsr(APIC_BASE, base & !ADDRESS | MOVED);
            right += u64::from(apic::id() == 1 && apic::base() & ADDRESS == MOVED);
            apic::send(0, ASSERT | u32::from(VECTOR));
            wrmsr(APIC_BASE, base);
        }
        right
    };
    smp::begin(1, job, 0);
    let others: [u64; MAX] = core::array::from_fn(|index| match index {
        1 => 20,
        _ => {
            let use_it = |_| {
                (0..20)
                    .filter(|&round| {
                        apic::write(apic::register::LVT_ERROR, MASKED | 0x80 | round);
                        apic::read(apic::register::LVT_ERROR) & 0xff == 0x80 | round
                    })
                    .count() as u64
            };
            smp::call(index, use_it, 0).unwrap_or(0)
        }
    });
    equal("local-apics-of-others-stay", others, [20; MAX]);
    equal("local-apic-moves", smp::finish(1), Some(20));
    check("moved-one-sends", smp::let_in() & 0xff == VECTOR.into());
    smp::send(1, ASSERT | u32::from(VECTOR));
    equal("works-where-it-was", smp::call(1, |_| smp::let_in(), 0), Some(VECTOR.into()));
}
