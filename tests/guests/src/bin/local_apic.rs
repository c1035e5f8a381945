//! The local APIC: priorities, interprocessor interrupts to oneself, errors, software and hardware
//! disable (Intel SDM volume 3, chapter 11).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::apic::{self, APIC_BASE, MASKED, is_set, read, register::*, write};
use conformance::arrivals::{self, Arrivals};
use conformance::cpu::{self, cpuid, rdmsr, wrmsr};
use conformance::interrupts::{NMI, catch, gp, handle};
use conformance::report::{check, equal, faults, runs};
use conformance::{clock, pic, pit};

conformance::topic!(run);

const VECTORS: [u8; 7] = [0x31, 0x41, 0x4f, 0x51, 0x61, 0x71, 0xff];

/// Bits of the interrupt command register.
const LOWEST_PRIORITY: u32 = 1 << 8;
const NMI_MODE: u32 = 4 << 8;
/// In the entry of a pin.
const EXTERNAL_MODE: u32 = 7 << 8;
const LOGICAL: u32 = 1 << 11;
const DELIVERY_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const SELF: u32 = 1 << 18;
const ALL: u32 = 2 << 18;
const OTHERS: u32 = 3 << 18;

const GLOBAL_ENABLE: u64 = 1 << 11;

fn run() {
    pic::set_up();
    apic::enable();
    for vector in VECTORS {
        handle(vector, Some(arrivals::note_and_end));
    }
    identity();
    self_interrupts();
    priorities();
    destinations();
    errors();
    exchanges();
    local_pins();
    software_disable();
    hardware_disable();
}

fn identity() {
    let base = rdmsr(APIC_BASE);
    equal("base-address", base & 0xf_ffff_f000, 0xfee0_0000);
    check("bootstrap-processor", base & 1 << 8 != 0);
    check("enabled", base & GLOBAL_ENABLE != 0);
    equal("id-is-that-of-cpuid", u32::from(apic::id()), cpuid(1, 0)[1] >> 24);
    let version = read(VERSION);
    check("version-of-an-integrated-apic", (0x10..=0x1f).contains(&(version & 0xff)));
    check("entries-of-the-vector-table", version >> 16 & 0xff >= 4);
    write(VERSION, !version);
    equal("version-is-read-only", read(VERSION), version);
}

fn self_interrupt(vector: u8) {
    write(ICR_LOW, SELF | u32::from(vector));
}

fn self_interrupts() {
    self_interrupt(0x41);
    check("request-pending", is_set(IRR, 0x41));
    check("not-in-service-before", !is_set(ISR, 0x41));
    equal("delivered", arrivals::let_in().vectors(), &[0x41]);
    check("request-gone", !is_set(IRR, 0x41));
    check("not-in-service-after-its-end", !is_set(ISR, 0x41));
    check("trigger-mode-edge", !is_set(TMR, 0x41));
    self_interrupt(0x41);
    self_interrupt(0x41);
    equal("pending-once", arrivals::let_in().vectors(), &[0x41]);
    equal("delivery-status-idle", read(ICR_LOW) & DELIVERY_PENDING, 0);
    apic::end_of_interrupt();
    equal("end-without-service", arrivals::let_in().vectors(), &[]);
}

fn priorities() {
    for vector in [0x41, 0x61, 0x51] {
        self_interrupt(vector);
    }
    equal("highest-first", arrivals::let_in().vectors(), &[0x61, 0x51, 0x41]);

    write(TPR, 0x50);
    equal("processor-priority-follows-tpr", read(PPR), 0x50);
    equal("cr8-is-tpr", cpu::cr8(), 5);
    for vector in [0x4f, 0x51, 0x61] {
        self_interrupt(vector);
    }
    equal("tpr-holds-back", arrivals::let_in().vectors(), &[0x61]);
    cpu::set_cr8(4);
    equal("tpr-is-cr8", read(TPR), 0x40);
    equal("one-class-more", arrivals::let_in().vectors(), &[0x51]);
    cpu::set_cr8(0);
    equal("all-classes", arrivals::let_in().vectors(), &[0x4f]);

    // In service until its end: only higher classes interrupt.
    handle(0x51, Some(arrivals::note));
    self_interrupt(0x51);
    arrivals::let_in();
    check("in-service", is_set(ISR, 0x51));
    equal("processor-priority-in-service", read(PPR), 0x50);
    for vector in [0x41, 0x51, 0x61] {
        self_interrupt(vector);
    }
    equal("higher-class-nests", arrivals::let_in().vectors(), &[0x61]);
    check("pending-behind-itself", is_set(IRR, 0x51) && is_set(ISR, 0x51));
    write(TPR, 0x30);
    equal("priority-of-service-above-tpr", read(PPR), 0x50);
    write(TPR, 0x72);
    equal("tpr-above-priority-of-service", read(PPR), 0x72);
    write(TPR, 0);
    apic::end_of_interrupt();
    equal("again-after-its-end", arrivals::let_in().vectors(), &[0x51]);
    apic::end_of_interrupt();
    equal("lower-class-last", arrivals::let_in().vectors(), &[0x41]);
    handle(0x51, Some(arrivals::note_and_end));
}

fn sent(destination: u8, command: u32) -> Arrivals {
    write(ICR_HIGH, u32::from(destination) << 24);
    write(ICR_LOW, command);
    arrivals::let_in()
}

fn destinations() {
    let vector = 0x61;
    let other = apic::id() ^ 7;
    let to_here: &[u8] = &[0x61];
    equal("physical", sent(apic::id(), ASSERT | vector).vectors(), to_here);
    equal("physical-elsewhere", sent(other, ASSERT | vector).vectors(), &[]);
    equal("physical-broadcast", sent(0xff, ASSERT | vector).vectors(), to_here);
    equal("to-all", sent(0, ALL | ASSERT | vector).vectors(), to_here);
    equal("to-others", sent(0, OTHERS | ASSERT | vector).vectors(), &[]);

    write(DFR, 0xffff_ffff);
    write(LDR, 0x06 << 24);
    equal("flat", sent(0x02, LOGICAL | ASSERT | vector).vectors(), to_here);
    equal("flat-another-bit", sent(0x0c, LOGICAL | ASSERT | vector).vectors(), to_here);
    equal("flat-elsewhere", sent(0x08, LOGICAL | ASSERT | vector).vectors(), &[]);
    equal("flat-broadcast", sent(0xff, LOGICAL | ASSERT | vector).vectors(), to_here);
    equal(
        "lowest-priority",
        sent(0x02, LOGICAL | LOWEST_PRIORITY | ASSERT | vector).vectors(),
        to_here,
    );
    write(DFR, 0x0fff_ffff);
    equal("model-reads-back", read(DFR), 0x0fff_ffff);
    write(LDR, 0x21 << 24);
    equal("cluster", sent(0x23, LOGICAL | ASSERT | vector).vectors(), to_here);
    equal("cluster-elsewhere", sent(0x31, LOGICAL | ASSERT | vector).vectors(), &[]);
    equal("cluster-other-member", sent(0x22, LOGICAL | ASSERT | vector).vectors(), &[]);
    write(DFR, 0xffff_ffff);

    let event = catch(|| {
        write(ICR_HIGH, u32::from(apic::id()) << 24);
        write(ICR_LOW, NMI_MODE | ASSERT);
        arrivals::let_in();
    });
    equal("nmi", event.err().map(|fault| fault.event), Some(NMI));
    equal("command-reads-back", read(ICR_LOW) & !DELIVERY_PENDING, NMI_MODE | ASSERT);
    // The sender gets fixed interrupts only, if it is named by shorthand.
    handle(NMI.vector, Some(arrivals::note));
    for (case, shorthand) in [("no-nmi-to-self", SELF), ("no-nmi-to-all", ALL)] {
        // Interrupts whose handlers return: NMIs are not blocked.
        sent(0, SELF | vector);
        equal(case, sent(0, shorthand | NMI_MODE | ASSERT).vectors(), &[]);
        sent(0, SELF | vector);
    }
    handle(NMI.vector, None);
    error_status();
}

fn error_status() -> u32 {
    write(ESR, 0);
    read(ESR)
}

fn errors() {
    /// Sent, and received: which of the two a processor reports for an interrupt to itself depends
    /// on its model.
    const ILLEGAL_VECTOR: u32 = 3 << 5;
    const ILLEGAL_REGISTER: u32 = 1 << 7;
    error_status();
    equal("no-errors", error_status(), 0);
    handle(0x0f, Some(arrivals::note_and_end));
    self_interrupt(0x0f);
    check("illegal-vector", error_status() & ILLEGAL_VECTOR != 0);
    equal("errors-are-reported-once", error_status(), 0);
    equal("nothing-delivered", arrivals::let_in().vectors(), &[]);
    write(LVT_ERROR, 0x71);
    let _ = read(0x3f0);
    equal("illegal-register", error_status(), ILLEGAL_REGISTER);
    equal("error-interrupt", arrivals::let_in().vectors(), &[0x71]);
    write(LVT_ERROR, MASKED);
}

fn exchange(register: u16, value: u32) -> u32 {
    let mut value = value;
    let address = apic::base() + u64::from(register);
    unsafe { asm!("xchg [{}], {:e}", in(reg) address, inout(reg) value) };
    value
}

/// Kernels for processors before the Pentium Pro write every register by XCHG, and so read those
/// that can only be written.
fn exchanges() {
    const APR: u16 = 0x90;
    handle(0x51, Some(arrivals::note));
    write(LVT_ERROR, 0x71);
    error_status();
    error_status();
    write(TPR, 0x20);
    equal("exchange-gives-the-old-value", exchange(TPR, 0), 0x20);
    self_interrupt(0x51);
    equal("exchange-before-its-end", arrivals::let_in().vectors(), &[0x51]);
    exchange(EOI, 0);
    check("exchange-ends-an-interrupt", !is_set(ISR, 0x51));
    exchange(ICR_HIGH, 0);
    exchange(ICR_LOW, SELF | 0x61);
    equal("exchange-sends-an-interrupt", arrivals::let_in().vectors(), &[0x61]);
    for register in [VERSION, APR, PPR, ISR, TMR, IRR, CURRENT_COUNT, ESR] {
        exchange(register, 0);
    }
    equal("exchanges-are-no-errors", error_status(), 0);
    equal("exchanges-raise-no-error-interrupt", arrivals::let_in().vectors(), &[]);
    write(LVT_ERROR, MASKED);
    handle(0x51, Some(arrivals::note_and_end));
}

/// LINT0 is the INTR of the 8259 pair, which it drives while it has a request that is not masked
/// (SDM volume 3, 11.5.1).
fn local_pins() {
    const LEVEL: u32 = 1 << 15;
    const REMOTE_IRR: u32 = 1 << 14;
    const TIMER_ONLY: u16 = !1;
    let none: &[u8] = &[];
    let before = read(LVT_LINT0);
    let lower = || pic::set_masks(0xffff);
    let raise = || {
        pit::edge();
        pic::set_masks(TIMER_ONLY);
    };
    // The entry changes while the pin is low.
    let connect = |entry: u32| {
        lower();
        write(LVT_LINT0, entry);
    };
    handle(pic::FIRST_VECTOR, Some(arrivals::note_and_end_irq));
    connect(0x51);
    raise();
    equal("lint0-fixed", arrivals::let_in().vectors(), &[0x51]);
    equal("lint0-fixed-is-no-acknowledgement", (pic::requested() & 1, pic::in_service()), (1, 0));
    equal("lint0-fixed-once", arrivals::let_in().vectors(), none);
    lower();
    raise();
    equal("lint0-fixed-each-time-it-rises", arrivals::let_in().vectors(), &[0x51]);

    connect(MASKED | 0x51);
    raise();
    write(LVT_LINT0, 0x51);
    equal("lint0-edge-under-the-mask-is-gone", arrivals::let_in().vectors(), none);

    handle(NMI.vector, Some(arrivals::note));
    connect(NMI_MODE);
    raise();
    equal("lint0-nmi", arrivals::let_in().vectors(), &[NMI.vector]);
    equal("lint0-nmi-once", arrivals::let_in().vectors(), none);
    connect(NMI_MODE | MASKED);
    raise();
    equal("lint0-masked-nmi", arrivals::let_in().vectors(), none);
    handle(NMI.vector, None);

    handle(0x51, Some(arrivals::note));
    connect(LEVEL | 0x51);
    raise();
    equal("lint0-level", arrivals::let_in().vectors(), &[0x51]);
    apic::end_of_interrupt();
    equal("lint0-level-again-while-it-lasts", arrivals::let_in().vectors(), &[0x51]);
    lower();
    apic::end_of_interrupt();
    equal("lint0-level-not-once-it-fell", arrivals::let_in().vectors(), none);
    check("lint0-level-ended", read(LVT_LINT0) & REMOTE_IRR == 0);
    handle(0x51, Some(arrivals::note_and_end));

    // As an external interrupt it asks the pair for the vector.
    connect(EXTERNAL_MODE);
    raise();
    equal("lint0-external", arrivals::let_in().vectors(), &[pic::FIRST_VECTOR]);
    handle(pic::FIRST_VECTOR, None);
    connect(before);
}

fn software_disable() {
    for (case, register, writable) in [
        ("bits-of-the-timer-entry", LVT_TIMER, 0x1_00ff),
        ("bits-of-the-lint1-entry", LVT_LINT1, 0x1_a7ff),
        ("bits-of-the-error-entry", LVT_ERROR, 0x1_00ff),
    ] {
        let modes_of_the_timer = 0x6_0000;
        let before = read(register);
        write(register, 0xffff_ffff);
        equal(case, read(register) & !modes_of_the_timer & !0x5000, writable & !0x5000);
        write(register, before);
    }
    let lint0 = read(LVT_LINT0);
    write(LVT_ERROR, 0x71);
    write(SVR, 0xff);
    equal("disabled-masks-entries", read(LVT_ERROR), MASKED | 0x71);
    write(LVT_ERROR, 0x71);
    equal("disabled-keeps-them-masked", read(LVT_ERROR), MASKED | 0x71);
    apic::enable();
    equal("enabled-leaves-them-masked", read(LVT_ERROR), MASKED | 0x71);
    write(LVT_LINT0, lint0);
}

fn hardware_disable() {
    let base = rdmsr(APIC_BASE);
    write(LVT_ERROR, 0x71);
    runs("disable", || wrmsr(APIC_BASE, base & !GLOBAL_ENABLE));
    equal("no-apic-in-cpuid", cpuid(1, 0)[3] >> 9 & 1, 0);
    runs("enable", || wrmsr(APIC_BASE, base));
    equal("apic-in-cpuid", cpuid(1, 0)[3] >> 9 & 1, 1);
    equal("starts-over-software-disabled", read(SVR) & 0x1ff, 0xff);
    equal("starts-over-masked", read(LVT_ERROR), MASKED);
    apic::enable();
    self_interrupt(0x61);
    check("works-again", clock::until(|| arrivals::let_in().vectors() == [0x61]));
    faults("reserved-bits-of-the-base", gp(0), || wrmsr(APIC_BASE, base | 1 << 62));
}
