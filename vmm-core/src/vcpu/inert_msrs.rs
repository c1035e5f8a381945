//! Model-specific registers behind which nothing is.
//!
//! Systems access them by the processor's vendor and family alone, some without a handler for #GP
//! (the real processors have them), and ask no CPUID bit before. A guest finds those of the
//! processor that its CPUID shows: Intel SDM volume 4, chapter 2; AMD's BIOS and Kernel Developer's
//! Guides and Processor Programming References, by family.

use crate::host::processor::{Processor, Vendor};

/// The effect of a WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It has no effect.
    Ignored,
    /// The value is there to be read back, with these bits set.
    Kept {
        /// Bits that are always set.
        fixed: u64,
    },
    /// #GP: the register is read-only, or locked.
    Refused,
}

/// A register, or several of consecutive numbers.
#[derive(Clone, Copy, Debug)]
pub struct InertMsr {
    first: u32,
    last: u32,
    vendor: Vendor,
    /// Families that have it, the first and the last.
    families: (u32, u32),
    /// The value that is read before a write that is kept; `None` if it is write-only.
    pub value: Option<u64>,
    /// The effect of a write.
    pub write: Write,
}

impl InertMsr {
    /// Reads zero, and takes every write.
    const fn new(first: u32, last: u32, vendor: Vendor) -> Self {
        Self { first, last, vendor, families: (0, u32::MAX), value: Some(0), write: Write::Ignored }
    }

    const fn intel(index: u32) -> Self {
        Self::new(index, index, Vendor::Intel)
    }

    const fn amd(index: u32) -> Self {
        Self::new(index, index, Vendor::Amd)
    }

    const fn of_families(self, first: u32, last: u32) -> Self {
        Self { families: (first, last), ..self }
    }

    const fn reads(self, value: u64) -> Self {
        Self { value: Some(value), ..self }
    }

    const fn write_only(self) -> Self {
        Self { value: None, ..self }
    }

    const fn read_only(self) -> Self {
        Self { write: Write::Refused, ..self }
    }

    const fn kept(self, fixed: u64) -> Self {
        Self { write: Write::Kept { fixed }, ..self }
    }
}

/// FEATURE_CONTROL: locked, VMX off.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// EBC_FREQUENCY_ID (Pentium 4): a bus of 100 MHz, times one. Systems divide by what they find.
const FREQUENCY_ID_100_MHZ: u64 = 1 << 24;
/// FSB_FREQ (Core): a bus of 166 MHz.
const FSB_FREQUENCY_166_MHZ: u64 = 3;
/// BBL_CR_CTL3: there is a second-level cache, and it is on.
const L2_CACHE_ENABLED: u64 = 1 << 8 | 1;
/// MISC_ENABLE: fast string operations; neither branch trace storage nor event-based sampling.
const MISC_ENABLE: u64 = 1 | 1 << 11 | 1 << 12;
/// The revision that a hypervisor without microcode of its own reports: high half on Intel's
/// processors, low half on AMD's.
const MICROCODE_REVISION_INTEL: u64 = 1 << 32;
const MICROCODE_REVISION_AMD: u64 = 0x0100_0065;
/// HWCR: the TSC counts at the P0 frequency.
const HWCR_TSC_AT_P0: u64 = 1 << 24;
/// DE_CFG: LFENCE waits for all earlier instructions, as it does on every processor with AMD-V that
/// matters.
const DE_CFG_LFENCE_SERIALIZES: u64 = 1 << 1;
/// VM_CR: AMD-V is disabled, and that is locked.
const VM_CR_DISABLED: u64 = 1 << 4 | 1 << 3;

const P6: u32 = 6;
const PENTIUM_4: u32 = 0xf;
const K8: u32 = 0xf;
const K10: u32 = 0x10;
const BULLDOZER: u32 = 0x15;
const JAGUAR: u32 = 0x16;

const INERT_MSRS: &[InertMsr] = &[
    // PLATFORM_ID, EBL_CR_POWERON (EBC_HARD_POWERON).
    InertMsr::intel(0x17).read_only(),
    InertMsr::intel(0x2a),
    InertMsr::intel(0x2c).of_families(PENTIUM_4, PENTIUM_4).reads(FREQUENCY_ID_100_MHZ),
    // SMI_COUNT, FEATURE_CONTROL, which Windows reads on any processor of Intel's.
    InertMsr::intel(0x34).of_families(P6, P6).read_only(),
    InertMsr::intel(0x3a).reads(FEATURE_CONTROL_LOCKED).read_only(),
    // Microcode: BIOS_UPDT_TRIG, BIOS_SIGN_ID. There is none to update.
    InertMsr::intel(0x79).write_only(),
    InertMsr::intel(0x8b).reads(MICROCODE_REVISION_INTEL),
    // Counters that count nothing, with their event selectors: they are older than the CPUID leaf
    // that tells of counters.
    InertMsr::new(0xc1, 0xc2, Vendor::Intel).of_families(P6, P6),
    InertMsr::intel(0xcd).of_families(P6, P6).reads(FSB_FREQUENCY_166_MHZ),
    InertMsr::intel(0x11e).of_families(P6, P6).reads(L2_CACHE_ENABLED),
    InertMsr::new(0x186, 0x187, Vendor::Intel).of_families(P6, P6),
    // PERF_CTL, MISC_ENABLE, POWER_CTL.
    InertMsr::intel(0x199),
    InertMsr::intel(0x1a0).reads(MISC_ENABLE).kept(0),
    InertMsr::intel(0x1fc).of_families(P6, P6).kept(0),
    // Energy: RAPL_POWER_UNIT, and the counters of package, memory, cores and graphics.
    InertMsr::intel(0x606).of_families(P6, P6).read_only(),
    InertMsr::intel(0x611).of_families(P6, P6).read_only(),
    InertMsr::intel(0x619).of_families(P6, P6).read_only(),
    InertMsr::intel(0x639).of_families(P6, P6).read_only(),
    InertMsr::intel(0x641).of_families(P6, P6).read_only(),
    // EBL_CR_POWERON (cluster ID), PATCH_LEVEL.
    InertMsr::amd(0x2a).of_families(K10, u32::MAX),
    InertMsr::amd(0x8b).reads(MICROCODE_REVISION_AMD).read_only(),
    // Thresholds of the northbridge's machine-check bank (MC4_MISC0, MC4_MISC1), which Linux looks
    // at whatever MCG_CAP says.
    InertMsr::amd(0x413).of_families(K8, JAGUAR),
    InertMsr::amd(0xc000_0408).of_families(K10, JAGUAR),
    // Event selectors and counters, as above.
    InertMsr::new(0xc001_0000, 0xc001_0007, Vendor::Amd),
    // SYSCFG, HWCR.
    InertMsr::amd(0xc001_0010).kept(0),
    InertMsr::amd(0xc001_0015).reads(HWCR_TSC_AT_P0).kept(HWCR_TSC_AT_P0),
    // I/O range registers, NB_CFG, PATCH_LOADER.
    InertMsr::new(0xc001_0016, 0xc001_0019, Vendor::Amd),
    InertMsr::amd(0xc001_001f),
    InertMsr::amd(0xc001_0020).write_only(),
    // INT_PENDING, MMIO_CFG_BASE: no memory-mapped configuration space.
    InertMsr::amd(0xc001_0055),
    InertMsr::amd(0xc001_0058).of_families(K10, u32::MAX).read_only(),
    // SMM: TSEG's address and mask; VM_CR, VM_HSAVE_PA.
    InertMsr::new(0xc001_0112, 0xc001_0113, Vendor::Amd).read_only(),
    InertMsr::amd(0xc001_0114).reads(VM_CR_DISABLED),
    InertMsr::amd(0xc001_0117),
    // LS_CFG, IC_CFG, DC_CFG, TW_CFG (BU_CFG), DE_CFG, BU_CFG2 (CU_CFG2), EX_CFG.
    InertMsr::new(0xc001_1020, 0xc001_1023, Vendor::Amd),
    InertMsr::amd(0xc001_1029).of_families(K10, u32::MAX).reads(DE_CFG_LFENCE_SERIALIZES),
    InertMsr::amd(0xc001_102a).of_families(K10, u32::MAX),
    InertMsr::amd(0xc001_102c).of_families(BULLDOZER, u32::MAX),
];

/// The register of that number, if `processor` has it and nothing is behind it.
pub fn find(index: u32, processor: Processor) -> Option<InertMsr> {
    let has = |msr: &&InertMsr| {
        let (first, last) = msr.families;
        (msr.first..=msr.last).contains(&index)
            && msr.vendor == processor.vendor
            && (first..=last).contains(&processor.family)
    };
    INERT_MSRS.iter().find(has).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: Processor = Processor { vendor: Vendor::Intel, family: 6 };
    const AMD_K8: Processor = Processor { vendor: Vendor::Amd, family: 0xf };
    const AMD_ZEN: Processor = Processor { vendor: Vendor::Amd, family: 0x17 };

    #[test]
    fn each_processor_has_its_vendors_and_its_familys_and_no_others() {
        let has =
            |index| [INTEL, AMD_K8, AMD_ZEN].map(|processor| find(index, processor).is_some());
        for index in [0x17, 0x3a, 0x79, 0xc1, 0xc2, 0xcd, 0x11e, 0x186, 0x1a0, 0x1fc, 0x606] {
            assert_eq!(has(index), [true, false, false], "{index:#x}");
        }
        for index in [0xc001_0000, 0xc001_0007, 0xc001_0015, 0xc001_001f, 0xc001_0114, 0xc001_1022]
        {
            assert_eq!(has(index), [false, true, true], "{index:#x}");
        }
        assert_eq!(has(0x413), [false, true, false], "a bank of the northbridge");
        assert_eq!(has(0xc001_1029), [false, false, true]);
        assert_eq!(has(0x2c), [false; 3], "the Pentium 4's");
        for index in [0x18, 0xc3, 0x188, 0x400, 0x480, 0xc001_0008, 0xc001_0118] {
            assert_eq!(has(index), [false; 3], "{index:#x}");
        }
    }

    #[test]
    fn no_register_is_there_twice() {
        for (position, one) in INERT_MSRS.iter().enumerate() {
            for other in &INERT_MSRS[position + 1..] {
                let meet = one.first <= other.last && other.first <= one.last;
                assert!(!meet || one.vendor != other.vendor, "{one:x?} and {other:x?}");
            }
        }
    }
}
