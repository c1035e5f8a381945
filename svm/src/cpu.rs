//! Turning AMD-V on for a physical CPU.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use config::CommandLine;
use raw_cpuid::CpuId;
use raw_cpuid::native_cpuid::cpuid_count;
use vmm_core::backend::Unsupported;
use vmm_core::backend::address_tags::TagPool;
use vmm_core::backend::extended_state::ExtendedState;
use vmm_core::backend::speculation::{Defences, LastGuest, MSR_SPEC_CTRL, Means};
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize, Platform};
use x86::controlregs::{Cr4, cr4};
use x86::msr::{IA32_EFER, rdmsr, wrmsr};

const MSR_VM_CR: u32 = 0xc001_0114;
const VM_CR_SVM_DISABLED: u64 = 1 << 4;
const MSR_VM_HSAVE_PA: u32 = 0xc001_0117;
const EFER_SVME: u64 = 1 << 12;
/// Automatic IBRS (3.1.7).
const EFER_AIBRSE: u64 = 1 << 21;
const MSR_DE_CFG: u32 = 0xc001_1029;
const DE_CFG_LFENCE_SERIALIZES: u64 = 1 << 1;
const MSR_BP_CFG: u32 = 0xc001_102e;
const BP_CFG_BP_SPEC_REDUCE: u64 = 1 << 4;

/// The features of this processor beyond the base (CPUID 8000_000Ah).
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// The processor saves the address of the next instruction at exits.
    pub next_rip: bool,
    /// The processor saves the bytes of an instruction that caused a nested page fault.
    pub decode_assists: bool,
    /// Machine checks are exceptions here (CR4.MCE).
    pub machine_checks: bool,
    /// TLB_CONTROL can flush one guest.
    pub flush_by_asid: bool,
    /// A guest can be let run many PAUSEs before one exits.
    pub pause_filter: bool,
    /// PAUSEs that are far apart are not counted together.
    pub pause_filter_threshold: bool,
    /// IA32_SPEC_CTRL of a guest is in its VMCB; the host's bits hold for it too (15.34).
    pub virtual_spec_ctrl: bool,
    /// The guest's FPU and vector registers.
    pub extended_state: ExtendedState,
}

/// A physical CPU on which AMD-V is on.
pub struct Cpu {
    pub(crate) features: Features,
    /// Host-physical address of the page that VMSAVE filled with this CPU's own state.
    pub(crate) host_state: Frame,
    /// Kept for as long as the processor may write to it.
    pub(crate) _host_save_area: Frame,
    pub(crate) defences: Defences,
    /// The guest that it ran last.
    pub(crate) last_guest: LastGuest,
    pub(crate) asid_count: u32,
    pub(crate) asids: Arc<TagPool>,
}

impl Cpu {
    /// Checks the processor, and turns AMD-V on.
    pub(crate) fn enable(
        platform: &'static dyn Platform,
        options: &CommandLine,
    ) -> Result<Self, Unsupported> {
        let cpuid = CpuId::new();
        let has_svm = cpuid
            .get_extended_processor_and_feature_identifiers()
            .is_some_and(|leaf| leaf.has_svm());
        if !has_svm {
            return Err(Unsupported(
                "this CPU has no AMD-V (SVM); under QEMU use -cpu max, under KVM -cpu host with nested=1",
            ));
        }
        // SAFETY: VM_CR exists on every processor with SVM.
        if unsafe { rdmsr(MSR_VM_CR) } & VM_CR_SVM_DISABLED != 0 {
            return Err(Unsupported(
                "AMD-V is disabled by the firmware (VM_CR.SVMDIS): switch SVM on in the BIOS set-up",
            ));
        }
        let svm = cpuid
            .get_svm_info()
            .ok_or(Unsupported("this CPU does not describe its AMD-V (CPUID 8000000Ah)"))?;
        if !svm.has_nested_paging() {
            return Err(Unsupported("this CPU's AMD-V has no nested paging, which Bulkhead needs"));
        }
        let short = Unsupported("too little memory to turn AMD-V on");
        let host_save_area =
            platform.allocate_frame(FrameSize::Small, Owner::Hypervisor).ok_or(short)?;
        let host_state =
            platform.allocate_frame(FrameSize::Small, Owner::Hypervisor).ok_or(short)?;
        let xsave = cpuid.get_feature_info().is_some_and(|leaf| leaf.has_xsave());
        let features = Features {
            next_rip: svm.has_nrip(),
            decode_assists: svm.has_decode_assists(),
            // SAFETY: reading CR4 changes nothing.
            machine_checks: unsafe { cr4() }.contains(Cr4::CR4_ENABLE_MACHINE_CHECK),
            flush_by_asid: svm.has_flush_by_asid(),
            pause_filter: svm.has_pause_filter(),
            pause_filter_threshold: svm.has_pause_filter_threshold(),
            virtual_spec_ctrl: svm.has_spec_ctrl(),
            // SAFETY: every CPU with SVM has SSE; the image is compiled without FPU code, and
            // leaves CR4 as it is.
            extended_state: unsafe { ExtendedState::new(xsave) },
        };
        // SAFETY: the CPU has SVM, and the host save area is a page of our own that is never given
        // back.
        unsafe {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SVME);
            wrmsr(MSR_VM_HSAVE_PA, host_save_area.hpa);
            crate::world_switch::save_host(host_state.hpa);
        }
        // AMD's processors have no IA32_ARCH_CAPABILITIES.
        let defences = Defences::new(&Means::new(cpuid_count, || 0), &options.spec_ctrl);
        enforce(&defences);
        platform.set_crash_dump(crate::running::dump_running);
        Ok(Self {
            features,
            host_state,
            _host_save_area: host_save_area,
            defences,
            last_guest: LastGuest::default(),
            asid_count: svm.supported_asids(),
            asids: TagPool::new(svm.supported_asids()),
        })
    }

    /// For the log: what it has.
    pub(crate) fn describe(&self) -> String {
        let Features { next_rip, decode_assists, flush_by_asid, pause_filter, .. } = self.features;
        let optional = [
            (next_rip, ", next-RIP save"),
            (decode_assists, ", decode assists"),
            (flush_by_asid, ", flush by ASID"),
            (pause_filter, ", PAUSE filter"),
        ];
        let mut text = format!("nested paging, {} ASIDs", self.asid_count);
        optional.into_iter().filter(|(there, _)| *there).for_each(|(_, name)| text.push_str(name));
        text
    }
}

/// Puts those defences into force that stay.
fn enforce(defences: &Defences) {
    let set_bits = |msr, bits| {
        // SAFETY: the CPU has the register (`Defences::new`); the bits make it predict less, or
        // wait more, and nothing else.
        unsafe { wrmsr(msr, rdmsr(msr) | bits) };
    };
    if defences.automatic_ibrs {
        set_bits(IA32_EFER, EFER_AIBRSE);
    }
    if defences.serializing_lfence {
        set_bits(MSR_DE_CFG, DE_CFG_LFENCE_SERIALIZES);
    }
    if defences.reduced_speculation {
        set_bits(MSR_BP_CFG, BP_CFG_BP_SPEC_REDUCE);
    }
    if defences.has_control {
        // SAFETY: as above.
        unsafe { wrmsr(MSR_SPEC_CTRL, defences.host_control) };
    }
}
