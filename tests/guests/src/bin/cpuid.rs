//! CPUID: what every processor promises, that leaves agree with each other and with what the
//! processor does, and under Bulkhead what docs/cpuid.md says (Intel SDM volume 2, CPUID; APM
//! volume 3, appendix E).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{cpuid, cr4, has_feature, peek, rdmsr, set_cr4, wrmsr};
use conformance::interrupts::catch;
use conformance::report::{check, equal, skip};

conformance::topic!(run);

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

const APIC_BASE: u32 = 0x1b;
const APIC_ENABLE: u64 = 1 << 11;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_PKE: u64 = 1 << 22;
const HYPERVISOR: u32 = 0x4000_0000;
/// EBX, ECX, EDX of "BulkheadHVM".
const SIGNATURE: [u32; 3] = [0x6b6c_7542, 0x6461_6568, 0x004d_5648];

/// A feature: its leaf, register and bit.
type Feature = (u32, usize, u32);
const AVX: Feature = (1, ECX, 28);
const MPX: Feature = (7, EBX, 14);
const AVX512: Feature = (7, EBX, 16);
const PKU: Feature = (7, ECX, 3);
const LA57: Feature = (7, ECX, 16);

/// Features of all processors that the guests run on: leaf, register, bits.
const EVERYWHERE: [(u32, usize, u32); 6] = [
    // SSE3, PCLMULQDQ, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C,
    // RDRAND.
    (1, ECX, 0x76d8_3203),
    // FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE-36,
    // CLFLUSH, MMX, FXSR, SSE, SSE2.
    (1, EDX, 0x078b_fbfd),
    // FSGSBASE, BMI1, AVX2, SMEP, BMI2.
    (7, EBX, 0x1a9),
    // LAHF, LZCNT.
    (0x8000_0001, ECX, 0x21),
    // SYSCALL, NX, pages of 1 GiB, RDTSCP, long mode.
    (0x8000_0001, EDX, 0x2c10_0800),
    // x87, SSE, AVX.
    (0xd, EAX, 7),
];

/// Features that a guest has not, by docs/cpuid.md: leaf, register, bits.
const ABSENT: [(u32, usize, u32); 12] = [
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA.
    (1, ECX, 0x0004_cdfc),
    // PSN, DS, ACPI thermal, SS, HTT, TM, IA64, PBE.
    (1, EDX, 0xf860_0000 | 1 << 18),
    // TSC_ADJUST, SGX, HLE, RTM, PQM, MPX, PQE, processor trace.
    (7, EBX, 0x0200_d816),
    // WAITPKG, CET, TME, LA57, key locker, bus-lock detection, ENQCMD, SGX_LC, PKS.
    (7, ECX, 0xe181_20a0),
    // All but AVX512_4VNNIW, AVX512_4FMAPS, FSRM, VP2INTERSECT, SERIALIZE, AVX512_FP16, and the
    // means against speculation: MD_CLEAR, IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD.
    (7, EDX, !0xbc80_451c),
    // AMX and what is unknown; supervisor state.
    (0xd, EAX, !0x2e7),
    (0xd, EDX, u32::MAX),
    // CmpLegacy, SVM, ExtApicSpace, OSVW, IBS, SKINIT, WDT, LWP, TopologyExtensions, performance
    // counters, MONITORX.
    (0x8000_0001, ECX, 0x3dc0_b60e),
    (0x8000_0007, EDX, !0x100),
    (0x8000_0008, EAX, 0xffff_0000),
    // All but CLZERO, RstrFpErrPtrs, WBNOINVD, and the means against speculation.
    (0x8000_0008, EBX, !0x750f_d205),
    (0x8000_0008, ECX, u32::MAX),
];

/// Emulated whatever the processor has: x2APIC, TSC deadline; and the hypervisor.
const ADDED: u32 = 1 << 21 | 1 << 24 | 1 << 31;

/// Leaves that the table does not have, or has as empty; and those behind the last.
const EMPTY: [u32; 22] = [
    3,
    5,
    6,
    8,
    9,
    0xa,
    0xc,
    0xe,
    0xf,
    0x10,
    0x11,
    0x12,
    0x13,
    0x14,
    0x17,
    0x1234,
    HYPERVISOR + 1,
    HYPERVISOR + 0x100,
    0x8000_000a,
    0x8000_0020,
    0xc000_0000,
    u32::MAX,
];

fn run() {
    vendor();
    equal("features-of-every-machine", first_lacking(), None);
    addresses();
    extended_state();
    promises();
    let [_, ebx, ecx, edx] = cpuid(HYPERVISOR, 0);
    match cpuid(1, 0)[ECX] >> 31 == 1 && [ebx, ecx, edx] == SIGNATURE {
        true => under_bulkhead(),
        false => UNDER_BULKHEAD.iter().for_each(|case| skip(case, "no Bulkhead")),
    }
    // The last cases: some processors do not let the local APIC be switched on again.
    wrmsr(APIC_BASE, rdmsr(APIC_BASE) & !APIC_ENABLE);
    equal("apic-follows-its-switch", cpuid(1, 0)[EDX] >> 9 & 1, 0);
    equal("apic-follows-its-switch-in-the-extended-leaf", cpuid(0x8000_0001, 0)[EDX] >> 9 & 1, 0);
}

fn has((leaf, register, bit): Feature) -> bool {
    has_feature(leaf, register, bit)
}

fn is_intel() -> bool {
    let [_, ebx, ecx, edx] = cpuid(0, 0);
    [ebx, edx, ecx] == [0x756e_6547, 0x4965_6e69, 0x6c65_746e]
}

fn is_amd() -> bool {
    let [_, ebx, ecx, edx] = cpuid(0, 0);
    [ebx, edx, ecx] == [0x6874_7541, 0x6974_6e65, 0x444d_4163]
}

fn vendor() {
    /// Of leaf 1's EDX, what AMD's processors repeat in leaf 8000_0001h.
    const REPEATED: u32 = 0x0183_f3ff;
    let highest = cpuid(0, 0)[EAX];
    let [highest_extended, extended_vendor @ ..] = cpuid(0x8000_0000, 0);
    check("a-known-vendor", is_intel() || is_amd());
    check("leaves-up-to-xsave", highest >= 0xd);
    check("extended-leaves", highest_extended >= 0x8000_0008);
    let expected = if is_amd() { [cpuid(0, 0)[1], cpuid(0, 0)[2], cpuid(0, 0)[3]] } else { [0; 3] };
    equal("vendor-of-the-extended-leaves", extended_vendor, expected);
    let repeated = cpuid(0x8000_0001, 0)[EDX] & REPEATED;
    equal("repeated-features", repeated, if is_amd() { cpuid(1, 0)[EDX] & REPEATED } else { 0 });
    let name =
        (0x8000_0002..=0x8000_0004).flat_map(|leaf| cpuid(leaf, 0)).flat_map(u32::to_le_bytes);
    check(
        "a-name-of-letters",
        name.into_iter().all(|byte| byte == 0 || (b' '..=b'~').contains(&byte)),
    );
    equal("apic-id", cpuid(1, 0)[EBX] >> 24, peek::<u32>(0xfee0_0020) >> 24);
    equal("cache-line", cpuid(1, 0)[EBX] >> 8 & 0xff, 64 / 8);
    equal("leaves-without-subleaves", cpuid(1, 77), cpuid(1, 0));
    let (mut rax, mut rcx, rdx): (u64, u64, u64) = (u64::MAX << 32 | 1, u64::MAX << 32, 0);
    let rdx_after: u64;
    unsafe {
        asm!("mov r8, rbx", "cpuid", "mov rbx, r8", inout("rax") rax, inout("rcx") rcx, inout("rdx") rdx => rdx_after, out("r8") _)
    };
    equal("upper-halves-are-cleared", (rax >> 32, rcx >> 32, rdx_after >> 32), (0, 0, 0));
}

/// The first leaf that lacks what all processors have.
fn first_lacking() -> Option<(u32, usize, u32)> {
    let lacking =
        EVERYWHERE.map(|(leaf, register, bits)| (leaf, register, bits & !cpuid(leaf, 0)[register]));
    lacking.into_iter().find(|(_, _, bits)| *bits != 0)
}

fn addresses() {
    let widths = cpuid(0x8000_0008, 0)[EAX];
    check("physical-addresses", (36..=52).contains(&(widths & 0xff)));
    equal("linear-addresses", widths >> 8 & 0xff, if has(LA57) { 57 } else { 48 });
}

fn xsetbv(value: u64) {
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// Leaf Dh.
fn extended_state() {
    const LEGACY_AND_HEADER: u32 = 512 + 64;
    let [low, _, largest, high] = cpuid(0xd, 0);
    let supported = u64::from(high) << 32 | u64::from(low);
    let components = || (2..63).filter(|component| supported >> component & 1 != 0);
    let features = [(1 << 2, AVX), (3 << 3, MPX), (7 << 5, AVX512), (1 << 9, PKU)];
    let wrong = features.into_iter().find(|(bits, feature)| {
        let there = supported & bits;
        there != if has(*feature) { *bits } else { 0 }
    });
    equal("state-components-have-features", wrong, None);
    let has_place = |component| {
        let [size, offset, ..] = cpuid(0xd, component);
        size > 0 && offset >= LEGACY_AND_HEADER
    };
    check("state-components-have-a-place", components().all(has_place));
    let end = |component| cpuid(0xd, component)[EAX] + cpuid(0xd, component)[EBX];
    equal(
        "largest-area-ends-with-the-last",
        largest,
        components().map(end).fold(LEGACY_AND_HEADER, u32::max),
    );
    let absent = (2..63).find(|component| supported >> component & 1 == 0).unwrap_or_default();
    equal("no-such-component", cpuid(0xd, absent)[EAX], 0);
    set_cr4(cr4() | CR4_OSXSAVE);
    xsetbv(supported);
    equal("area-of-all-components", cpuid(0xd, 0)[EBX], largest);
    xsetbv(3);
    equal("area-of-the-first", cpuid(0xd, 0)[EBX], LEGACY_AND_HEADER);
    xsetbv(7);
    // XSAVEC or XSAVES: the compacted form, in which AVX follows the header.
    let has_compacted_form = cpuid(0xd, 1)[EAX] & 0xa != 0;
    let expected = if has_compacted_form { LEGACY_AND_HEADER + cpuid(0xd, 2)[EAX] } else { 0 };
    let compacted = if has_compacted_form { cpuid(0xd, 1)[EBX] } else { 0 };
    equal("compacted-area", compacted, expected);
    xsetbv(1);
    set_cr4(cr4() & !CR4_OSXSAVE);
}

/// Features that are promised are there.
fn promises() {
    // Without SMEP and SMAP: the guest's pages are ring 3's.
    let cr4_bits = [
        ((1, EDX, 1), 1 << 0),
        ((1, EDX, 2), 1 << 3),
        ((1, EDX, 3), 1 << 4),
        ((1, EDX, 7), 1 << 6),
        ((1, EDX, 13), 1 << 7),
        ((7, ECX, 2), 1 << 11),
        ((7, EBX, 0), 1 << 16),
        ((1, ECX, 17), 1 << 17),
        ((1, ECX, 26), CR4_OSXSAVE),
        (PKU, CR4_PKE),
    ];
    let saved = cr4();
    let refused = cr4_bits.into_iter().find(|(feature, bit)| {
        let outcome = catch(|| set_cr4(saved | bit));
        set_cr4(saved);
        has(*feature) && outcome.is_err()
    });
    equal("promised-bits-of-cr4", refused, None);
    let place = [0_u64; 2];
    let address = &raw const place;
    let instructions: [(Feature, &dyn Fn()); 9] = [
        ((0x8000_0001, EDX, 27), &|| unsafe {
            asm!("rdtscp", out("eax") _, out("ecx") _, out("edx") _);
        }),
        ((7, ECX, 22), &|| unsafe { asm!("rdpid {}", out(reg) _) }),
        ((7, EBX, 10), &|| unsafe { asm!("invpcid {}, [{}]", in(reg) 2_u64, in(reg) address) }),
        ((1, ECX, 30), &|| unsafe { asm!("rdrand {}", out(reg) _) }),
        ((7, EBX, 18), &|| unsafe { asm!("rdseed {}", out(reg) _) }),
        ((7, EBX, 23), &|| unsafe { asm!("clflushopt [{}]", in(reg) address) }),
        ((7, EBX, 24), &|| unsafe { asm!("clwb [{}]", in(reg) address) }),
        ((0x8000_0008, EBX, 9), &|| unsafe { asm!("wbnoinvd") }),
        ((7, EBX, 20), &|| unsafe { asm!("clac") }),
    ];
    let missing = instructions.iter().find(|(feature, run)| has(*feature) && catch(run).is_err());
    equal("promised-instructions", missing.map(|(feature, _)| *feature), None);
    let follows = [CR4_PKE, 0].iter().all(|bit| {
        set_cr4(if has(PKU) { saved | bit } else { saved });
        let enabled = cpuid(7, 0)[ECX] >> 4 & 1 != 0;
        set_cr4(saved);
        enabled == (has(PKU) && *bit != 0)
    });
    check("ospke-follows-cr4", follows);
}

const UNDER_BULKHEAD: [&str; 8] = [
    "hidden-features",
    "added-features",
    "empty-leaves",
    "highest-leaves",
    "hypervisor-leaf",
    "one-cpu",
    "caches-of-one-cpu",
    "topology-of-one-cpu",
];

fn under_bulkhead() {
    let [hidden, added, empty, highest, hypervisor, one_cpu, caches, topology] = UNDER_BULKHEAD;
    let shown =
        ABSENT.map(|(leaf, register, bits)| (leaf, register, bits & existing(leaf)[register]));
    equal(hidden, shown.into_iter().find(|(_, _, bits)| *bits != 0), None);
    equal(added, cpuid(1, 0)[ECX] & ADDED, ADDED);
    equal(empty, EMPTY.into_iter().find(|leaf| cpuid(*leaf, 0) != [0; 4]), None);
    check(highest, cpuid(0, 0)[EAX] <= 0xd && cpuid(0x8000_0000, 0)[EAX] <= 0x8000_001f);
    equal(hypervisor, cpuid(HYPERVISOR, 0)[EAX], HYPERVISOR);
    let id = cpuid(1, 0)[EBX] >> 24;
    equal(one_cpu, (cpuid(1, 0)[EBX] >> 16 & 0xff, cpuid(1, 0)[EDX] >> 28 & 1), (1, 0));
    // Each has its caches to itself, and the package has one core.
    check(caches, (0..4).all(|cache| cpuid(4, cache)[EAX] >> 14 == 0));
    let levels = [0, 1, 2, 0x107].map(|level| cpuid(0xb, level));
    equal(topology, levels, [[0, 1, 0x100, id], [0, 1, 0x201, id], [0, 0, 2, id], [0, 0, 7, id]]);
}

/// A leaf; nothing where there is no such.
fn existing(leaf: u32) -> [u32; 4] {
    if cpuid(leaf & 0xffff_0000, 0)[EAX] >= leaf { cpuid(leaf, 0) } else { [0; 4] }
}
