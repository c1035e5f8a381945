//! Single-stepping and hardware breakpoints (Intel SDM volume 3, chapter 17).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{
    cr4, dr6, dr7, inb, inl, outb, set_cr4, set_cr8, set_dr0, set_dr1, set_dr6, set_dr7, wrmsr,
};
use conformance::descriptors::DATA as DATA_SEGMENT;
use conformance::interrupts::{DB, Fault, Frame, UD, catch, handle};
use conformance::report::{check, equal, faults};
use conformance::{Global, apic, pic};

conformance::topic!(run);

const TF: u64 = 1 << 8;
const RF: u64 = 1 << 16;
/// A model-specific register whose reserved memory types are refused.
const PAT: u32 = 0x277;

/// DR6: what happened. The other bits read as ones, or zero (bit 12).
const B0: u64 = 1 << 0;
const B1: u64 = 1 << 1;
const BD: u64 = 1 << 13;
const BS: u64 = 1 << 14;
const HAPPENED: u64 = 0xf | BD | BS;

/// DR7: local enable of the four breakpoints, their kinds and lengths.
const GD: u64 = 1 << 13;
const ENABLE: u64 = 1;
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ACCESS: u64 = 3;

const fn breakpoint(number: u64, kind: u64, length: u64) -> u64 {
    let length = match length {
        1 => 0,
        2 => 1,
        8 => 2,
        _ => 3,
    };
    ENABLE << (2 * number) | kind << (16 + 4 * number) | length << (18 + 4 * number)
}

/// Registers of the local APIC.
const VERSION: u64 = 0xfee0_0030;
const TASK_PRIORITY: u64 = 0xfee0_0080;

static DATA: Global<[u64; 4]> = Global::new([0; 4]);

static COUNT: Global<u32> = Global::new(0);
static LAST_RIP: Global<u64> = Global::new(0);
static SEEN: Global<u64> = Global::new(0);

fn count(frame: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    LAST_RIP.set(frame.rip);
    SEEN.set(SEEN.get() | dr6() & HAPPENED);
    set_dr6(0);
    // An instruction breakpoint is a fault: it would come again.
    frame.rflags |= RF;
}

/// Runs `body` and says how many #DB there were, and what DR6 said in them.
fn counted(body: impl FnOnce()) -> (u32, u64) {
    COUNT.set(0);
    SEEN.set(0);
    set_dr6(0);
    handle(1, Some(count));
    body();
    set_dr7(0x400);
    handle(1, None);
    (COUNT.get(), SEEN.get())
}

fn run() {
    registers();
    single_step();
    single_step_with_an_interrupt();
    data_breakpoints();
    breakpoints_on_loads_of_ss();
    device_breakpoints();
    port_breakpoints();
    instruction_breakpoints();
    general_detect();
    faults("icebp", DB, || unsafe { asm!(".byte 0xf1") });
}

fn registers() {
    equal("dr7-at-first", dr7(), 0x400);
    set_dr6(0);
    equal("dr6-fixed-bits", dr6() as u32 & !HAPPENED as u32, 0xffff_0ff0);
    set_dr7(0);
    equal("dr7-fixed-bit", dr7(), 0x400);
    faults("dr6-upper-half", conformance::interrupts::gp(0), || set_dr6(1 << 32));
    faults("dr7-upper-half", conformance::interrupts::gp(0), || set_dr7(1 << 32));
    let cr4 = conformance::cpu::cr4();
    let value: u64;
    set_dr6(0);
    unsafe { asm!(".byte 0x0f, 0x21, 0xe0", out("rax") value) };
    equal("dr4-is-dr6", value, dr6());
    conformance::cpu::set_cr4(cr4 | 8);
    faults("dr4-with-debugging-extensions", UD, || unsafe {
        asm!(".byte 0x0f, 0x21, 0xe0", out("rax") _)
    });
    conformance::cpu::set_cr4(cr4);
}

fn single_step() {
    let (stepped, seen) = counted(|| unsafe {
        asm!("pushfq", "or qword ptr [rsp], {TF}", "popfq", "nop", "nop", "nop", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq", TF = const TF);
    });
    // The instruction after POPFQ is the first: three NOPs, PUSHFQ, AND, POPFQ.
    equal("single-step", (stepped, seen), (6, BS));
    let (stepped, _) = counted(|| unsafe {
        asm!(
            "lea rsi, [{data}]", "lea rdi, [{data} + 8]", "mov ecx, 4", "cld",
            "pushfq", "or qword ptr [rsp], {TF}", "popfq", "rep movsb", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
            data = sym DATA, TF = const TF, out("rsi") _, out("rdi") _, out("ecx") _
        );
    });
    // Each iteration is one.
    equal("single-step-of-a-repeated-move", stepped, 4 + 3);
    let (stepped, _) = counted(|| unsafe {
        asm!(
            "mov eax, ss", "pushfq", "or qword ptr [rsp], {TF}", "popfq", "mov ss, eax", "nop", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
            TF = const TF, out("eax") _
        );
    });
    // MOV SS holds the trap off until the next instruction has run.
    equal("single-step-of-mov-ss", stepped, 4);
    for (case, want) in [
        ("single-step-of-cpuid", 0),
        ("single-step-of-in", 1),
        ("single-step-of-out", 2),
        ("single-step-of-rdmsr", 3),
    ] {
        let (stepped, seen) = counted(|| unsafe {
            match want {
                0 => asm!(
                    "mov r8, rbx", "xor eax, eax", "pushfq", "or qword ptr [rsp], {TF}", "popfq", "cpuid", "pushfq",
                    "and qword ptr [rsp], ~{TF}", "popfq", "mov rbx, r8",
                    TF = const TF, out("eax") _, out("r8") _, out("ecx") _, out("edx") _
                ),
                1 => asm!(
                    "pushfq", "or qword ptr [rsp], {TF}", "popfq", "in al, 0x80", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
                    TF = const TF, out("al") _
                ),
                2 => asm!(
                    "pushfq", "or qword ptr [rsp], {TF}", "popfq", "out 0x80, al", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
                    TF = const TF, in("al") 0_u8
                ),
                _ => asm!(
                    "pushfq", "or qword ptr [rsp], {TF}", "popfq", "rdmsr", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
                    TF = const TF, in("ecx") 0x1b, out("eax") _, out("edx") _
                ),
            }
        });
        equal(case, (stepped, seen), (4, BS));
    }
    let (stepped, _) = counted(|| unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], {TF}", "popfq", "mov eax, [{lapic}]", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
            TF = const TF, lapic = in(reg) 0xfee0_0030_u64, out("eax") _
        );
    });
    equal("single-step-of-device-memory", stepped, 4);
    let fault = catch(|| unsafe {
        asm!("pushfq", "or qword ptr [rsp], {TF}", "popfq", "nop", TF = const TF)
    })
    .err();
    check(
        "single-step-saves-tf",
        fault.is_some_and(|fault| fault.event == DB && fault.rflags & TF != 0),
    );
}

/// How many #DB had come when the interrupt did, and what it interrupted.
static INTERRUPTED: Global<(u32, u64)> = Global::new((0, 0));

fn interrupt(frame: &mut Frame) {
    INTERRUPTED.set((COUNT.get(), frame.rip));
    apic::end_of_interrupt();
}

/// Steps over what lowers the task priority, and with it lets an interrupt in: the trap comes first
/// (table 6-2), the interrupt when its handler is over.
fn single_step_with_an_interrupt() {
    const VECTOR: u8 = 0x40;
    const CLASS: u64 = 4;
    const SELF: u32 = 1 << 18;
    const FLAGS: u64 = TF | 1 << 9;
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(interrupt));
    for (case, by_cr8, is_pending) in [
        ("single-step-of-mov-cr8", true, false),
        ("single-step-of-mov-cr8-that-lets-an-interrupt-in", true, true),
        ("single-step-of-an-apic-write", false, false),
        ("single-step-of-an-apic-write-that-lets-an-interrupt-in", false, true),
    ] {
        INTERRUPTED.set((0, 0));
        set_cr8(CLASS);
        if is_pending {
            apic::write(apic::register::ICR_LOW, SELF | u32::from(VECTOR));
        }
        let mut behind: u64 = 0;
        let steps = counted(|| unsafe {
            match by_cr8 {
                true => asm!(
                    "lea {behind}, [rip + 2f]", "pushfq", "or qword ptr [rsp], {FLAGS}", "popfq", "mov cr8, {zero}",
                    "2: pushfq", "and qword ptr [rsp], ~{FLAGS}", "popfq",
                    behind = out(reg) behind, zero = in(reg) 0_u64, FLAGS = const FLAGS
                ),
                false => asm!(
                    "lea {behind}, [rip + 2f]", "pushfq", "or qword ptr [rsp], {FLAGS}", "popfq", "mov dword ptr [{priority}], 0",
                    "2: pushfq", "and qword ptr [rsp], ~{FLAGS}", "popfq",
                    behind = out(reg) behind, priority = in(reg) TASK_PRIORITY, FLAGS = const FLAGS
                ),
            }
        });
        let interrupted = if is_pending { (1, behind) } else { (0, 0) };
        equal(case, (steps, INTERRUPTED.get()), ((4, BS), interrupted));
        set_cr8(0);
    }
    handle(VECTOR, None);
}

/// A breakpoint on what is loaded into SS is reported behind the next instruction (section 6.8.3).
fn breakpoints_on_loads_of_ss() {
    let place = DATA.address();
    DATA.set([u64::from(DATA_SEGMENT), 0, 0, 0]);
    set_dr0(place as u64);
    for (case, instruction) in [
        ("breakpoint-on-mov-ss", 0),
        ("breakpoint-on-mov-ss-before-cpuid", 1),
        ("breakpoint-on-mov-ss-before-in", 2),
        ("breakpoint-on-mov-ss-before-device-memory", 3),
    ] {
        let mut behind: u64 = 0;
        let happened = armed(breakpoint(0, ACCESS, 2), || unsafe {
            match instruction {
                0 => {
                    asm!("lea {0}, [rip + 2f]", "mov ss, [{1}]", "nop", "2: nop", out(reg) behind, in(reg) place)
                }
                1 => asm!(
                    "mov r8, rbx", "xor eax, eax", "lea r9, [rip + 2f]", "mov ss, [{0}]", "cpuid", "2: nop", "mov rbx, r8",
                    in(reg) place, out("r9") behind, out("eax") _, out("r8") _, out("ecx") _, out("edx") _
                ),
                2 => asm!(
                    "lea {0}, [rip + 2f]", "mov ss, [{1}]", "in al, 0x80", "2: nop",
                    out(reg) behind, in(reg) place, out("al") _
                ),
                _ => asm!(
                    "lea {0}, [rip + 2f]", "mov ss, [{1}]", "mov eax, [{2}]", "2: nop",
                    out(reg) behind, in(reg) place, in(reg) VERSION, out("eax") _
                ),
            }
        });
        equal(case, (happened, LAST_RIP.get()), ((1, B0), behind));
    }
}

fn data_breakpoints() {
    let data = DATA.address() as u64;
    let touch = |value: u8| unsafe { asm!("mov [{}], {}", in(reg) data, in(reg_byte) value) };
    let read = || unsafe { asm!("mov al, [{}]", in(reg) data, out("al") _) };
    set_dr0(data);
    let armed = |dr7: u64, body: &dyn Fn()| {
        counted(|| {
            set_dr7(dr7);
            body();
        })
    };
    equal("write-breakpoint", armed(breakpoint(0, WRITE, 1), &|| touch(1)), (1, B0));
    equal("write-breakpoint-on-a-read", armed(breakpoint(0, WRITE, 1), &read), (0, 0));
    equal("access-breakpoint-on-a-read", armed(breakpoint(0, ACCESS, 1), &read), (1, B0));
    equal("breakpoint-not-enabled", armed(breakpoint(0, WRITE, 1) & !3, &|| touch(1)), (0, 0));
    set_dr1(data + 4);
    let wide = || unsafe { asm!("mov qword ptr [{}], 0", in(reg) data) };
    equal(
        "two-breakpoints-at-once",
        armed(breakpoint(0, WRITE, 1) | breakpoint(1, WRITE, 4), &wide),
        (1, B0 | B1),
    );
    let neighbour = || unsafe { asm!("mov byte ptr [{}], 0", in(reg) data + 1) };
    equal("beside-the-breakpoint", armed(breakpoint(0, WRITE, 1), &neighbour), (0, 0));
    equal("within-the-breakpoint", armed(breakpoint(0, WRITE, 8), &neighbour), (1, B0));
    let (_, _) = armed(breakpoint(0, WRITE, 1), &|| touch(1));
    let after = LAST_RIP.get();
    let fault = caught(|| {
        set_dr7(breakpoint(0, WRITE, 1));
        touch(1);
    });
    check("write-breakpoint-is-a-trap", fault.is_some_and(|fault| fault.rip != 0) && after != 0);
}

/// Counts #DB of `body` with `dr7`.
fn armed(dr7: u64, body: impl FnOnce()) -> (u32, u64) {
    counted(|| {
        set_dr7(dr7);
        body();
    })
}

/// Breakpoints on the local APIC's registers.
fn device_breakpoints() {
    let read = |at: u64| unsafe { asm!("mov {:e}, [{}]", out(reg) _, in(reg) at) };
    let write = |at: u64| unsafe { asm!("mov dword ptr [{}], 0", in(reg) at) };
    set_dr0(VERSION);
    equal(
        "access-breakpoint-on-a-device",
        armed(breakpoint(0, ACCESS, 4), || read(VERSION)),
        (1, B0),
    );
    equal(
        "write-breakpoint-on-a-device-read",
        armed(breakpoint(0, WRITE, 4), || read(VERSION)),
        (0, 0),
    );
    equal(
        "beside-the-breakpoint-on-a-device",
        armed(breakpoint(0, ACCESS, 4), || read(VERSION - 0x10)),
        (0, 0),
    );
    set_dr0(TASK_PRIORITY);
    set_dr1(TASK_PRIORITY);
    equal(
        "write-breakpoint-on-a-device",
        armed(breakpoint(0, WRITE, 4), || write(TASK_PRIORITY)),
        (1, B0),
    );
    // A move that is decoded another way.
    equal(
        "access-breakpoint-on-an-or-to-a-device",
        armed(breakpoint(0, ACCESS, 4), || unsafe {
            asm!("or dword ptr [{}], 0", in(reg) TASK_PRIORITY)
        }),
        (1, B0),
    );
    let (stepped, seen) = armed(breakpoint(0, WRITE, 4), || unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], {TF}", "popfq", "mov dword ptr [{at}], 0", "pushfq", "and qword ptr [rsp], ~{TF}",
            "popfq", TF = const TF, at = in(reg) TASK_PRIORITY
        );
    });
    equal("breakpoint-and-single-step-on-a-device", (stepped, seen), (4, B0 | BS));
}

/// Breakpoints on ports, which need CR4.DE: an unused one, and what is beside it.
fn port_breakpoints() {
    const AT: u16 = 0x80;
    let old_cr4 = cr4();
    set_cr4(old_cr4 | 8);
    set_dr0(AT.into());
    let byte = breakpoint(0, PORT, 1);
    let port_in = |port| {
        move || {
            inb(port);
        }
    };
    equal("port-breakpoint-on-in", armed(byte, port_in(AT)), (1, B0));
    equal("port-breakpoint-on-out", armed(byte, || outb(AT, 0)), (1, B0));
    equal("beside-the-port-breakpoint", armed(byte, port_in(AT + 1)), (0, 0));
    equal("port-breakpoint-not-enabled", armed(byte & !3, port_in(AT)), (0, 0));
    set_dr0(u64::from(AT) + 3);
    equal(
        "port-breakpoint-within-the-access",
        armed(byte, || {
            inl(AT);
        }),
        (1, B0),
    );
    equal("port-breakpoint-of-four-ports", armed(breakpoint(0, PORT, 4), port_in(AT + 1)), (1, B0));
    set_dr0(AT.into());
    let strings = armed(byte, || unsafe {
        asm!(
            "cld", "rep insb",
            inout("rdi") DATA.address() => _, inout("rcx") 3_u64 => _, in("dx") AT
        );
    });
    equal("port-breakpoint-on-each-ins", strings, (3, B0));
    let strings = armed(byte, || unsafe {
        asm!(
            "cld", "rep outsb",
            inout("rsi") DATA.address() => _, inout("rcx") 3_u64 => _, in("dx") AT
        );
    });
    equal("port-breakpoint-on-each-outs", strings, (3, B0));
    // Bytes that INS writes are data.
    set_dr0(DATA.address() as u64 + 1);
    let strings = armed(breakpoint(0, WRITE, 1), || unsafe {
        asm!(
            "cld", "rep insb",
            inout("rdi") DATA.address() => _, inout("rcx") 3_u64 => _, in("dx") AT
        );
    });
    equal("write-breakpoint-on-an-ins", strings, (1, B0));
    set_dr0(AT.into());
    let next = LAST_RIP.address();
    let fault = caught(|| {
        set_dr7(byte);
        unsafe {
            asm!("lea rax, [rip + 2f]", "mov [{}], rax", "in al, 0x80", "2:", "nop", in(reg) next, out("rax") _);
        }
    });
    equal("port-breakpoint-is-a-trap", fault.map(|fault| fault.rip), Some(LAST_RIP.get()));
    set_cr4(old_cr4);
}

fn caught(body: impl FnOnce()) -> Option<Fault> {
    set_dr6(0);
    let fault = catch(body).err();
    set_dr7(0x400);
    fault
}

fn instruction_breakpoints() {
    let target: u64;
    unsafe { asm!("lea {}, [rip + 2f]", "jmp 3f", "2: nop", "nop", "ret", "3:", out(reg) target) };
    let call = || unsafe { asm!("call {}", in(reg) target) };
    set_dr0(target + 1);
    equal(
        "instruction-breakpoint",
        counted(|| {
            set_dr7(breakpoint(0, EXECUTE, 1));
            call();
        }),
        (1, B0),
    );
    equal("instruction-breakpoint-is-a-fault", LAST_RIP.get(), target + 1);
    let fault = caught(|| {
        set_dr7(breakpoint(0, EXECUTE, 1));
        call();
    });
    // The handler has to set RF itself (section 17.3.1.1); any other fault saves it set.
    check("instruction-breakpoint-saves-no-rf", fault.is_some_and(|fault| fault.rflags & RF == 0));
    let fault = caught(|| unsafe { asm!("ud2") });
    check("other-faults-save-rf", fault.is_some_and(|fault| fault.rflags & RF != 0));
    // One that a hypervisor raises: PAT takes no reserved memory type.
    let fault = caught(|| wrmsr(PAT, 2));
    check("refused-msr-saves-rf", fault.is_some_and(|fault| fault.rflags & RF != 0));
}

fn general_detect() {
    let fault = caught(|| {
        set_dr7(0x400 | GD);
        set_dr0(0);
    });
    equal("general-detect", fault.map(|fault| fault.event), Some(DB));
    // The processor has cleared it, so that the handler may read.
    equal("general-detect-in-dr6", dr6() & HAPPENED, BD);
}
