//! The part of a processor's means that guests have for themselves.

use super::means::{Means, arch, leaf_7, leaf_8};
use super::spec_ctrl;
use core::fmt;

/// Of CPUID 7, EDX.
const LEAF_7: u32 = leaf_7::MD_CLEAR
    | leaf_7::IBRS
    | leaf_7::STIBP
    | leaf_7::L1D_FLUSH
    | leaf_7::ARCH_CAPABILITIES
    | leaf_7::SSBD;

/// Of CPUID 8000_0008h, EBX. VIRT_SPEC_CTRL, for processors whose SSBD is in registers of the
/// model, is not offered.
const LEAF_8: u32 = leaf_8::IBPB
    | leaf_8::IBRS
    | leaf_8::STIBP
    | leaf_8::IBRS_ALWAYS_ON
    | leaf_8::STIBP_ALWAYS_ON
    | leaf_8::IBRS_PREFERRED
    | leaf_8::IBRS_SAME_MODE
    | leaf_8::SSBD
    | leaf_8::SSB_NO
    | leaf_8::PSFD
    | leaf_8::BTC_NO
    | leaf_8::IBPB_RET;

/// Bits of IA32_ARCH_CAPABILITIES that hold for a guest: those that ask for no other register.
const ARCH_CAPABILITIES: u64 = arch::RDCL_NO
    | arch::IBRS_ALL
    | arch::RSBA
    | arch::SKIP_L1DFL_VMENTRY
    | arch::SSB_NO
    | arch::MDS_NO
    | arch::IF_PSCHANGE_MC_NO
    | arch::TAA_NO
    | arch::MMIO_NO
    | arch::FB_CLEAR
    | arch::RRSBA
    | arch::BHI_NO
    | arch::PBRSB_NO
    | arch::GDS_NO
    | arch::RFDS_NO
    | arch::RFDS_CLEAR
    | arch::ITS_NO;

/// The means that CPUID and MSRs offer to guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestSpeculation {
    /// Bits of CPUID 7, EDX.
    pub leaf_7_edx: u32,
    /// Bits of CPUID 8000_0008h, EBX.
    pub leaf_8_ebx: u32,
    /// Bits of IA32_SPEC_CTRL that a guest may set; 0 if it has no such register.
    pub control: u64,
    /// IA32_ARCH_CAPABILITIES as a guest reads it.
    pub arch_capabilities: u64,
}

impl GuestSpeculation {
    /// All that guests of this processor can have.
    pub(super) const fn new(means: &Means) -> Self {
        let mut control = 0;
        if means.has_ibrs() {
            // Processors with IBRS alone take STIBP too, and ignore it.
            control |= spec_ctrl::IBRS | spec_ctrl::STIBP;
        }
        if means.has_stibp() {
            control |= spec_ctrl::STIBP;
        }
        if means.has_ssbd() {
            control |= spec_ctrl::SSBD;
        }
        if means.leaf_8 & leaf_8::PSFD != 0 {
            control |= spec_ctrl::PSFD;
        }
        Self {
            leaf_7_edx: means.leaf_7 & LEAF_7,
            leaf_8_ebx: means.leaf_8 & LEAF_8,
            control,
            arch_capabilities: means.arch & ARCH_CAPABILITIES,
        }
    }

    /// There is IA32_PRED_CMD.
    pub const fn has_pred_cmd(&self) -> bool {
        self.leaf_7_edx & leaf_7::IBRS != 0 || self.leaf_8_ebx & leaf_8::IBPB != 0
    }

    /// There is IA32_FLUSH_CMD.
    pub const fn has_flush_cmd(&self) -> bool {
        self.leaf_7_edx & leaf_7::L1D_FLUSH != 0
    }

    /// There is IA32_ARCH_CAPABILITIES.
    pub const fn has_arch_capabilities(&self) -> bool {
        self.leaf_7_edx & leaf_7::ARCH_CAPABILITIES != 0
    }
}

impl fmt::Display for GuestSpeculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.control & spec_ctrl::IBRS != 0, "IBRS"),
            (self.control & spec_ctrl::SSBD != 0, "SSBD"),
            (self.has_pred_cmd(), "IBPB"),
            (self.has_flush_cmd(), "L1D flush"),
            (self.leaf_7_edx & leaf_7::MD_CLEAR != 0, "VERW"),
        ];
        let mut there = names.iter().filter(|(there, _)| *there).map(|(_, name)| *name);
        f.write_str(there.next().unwrap_or("none"))?;
        there.try_for_each(|name| write!(f, ", {name}"))
    }
}
