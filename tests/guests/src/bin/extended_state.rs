//! x87, SSE and AVX: their registers outlive exits, and XSAVE as CPUID describes it (Intel SDM
//! volume 1, chapter 13).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{self, cpuid, cr4, has_feature, set_cr4};
use conformance::interrupts::{UD, gp};
use conformance::report::{check, equal, faults, runs, skip};

conformance::topic!(run);

const OSXSAVE: u64 = 1 << 18;
const OSFXSR: u64 = 1 << 9;

#[repr(C, align(64))]
struct Area([u8; 4096]);
static BEFORE: Global<Area> = Global::new(Area([0; 4096]));
static AFTER: Global<Area> = Global::new(Area([0; 4096]));
static PATTERN: Global<[u64; 32]> = Global::new([0; 32]);

fn xgetbv(register: u32) -> u64 {
    let (low, high): (u32, u32);
    unsafe { asm!("xgetbv", in("ecx") register, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

fn xsetbv(register: u32, value: u64) {
    unsafe {
        asm!("xsetbv", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32)
    };
}

/// Exits to a hypervisor, of several kinds.
fn exits() {
    for _ in 0..100 {
        cpuid(0, 0);
        cpu::inb(0x80);
        cpu::outb(0x80, 0);
        cpu::rdmsr(0x1b);
        cpu::peek::<u32>(0xfee0_0030);
    }
}

fn run() {
    legacy_registers();
    if !has_feature(1, 2, 26) {
        return skip("xsave", "no XSAVE");
    }
    switches();
    avx();
    set_cr4(cr4() & !OSXSAVE);
}

fn bytes(area: &Global<Area>, range: core::ops::Range<usize>) -> u64 {
    let start = area.address() as u64;
    range.fold(0xcbf2_9ce4_8422_2325, |sum, offset| {
        (sum ^ u64::from(cpu::peek::<u8>(start + offset as u64))).wrapping_mul(0x0100_0000_01b3)
    })
}

fn legacy_registers() {
    for index in 0..32 {
        let place = PATTERN.address() as u64 + 8 * index;
        cpu::poke(place, 0x0123_4567_89ab_cdef_u64.wrapping_mul(2 * index + 1));
    }
    unsafe {
        asm!(
            "fninit", "fldpi", "fld1", "fldl2e", "fldcw [{word}]",
            "movups xmm0, [{pattern}]", "movups xmm1, [{pattern} + 16]", "movups xmm7, [{pattern} + 32]", "movups xmm8, [{pattern} + 48]",
            "movups xmm15, [{pattern} + 64]", "ldmxcsr [{csr}]", "fxsave64 [{area}]",
            word = in(reg) &0x0f7f_u16, csr = in(reg) &0x9fc0_u32, pattern = in(reg) PATTERN.address(), area = in(reg) BEFORE.address()
        );
    }
    exits();
    unsafe { asm!("fxsave64 [{}]", in(reg) AFTER.address()) };
    // Without the pointers to the last instruction and operand, and the part that is the program's
    // own.
    equal(
        "x87-outlives-exits",
        (bytes(&AFTER, 0..6), bytes(&AFTER, 32..160)),
        (bytes(&BEFORE, 0..6), bytes(&BEFORE, 32..160)),
    );
    equal("sse-outlives-exits", bytes(&AFTER, 160..416), bytes(&BEFORE, 160..416));
    equal("mxcsr-outlives-exits", cpu::peek::<u32>(AFTER.address() as u64 + 24), 0x9fc0);
    unsafe { asm!("fninit", "ldmxcsr [{}]", in(reg) &0x1f80_u32) };
    faults("mxcsr-reserved-bit", gp(0), || unsafe {
        asm!("ldmxcsr [{}]", in(reg) &0x8000_0000_u32)
    });
    let saved = cr4();
    set_cr4(saved & !OSFXSR);
    faults("sse-without-osfxsr", UD, || unsafe { asm!("movaps xmm0, xmm0") });
    set_cr4(saved);
}

fn switches() {
    set_cr4(cr4() & !OSXSAVE);
    check("osxsave-follows-cr4-off", cpuid(1, 0)[2] >> 27 & 1 == 0);
    faults("xgetbv-without-osxsave", UD, || _ = xgetbv(0));
    faults("xsave-without-osxsave", UD, || unsafe {
        asm!("xsave64 [{}]", in(reg) AFTER.address(), in("eax") 1, in("edx") 0)
    });
    set_cr4(cr4() | OSXSAVE);
    check("osxsave-follows-cr4-on", cpuid(1, 0)[2] >> 27 & 1 == 1);
    equal("xcr0-at-first", xgetbv(0), 1);
    faults("xgetbv-of-no-register", gp(0), || _ = xgetbv(7));
    let supported = cpuid(0xd, 0)[0];
    runs("xcr0-x87-and-sse", || xsetbv(0, 3));
    equal("xcr0-reads-back", xgetbv(0), 3);
    equal("size-with-x87-and-sse", cpuid(0xd, 0)[1], 512 + 64);
    faults("xcr0-without-x87", gp(0), || xsetbv(0, 2));
    faults("xcr0-avx-without-sse", gp(0), || xsetbv(0, 5));
    faults("xcr0-unknown-bit", gp(0), || xsetbv(0, 3 | 1 << 62));
    faults("xsetbv-of-no-register", gp(0), || xsetbv(1, 3));
    equal("xcr0-unchanged-by-faults", xgetbv(0), 3);
    check("largest-size-holds-all", cpuid(0xd, 0)[2] >= 576 && supported & 3 == 3);
    faults("xsave-not-aligned", gp(0), || unsafe {
        asm!("xsave64 [{}]", in(reg) AFTER.address() as u64 + 8, in("eax") 1, in("edx") 0)
    });
}

fn avx() {
    const CASES: [&str; 4] =
        ["avx-needs-its-bit", "xcr0-with-avx", "size-with-avx", "avx-outlives-exits"];
    if !has_feature(1, 2, 28) {
        for case in CASES {
            skip(case, "no AVX");
        }
        return;
    }
    faults(CASES[0], UD, || unsafe { asm!("vmovups ymm0, [{}]", in(reg) PATTERN.address()) });
    runs(CASES[1], || xsetbv(0, 7));
    let [size, offset, ..] = cpuid(0xd, 2);
    equal(CASES[2], (cpuid(0xd, 0)[1], size), (offset + size, 256));
    unsafe {
        asm!(
            "vmovups ymm0, [{pattern}]", "vmovups ymm5, [{pattern} + 32]", "vmovups ymm15, [{pattern} + 64]", "xsave64 [{area}]",
            pattern = in(reg) PATTERN.address(), area = in(reg) BEFORE.address(), in("eax") 7, in("edx") 0
        );
    }
    exits();
    unsafe { asm!("xsave64 [{}]", in(reg) AFTER.address(), in("eax") 7, in("edx") 0) };
    let upper = offset as usize..(offset + size) as usize;
    equal(
        CASES[3],
        (bytes(&AFTER, 160..416), bytes(&AFTER, upper.clone())),
        (bytes(&BEFORE, 160..416), bytes(&BEFORE, upper)),
    );
    unsafe { asm!("vzeroupper") };
    xsetbv(0, 1);
}
