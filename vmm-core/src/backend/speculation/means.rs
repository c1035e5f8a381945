//! The facts about a processor that decide on defences.

use crate::host::processor::{CpuidSource, Processor, Vendor};

/// CPUID 7, subleaf 0, EDX.
pub(super) mod leaf_7 {
    pub const MD_CLEAR: u32 = 1 << 10;
    /// IBRS and IBPB.
    pub const IBRS: u32 = 1 << 26;
    pub const STIBP: u32 = 1 << 27;
    pub const L1D_FLUSH: u32 = 1 << 28;
    pub const ARCH_CAPABILITIES: u32 = 1 << 29;
    pub const SSBD: u32 = 1 << 31;
}

/// CPUID 7, subleaf 0, EBX.
const RTM: u32 = 1 << 11;

/// CPUID 7, subleaf 2, EDX.
mod leaf_7_2 {
    pub const PSFD: u32 = 1 << 0;
    pub const BHI_CTRL: u32 = 1 << 4;
}

/// CPUID 8000_0008h, EBX (APM volume 3, E.4.7).
pub(super) mod leaf_8 {
    pub const IBPB: u32 = 1 << 12;
    pub const IBRS: u32 = 1 << 14;
    pub const STIBP: u32 = 1 << 15;
    /// IBRS, STIBP are better left on.
    pub const IBRS_ALWAYS_ON: u32 = 1 << 16;
    pub const STIBP_ALWAYS_ON: u32 = 1 << 17;
    pub const IBRS_PREFERRED: u32 = 1 << 18;
    pub const IBRS_SAME_MODE: u32 = 1 << 19;
    pub const SSBD: u32 = 1 << 24;
    pub const SSB_NO: u32 = 1 << 26;
    pub const PSFD: u32 = 1 << 28;
    /// No branch type confusion (retbleed).
    pub const BTC_NO: u32 = 1 << 29;
    /// IBPB empties the return stack too.
    pub const IBPB_RET: u32 = 1 << 30;
}

/// CPUID 8000_0021h, EAX (APM volume 3, E.4.20).
mod leaf_21 {
    pub const LFENCE_ALWAYS_SERIALIZING: u32 = 1 << 2;
    pub const VERW_CLEAR: u32 = 1 << 5;
    pub const AUTOMATIC_IBRS: u32 = 1 << 8;
    /// IBPB empties predictions of branch types too.
    pub const IBPB_BRTYPE: u32 = 1 << 28;
    pub const SRSO_NO: u32 = 1 << 29;
    /// BP_CFG.BpSpecReduce keeps guests from the host's returns.
    pub const SRSO_MSR_FIX: u32 = 1 << 31;
    /// In ECX: no transient scheduler attacks, by the store queue, by the cache.
    pub const ECX_TSA_NO: u32 = 1 << 1 | 1 << 2;
}

/// IA32_ARCH_CAPABILITIES.
pub(super) mod arch {
    pub const RDCL_NO: u64 = 1 << 0;
    /// IBRS is enhanced.
    pub const IBRS_ALL: u64 = 1 << 1;
    pub const RSBA: u64 = 1 << 2;
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    pub const SSB_NO: u64 = 1 << 4;
    pub const MDS_NO: u64 = 1 << 5;
    pub const IF_PSCHANGE_MC_NO: u64 = 1 << 6;
    pub const TSX_CTRL: u64 = 1 << 7;
    pub const TAA_NO: u64 = 1 << 8;
    /// SBDR_SSDP_NO, FBSDP_NO, PSDP_NO: no stale data of MMIO.
    pub const MMIO_NO: u64 = 1 << 13 | 1 << 14 | 1 << 15;
    pub const FB_CLEAR: u64 = 1 << 17;
    pub const RRSBA: u64 = 1 << 19;
    pub const BHI_NO: u64 = 1 << 20;
    pub const PBRSB_NO: u64 = 1 << 24;
    pub const GDS_NO: u64 = 1 << 26;
    pub const RFDS_NO: u64 = 1 << 27;
    pub const RFDS_CLEAR: u64 = 1 << 28;
    pub const ITS_NO: u64 = 1 << 62;
}

/// A processor's means and weaknesses, by CPUID and IA32_ARCH_CAPABILITIES.
///
/// A means that no microcode brought to a processor is not there; whether it needs one is told by
/// the processor too, not by a list of models: each means came with the microcode that tells of it,
/// to the processors that need it, and later ones say that they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    vendor: Vendor,
    family: u32,
    has_rtm: bool,
    pub(super) leaf_7: u32,
    leaf_7_2: u32,
    pub(super) leaf_8: u32,
    leaf_21: u32,
    has_tsa: bool,
    pub(super) arch: u64,
    /// Another hypervisor is underneath: registers without a CPUID bit are its own.
    is_virtual: bool,
}

impl Means {
    /// `read_arch_capabilities` reads IA32_ARCH_CAPABILITIES, and is called if it is there.
    pub fn new(cpuid: CpuidSource, read_arch_capabilities: impl FnOnce() -> u64) -> Self {
        let (max_basic, max_extended) = (cpuid(0, 0).eax, cpuid(0x8000_0000, 0).eax);
        let leaf_1 = cpuid(1, 0);
        let processor = Processor::new(cpuid(0, 0), leaf_1.eax);
        let mut new = Self {
            vendor: processor.vendor,
            family: processor.family,
            has_rtm: false,
            leaf_7: 0,
            leaf_7_2: 0,
            leaf_8: 0,
            leaf_21: 0,
            has_tsa: false,
            arch: 0,
            is_virtual: leaf_1.ecx >> 31 != 0,
        };
        if max_basic >= 7 {
            let leaf = cpuid(7, 0);
            (new.has_rtm, new.leaf_7) = (leaf.ebx & RTM != 0, leaf.edx);
            new.leaf_7_2 = if leaf.eax >= 2 { cpuid(7, 2).edx } else { 0 };
        }
        if new.leaf_7 & leaf_7::ARCH_CAPABILITIES != 0 {
            new.arch = read_arch_capabilities();
        }
        if new.is_amd() {
            new.leaf_8 = if max_extended >= 0x8000_0008 { cpuid(0x8000_0008, 0).ebx } else { 0 };
            if max_extended >= 0x8000_0021 {
                let leaf = cpuid(0x8000_0021, 0);
                new.leaf_21 = leaf.eax;
                new.has_tsa = leaf.ecx & leaf_21::ECX_TSA_NO != leaf_21::ECX_TSA_NO;
            }
        }
        new
    }

    fn is_amd(&self) -> bool {
        self.vendor == Vendor::Amd
    }

    const fn has_arch(&self, bits: u64) -> bool {
        self.arch & bits == bits
    }

    const fn has(&self, leaf_7: u32, leaf_8: u32) -> bool {
        self.leaf_7 & leaf_7 != 0 || self.leaf_8 & leaf_8 != 0
    }

    /// IBRS, of whatever kind.
    pub(super) const fn has_ibrs(&self) -> bool {
        self.has(leaf_7::IBRS, leaf_8::IBRS)
    }

    /// IBRS that is set once, and keeps guests' branches out.
    pub(super) const fn has_enhanced_ibrs(&self) -> bool {
        self.has_ibrs() && self.has_arch(arch::IBRS_ALL)
    }

    /// The same by a bit of EFER (APM volume 2, 3.1.7).
    pub(super) const fn has_automatic_ibrs(&self) -> bool {
        self.leaf_21 & leaf_21::AUTOMATIC_IBRS != 0
    }

    pub(super) const fn prefers_ibrs_on(&self) -> bool {
        self.leaf_8 & leaf_8::IBRS_ALWAYS_ON != 0
    }

    pub(super) const fn has_ibpb(&self) -> bool {
        self.has(leaf_7::IBRS, leaf_8::IBPB)
    }

    pub(super) const fn has_stibp(&self) -> bool {
        self.has(leaf_7::STIBP, leaf_8::STIBP)
    }

    pub(super) const fn prefers_stibp_on(&self) -> bool {
        self.has_stibp() && self.leaf_8 & leaf_8::STIBP_ALWAYS_ON != 0
    }

    pub(super) const fn has_ssbd(&self) -> bool {
        self.has(leaf_7::SSBD, leaf_8::SSBD)
    }

    pub(super) const fn has_psfd(&self) -> bool {
        self.leaf_7_2 & leaf_7_2::PSFD != 0 || self.leaf_8 & leaf_8::PSFD != 0
    }

    pub(super) const fn has_bhi_control(&self) -> bool {
        self.leaf_7_2 & leaf_7_2::BHI_CTRL != 0
    }

    /// Branch history reaches the hypervisor in spite of enhanced IBRS.
    pub(super) const fn needs_bhi_control(&self) -> bool {
        self.has_enhanced_ibrs() && !self.has_arch(arch::BHI_NO)
    }

    pub(super) const fn has_l1d_flush(&self) -> bool {
        self.leaf_7 & leaf_7::L1D_FLUSH != 0
    }

    /// L1 terminal faults, which nobody underneath sees to.
    pub(super) const fn needs_l1d_flush(&self) -> bool {
        !self.has_arch(arch::RDCL_NO) && !self.has_arch(arch::SKIP_L1DFL_VMENTRY)
    }

    /// VERW overwrites buffers.
    pub(super) const fn has_verw(&self) -> bool {
        self.leaf_7 & leaf_7::MD_CLEAR != 0
            || self.arch & (arch::FB_CLEAR | arch::RFDS_CLEAR) != 0
            || self.leaf_21 & leaf_21::VERW_CLEAR != 0
    }

    /// MDS, TAA, stale data of MMIO, RFDS, TSA.
    pub(super) const fn needs_verw(&self) -> bool {
        let sampling = self.leaf_7 & leaf_7::MD_CLEAR != 0 && !self.has_arch(arch::MDS_NO);
        // Guests can use transactions although CPUID hides them.
        let transactions = (self.has_rtm || self.has_arch(arch::TSX_CTRL))
            && self.has_arch(arch::MDS_NO)
            && !self.has_arch(arch::TAA_NO);
        let mmio = self.has_arch(arch::FB_CLEAR) && !self.has_arch(arch::MMIO_NO);
        let registers = self.has_arch(arch::RFDS_CLEAR) && !self.has_arch(arch::RFDS_NO);
        let scheduler = self.leaf_21 & leaf_21::VERW_CLEAR != 0 && self.has_tsa;
        sampling || transactions || mmio || registers || scheduler
    }

    /// The guest's last return may be predicted in spite of enhanced IBRS.
    pub(super) const fn needs_last_return(&self) -> bool {
        !self.has_arch(arch::PBRSB_NO)
    }

    /// Branch type confusion (retbleed) of Zen 1 and 2 and before, and overflows of the return
    /// stack (SRSO): what a guest trained is followed by returns. Without returns that the compiler
    /// makes differently a barrier at each exit is what helps.
    pub(super) const fn needs_exit_barrier(&self) -> bool {
        let confusion = matches!(self.family, 0x15..=0x18) && self.leaf_8 & leaf_8::BTC_NO == 0;
        let overflow = self.family >= 0x19
            && self.leaf_21 & leaf_21::IBPB_BRTYPE != 0
            && self.leaf_21 & (leaf_21::SRSO_NO | leaf_21::SRSO_MSR_FIX) == 0;
        self.leaf_8 & leaf_8::IBPB != 0 && (confusion || overflow)
    }

    /// The same by BP_CFG.
    pub(super) const fn needs_reduced_speculation(&self) -> bool {
        self.leaf_21 & leaf_21::SRSO_MSR_FIX != 0 && self.leaf_21 & leaf_21::SRSO_NO == 0
    }

    /// LFENCE serialises only where DE_CFG says so. The register is there from family 10h on but
    /// for 11h.
    pub(super) fn needs_serializing_lfence(&self) -> bool {
        self.is_amd()
            && self.family >= 0x10
            && self.family != 0x11
            && self.leaf_21 & leaf_21::LFENCE_ALWAYS_SERIALIZING == 0
            && !self.is_virtual
    }
}
