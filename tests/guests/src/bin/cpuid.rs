//! CPUID: what every processor promises, and under Bulkhead what docs/cpuid.md says.

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{cpuid, peek, rdmsr, wrmsr};
use conformance::report::{check, equal, skip};

conformance::topic!(run);

const APIC_BASE: u32 = 0x1b;
const APIC_ENABLE: u64 = 1 << 11;
const HYPERVISOR: u32 = 0x4000_0000;
/// EBX, ECX, EDX of "BulkheadHVM".
const SIGNATURE: [u32; 3] = [0x6b6c_7542, 0x6461_6568, 0x004d_5648];

/// Features of leaf 1's ECX that are hidden, and that are there whatever the processor has.
const HIDDEN: u32 =
    1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 14 | 1 << 15 | 1 << 18;
const ADDED: u32 = 1 << 21 | 1 << 24 | 1 << 31;
const SVM: u32 = 1 << 2;

fn run() {
    everywhere();
    let [_, ebx, ecx, edx] = cpuid(HYPERVISOR, 0);
    match cpuid(1, 0)[2] >> 31 == 1 && [ebx, ecx, edx] == SIGNATURE {
        true => under_bulkhead(),
        false => ["hidden-features", "added-features", "no-svm", "empty-leaves", "highest-leaves"]
            .iter()
            .for_each(|case| skip(case, "no Bulkhead")),
    }
}

fn everywhere() {
    let [highest, ebx, ecx, edx] = cpuid(0, 0);
    let is_intel = [ebx, edx, ecx] == [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
    let is_amd = [ebx, edx, ecx] == [0x6874_7541, 0x6974_6e65, 0x444d_4163];
    check("a-known-vendor", is_intel || is_amd);
    check("leaves-up-to-xsave", highest >= 0xd);
    check("extended-leaves", cpuid(0x8000_0000, 0)[0] >= 0x8000_0008);
    // FPU, TSC, MSR, PAE, CX8, APIC, CMOV, PAT, FXSR, SSE, SSE2; SYSCALL, NX, long mode.
    const BASIC: u32 =
        1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 15 | 1 << 16 | 1 << 24 | 1 << 25 | 1 << 26;
    const EXTENDED: u32 = 1 << 11 | 1 << 20 | 1 << 29;
    equal("basic-features", (cpuid(1, 0)[3] & BASIC, cpuid(0x8000_0001, 0)[3] & EXTENDED), (BASIC, EXTENDED));
    check("physical-addresses", (36..=52).contains(&(cpuid(0x8000_0008, 0)[0] & 0xff)));
    equal("apic-id", cpuid(1, 0)[1] >> 24, peek::<u32>(0xfee0_0020) >> 24);
    let (mut rax, mut rcx, rdx): (u64, u64, u64) = (u64::MAX << 32 | 1, u64::MAX << 32, 0);
    let rdx_after: u64;
    unsafe {
        asm!("mov r8, rbx", "cpuid", "mov rbx, r8", inout("rax") rax, inout("rcx") rcx, inout("rdx") rdx => rdx_after, out("r8") _)
    };
    equal("upper-halves-are-cleared", (rax >> 32, rcx >> 32, rdx_after >> 32), (0, 0, 0));
    // The last case: some processors do not let the local APIC be switched on again.
    wrmsr(APIC_BASE, rdmsr(APIC_BASE) & !APIC_ENABLE);
    equal("apic-follows-its-switch", cpuid(1, 0)[3] >> 9 & 1, 0);
}

fn under_bulkhead() {
    equal("hidden-features", cpuid(1, 0)[2] & HIDDEN, 0);
    equal("added-features", cpuid(1, 0)[2] & ADDED, ADDED);
    equal("no-svm", cpuid(0x8000_0001, 0)[2] & SVM, 0);
    let empty = [5, 6, 9, 0xa, 0xf, 0x10, 0x12, 0x14].iter().all(|leaf| cpuid(*leaf, 0) == [0; 4]);
    check("empty-leaves", empty);
    check("highest-leaves", cpuid(0, 0)[0] <= 0x16 && cpuid(0x8000_0000, 0)[0] <= 0x8000_001f);
}
