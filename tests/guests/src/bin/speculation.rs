//! The registers by which a system defends itself against speculative execution: they are there as
//! CPUID tells, and take what the manuals say (Intel SDM volume 4, table 2-2; APM volume 2, 3.2.9
//! and 7.6.4).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{cpuid, rdmsr, wrmsr};
use conformance::interrupts::{catch, gp};
use conformance::report::{check, equal, faults, runs, skip, skip_topic};

conformance::topic!(run);

const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const ARCH_CAPABILITIES: u32 = 0x10a;
const FLUSH_CMD: u32 = 0x10b;

const IBRS: u64 = 1 << 0;
const STIBP: u64 = 1 << 1;
const SSBD: u64 = 1 << 2;

/// The reason why a case is skipped.
const LACKS: &str = "the processor lacks it";

/// Means that CPUID tells of.
struct Means {
    control: u64,
    has_barrier: bool,
    has_flush: bool,
    has_capabilities: bool,
    has_verw: bool,
}

impl Means {
    fn find() -> Self {
        let [.., features] = cpuid(7, 0);
        let [max_extended, ..] = cpuid(0x8000_0000, 0);
        let amd = if max_extended >= 0x8000_0008 { cpuid(0x8000_0008, 0)[1] } else { 0 };
        let either = |feature: u32, amd_feature: u32| {
            features >> feature & 1 != 0 || amd >> amd_feature & 1 != 0
        };
        let bits = [(either(26, 14), IBRS), (either(27, 15), STIBP), (either(31, 24), SSBD)];
        Self {
            control: bits.iter().filter(|(there, _)| *there).map(|(_, bit)| bit).sum(),
            has_barrier: either(26, 12),
            has_flush: features >> 28 & 1 != 0,
            has_capabilities: features >> 29 & 1 != 0,
            has_verw: features >> 10 & 1 != 0,
        }
    }
}

fn run() {
    let means = Means::find();
    if means.control == 0 {
        skip_topic("the processor has none");
    }
    control(means.control);
    command("barrier", PRED_CMD, means.has_barrier);
    command("flush", FLUSH_CMD, means.has_flush);
    capabilities(means.has_capabilities);
    if means.has_verw {
        runs("verw", verw);
    } else {
        skip("verw", LACKS);
    }
}

/// A register that keeps the bits that CPUID tells of, whatever comes between.
fn control(bits: u64) {
    equal("control-at-first", rdmsr(SPEC_CTRL), 0);
    for (case, bit) in [("control-ibrs", IBRS), ("control-stibp", STIBP), ("control-ssbd", SSBD)] {
        if bits & bit == 0 {
            skip(case, LACKS);
            continue;
        }
        wrmsr(SPEC_CTRL, bit);
        equal(case, rdmsr(SPEC_CTRL), bit);
    }
    wrmsr(SPEC_CTRL, bits);
    for _ in 0..1000 {
        cpuid(0, 0);
    }
    equal("control-behind-other-instructions", rdmsr(SPEC_CTRL), bits);
    for (case, value) in [("control-reserved-bit", 1 << 9), ("control-high-bit", 1 << 63)] {
        faults(case, gp(0), || wrmsr(SPEC_CTRL, value));
    }
    equal("control-behind-faults", rdmsr(SPEC_CTRL), bits);
    wrmsr(SPEC_CTRL, 0);
    equal("control-cleared", rdmsr(SPEC_CTRL), 0);
}

/// A write-only register that takes one command.
fn command(name: &str, msr: u32, is_there: bool) {
    let cases = match name {
        "barrier" => ["barrier", "barrier-of-nothing", "barrier-read", "barrier-reserved-bit"],
        _ => ["flush", "flush-of-nothing", "flush-read", "flush-reserved-bit"],
    };
    if !is_there {
        cases.iter().for_each(|case| skip(case, LACKS));
        return;
    }
    runs(cases[0], || wrmsr(msr, 1));
    runs(cases[1], || wrmsr(msr, 0));
    faults(cases[2], gp(0), || _ = rdmsr(msr));
    faults(cases[3], gp(0), || wrmsr(msr, 1 << 9));
}

fn capabilities(are_there: bool) {
    if !are_there {
        for case in ["capabilities", "capabilities-are-read-only"] {
            skip(case, LACKS);
        }
        return;
    }
    let read = || catch(|| rdmsr(ARCH_CAPABILITIES)).ok();
    check("capabilities", read().is_some() && read() == read());
    faults("capabilities-are-read-only", gp(0), || wrmsr(ARCH_CAPABILITIES, 0));
}

fn verw() {
    let selector: u16 = 0;
    // SAFETY: VERW changes ZF only.
    unsafe { asm!("verw [{}]", in(reg) &raw const selector, options(nostack)) };
}
