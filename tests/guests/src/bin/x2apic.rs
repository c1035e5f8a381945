//! The local APIC in x2APIC mode (Intel SDM volume 3, section 11.12).

#![no_std]
#![no_main]

use conformance::apic::{self, APIC_BASE, MASKED};
use conformance::arrivals;
use conformance::clock::until;
use conformance::cpu::{self, cpuid, rdmsr, set_cr8, wrmsr};
use conformance::interrupts::{gp, handle};
use conformance::pic;
use conformance::report::{check, equal, faults, skip_topic};

conformance::topic!(run);

const ENABLED: u64 = 1 << 11;
const EXTENDED: u64 = 1 << 10;

const ID: u32 = 0x802;
const VERSION: u32 = 0x803;
const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
const LDR: u32 = 0x80d;
const DFR: u32 = 0x80e;
const SVR: u32 = 0x80f;
const ISR: u32 = 0x810;
const IRR: u32 = 0x820;
const ESR: u32 = 0x828;
const ICR: u32 = 0x830;
const ICR_HIGH: u32 = 0x831;
const LVT_TIMER: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83e;
const SELF_IPI: u32 = 0x83f;

const VECTOR: u8 = 0x61;
const FIXED: u64 = VECTOR as u64;
const LOGICAL: u64 = 1 << 11;

fn run() {
    if !cpu::has_feature(1, 2, 21) {
        skip_topic("the processor has none");
    }
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(note_and_end));
    let xapic_version = apic::read(apic::register::VERSION);
    let base = rdmsr(APIC_BASE);
    wrmsr(APIC_BASE, base | EXTENDED);
    equal("mode-reads-back", rdmsr(APIC_BASE), base | EXTENDED);
    wrmsr(SVR, 0x1ff);
    registers(xapic_version);
    reserved();
    messages();
    task_priority();
    timer();
    transitions(base);
}

fn note_and_end(frame: &mut conformance::interrupts::Frame) {
    arrivals::note(frame);
    wrmsr(EOI, 0);
}

fn id() -> u64 {
    rdmsr(ID)
}

/// The value that the logical ID is derived to be: the cluster, and one bit in it.
fn logical_id() -> u64 {
    id() >> 4 << 16 | 1 << (id() & 0xf)
}

fn registers(xapic_version: u32) {
    equal("id-is-that-of-cpuid", id(), u64::from(cpuid(0xb, 0)[3]));
    equal("version", rdmsr(VERSION) as u8, xapic_version as u8);
    equal("logical-id-is-derived", rdmsr(LDR), logical_id());
    equal("vector-register-reads-back", rdmsr(SVR) & 0x1ff, 0x1ff);
    equal("nothing-requested", [0, 1, 2, 3, 4, 5, 6, 7].map(|word| rdmsr(IRR + word)), [0; 8]);
    wrmsr(ICR, FIXED | 0x1234_5678 << 32 | LOGICAL);
    equal("command-has-64-bits", rdmsr(ICR) & !(1 << 12), FIXED | 0x1234_5678 << 32 | LOGICAL);
    arrivals::let_in();
}

fn reserved() {
    let read_only = [
        ("id-is-read-only", ID),
        ("version-is-read-only", VERSION),
        ("processor-priority-is-read-only", PPR),
        ("logical-id-is-read-only", LDR),
        ("in-service-is-read-only", ISR),
        ("request-is-read-only", IRR),
        ("current-count-is-read-only", CURRENT_COUNT),
    ];
    for (case, register) in read_only {
        faults(case, gp(0), || wrmsr(register, 0));
    }
    let write_only = [("end-is-write-only", EOI), ("self-ipi-is-write-only", SELF_IPI)];
    let absent = [
        ("no-destination-format", DFR),
        ("no-upper-half-of-the-command", ICR_HIGH),
        ("nothing-at-804", 0x804),
    ];
    for (case, register) in write_only.into_iter().chain(absent) {
        faults(case, gp(0), || _ = rdmsr(register));
    }
    let values = [
        ("end-takes-0-only", EOI, 1),
        ("errors-take-0-only", ESR, 1),
        ("task-priority-has-8-bits", TPR, 0x100),
        ("task-priority-upper-half", TPR, 1 << 32),
        ("self-ipi-has-8-bits", SELF_IPI, 0x161),
        ("timer-entry-reserved-bit", LVT_TIMER, 1 << 20 | FIXED),
        ("divider-reserved-bit", DIVIDE, 4),
    ];
    for (case, register, value) in values {
        faults(case, gp(0), || wrmsr(register, value));
    }
}

/// The outcome of a command.
fn after(command: u64) -> arrivals::Arrivals {
    wrmsr(ICR, command);
    arrivals::let_in()
}

fn messages() {
    let here: &[u8] = &[VECTOR];
    equal("physical", after(FIXED | id() << 32).vectors(), here);
    equal("physical-elsewhere", after(FIXED | (id() ^ 0x100) << 32).vectors(), &[]);
    equal("broadcast", after(FIXED | 0xffff_ffff << 32).vectors(), here);
    equal("logical", after(LOGICAL | FIXED | logical_id() << 32).vectors(), here);
    equal("logical-other-member", after(LOGICAL | FIXED | (logical_id() ^ 3) << 32).vectors(), &[]);
    equal(
        "logical-other-cluster",
        after(LOGICAL | FIXED | (logical_id() ^ 1 << 16) << 32).vectors(),
        &[],
    );
    equal("to-self", after(FIXED | 1 << 18).vectors(), here);
    wrmsr(SELF_IPI, FIXED);
    equal("self-ipi-requested", rdmsr(IRR + u32::from(VECTOR / 32)), 1 << (VECTOR % 32));
    equal("self-ipi", arrivals::let_in().vectors(), here);
}

fn task_priority() {
    set_cr8(7);
    equal("cr8-is-tpr", rdmsr(TPR), 0x70);
    equal("processor-priority-follows", rdmsr(PPR), 0x70);
    wrmsr(SELF_IPI, FIXED);
    equal("tpr-holds-back", arrivals::let_in().vectors(), &[]);
    wrmsr(TPR, 0x50);
    equal("tpr-is-cr8", cpu::cr8(), 5);
    equal("lower-tpr-lets-in", arrivals::let_in().vectors(), &[VECTOR]);
    wrmsr(TPR, 0);
}

fn timer() {
    wrmsr(DIVIDE, 0xb);
    equal("divider-reads-back", rdmsr(DIVIDE), 0xb);
    wrmsr(LVT_TIMER, FIXED);
    wrmsr(INITIAL_COUNT, 100_000);
    equal("initial-count-reads-back", rdmsr(INITIAL_COUNT), 100_000);
    check("timer-ends", until(|| rdmsr(CURRENT_COUNT) == 0));
    equal("timer-delivered", arrivals::wait().vectors(), &[VECTOR]);
    wrmsr(LVT_TIMER, u64::from(MASKED));
}

/// Transitions between the modes (section 11.12.5).
fn transitions(base: u64) {
    faults("no-way-back-but-over-disabled", gp(0), || wrmsr(APIC_BASE, base));
    faults("no-extended-mode-without-an-apic", gp(0), || {
        wrmsr(APIC_BASE, base & !ENABLED | EXTENDED)
    });
    wrmsr(APIC_BASE, base & !ENABLED);
    equal("disabled", rdmsr(APIC_BASE), base & !ENABLED);
    faults("no-registers-while-disabled", gp(0), || _ = rdmsr(ID));
    faults("not-from-disabled-at-once", gp(0), || wrmsr(APIC_BASE, base | EXTENDED));
    wrmsr(APIC_BASE, base);
    equal("enabled-in-the-other-mode", rdmsr(APIC_BASE), base);
    equal("starts-over", apic::read(apic::register::SVR), 0xff);
}
