//! Unmasked x87 errors: #MF while CR0.NE is set, IRQ 13 while it is clear, which port F0h ends
//! (Intel SDM volume 1, section 8.7 and appendix D; Intel 290550, "Coprocessor Error Register").

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use conformance::clock;
use conformance::cpu::{cli, cr0, has_qemus_name, outb, set_cr0, sti};
use conformance::interrupts::{Event, catch, handle};
use conformance::pic::{self, FIRST_VECTOR};
use conformance::report::{check, equal, fail, faults, runs, skip};

conformance::topic!(run);

const NE: u64 = 1 << 5;
const MF: Event = Event { vector: 16, error: 0 };
const IRQ: u8 = 13;
const CASCADE: u8 = 2;
const VECTOR: u8 = FIRST_VECTOR + IRQ;
const ERROR_PORT: u16 = 0xf0;
/// The control word that lets division by zero through, and its bits in the status word: the
/// exception and the summary.
const UNMASKED: u16 = 0x37b;
const DIVISION_BY_ZERO: u16 = 0x84;

static COUNT: AtomicU32 = AtomicU32::new(0);
static STATUS: AtomicU32 = AtomicU32::new(0);
static REQUEST_AFTER: AtomicU32 = AtomicU32::new(0);

fn run() {
    // Nothing that waits comes between an error and what is to be seen of it.
    set_cr0(cr0() & !(1 << 2 | 1 << 3) | 1 << 1);
    native();
    if has_qemus_name() {
        // Its TCG may end itself instead.
        INTERRUPT_CASES.iter().for_each(|case| skip(case, "QEMU's own processor"));
        return;
    }
    set_cr0(cr0() & !NE);
    pic::set_up();
    if interrupts() {
        ends_before_or_after();
        ignored();
    } else {
        INTERRUPT_CASES[1..].iter().for_each(|case| fail(case, "no interrupt"));
    }
    set_cr0(cr0() | NE);
    unsafe { asm!("fninit") };
}

/// Those with CR0.NE clear.
const INTERRUPT_CASES: [&str; 9] = [
    "error-is-irq-13",
    "status-in-the-interrupt",
    "each-error-is-one-interrupt",
    "no-error-is-no-interrupt",
    "cleared-before-the-port",
    "the-port-ends-the-request",
    "waiting-instructions-run-after-the-port",
    "the-error-outlasts-them",
    "the-next-error-interrupts",
];

/// Divides by zero, and leaves the error pending.
fn divide() {
    unsafe { asm!("fninit", "fldcw [{}]", "fld1", "fldz", "fdivp st(1), st", in(reg) &UNMASKED) };
}

fn wait() {
    unsafe { asm!("fwait") };
}

fn status() -> u16 {
    let status;
    unsafe { asm!("fnstsw ax", out("ax") status) };
    status
}

fn clear() {
    unsafe { asm!("fnclex") };
}

fn native() {
    faults("native-error-is-mf", MF, || {
        divide();
        wait();
    });
    equal("status-in-the-handler", status() & 0xff, DIVISION_BY_ZERO);
    clear();
    runs("cleared-error-is-gone", wait);
    runs("error-alone-does-not-fault-what-does-not-wait", || {
        divide();
        status();
        clear();
        wait();
    });
    faults("masks-that-open-raise-what-is-pending", MF, || unsafe {
        asm!("fninit", "fld1", "fldz", "fdivp st(1), st", "fldcw [{}]", "fwait", in(reg) &UNMASKED);
    });
    clear();
}

/// Opens the input, makes an error, and waits for it.
fn make_error() {
    let count = COUNT.load(Relaxed);
    pic::set_masks(!(1 << IRQ | 1 << CASCADE));
    sti();
    divide();
    wait();
    clock::until(|| COUNT.load(Relaxed) != count);
    cli();
}

/// False if there is none.
fn interrupts() -> bool {
    handle(
        VECTOR,
        Some(|_| {
            STATUS.store(status().into(), Relaxed);
            COUNT.fetch_add(1, Relaxed);
            outb(ERROR_PORT, 0);
            clear();
            pic::end_of_interrupt(IRQ);
        }),
    );
    let outcome = catch(make_error);
    equal(INTERRUPT_CASES[0], (outcome.is_ok(), COUNT.load(Relaxed)), (true, 1));
    if COUNT.load(Relaxed) == 0 {
        return false;
    }
    equal("status-in-the-interrupt", STATUS.load(Relaxed) as u16 & 0xff, DIVISION_BY_ZERO);
    for _ in 0..99 {
        make_error();
    }
    equal("each-error-is-one-interrupt", COUNT.load(Relaxed), 100);
    sti();
    unsafe { asm!("fninit", "fld1", "fld1", "faddp st(1), st", "fwait") };
    cli();
    equal("no-error-is-no-interrupt", COUNT.load(Relaxed), 100);
    true
}

/// FNCLEX before the write to the port, and after it.
fn ends_before_or_after() {
    COUNT.store(0, Relaxed);
    handle(
        VECTOR,
        Some(|_| {
            COUNT.fetch_add(1, Relaxed);
            clear();
            outb(ERROR_PORT, 0);
            pic::end_of_interrupt(IRQ);
        }),
    );
    for _ in 0..10 {
        make_error();
    }
    equal("cleared-before-the-port", COUNT.load(Relaxed), 10);
    COUNT.store(0, Relaxed);
    handle(
        VECTOR,
        Some(|_| {
            COUNT.fetch_add(1, Relaxed);
            // The request was taken, and the line is low.
            outb(ERROR_PORT, 0);
            REQUEST_AFTER.store(u32::from(pic::requested() >> IRQ & 1), Relaxed);
            clear();
            pic::end_of_interrupt(IRQ);
        }),
    );
    make_error();
    equal("the-port-ends-the-request", (COUNT.load(Relaxed), REQUEST_AFTER.load(Relaxed)), (1, 0));
}

/// After the write to the port x87 instructions run in spite of the error.
fn ignored() {
    COUNT.store(0, Relaxed);
    handle(
        VECTOR,
        Some(|_| {
            COUNT.fetch_add(1, Relaxed);
            outb(ERROR_PORT, 0);
            if COUNT.load(Relaxed) == 1 {
                wait();
                unsafe { asm!("fld1", "fstp st(0)", "fwait") };
                STATUS.store(status().into(), Relaxed);
            }
            clear();
            pic::end_of_interrupt(IRQ);
        }),
    );
    make_error();
    equal("waiting-instructions-run-after-the-port", COUNT.load(Relaxed), 1);
    check(
        "the-error-outlasts-them",
        STATUS.load(Relaxed) as u16 & DIVISION_BY_ZERO == DIVISION_BY_ZERO,
    );
    COUNT.store(1, Relaxed);
    make_error();
    equal("the-next-error-interrupts", COUNT.load(Relaxed), 2);
}
