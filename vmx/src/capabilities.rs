//! The abilities of VMX on this processor: the capability MSRs (SDM volume 3, appendix A).

use crate::control_bits::{PrimaryControls, SecondaryControls};
use crate::spec::{EptVpidCapabilities, VmxBasic, VmxMisc, msr};
use x86::msr::rdmsr;

/// The capability MSRs. Those of the controls hold in the low half what must be 1 and in the high
/// half what may be 1.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    pub basic: VmxBasic,
    pub pin: u64,
    pub primary: u64,
    /// 0 if there are no secondary controls.
    pub secondary: u64,
    pub exit: u64,
    pub entry: u64,
    pub misc: VmxMisc,
    /// 0 if there is neither EPT nor VPID.
    pub ept_vpid: EptVpidCapabilities,
    /// Bits of CR0 that must be 1 in VMX operation.
    pub cr0_fixed0: u64,
    /// Bits of CR0 that may be 1 in VMX operation.
    pub cr0_fixed1: u64,
    pub cr4_fixed0: u64,
    pub cr4_fixed1: u64,
}

impl Capabilities {
    /// Reads them.
    ///
    /// # Safety
    /// The processor has VMX.
    pub unsafe fn read() -> Self {
        // SAFETY: `from` asks for an MSR only if those before it say that it exists.
        Self::from(|index| unsafe { rdmsr(index) })
    }

    /// Reads them from `read`, which is asked only for MSRs that exist.
    pub fn from(read: impl Fn(u32) -> u64) -> Self {
        let basic = VmxBasic::from(read(msr::VMX_BASIC));
        let either = |exact, base| read(if basic.true_controls() { exact } else { base });
        let primary = either(msr::VMX_TRUE_PRIMARY, msr::VMX_PRIMARY);
        let allowed = |capability: u64, bits: u32| capability >> 32 & u64::from(bits) != 0;
        let has_secondary = allowed(primary, PrimaryControls::SECONDARY.bits());
        let secondary = if has_secondary { read(msr::VMX_SECONDARY) } else { 0 };
        let has_ept_vpid =
            allowed(secondary, (SecondaryControls::EPT | SecondaryControls::VPID).bits());
        Self {
            basic,
            pin: either(msr::VMX_TRUE_PIN, msr::VMX_PIN),
            primary,
            secondary,
            exit: either(msr::VMX_TRUE_EXIT, msr::VMX_EXIT),
            entry: either(msr::VMX_TRUE_ENTRY, msr::VMX_ENTRY),
            ept_vpid: if has_ept_vpid { read(msr::VMX_EPT_VPID) } else { 0 }.into(),
            misc: read(msr::VMX_MISC).into(),
            cr0_fixed0: read(msr::VMX_CR0_FIXED0),
            cr0_fixed1: read(msr::VMX_CR0_FIXED1),
            cr4_fixed0: read(msr::VMX_CR4_FIXED0),
            cr4_fixed1: read(msr::VMX_CR4_FIXED1),
        }
    }
}
