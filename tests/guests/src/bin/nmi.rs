//! NMIs: blocked in their handler until IRET, right behind which one that waits arrives (Intel SDM
//! volume 3, section 6.7.1; AMD APM volume 2, section 8.2.3). They are sent by the local APIC to
//! itself.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use conformance::apic::{self, register::*, write};
use conformance::cpu::has_qemus_name;
use conformance::interrupts::{Frame, NMI, UD, catch, handle};
use conformance::report::{check, equal, skip};
use conformance::{Global, arrivals, clock, pic, pit};

conformance::topic!(run);

/// NMIs that the handler is to send, one in each run.
static TO_SEND: AtomicU32 = AtomicU32::new(0);
/// NMIs sent so far, by the program and the handler.
static SENT: AtomicU32 = AtomicU32::new(0);

/// The handler's orders, and what it has seen.
#[derive(Clone, Copy)]
struct Handler {
    /// Runs.
    runs: u32,
    /// NMIs sent when its last run began.
    seen: u32,
    /// How deep its runs are nested, and were at most.
    depth: u32,
    deepest: u32,
    /// Its last run has sent one.
    has_sent: bool,
    /// Runs that followed such a run.
    followed: u32,
    /// Where its first run came, and how many came elsewhere.
    first_rip: u64,
    elsewhere: u32,
    /// Each run raises and returns from an exception.
    nests: bool,
}

impl Handler {
    const IDLE: Self = Self {
        runs: 0,
        seen: 0,
        depth: 0,
        deepest: 0,
        has_sent: false,
        followed: 0,
        first_rip: 0,
        elsewhere: 0,
        nests: false,
    };
}

static HANDLER: Global<Handler> = Global::new(Handler::IDLE);

fn change(change: impl FnOnce(&mut Handler)) {
    let mut handler = HANDLER.get();
    change(&mut handler);
    HANDLER.set(handler);
}

fn send() {
    SENT.fetch_add(1, Ordering::SeqCst);
    // Edge, asserted, physical destination 0: this processor.
    write(ICR_LOW, 1 << 14 | 4 << 8);
}

fn on_nmi(frame: &mut Frame) {
    change(|handler| {
        handler.runs += 1;
        handler.seen = SENT.load(Ordering::SeqCst);
        handler.depth += 1;
        handler.deepest = handler.deepest.max(handler.depth);
        handler.followed += u32::from(handler.has_sent);
        handler.has_sent = TO_SEND.load(Ordering::SeqCst) > 0;
        TO_SEND.fetch_sub(u32::from(handler.has_sent), Ordering::SeqCst);
        if handler.runs == 1 {
            handler.first_rip = frame.rip;
        }
        handler.elsewhere += u32::from(frame.rip != handler.first_rip);
    });
    let handler = HANDLER.get();
    if handler.has_sent {
        send();
    }
    if handler.nests {
        unsafe { asm!("ud2") };
    }
    change(|handler| handler.depth -= 1);
}

fn skip_ud2(frame: &mut Frame) {
    frame.rip += 2;
}

/// Until nothing more comes.
fn settle() {
    clock::until(|| {
        let handler = HANDLER.get();
        handler.seen == SENT.load(Ordering::SeqCst) && handler.depth == 0
    });
    // One too many would have come by now.
    arrivals::let_in();
}

/// From now on the handler sends so many.
fn begin(to_send: u32, handler: Handler) {
    TO_SEND.store(to_send, Ordering::SeqCst);
    SENT.store(0, Ordering::SeqCst);
    HANDLER.set(handler);
}

fn run() {
    pic::set_up();
    apic::enable();
    write(ICR_HIGH, u32::from(apic::id()) << 24);
    handle(NMI.vector, Some(on_nmi));
    one();
    each_from_the_handler_before();
    without_waiting();
    behind_another_return();
    in_a_shadow();
    after_a_fault();
}

fn one() {
    begin(0, Handler::IDLE);
    send();
    settle();
    equal("one", HANDLER.get().runs, 1);
    send();
    settle();
    equal("another-after-its-return", HANDLER.get().runs, 2);
    // Three while it runs are one.
    begin(1, Handler::IDLE);
    handle(
        NMI.vector,
        Some(|frame| {
            if HANDLER.get().runs == 0 {
                send();
                send();
            }
            on_nmi(frame);
        }),
    );
    send();
    settle();
    equal("several-while-blocked-are-one", HANDLER.get().runs, 2);
    equal("none-while-blocked", HANDLER.get().deepest, 1);
    handle(NMI.vector, Some(on_nmi));
}

/// Each is sent when the handler before has begun, and waits for its return.
fn each_from_the_handler_before() {
    const COUNT: u32 = 10_000;
    begin(COUNT - 1, Handler::IDLE);
    send();
    settle();
    let handler = HANDLER.get();
    equal("ten-thousand-in-a-row", handler.runs, COUNT);
    equal("none-nests", handler.deepest, 1);
    // The program does not get on in between.
    equal("each-right-behind-the-return", handler.elsewhere, 0);
}

/// A hundred thousand, of which the handler sends every other.
fn without_waiting() {
    const ROUNDS: u32 = 50_000;
    begin(0, Handler::IDLE);
    for _ in 0..ROUNDS {
        TO_SEND.fetch_add(1, Ordering::SeqCst);
        send();
    }
    settle();
    let handler = HANDLER.get();
    let (sent, by_handler) = (SENT.load(Ordering::SeqCst), ROUNDS - TO_SEND.load(Ordering::SeqCst));
    equal("none-is-lost-that-came-after-the-return", handler.seen, sent);
    equal("one-follows-each-run-that-sends", handler.followed, by_handler);
    check("not-more-than-were-sent", handler.runs <= sent);
    equal("none-nests-without-waiting", handler.deepest, 1);
}

/// Any IRET opens NMIs, also that of an exception which the handler raises.
fn behind_another_return() {
    handle(UD.vector, Some(skip_ud2));
    begin(1, Handler { nests: true, ..Handler::IDLE });
    send();
    settle();
    equal(
        "the-return-of-an-exception-opens-them",
        (HANDLER.get().runs, HANDLER.get().deepest),
        (2, 2),
    );
    handle(UD.vector, None);
}

/// Pairs of MOV SS and the instruction that it protects, and their length.
const PAIRS: u64 = 64;
const PAIR_BYTES: u64 = 3;
const MOV_SS_BYTES: u64 = 2;

/// Where MOV SS protects instructions: pairs in a row, and two that exit under a hypervisor.
#[derive(Clone, Copy)]
struct Protected {
    pairs: u64,
    exiting: [u64; 2],
}

impl Protected {
    /// The instruction at `rip` is protected.
    fn holds(&self, rip: u64) -> bool {
        let offset = rip.wrapping_sub(self.pairs);
        let is_in_pair = offset < PAIRS * PAIR_BYTES && offset % PAIR_BYTES == MOV_SS_BYTES;
        is_in_pair || self.exiting.contains(&rip)
    }

    /// Runs them: most of the time those that do not exit, so that an NMI may come at each of them.
    #[inline(never)]
    fn run() -> Self {
        let (pairs, port, cpuid): (u64, u64, u64);
        unsafe {
            asm!(
                "lea {pairs}, [rip + 2f]",
                "lea {port}, [rip + 3f]",
                "lea {cpuid}, [rip + 4f]",
                "mov {rbx}, rbx",
                "mov eax, ss",
                "mov {count:e}, 1000",
                "2:",
                ".rept 64",
                "mov ss, eax",
                "nop",
                ".endr",
                "dec {count:e}",
                "jnz 2b",
                "mov ss, eax",
                "3: in al, 0x61",
                "mov eax, ss",
                "mov ss, eax",
                "4: cpuid",
                "mov rbx, {rbx}",
                pairs = out(reg) pairs,
                port = out(reg) port,
                cpuid = out(reg) cpuid,
                rbx = out(reg) _,
                count = out(reg) _,
                out("eax") _,
                out("ecx") _,
                out("edx") _,
            );
        }
        Self { pairs, exiting: [port, cpuid] }
    }
}

/// NMIs of the interval timer: what is protected, how many came in all, and how many before what is
/// protected.
static TIMER_NMIS: Global<(Option<Protected>, u32, u32)> = Global::new((None, 0, 0));

fn note_place(frame: &mut Frame) {
    let (protected, all, wrong) = TIMER_NMIS.get();
    let is_wrong = protected.is_some_and(|protected| protected.holds(frame.rip));
    TIMER_NMIS.set((protected, all + 1, wrong + u32::from(is_wrong)));
}

/// MOV to SS and POP SS hold NMIs off too, until the instruction behind is done (SDM volume 3,
/// 6.8.3; APM volume 2, 8.1.4). They come at any moment, from the interval timer.
fn in_a_shadow() {
    const WANTED: u32 = 200;
    const TIMER_INPUT: u8 = 2;
    const NMI_MODE: u32 = 4 << 8;
    TIMER_NMIS.set((Some(Protected::run()), 0, 0));
    handle(NMI.vector, Some(note_place));
    apic::io::route(TIMER_INPUT, NMI_MODE, apic::id());
    pit::every(700);
    let enough = || {
        clock::until(|| {
            Protected::run();
            TIMER_NMIS.get().1 >= WANTED
        })
    };
    // A busy host lets few through.
    let _ = (0..10).any(|_| enough());
    apic::io::route(TIMER_INPUT, apic::MASKED, 0);
    pit::lower();
    equal("nmis-of-the-timer", TIMER_NMIS.get().1.min(WANTED), WANTED);
    // By itself, and by VMRUN, which does not load the shadow; how often hangs on the host's
    // interrupts.
    if has_qemus_name() {
        skip("none-behind-mov-ss", "QEMU does not keep NMIs out of the shadow");
    } else {
        equal("none-behind-mov-ss", TIMER_NMIS.get().2, 0);
    }
    handle(NMI.vector, Some(on_nmi));
}

/// A handler that never returns leaves them blocked until some IRET.
fn after_a_fault() {
    begin(0, Handler::IDLE);
    handle(NMI.vector, None);
    let event = catch(|| {
        send();
        arrivals::let_in();
    });
    equal("caught", event.err().map(|fault| fault.event), Some(NMI));
    handle(NMI.vector, Some(on_nmi));
    begin(0, Handler::IDLE);
    send();
    for _ in 0..1000 {
        apic::read(VERSION);
    }
    equal("blocked-without-a-return", HANDLER.get().runs, 0);
    // An interrupt to this processor, whose handler returns.
    handle(0x41, Some(arrivals::note_and_end));
    write(ICR_LOW, 1 << 18 | 0x41);
    arrivals::let_in();
    settle();
    equal("opened-by-the-return-of-an-interrupt", HANDLER.get().runs, 1);
}
