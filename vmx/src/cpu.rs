//! Turning VT-x on for a physical CPU.

use crate::capabilities::Capabilities;
use crate::control_bits::{PinControls, PrimaryControls};
use crate::control_registers::SharedRegister;
use crate::controls::Controls;
use crate::instructions;
use crate::spec::{FeatureControl, msr};
use crate::vmcs::{Current, NONE, write_revision};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use config::CommandLine;
use core::sync::atomic::AtomicU64;
use emulator::registers;
use raw_cpuid::CpuId;
use raw_cpuid::native_cpuid::cpuid_count;
use vmm_core::backend::Unsupported;
use vmm_core::backend::address_tags::TagPool;
use vmm_core::backend::extended_state::ExtendedState;
use vmm_core::backend::speculation::{
    Defences, LastGuest, MSR_ARCH_CAPABILITIES, MSR_SPEC_CTRL, Means,
};
use vmm_core::backend::{NestedPaging, WriteTracking};
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize, Platform};
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr::{rdmsr, wrmsr};

/// The features of a physical CPU that its virtual ones need.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub capabilities: Capabilities,
    pub controls: Controls,
    pub cr0: SharedRegister,
    pub cr4: SharedRegister,
    /// The guest's FPU and vector registers.
    pub extended_state: ExtendedState,
}

/// VPIDs have 16 bits.
const VPID_COUNT: u32 = 1 << 16;

/// A physical CPU in VMX operation.
pub struct Cpu {
    pub(crate) features: Features,
    pub(crate) defences: Defences,
    /// The guest that it ran last.
    pub(crate) last_guest: LastGuest,
    pub(crate) current: Current,
    pub(crate) physical_address_bits: u8,
    /// Kept for as long as the processor may write to it.
    _vmxon_region: Frame,
    pub(crate) vpids: Arc<TagPool>,
}

impl Cpu {
    /// Checks the processor, and enters VMX operation.
    pub(crate) fn enable(
        platform: &'static dyn Platform,
        options: &CommandLine,
    ) -> Result<Self, Unsupported> {
        let cpuid = CpuId::new();
        let leaf_1 = cpuid.get_feature_info();
        if !leaf_1.as_ref().is_some_and(raw_cpuid::FeatureInfo::has_vmx) {
            return Err(Unsupported("this CPU has no Intel VT-x (VMX)"));
        }
        let xsave = leaf_1.is_some_and(|leaf| leaf.has_xsave());
        unlock()?;
        // SAFETY: the CPU has VMX.
        let capabilities = unsafe { Capabilities::read() };
        let controls = Controls::new(&capabilities)?;
        let controls = if options.apicv { controls } else { controls.with_emulated_apic() };
        let region = platform
            .allocate_frame(FrameSize::Small, Owner::Hypervisor)
            .ok_or(Unsupported("too little memory to turn VT-x on"))?;
        set_control_registers(&capabilities);
        // SAFETY: FEATURE_CONTROL allows it (`unlock`), the control registers are as they must be,
        // and the region is a page of our own that is never given back.
        let entered = unsafe {
            write_revision(&region, capabilities.basic.revision());
            instructions::vmxon(region.hpa)
        };
        if entered.is_err() {
            return Err(Unsupported("the CPU refused to enter VMX operation (VMXON failed)"));
        }
        // SAFETY: reads a register.
        let host_cr4 = registers::Cr4::from(unsafe { cr4() }.bits() as u64);
        let features = Features {
            capabilities,
            controls,
            cr0: SharedRegister::cr0(&capabilities),
            cr4: SharedRegister::cr4(&capabilities, host_cr4),
            // SAFETY: every CPU with VMX has SSE; the image is compiled without FPU code, and
            // leaves CR4 as it is.
            extended_state: unsafe { ExtendedState::new(xsave) },
        };
        // SAFETY: called if CPUID says that the register is there.
        let means = Means::new(cpuid_count, || unsafe { rdmsr(MSR_ARCH_CAPABILITIES) });
        let defences = Defences::new(&means, &options.spec_ctrl);
        if defences.has_control {
            // SAFETY: the CPU has the register (`Defences::new`), and predicts less.
            unsafe { wrmsr(MSR_SPEC_CTRL, defences.host_control) };
        }
        platform.set_crash_dump(crate::running::dump_running);
        log::debug!("VMX capabilities: {capabilities:x?}");
        Ok(Self {
            features,
            defences,
            last_guest: LastGuest::default(),
            current: Arc::new(AtomicU64::new(NONE)),
            physical_address_bits: cpuid
                .get_processor_capacity_feature_info()
                .map_or(36, |leaf| leaf.physical_address_bits()),
            _vmxon_region: region,
            vpids: TagPool::new(VPID_COUNT),
        })
    }

    /// For the log: what it has.
    pub(crate) fn describe(&self) -> String {
        let Features { capabilities, controls, .. } = &self.features;
        format!(
            "VMCS revision {:#x}, {:?}, {:?}, {:?}",
            capabilities.basic.revision(),
            controls.pin & PinControls::POSTED_INTERRUPTS,
            controls.primary & PrimaryControls::TPR_SHADOW,
            controls.secondary
        )
    }

    /// The features of EPT here.
    pub(crate) fn nested_paging(&self) -> NestedPaging {
        let ept = self.features.capabilities.ept_vpid;
        let largest_page = match (ept.pages_1g(), ept.pages_2m()) {
            (true, _) => ept::PageSize::Size1G,
            (false, true) => ept::PageSize::Size2M,
            (false, false) => ept::PageSize::Size4K,
        };
        let tracking = match (self.features.controls.has_page_log(), ept.accessed_dirty()) {
            (true, _) => Some(WriteTracking::Log),
            (false, true) => Some(WriteTracking::Flags),
            (false, false) => None,
        };
        NestedPaging { format: ept::Format::Ept, largest_page, tracking }
    }
}

/// Sees to it that FEATURE_CONTROL allows VMXON (24.7): firmware that left the register open leaves
/// the decision to us.
fn unlock() -> Result<(), Unsupported> {
    // SAFETY: the register exists on every processor with VMX.
    let control = FeatureControl::from(unsafe { rdmsr(msr::FEATURE_CONTROL) });
    if let Some(open) = opened(control)? {
        // SAFETY: the register is not locked, and only allows what we are about to do.
        unsafe { wrmsr(msr::FEATURE_CONTROL, open.into()) };
    }
    Ok(())
}

/// The value that FEATURE_CONTROL must get, if it must change.
fn opened(control: FeatureControl) -> Result<Option<FeatureControl>, Unsupported> {
    match (control.locked(), control.vmx_outside_smx()) {
        (true, true) => Ok(None),
        (true, false) => Err(Unsupported(
            "VT-x is switched off and locked by the firmware (FEATURE_CONTROL): switch it on in the BIOS set-up",
        )),
        (false, _) => Ok(Some(control.with_vmx_outside_smx(true).with_locked(true))),
    }
}

/// Sets CR0 and CR4 as VMX operation demands.
fn set_control_registers(capabilities: &Capabilities) {
    // SAFETY: the fixed bits are those that long mode with paging has anyway, NE and VMXE.
    unsafe {
        let fixed = cr0().bits() as u64 & capabilities.cr0_fixed1 | capabilities.cr0_fixed0;
        cr0_write(Cr0::from_bits_unchecked(fixed as usize));
        let fixed = cr4().bits() as u64 & capabilities.cr4_fixed1 | capabilities.cr4_fixed0;
        cr4_write(Cr4::from_bits_unchecked(fixed as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_control_is_opened_unless_it_is_locked() {
        let control = FeatureControl::new();
        let open = control.with_locked(true).with_vmx_outside_smx(true);
        assert_eq!(opened(open).unwrap().map(u64::from), None);
        assert_eq!(opened(control).unwrap().map(u64::from), Some(open.into()));
        assert_eq!(
            opened(control.with_vmx_outside_smx(true)).unwrap().map(u64::from),
            Some(open.into())
        );
    }

    #[test]
    fn a_locked_feature_control_is_one_clear_line() {
        let Unsupported(line) = opened(FeatureControl::new().with_locked(true)).unwrap_err();
        assert!(
            line.contains("FEATURE_CONTROL")
                && line.contains("BIOS set-up")
                && !line.contains('\n'),
            "{line}"
        );
    }
}
