//! When interrupts come: the shadows of STI, MOV SS and POP SS, HLT, NMI and what blocks it,
//! priorities of the local APIC (Intel SDM volume 3, sections 6.7, 6.8 and 10.8).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{self, outb, poke, set_cr8};
use conformance::descriptors::{CODE32, CODE64, DATA};
use conformance::interrupts::{Frame, catch, handle};
use conformance::report::{check, equal, runs};

conformance::topic!(run);

const APIC: u64 = 0xfee0_0000;
const TASK_PRIORITY: u64 = APIC + 0x80;
const END_OF_INTERRUPT: u64 = APIC + 0xb0;
const SPURIOUS: u64 = APIC + 0xf0;
const COMMAND: u64 = APIC + 0x300;
const COMMAND_HIGH: u64 = APIC + 0x310;
const TIMER: u64 = APIC + 0x320;
const INITIAL_COUNT: u64 = APIC + 0x380;
const DIVIDE: u64 = APIC + 0x3e0;
const APIC_ENABLED: u32 = 0x1ff;
const SELF: u32 = 1 << 18;
const ASSERT: u32 = 1 << 14;
const NMI: u32 = 4 << 8;
const PERIODIC: u32 = 1 << 17;
const BY_1: u32 = 0xb;

/// A timer's period in counts, 100 us under Bulkhead, and how long to wait for it: many periods on
/// every machine.
const PERIOD: u32 = 100_000;
const WAIT_ROUNDS: u32 = 40_000;

/// RFLAGS: single steps.
const TF: u64 = 1 << 8;

/// Two vectors of different priority classes.
const LOW: u8 = 0x40;
const HIGH: u8 = 0x70;
/// The task priority that holds the lower one back.
const CLASS: u64 = 4;

/// Interrupts after which a shadow is taken to hold, and how long to wait for them.
const ENOUGH: u32 = 100;
const GROUP_ROUNDS: u32 = 2_000_000;

static COUNT: Global<u32> = Global::new(0);
static RIP: Global<u64> = Global::new(0);
static ORDER: Global<u32> = Global::new(0);
static NESTED: Global<u32> = Global::new(0);

fn interrupt(frame: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    RIP.set(frame.rip);
    ORDER.set(ORDER.get() << 8 | frame.vector as u32);
    poke(END_OF_INTERRUPT, 0_u32);
}

fn note(frame: &mut Frame) {
    ORDER.set(ORDER.get() << 8 | frame.vector as u32);
}

fn nmi(frame: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    RIP.set(frame.rip);
    if COUNT.get() == 1 && NESTED.get() == 0 {
        // Another one while this one is being handled: it waits for IRET.
        send(NMI);
        for _ in 0..100 {
            cpu::inb(0x80);
        }
        NESTED.set(COUNT.get());
    }
}

fn note_step(frame: &mut Frame) {
    ORDER.set(ORDER.get() << 4 | frame.vector as u32);
    cpu::set_dr6(0);
}

fn send(command: u32) {
    poke(COMMAND_HIGH, 0_u32);
    poke(COMMAND, command | ASSERT);
}

fn send_to_self(vector: u8) {
    poke(COMMAND, u32::from(vector) | SELF | ASSERT);
}

/// Runs `body` with an interrupt of `vector` pending and interrupts off; how many came, and where.
fn pending(body: impl FnOnce()) -> (u32, u64) {
    COUNT.set(0);
    // They are off, but here Bochs lets a hypervisor have the interrupts that it held back since
    // the last entry.
    cpu::cli();
    send_to_self(LOW);
    body();
    cpu::sti();
    cpu::inb(0x80);
    cpu::cli();
    (COUNT.get(), RIP.get())
}

fn run() {
    // The 8259 pair stays silent.
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    poke(SPURIOUS, APIC_ENABLED);
    for vector in [LOW, HIGH] {
        handle(vector, Some(interrupt));
    }
    off();
    shadows();
    shadows_of_ss();
    halt();
    priorities();
    non_maskable();
    non_maskable_from_shadows();
}

/// Each expiry but the first finds an interrupt that waits.
fn off() {
    COUNT.set(0);
    poke(DIVIDE, BY_1);
    poke(TIMER, PERIODIC | u32::from(LOW));
    poke(INITIAL_COUNT, PERIOD);
    for _ in 0..WAIT_ROUNDS {
        unsafe { asm!("cli", ".rept 50", "nop", ".endr") };
    }
    equal("none-comes-while-they-are-off", COUNT.get(), 0);
    poke(INITIAL_COUNT, 0_u32);
    pending(|| {});
}

fn shadows() {
    let expected: u64;
    let mut outcome = (0, 0);
    unsafe {
        asm!("lea {}, [rip + 2f]", "jmp 3f", "2: sti", "nop", "nop", "cli", "ret", "3:", out(reg) expected)
    };
    COUNT.set(0);
    send_to_self(LOW);
    unsafe { asm!("call {}", in(reg) expected) };
    outcome.0 = COUNT.get();
    outcome.1 = RIP.get();
    equal("sti-holds-off-for-one-instruction", outcome, (1, expected + 2));
    // A hypervisor's own interrupt may come between the two, and QEMU's VMRUN then forgets the
    // shadow. That is rare.
    let mut came_between = true;
    let mut came = 0;
    for _ in 0..3 {
        came = pending(|| {
            unsafe { asm!("sti", "cli") };
            came_between &= COUNT.get() != 0;
        })
        .0;
    }
    check("sti-cli-lets-none-through", !came_between);
    equal("it-comes-later", came, 1);
    let popf: u64;
    unsafe {
        asm!("lea {}, [rip + 2f]", "jmp 3f", "2: pushfq", "or dword ptr [rsp], 0x200", "popfq", "nop", "cli", "ret", "3:", out(reg) popf)
    };
    COUNT.set(0);
    send_to_self(LOW);
    unsafe { asm!("call {}", in(reg) popf) };
    check("popf-has-no-shadow", COUNT.get() == 1 && RIP.get() > popf);
    // A shadow ends with an instruction that exits to a hypervisor as with any other.
    for (case, name) in
        [(0, "shadow-over-cpuid"), (1, "shadow-over-port"), (2, "shadow-over-device-memory")]
    {
        COUNT.set(0);
        send_to_self(LOW);
        unsafe {
            match case {
                0 => {
                    asm!("mov r8, rbx", "sti", "cpuid", "cli", "mov rbx, r8", inout("eax") 0 => _, out("r8") _, out("ecx") _, out("edx") _)
                }
                1 => asm!("sti", "in al, 0x80", "cli", out("al") _),
                _ => asm!("sti", "mov eax, [{}]", "cli", in(reg) APIC + 0x30, out("eax") _),
            }
        }
        let counted = COUNT.get();
        equal(name, counted, 1);
        pending(|| {});
    }
}

/// Groups of three bytes, 64 of them from [`GROUPS`] on: what loads SS, ends after two, and an
/// instruction in its shadow.
const GROUP_BYTES: u64 = 3;
const GROUPS_BYTES: u64 = 64 * GROUP_BYTES;
static GROUPS: Global<u64> = Global::new(0);
static LAST_RIP: Global<u64> = Global::new(0);
static IN_GROUPS: Global<u32> = Global::new(0);
static IN_SHADOW: Global<u32> = Global::new(0);

fn among_groups(frame: &mut Frame) {
    let offset = frame.rip.wrapping_sub(GROUPS.get());
    // Where the program has come no further, this one had to wait for the last one's end.
    if offset < GROUPS_BYTES && frame.rip != LAST_RIP.get() {
        IN_GROUPS.set(IN_GROUPS.get() + 1);
        IN_SHADOW.set(IN_SHADOW.get() + u32::from(offset % GROUP_BYTES == 2));
    }
    LAST_RIP.set(frame.rip);
    poke(END_OF_INTERRUPT, 0_u32);
}

fn groups_of_mov_ss() {
    unsafe {
        asm!(
            "lea {start}, [rip + 2f]", "mov [{groups}], {start}", "2:", ".rept 64", "mov ss, edi", "nop", ".endr",
            start = out(reg) _, groups = in(reg) GROUPS.address(), in("edi") u32::from(DATA)
        );
    }
}

fn groups_of_pop_ss() {
    unsafe {
        asm!(
            "lea {way}, [rip + 3f]", "or {way}, {back}", "push {way}",
            "lea {way}, [rip + 2f]", "mov [{groups}], {way}",
            "push {CODE32}", "push {way}", "retfq",
            ".code32",
            // POP SS, which the assembler gives a prefix.
            "2:", ".rept 64", "push edi", ".byte 0x17", "nop", ".endr",
            // RETF to what was pushed first: in 32-bit code each half is an operand.
            ".byte 0xcb",
            ".code64",
            "3:",
            way = out(reg) _, groups = in(reg) GROUPS.address(), back = in(reg) u64::from(CODE64) << 32,
            CODE32 = const CODE32, in("edi") u32::from(DATA)
        );
    }
}

/// A timer's interrupts fall on every boundary of `groups` but those behind a load of SS (section
/// 6.8.3).
fn no_interrupt_in_shadow(case: &str, groups: fn()) {
    IN_GROUPS.set(0);
    IN_SHADOW.set(0);
    handle(LOW, Some(among_groups));
    poke(TIMER, PERIODIC | u32::from(LOW));
    poke(INITIAL_COUNT, PERIOD);
    cpu::sti();
    for _ in 0..GROUP_ROUNDS {
        if IN_GROUPS.get() >= ENOUGH {
            break;
        }
        groups();
    }
    cpu::cli();
    poke(INITIAL_COUNT, 0_u32);
    handle(LOW, Some(interrupt));
    pending(|| {});
    equal(case, (IN_GROUPS.get() >= ENOUGH, IN_SHADOW.get()), (true, 0));
}

fn shadows_of_ss() {
    no_interrupt_in_shadow("mov-ss-holds-off-for-one-instruction", groups_of_mov_ss);
    no_interrupt_in_shadow("pop-ss-holds-off-for-one-instruction", groups_of_pop_ss);
    // An interrupt that the instruction in the shadow lets in comes behind it.
    COUNT.set(0);
    set_cr8(CLASS);
    send_to_self(LOW);
    cpu::sti();
    cpu::inb(0x80);
    let behind: u64;
    unsafe {
        asm!(
            "lea {behind}, [rip + 2f]", "mov ss, {ss:e}", "mov cr8, {zero}", "2: nop", "cli",
            behind = out(reg) behind, ss = in(reg) u32::from(DATA), zero = in(reg) 0_u64
        );
    }
    equal("mov-ss-shadow-over-cr8", (COUNT.get(), RIP.get()), (1, behind));
    for (case, register, value) in [
        ("mov-ss-shadow-over-the-task-priority", TASK_PRIORITY, 0),
        ("mov-ss-shadow-over-an-ipi", COMMAND, u32::from(LOW) | SELF | ASSERT),
    ] {
        COUNT.set(0);
        if register == TASK_PRIORITY {
            set_cr8(CLASS);
            send_to_self(LOW);
        }
        cpu::sti();
        unsafe {
            // QEMU looks for interrupts at jumps.
            asm!(
                "mov ss, {ss:e}", "mov [{register}], {value:e}", "jmp 2f", "2: nop", "cli",
                ss = in(reg) u32::from(DATA), register = in(reg) register, value = in(reg) value
            );
        }
        equal(case, COUNT.get(), 1);
        pending(|| {});
    }
}

fn halt() {
    COUNT.set(0);
    send_to_self(LOW);
    let code: u64;
    unsafe {
        asm!("lea {}, [rip + 2f]", "jmp 3f", "2: sti", "hlt", "cli", "ret", "3:", out(reg) code)
    };
    unsafe { asm!("call {}", in(reg) code) };
    equal("sti-hlt-wakes-behind-hlt", (COUNT.get(), RIP.get()), (1, code + 2));
}

fn priorities() {
    COUNT.set(0);
    ORDER.set(0);
    send_to_self(LOW);
    send_to_self(HIGH);
    cpu::sti();
    cpu::inb(0x80);
    cpu::cli();
    equal(
        "higher-class-first",
        (COUNT.get(), ORDER.get()),
        (2, u32::from(HIGH) << 8 | u32::from(LOW)),
    );
    COUNT.set(0);
    cpu::sti();
    let outcome = catch(|| unsafe { asm!("int 0x40") });
    cpu::cli();
    check("int-n-needs-no-priority", outcome.is_ok() && COUNT.get() == 1);
}

fn non_maskable() {
    handle(2, Some(nmi));
    COUNT.set(0);
    NESTED.set(0);
    send(NMI);
    for _ in 0..1000 {
        cpu::inb(0x80);
    }
    equal("nmi-with-interrupts-off", COUNT.get() != 0, true);
    equal("nmi-is-blocked-until-iret", NESTED.get(), 1);
    equal("nmi-comes-after-iret", COUNT.get(), 2);
    COUNT.set(1);
    NESTED.set(1);
    send(NMI);
    for _ in 0..1000 {
        cpu::inb(0x80);
    }
    equal("nmi-again", COUNT.get(), 2);
    nmi_of_a_step();
    // INT 2 blocks nothing.
    runs("int-2", || unsafe { asm!("int 2") });
    handle(2, None);
}

/// One sent by the instruction in a shadow comes behind it, before the interrupt that waited for
/// the shadow's end.
fn non_maskable_from_shadows() {
    const RIGHT: u32 = 2 << 8 | LOW as u32;
    handle(2, Some(note));
    handle(LOW, Some(interrupt));
    for (case, shadow_of_sti) in
        [("nmi-sent-in-the-shadow-of-sti", true), ("nmi-sent-in-the-shadow-of-mov-ss", false)]
    {
        // Where the local APIC is in hardware and a hypervisor's own interrupt comes meanwhile,
        // Bochs lets the one that waits in although interrupts are off. That is rare.
        let mut order = 0;
        for _ in 0..3 {
            if order != RIGHT {
                order = order_from_shadow(shadow_of_sti);
            }
        }
        equal(case, order, RIGHT);
    }
    handle(2, None);
}

/// The arrivals, in their order, when the instruction in a shadow sends an NMI and an interrupt
/// waits.
fn order_from_shadow(shadow_of_sti: bool) -> u32 {
    ORDER.set(0);
    // For the reason that [`pending`] has.
    cpu::cli();
    send_to_self(LOW);
    poke(COMMAND_HIGH, 0_u32);
    unsafe {
        match shadow_of_sti {
            true => asm!(
                "sti", "mov [{command}], {nmi:e}", "jmp 2f", "2: nop", "cli",
                command = in(reg) COMMAND, nmi = in(reg) NMI | ASSERT
            ),
            false => asm!(
                "mov ss, {ss:e}", "mov [{command}], {nmi:e}", "jmp 2f", "2: sti", "nop", "nop", "cli",
                command = in(reg) COMMAND, nmi = in(reg) NMI | ASSERT, ss = in(reg) u32::from(DATA)
            ),
        }
    }
    let order = ORDER.get();
    pending(|| {});
    order
}

/// An NMI that a stepped instruction sends: the #DB is delivered first, and the NMI comes before
/// the first instruction of its handler.
fn nmi_of_a_step() {
    ORDER.set(0);
    handle(1, Some(note_step));
    handle(2, Some(note_step));
    poke(COMMAND_HIGH, 0_u32);
    // While they are off, Bochs holds back the hypervisor's own.
    cpu::sti();
    unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], {TF}", "popfq", "mov dword ptr [{at}], {send}", "pushfq",
            "and qword ptr [rsp], ~{TF}", "popfq", TF = const TF, at = in(reg) COMMAND, send = const NMI | ASSERT
        );
    }
    cpu::cli();
    handle(1, None);
    equal("nmi-behind-a-trap", ORDER.get(), 0x2_1111);
}
