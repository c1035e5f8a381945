//! How a guest finds Xen, and the ways into it.

use core::arch::asm;

use conformance::cpu::{self, cpuid, peek, poke};
use conformance::interrupts::{UD, catch, gp};
use conformance::legacy::{self, PROTECTED, Registers, call32};
use conformance::report::{check, equal, faults};
use conformance::xen::bytes::is_filled;
use conformance::xen::mode::{Mode, is_amd};
use conformance::xen::{HYPERCALL_MSR, LEAF, PAGE_BYTES, RAM_END, error, number};
use conformance::{name, user};

/// 4.17.
pub const VERSION: i64 = 0x0004_0011;

/// The page of hypercalls.
const PAGE: u64 = 0x30_0000;

const VM: u32 = 1 << 17;

pub fn run() {
    leaves();
    page();
    registers();
    numbers();
    outer_rings();
}

fn leaves() {
    check("hypervisor-bit", cpu::has_feature(1, 2, 31));
    equal("leaf-0-highest", cpuid(LEAF, 0)[0], LEAF + 5);
    equal("leaf-1", cpuid(LEAF + 1, 0), [VERSION as u32, 0, 0, 0]);
    equal("leaf-2", cpuid(LEAF + 2, 0), [1, HYPERCALL_MSR, 0, 0]);
    let [flags, mode, khz, incarnation] = cpuid(LEAF + 3, 0);
    check("leaf-3-flags", flags & !7 == 0 && incarnation == 0);
    check("leaf-3-mode", mode < 4);
    check("leaf-3-host-rate", cpuid(LEAF + 3, 2)[0] != 0);
    // A million ticks at that many thousand a second.
    let [.., mul, shift] = cpuid(LEAF + 3, 1);
    let ticks = match shift as i32 {
        shift @ 0.. => 1_000_000 << shift,
        shift => 1_000_000u64 >> -shift,
    };
    let ns = (ticks * u64::from(mul)) >> 32;
    let expected_ns = 1_000_000 * 1_000_000 / u64::from(khz.max(1));
    check("leaf-3-scale", ns.abs_diff(expected_ns) <= expected_ns / 1000);
    let [features, vcpu, domain, rest] = cpuid(LEAF + 4, 0);
    equal("leaf-4", (features, vcpu, rest), (0x5c, 0, 0));
    check("leaf-4-domain", (1..0x7ff0).contains(&domain));
    equal("leaf-4-subleaf-1", cpuid(LEAF + 4, 1), [0; 4]);
    equal("leaf-5", cpuid(LEAF + 5, 0), [0; 4]);
    equal("leaf-6", cpuid(LEAF + 6, 0), [0; 4]);
    // No other hypervisor is found, where guests look for one.
    check("leaf-100h", cpuid(LEAF + 0x100, 0)[0] < LEAF + 0x100);
}

/// Code of a page's stub 17, `xen_version`, with a sub-operation and a pointer.
fn by_stub(sub: u64, pointer: u64) -> i64 {
    let result: i64;
    unsafe {
        asm!("call {}", in(reg) PAGE + 17 * 32, in("rdi") sub, in("rsi") pointer, out("rax") result)
    };
    result
}

conformance::assembly! {
    fn stub_32() { ".code32" "mov ebp, 0x300000 + 17 * 32" "call ebp" "ret" ".code64" }
    fn other_instruction_amd() { "vmcall" "ret" }
    fn other_instruction_intel() { "vmmcall" "ret" }
}

fn page() {
    for offset in (0..PAGE_BYTES).step_by(8) {
        poke(PAGE + offset, 0u64);
    }
    cpu::wrmsr(HYPERCALL_MSR, PAGE);
    equal("msr-reads-0", cpu::rdmsr(HYPERCALL_MSR), 0);
    let third: u8 = if is_amd() { 0xd9 } else { 0xc1 };
    let is_stub = |number: u64| {
        let stub = PAGE + number * 32;
        let bytes: [u8; 9] = peek(stub);
        let [low, high, ..] = (number as u32).to_le_bytes();
        let code = [0xb8, low, high, 0, 0, 0x0f, 0x01, third, 0xc3];
        bytes == code && is_filled(stub + 9, 32 - 9, 0xcc)
    };
    let wrong = (0..PAGE_BYTES / 32).find(|&number| number != 23 && !is_stub(number));
    equal("page-stubs", wrong, None);
    equal("page-stub-of-iret", peek::<u16>(PAGE + 23 * 32), 0x0b0f);
    check("page-stub-of-iret-rest", is_filled(PAGE + 23 * 32 + 2, 30, 0xcc));
    equal("stub-from-64", by_stub(0, 0), VERSION);
    equal("stub-from-64-fails", by_stub(63, 0), error::NOSYS);
    let from_32 = Mode::Bits32.run(stub_32, 0xffff, [0; 5]);
    equal("stub-from-32", from_32, VERSION);
    equal(
        "stub-23",
        catch(|| unsafe { asm!("call {}", in(reg) PAGE + 23 * 32) }).err().map(|fault| fault.event),
        Some(UD),
    );
    faults("msr-page-1", gp(0), || cpu::wrmsr(HYPERCALL_MSR, PAGE | 1));
    faults("msr-where-no-ram-is", gp(0), || cpu::wrmsr(HYPERCALL_MSR, RAM_END));
    faults("msr-beyond-addresses", gp(0), || cpu::wrmsr(HYPERCALL_MSR, 1 << 60));
    let other = if is_amd() { other_instruction_amd } else { other_instruction_intel };
    faults("other-instruction", UD, || other());
}

/// A call changes the register of its result, and no other.
fn registers() {
    let mut rax = number::XEN_VERSION;
    let [mut rdi, mut rsi, mut rdx, mut r10, mut r8] = [0u64, 0x1111, 0x2222, 0x3333, 0x4444];
    let (mut rcx, mut r9, mut r11) = (0x5555u64, 0x6666u64, 0x7777u64);
    macro_rules! by {
        ($instruction:literal) => {
            unsafe {
                asm!($instruction, inout("rax") rax, inout("rdi") rdi, inout("rsi") rsi,
                    inout("rdx") rdx, inout("r10") r10, inout("r8") r8, inout("rcx") rcx,
                    inout("r9") r9, inout("r11") r11)
            }
        };
    }
    match is_amd() {
        true => by!("vmmcall"),
        false => by!("vmcall"),
    }
    equal(
        "registers-64",
        [rax, rdi, rsi, rdx, r10, r8, rcx, r9, r11],
        [VERSION as u64, 0, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777],
    );
}

/// Numbers that are not an HVM guest's, and those that only domain 0 may use.
fn numbers() {
    const NOT_THERE: [u64; 28] = [
        0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 19, 22, 23, 25, 27, 28, 30, 31, 33, 37, 38, 43,
        63, 64, 0xffff,
    ];
    const DOMAIN_0: [u64; 3] = [35, 36, 41];
    for mode in Mode::ALL {
        let wrong = |numbers: &[u64], want| {
            let results = numbers.iter().map(|&number| (number, mode.call(number, [0; 5])));
            results.into_iter().find(|&(_, result)| result != want)
        };
        equal(&name!("unknown-numbers-{mode}"), wrong(&NOT_THERE, error::NOSYS), None);
        equal(&name!("numbers-of-domain-0-{mode}"), wrong(&DOMAIN_0, error::PERM), None);
        equal(&name!("number-with-bit-31-{mode}"), mode.call(1 << 31 | 17, [0; 5]), error::NOSYS);
    }
    // All 64 bits of the number count.
    let high = Mode::Bits64.call(1 << 32 | number::XEN_VERSION, [0; 5]);
    equal("number-with-bit-32-64", high, error::NOSYS);
}

conformance::assembly! {
    fn user_vmcall() { "mov eax, 17" "mov r12, rdi" "xor edi, edi" "vmcall" "mov [r12], rax" "int 0x82" }
    fn user_vmmcall() { "mov eax, 17" "mov r12, rdi" "xor edi, edi" "vmmcall" "mov [r12], rax" "int 0x82" }
    // To ring 3 at ESI: to its code and data segments.
    fn enter_ring_3() {
        ".code32" "push 0x3b" "push 0x7000" "push 2" "push 0x33" "push esi" "iretd" ".code64"
    }
    // To virtual-8086 mode at 0:ESI.
    fn enter_virtual_8086() {
        ".code32" "push 0" "push 0" "push 0" "push 0" "push 0" "push 0x7000" "push edi" "push 0"
        "push esi" "iretd" ".code64"
    }
    fn ring_3_vmcall() { ".code32" "vmcall" "int 0x90" ".code64" }
    fn ring_3_vmmcall() { ".code32" "vmmcall" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn virtual_8086_vmcall() { ".code16" "vmcall" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn virtual_8086_vmmcall() { ".code16" "vmmcall" "int 0x90" ".code64" }
}

/// EAX when code ends that `enter` gets to, an outer ring of 32-bit mode.
fn outer_32(enter: extern "C" fn(), code: extern "C" fn()) -> i64 {
    const IOPL_3: u32 = 3 << 12;
    let mut registers = Registers {
        eax: number::XEN_VERSION as u32,
        esi: legacy::address(code),
        edi: VM | IOPL_3 | 2,
        ..Registers::default()
    };
    match call32(enter, PROTECTED, &mut registers) {
        Err(fault) if fault.event.vector == 0x90 => i64::from(fault.registers.eax as i32),
        outcome => panic!("{outcome:?}"),
    }
}

/// Only a kernel may call.
fn outer_rings() {
    let (user, ring_3, virtual_8086) = match is_amd() {
        true => (
            user_vmmcall as extern "C" fn(),
            ring_3_vmmcall as extern "C" fn(),
            virtual_8086_vmmcall as extern "C" fn(),
        ),
        false => (user_vmcall as _, ring_3_vmcall as _, virtual_8086_vmcall as _),
    };
    let result = PAGE + 0x1000;
    poke(result, 0u64);
    equal("ring-3-64-ends", user::run(user, 0, result).event, user::END);
    equal("ring-3-64", peek::<i64>(result), error::PERM);
    equal("ring-3-32", outer_32(enter_ring_3, ring_3), error::PERM);
    equal("virtual-8086", outer_32(enter_virtual_8086, virtual_8086), error::PERM);
}
