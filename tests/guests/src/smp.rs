//! Several processors: how they are started, given work, and interrupted.
//!
//! A processor's number is its initial APIC ID: 0 is the bootstrap processor's, on which the topic
//! runs and reports. The others sleep with interrupts on until the topic gives them a job.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::apic::{self, register::*};
use crate::clock::{HZ, Stopwatch};
use crate::cpu::poke;
use crate::global::Global;
use crate::interrupts::{self, Frame};
use crate::{boot, clock, cpu, descriptors};

/// As many processors as a topic can have.
pub const MAX: usize = 4;

const STACK_SIZE: usize = 16 << 10;

#[repr(C, align(4096))]
struct Stacks([[u8; STACK_SIZE]; MAX - 1]);
static STACKS: Global<Stacks> = Global::new(Stacks([[0; STACK_SIZE]; MAX - 1]));

/// The page at which processors start that nothing is to be noted of.
pub const START_PAGE: u8 = 6;

/// The vector that wakes a processor for a job.
const WAKE_VECTOR: u8 = 0xe0;

/// Far longer than anything takes that is waited for, in ticks of the clock.
const PATIENCE: u64 = 20 * HZ;

/// Bits of the interrupt command register.
pub mod command {
    #![allow(missing_docs)]

    pub const LOWEST_PRIORITY: u32 = 1 << 8;
    pub const SMI: u32 = 2 << 8;
    pub const NMI: u32 = 4 << 8;
    pub const INIT: u32 = 5 << 8;
    pub const START_UP: u32 = 6 << 8;
    pub const LOGICAL: u32 = 1 << 11;
    pub const PENDING: u32 = 1 << 12;
    pub const ASSERT: u32 = 1 << 14;
    pub const LEVEL: u32 = 1 << 15;
    pub const SELF: u32 = 1 << 18;
    pub const ALL: u32 = 2 << 18;
    pub const OTHERS: u32 = 3 << 18;
}

/// Work for a processor.
pub type Job = fn(u64) -> u64;

struct Processor {
    /// The address of the job at work; zero without one.
    job: AtomicUsize,
    argument: AtomicU64,
    result: AtomicU64,
    /// How often it has started.
    starts: AtomicU32,
    /// The vectors that came, the last one in the lowest byte.
    arrivals: AtomicU64,
}

impl Processor {
    const fn new() -> Self {
        Self {
            job: AtomicUsize::new(0),
            argument: AtomicU64::new(0),
            result: AtomicU64::new(0),
            starts: AtomicU32::new(0),
            arrivals: AtomicU64::new(0),
        }
    }
}

static PROCESSORS: [Processor; MAX] = [const { Processor::new() }; MAX];

/// A processor's first act after each start, before it enables its local APIC.
static AT_START: Global<Option<fn(usize)>> = Global::new(None);

/// The processor that asks.
pub fn index() -> usize {
    let rsp: usize;
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    match rsp.checked_sub(STACKS.address() as usize) {
        Some(offset) if offset < size_of::<Stacks>() => 1 + offset / STACK_SIZE,
        _ => 0,
    }
}

/// Prepares the start of the other processors: `at_start` is what each does first.
pub fn set_up(at_start: Option<fn(usize)>) {
    AT_START.set(at_start);
    interrupts::handle(WAKE_VECTOR, Some(|_| apic::end_of_interrupt()));
    let [low, high] = (&raw const ap_real_mode as u16).to_le_bytes();
    poke(u64::from(START_PAGE) << 12, [JUMP_FAR, low, high, 0, 0]);
    apic::enable();
}

const JUMP_FAR: u8 = 0xea;

/// Starts all others by the shorthand; false if not `count` come, each once.
pub fn start_others(count: usize) -> bool {
    let before = starts();
    send(0, command::OTHERS | command::INIT | command::ASSERT);
    settle();
    send(0, command::OTHERS | command::START_UP | command::ASSERT | u32::from(START_PAGE));
    until(|| (1..=count).all(|other| starts()[other] == before[other] + 1))
}

/// Starts the processor `index` at `page`; false if it does not come.
pub fn start(index: usize, page: u8) -> bool {
    send(index as u8, command::INIT | command::ASSERT);
    settle();
    start_up(index, page)
}

/// Starts the processor `index`, which waits for it, at `page`; false if it does not come.
pub fn start_up(index: usize, page: u8) -> bool {
    let before = starts()[index];
    send(index as u8, command::START_UP | command::ASSERT | u32::from(page));
    until(|| starts()[index] == before + 1)
}

/// The time that a processor has for INIT (Multiprocessor Specification 1.4, appendix B.4).
pub fn settle() {
    clock::wait(HZ / 100);
}

/// How often each processor has started.
pub fn starts() -> [u32; MAX] {
    PROCESSORS.each_ref().map(|processor| processor.starts.load(Ordering::SeqCst))
}

extern "C" fn ap_main(index: usize) -> ! {
    interrupts::load_table();
    if let Some(at_start) = AT_START.get() {
        at_start(index);
    }
    apic::enable();
    let processor = &PROCESSORS[index];
    // INIT may have come in the middle of a job, or of an interrupt in the log.
    processor.job.store(0, Ordering::SeqCst);
    processor.arrivals.store(0, Ordering::SeqCst);
    processor.starts.fetch_add(1, Ordering::SeqCst);
    loop {
        let job = processor.job.load(Ordering::SeqCst);
        if job == 0 {
            // With interrupts off up to HLT, so that no job is missed.
            cpu::sleep();
            continue;
        }
        let job: Job = unsafe { core::mem::transmute::<usize, Job>(job) };
        processor.result.store(job(processor.argument.load(Ordering::SeqCst)), Ordering::SeqCst);
        processor.job.store(0, Ordering::SeqCst);
    }
}

/// Gives a processor a job; [`finish`] has its result.
pub fn begin(index: usize, job: Job, argument: u64) {
    let processor = &PROCESSORS[index];
    processor.argument.store(argument, Ordering::SeqCst);
    processor.job.store(job as usize, Ordering::SeqCst);
    send(index as u8, command::ASSERT | u32::from(WAKE_VECTOR));
}

/// The result of a processor's job: none if it does not come to an end.
pub fn finish(index: usize) -> Option<u64> {
    let processor = &PROCESSORS[index];
    until(|| processor.job.load(Ordering::SeqCst) == 0)
        .then(|| processor.result.load(Ordering::SeqCst))
}

/// The same of a job that sleeps until an NMI comes: one that was sent may have come before it
/// slept.
pub fn finish_by_nmi(index: usize) -> Option<u64> {
    let processor = &PROCESSORS[index];
    until(|| {
        settle();
        let is_done = processor.job.load(Ordering::SeqCst) == 0;
        if !is_done {
            send(index as u8, command::NMI | command::ASSERT);
        }
        is_done
    })
    .then(|| processor.result.load(Ordering::SeqCst))
}

/// The result of a job on a processor, which may be this one.
pub fn call(index: usize, job: Job, argument: u64) -> Option<u64> {
    if index == 0 {
        return Some(job(argument));
    }
    begin(index, job, argument);
    finish(index)
}

/// Runs a job on the first `count` processors at once.
pub fn call_all<const COUNT: usize>(job: Job) -> [Option<u64>; COUNT] {
    (1..COUNT).for_each(|other| begin(other, job, other as u64));
    let first = job(0);
    let mut results = [Some(first); COUNT];
    for (other, result) in results.iter_mut().enumerate().skip(1) {
        *result = finish(other);
    }
    results
}

/// Sends an interprocessor interrupt.
pub fn send(destination: u8, command: u32) {
    apic::send(u32::from(destination), command);
}

/// Waits until `condition` holds; false if it does not in good time.
pub fn until(mut condition: impl FnMut() -> bool) -> bool {
    let mut watch = Stopwatch::start();
    loop {
        // Most waits are short: the clock is looked at now and then.
        for _ in 0..64 {
            if condition() {
                return true;
            }
            core::hint::spin_loop();
        }
        if watch.ticks() > PATIENCE {
            return condition();
        }
    }
}

/// Waits for the value of a variable, on a processor that does not run the topic: without an end,
/// since the topic waits for the processor.
pub fn wait_for(variable: &AtomicU32, value: u32) {
    while variable.load(Ordering::SeqCst) != value {
        core::hint::spin_loop();
    }
}

/// Processors that have come to [`meet`] since [`ready`].
static MET: AtomicU32 = AtomicU32::new(0);

/// The next [`meet`] is another one than the last.
pub fn ready() {
    MET.store(0, Ordering::SeqCst);
}

/// Waits until `count` processors are here, so that they go on at about the same time.
pub fn meet(count: usize) {
    MET.fetch_add(1, Ordering::SeqCst);
    wait_for(&MET, count as u32);
}

/// A handler that notes the vector and acknowledges nothing.
pub fn note(frame: &mut Frame) {
    let arrivals = &PROCESSORS[index()].arrivals;
    let older = arrivals.load(Ordering::SeqCst);
    arrivals.store(older << 8 | frame.vector, Ordering::SeqCst);
}

/// A handler that notes the vector and ends the interrupt at the local APIC.
pub fn note_and_end(frame: &mut Frame) {
    note(frame);
    apic::end_of_interrupt();
}

/// The last eight vectors that this processor took since the last call, the last one in the lowest
/// byte, with what was pending.
pub fn let_in() -> u64 {
    // No PAUSE: QEMU prolongs the shadow of STI by it.
    unsafe { asm!("sti", ".rept 8", "nop", ".endr", "cli") };
    PROCESSORS[index()].arrivals.swap(0, Ordering::SeqCst)
}

/// The same of the first `count` processors.
pub fn arrivals<const COUNT: usize>() -> [u64; COUNT] {
    core::array::from_fn(|index| call(index, |_| let_in(), 0).unwrap_or(u64::MAX))
}

/// The vectors in a processor's log, without letting any in.
pub fn noted(index: usize) -> u64 {
    PROCESSORS[index].arrivals.load(Ordering::SeqCst)
}

/// The registers with which a processor started.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub esp: u32,
    pub cs: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub ss: u16,
    pub eflags: u32,
    pub cr0: u32,
    pub cr2: u32,
    pub cr3: u32,
    pub cr4: u32,
    pub dr6: u32,
    pub dr7: u32,
    /// Limit and base.
    pub idtr: [u16; 4],
    /// Limit and base.
    pub gdtr: [u16; 4],
    pub efer: u32,
}

const RECORD: u64 = 0x800;

/// Puts code on `page` that notes the registers of a processor that starts there.
pub fn set_probe(page: u8) {
    let base = u64::from(page) << 12;
    let (begin, end) = (&raw const probe_begin as u64, &raw const probe_end as u64);
    for offset in 0..end - begin {
        poke(base + offset, cpu::peek::<u8>(begin + offset));
    }
    poke(base + RECORD, [0u8; size_of::<Registers>()]);
}

/// The registers of the processor that started at `page` last.
pub fn probed(page: u8) -> Registers {
    cpu::peek((u64::from(page) << 12) + RECORD)
}

/// The delivery status of the interrupt command register.
pub fn is_sending() -> bool {
    apic::read(ICR_LOW) & command::PENDING != 0
}

unsafe extern "C" {
    static probe_begin: u8;
    static probe_end: u8;
    static ap_real_mode: u8;
}

global_asm!(
    include_str!("smp.s"),
    gdt_pointer = sym descriptors::GDT_POINTER,
    page_tables = sym boot::PAGE_TABLES,
    stacks = sym STACKS,
    STACK_SIZE = const STACK_SIZE,
    ap_main = sym ap_main,
);
