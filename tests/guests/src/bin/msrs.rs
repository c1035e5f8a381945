//! Model-specific registers (docs/msr.md): those of every PC keep what is written, and refuse what
//! the manuals say (Intel SDM volume 4).

#![no_std]
#![no_main]

use conformance::cpu::{EFER, cpuid, rdmsr, rdtsc, wrmsr};
use conformance::interrupts::{catch, gp};
use conformance::report::{check, equal, faults};

conformance::topic!(run);

const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const MTRR_CAPABILITIES: u32 = 0xfe;
const MCG_CAPABILITIES: u32 = 0x179;
const MTRR_BASE_0: u32 = 0x200;
const MTRR_DEFAULT: u32 = 0x2ff;
const PAT: u32 = 0x277;
const LSTAR: u32 = 0xc000_0082;
const FS_BASE: u32 = 0xc000_0100;

const CANONICAL: u64 = 0xffff_8000_1234_5678;

fn run() {
    kept();
    refused();
    time_stamp();
    apic_base();
    by_vendor();
}

fn keeps(msr: u32, value: u64) -> bool {
    let outcome = catch(|| {
        let saved = rdmsr(msr);
        wrmsr(msr, value);
        let read = rdmsr(msr);
        wrmsr(msr, saved);
        read == value
    });
    outcome.unwrap_or(false)
}

fn kept() {
    for (case, msr, value) in [
        ("sysenter-cs", 0x174, 0x1234),
        ("sysenter-esp", 0x175, CANONICAL),
        ("sysenter-eip", 0x176, CANONICAL),
        ("star", 0xc000_0081, 0x0123_4567_89ab_cdef),
        ("lstar", LSTAR, CANONICAL),
        ("cstar", 0xc000_0083, CANONICAL),
        ("sfmask", 0xc000_0084, 0x4_7700),
        ("fs-base", FS_BASE, CANONICAL),
        ("gs-base", 0xc000_0101, CANONICAL),
        ("kernel-gs-base", 0xc000_0102, CANONICAL),
        ("pat", PAT, 0x0007_0106_0007_0106),
        ("mtrr-default", MTRR_DEFAULT, 0xc06),
        ("mtrr-base", MTRR_BASE_0, 0x8000_0006),
        ("mtrr-mask", MTRR_BASE_0 + 1, 0xf_8000_0800),
        ("mtrr-fixed", 0x250, 0x0606_0505_0404_0101),
    ] {
        check(case, keeps(msr, value));
    }
    check("mtrr-capabilities", rdmsr(MTRR_CAPABILITIES) & 0xff >= 8);
    equal("efer", rdmsr(EFER) & 0xd00, 0xd00);
}

fn refused() {
    let saved = rdmsr(PAT);
    faults("pat-with-a-reserved-type", gp(0), || wrmsr(PAT, 2));
    wrmsr(PAT, saved);
    let saved = rdmsr(MTRR_DEFAULT);
    faults("mtrr-with-a-reserved-type", gp(0), || wrmsr(MTRR_DEFAULT, 0xc02));
    wrmsr(MTRR_DEFAULT, saved);
    faults("mtrr-capabilities-are-read-only", gp(0), || wrmsr(MTRR_CAPABILITIES, 0));
    let saved = rdmsr(LSTAR);
    faults("lstar-not-canonical", gp(0), || wrmsr(LSTAR, 1 << 62));
    wrmsr(LSTAR, saved);
    for (case, msr) in [
        ("nothing-at-8000-0000", 0x8000_0000),
        ("nothing-at-c002-0000", 0xc002_0000),
        ("nothing-at-3fff-ffff", 0x3fff_ffff),
    ] {
        faults(case, gp(0), || _ = rdmsr(msr));
    }
}

fn time_stamp() {
    let before = rdtsc();
    let by_msr = rdmsr(TSC);
    let after = rdtsc();
    check("tsc-by-msr-is-rdtsc", (before..=after).contains(&by_msr));
    wrmsr(TSC, 1 << 50);
    let moved = rdtsc();
    check("tsc-can-be-moved-on", (1 << 50..1 << 51).contains(&moved));
    wrmsr(TSC, 0);
    check("tsc-can-be-set-back", rdtsc() < 1 << 49);
}

fn apic_base() {
    let base = rdmsr(APIC_BASE);
    equal("apic-base-at-first", base, 0xfee0_0900);
    faults("apic-base-reserved-bit", gp(0), || wrmsr(APIC_BASE, base | 1));
    let address_bits = cpuid(0x8000_0008, 0)[0] & 0xff;
    faults("apic-base-beyond-the-address-width", gp(0), || {
        wrmsr(APIC_BASE, base | 1 << address_bits)
    });
    wrmsr(APIC_BASE, base);
}

/// Registers that systems access by vendor and family, without looking for a CPUID bit.
fn by_vendor() {
    const AUTHENTIC_AMD: [u32; 3] = [0x6874_7541, 0x444d_4163, 0x6974_6e65];
    let [_, name @ ..] = cpuid(0, 0);
    let is_amds = name == AUTHENTIC_AMD;
    let is_there = |msr: u32| catch(|| rdmsr(msr)).is_ok();
    check("microcode-revision", is_there(0x8b));
    for (case, msr, of_amd) in [
        ("platform-id-of-intel", 0x17, false),
        ("bus-frequency-of-intel", 0xcd, false),
        ("miscellaneous-enables-of-intel", 0x1a0, false),
        ("system-configuration-of-amd", 0xc001_0010, true),
        ("hardware-configuration-of-amd", 0xc001_0015, true),
        ("top-of-memory-of-amd", 0xc001_001a, true),
    ] {
        equal(case, is_there(msr), of_amd == is_amds);
    }
    let banks = catch(|| rdmsr(MCG_CAPABILITIES)).unwrap_or(0) & 0xff;
    check("no-machine-check-bank-beyond-the-last", !is_there(0x400 + 4 * banks as u32));
}
