//! Exceptions: each one, its error code, where it says the program was, and which comes first
//! (Intel SDM volume 3, chapter 6).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{self, cr0, set_cr0};
use conformance::descriptors::{self, DATA, FREE, USER_CODE64, USER_DATA, segment};
use conformance::interrupts::{
    AC, BP, BR, DE, DF, Event, Fault, MF, NM, OF, UD, XM, catch, gate, gp, np, pf, set_gate, ss,
};
use conformance::legacy::{PROTECTED, Registers, call32};
use conformance::report::{equal, fail, faults, pass};
use conformance::user;

conformance::topic!(run);

/// An address that no page maps.
const UNMAPPED: u64 = 0x7f_0000_1234;
/// The lowest address that is not canonical with 48 bits, and with 57.
const NOT_CANONICAL: u64 = 0x4000_0000_0000_0000;

const TS: u64 = 1 << 3;
const EM: u64 = 1 << 2;
const AM: u64 = 1 << 18;

conformance::assembly! {
    fn bound_32() {
        ".code32" "push 9" "push 5" "mov eax, 10" "bound eax, [esp]" "add esp, 8" "ret" ".code64"
    }
    fn into_32() {
        ".code32" "mov eax, 0x7fffffff" "inc eax" "into" "ret" ".code64"
    }
    fn into_32_without_overflow() {
        ".code32" "xor eax, eax" "into" "ret" ".code64"
    }
    fn read() { "mov eax, [rdi]" "int 0x82" }
    fn halt() { "hlt" "int 0x82" }
    fn clear_interrupts() { "cli" "int 0x82" }
    fn port() { "in al, 0x80" "int 0x82" }
    fn read_cr0() { "mov rax, cr0" "int 0x82" }
    fn read_msr() { "mov ecx, 0xc0000080" "rdmsr" "int 0x82" }
    fn ring0_gate() { "int 0x81" "int 0x82" }
    fn load_stack() { "mov eax, 0x10" "mov ss, eax" "int 0x82" }
}

/// The case is that an instruction raises an event whose saved RIP is that of the instruction plus
/// an offset: 0 for faults, its length for traps.
macro_rules! at {
    ($case:literal, $event:expr, $offset:literal, $code:literal $(, $($operand:tt)*)?) => {{
        let address: u64;
        unsafe {
            asm!("lea {}, [rip + 2f]", "jmp 3f", concat!("2: ", $code), "ret", "3:", out(reg) address $(, $($operand)*)?);
        }
        let outcome = catch(|| unsafe { asm!("call {}", in(reg) address $(, $($operand)*)?) });
        raised($case, $event, address + $offset, outcome);
    }};
}

fn raised(case: &str, event: Event, rip: u64, outcome: Result<(), Fault>) {
    match outcome {
        Ok(()) => fail(case, format_args!("got none, want {event}")),
        Err(fault) if fault.event != event => {
            fail(case, format_args!("got {}, want {event}", fault.event))
        }
        Err(fault) if fault.rip != rip => {
            fail(case, format_args!("{event} says {:+} bytes", fault.rip.wrapping_sub(rip) as i64));
        }
        Err(_) => pass(case),
    }
}

fn run() {
    arithmetic();
    opcodes();
    software_interrupts();
    segments();
    addresses();
    floating_point();
    alignment();
    ring3();
    priorities();
    double_fault();
    thirty_two_bits();
}

fn arithmetic() {
    at!("divide-by-zero", DE, 0, "div ecx", in("ecx") 0, in("eax") 1, in("edx") 0);
    at!("divide-overflow", DE, 0, "div ecx", in("ecx") 1, in("eax") 1, in("edx") 1);
    at!("signed-divide-overflow", DE, 0, "idiv ecx", in("ecx") -1, in("eax") i32::MIN, in("edx") -1);
}

fn opcodes() {
    at!("ud2", UD, 0, "ud2");
    at!("ud1", UD, 0, ".byte 0x0f, 0xb9, 0xc0");
    at!("lock-of-a-register", UD, 0, ".byte 0xf0, 0x01, 0xc0");
    at!("lock-of-a-move", UD, 0, ".byte 0xf0, 0x89, 0x01", in("rcx") SCRATCH.address());
    at!("push-es-in-64-bit-code", UD, 0, ".byte 0x06");
    at!("far-call-by-immediate-in-64-bit-code", UD, 0, ".byte 0x9a");
    at!("mov-to-cs", UD, 0, ".byte 0x8e, 0xc8");
    at!(
        "sixteen-bytes",
        gp(0),
        0,
        ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90"
    );
}

fn software_interrupts() {
    at!("int3", BP, 1, "int3");
    at!("int-3", BP, 2, ".byte 0xcd, 0x03");
    at!("int-80h", Event::plain(0x80), 2, "int 0x80");
    let saved = gate(0x81);
    set_gate(0x81, saved.with_access(0));
    at!("int-through-an-absent-gate-type", gp(0x81 * 8 + 2), 0, "int 0x81");
    set_gate(0x81, saved.with_access(0x0e));
    at!("int-through-a-gate-not-present", np(0x81 * 8 + 2), 0, "int 0x81");
    set_gate(0x81, saved.with_selector(0));
    at!("int-through-a-gate-to-null", gp(0), 0, "int 0x81");
    set_gate(0x81, saved.with_selector(DATA));
    at!("int-through-a-gate-to-data", gp(u32::from(DATA)), 0, "int 0x81");
    set_gate(0x81, saved);
}

static SCRATCH: conformance::Global<[u64; 8]> = conformance::Global::new([0; 8]);

fn segments() {
    descriptors::set_descriptor(FREE, segment(0, 0xfffff, 0x13, 0xc));
    at!("load-of-a-segment-not-present", np(u32::from(FREE)), 0, "mov ds, ecx", in("ecx") u32::from(FREE));
    at!("load-of-a-stack-not-present", ss(u32::from(FREE)), 0, "mov ss, ecx", in("ecx") u32::from(FREE));
    at!("load-of-a-selector-beyond-the-table", gp(0xfff8), 0, "mov ds, ecx", in("ecx") 0xfff8);
    unsafe { asm!("lldt {0:x}", in(reg) 0) };
    at!("load-of-a-selector-in-no-ldt", gp(0xc), 0, "mov ds, ecx", in("ecx") 0xc);
    at!("load-of-the-task-state-as-data", gp(0x48), 0, "mov ds, ecx", in("ecx") 0x48);
    at!("load-of-code-as-stack", gp(0x18), 0, "mov ss, ecx", in("ecx") 0x18);
    at!("null-selector-in-ss", gp(0), 0, "mov ss, ecx", in("ecx") 3);
    at!("ltr-of-a-busy-one", gp(0x48), 0, "ltr cx", in("ecx") 0x48);
    at!("lldt-of-data", gp(u32::from(DATA)), 0, "lldt cx", in("ecx") u32::from(DATA));
}

fn addresses() {
    at!("read-of-an-unmapped-page", pf(0), 0, "mov al, [rcx]", in("rcx") UNMAPPED);
    let fault = catch(|| cpu::peek::<u8>(UNMAPPED)).err();
    equal("cr2-of-an-unmapped-page", fault.map(|fault| fault.cr2), Some(UNMAPPED));
    at!("read-not-canonical", gp(0), 0, "mov al, [rcx]", in("rcx") NOT_CANONICAL);
    at!("stack-read-not-canonical", ss(0), 0, "mov al, [rsp + rcx]", in("rcx") NOT_CANONICAL);
    let jump =
        faults("jump-not-canonical", gp(0), || unsafe { asm!("jmp {}", in(reg) NOT_CANONICAL) });
    // Intel's processors fault at the jump, AMD's at its target.
    match jump.is_some_and(|fault| fault.rip == NOT_CANONICAL || fault.rip < 1 << 20) {
        true => pass("jump-not-canonical-rip"),
        false => fail("jump-not-canonical-rip", "neither the jump nor its target"),
    }
    at!("msr-not-canonical", gp(0), 0, "wrmsr", in("ecx") 0xc000_0100_u32, in("eax") 0, in("edx") 0x4000_0000);
    at!("msr-unknown", gp(0), 0, "rdmsr", in("ecx") 0x8bad_f00d_u32);
}

fn floating_point() {
    let saved = cr0();
    set_cr0(saved | TS);
    at!("x87-with-ts", NM, 0, "fnop");
    at!("sse-with-ts", NM, 0, "movaps xmm0, xmm0");
    at!("wait-with-ts-and-mp", NM, 0, "fwait");
    set_cr0(saved | EM);
    at!("x87-with-em", NM, 0, "fnop");
    at!("sse-with-em", UD, 0, "movaps xmm0, xmm0");
    set_cr0(saved);
    at!("sse-not-aligned", gp(0), 0, "movaps xmm0, [rcx]", in("rcx") SCRATCH.address() as u64 + 1);
    unsafe { asm!("fninit", "fldcw [{}]", "fldz", "fld1", "fdivrp", in(reg) &0x037b_u16) };
    at!("x87-error-at-the-next-one", MF, 0, "fwait");
    unsafe { asm!("fnclex", "fninit") };
    unsafe { asm!("ldmxcsr [{}]", "movss xmm0, [{}]", in(reg) &0x1d80_u32, in(reg) &1.0_f32) };
    at!("simd-divide-by-zero", XM, 0, "divss xmm0, [rcx]", in("rcx") SCRATCH.address());
    unsafe { asm!("ldmxcsr [{}]", in(reg) &0x1f80_u32) };
}

fn alignment() {
    const ALIGNMENT_CHECK: u64 = 1 << 18;
    let saved = cr0();
    set_cr0(saved | AM);
    let outcome = user::run(read, ALIGNMENT_CHECK, SCRATCH.address() as u64 + 1);
    equal("alignment-in-ring-3", outcome.event, AC);
    let outcome = user::run(read, ALIGNMENT_CHECK, SCRATCH.address() as u64);
    equal("aligned-in-ring-3", outcome.event, user::END);
    set_cr0(saved);
    let outcome = user::run(read, ALIGNMENT_CHECK, SCRATCH.address() as u64 + 1);
    equal("alignment-without-am", outcome.event, user::END);
}

fn ring3() {
    for (case, code, event) in [
        ("ring-3-hlt", halt as extern "C" fn(), gp(0)),
        ("ring-3-cli", clear_interrupts, gp(0)),
        ("ring-3-port", port, gp(0)),
        ("ring-3-read-of-cr0", read_cr0, gp(0)),
        ("ring-3-rdmsr", read_msr, gp(0)),
        ("ring-3-int-through-a-gate-of-ring-0", ring0_gate, gp(0x81 * 8 + 2)),
        ("ring-3-ring-0-stack", load_stack, gp(u32::from(DATA))),
    ] {
        let outcome = user::run(code, 0, 0);
        equal(case, outcome.event, event);
        equal_segments(case, &outcome);
    }
}

fn equal_segments(case: &str, fault: &Fault) {
    if (fault.cs, fault.ss) != (USER_CODE64, USER_DATA) {
        fail("ring-3-segments", format_args!("{case}: {:x}, {:x}", fault.cs, fault.ss));
    }
}

/// Which of several comes (section 6.9).
fn priorities() {
    let saved = cr0();
    set_cr0(saved | TS);
    at!("ud-before-nm", UD, 0, ".byte 0xf0, 0x0f, 0x28, 0xc0");
    at!("nm-before-pf", NM, 0, "movaps xmm0, [rcx]", in("rcx") UNMAPPED & !15);
    set_cr0(saved);
    at!("gp-before-pf", gp(0), 0, "movaps xmm0, [rcx]", in("rcx") UNMAPPED | 1);
    at!("pf-of-the-divisor-before-de", pf(0), 0, "div dword ptr [rcx]", in("rcx") UNMAPPED);
    at!("selector-before-its-use", gp(0xfff8), 0, "mov ds, ecx", in("ecx") 0xfff8);
}

fn double_fault() {
    let (saved_gp, saved_pf) = (gate(13), gate(14));
    set_gate(13, saved_gp.with_access(0));
    faults("np-while-delivering-gp", DF, || unsafe { asm!("mov ds, {0:e}", in(reg) 0xfff8) });
    set_gate(13, saved_gp);
    set_gate(14, saved_pf.with_access(0));
    faults("gp-while-delivering-pf", DF, || _ = cpu::peek::<u8>(UNMAPPED));
    set_gate(14, saved_pf);
    let fault = faults("stack-not-canonical", DF, || unsafe {
        asm!("mov {saved}, rsp", "mov rsp, {bad}", "ud2", "mov rsp, {saved}", saved = out(reg) _, bad = in(reg) NOT_CANONICAL);
    });
    equal("stack-not-canonical-rsp", fault.map(|fault| fault.rsp), Some(NOT_CANONICAL));
    // A benign event, then a contributory one: no double fault.
    let saved = gate(3);
    set_gate(3, saved.with_access(0x0e));
    at!("np-while-delivering-bp", np(3 * 8 + 2), 0, "int3");
    set_gate(3, saved);
}

fn thirty_two_bits() {
    let event =
        |code| call32(code, PROTECTED, &mut Registers::default()).err().map(|fault| fault.event);
    equal("bound", event(bound_32), Some(BR));
    equal("into", event(into_32), Some(OF));
    equal("into-without-overflow", event(into_32_without_overflow), None);
}
