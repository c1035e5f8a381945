//! Model-specific registers. `docs/msr.md` has the table in words.
//!
//! STAR, LSTAR, CSTAR, SFMASK, FS.base, GS.base, KernelGSbase, TSC_AUX and SYSENTER_* never come
//! here: the guest accesses them without an exit.

use super::Vcpu;
use super::inert_msrs::{self, Write};
use super::mtrr::Mtrrs;
use crate::backend::speculation::{
    MSR_ARCH_CAPABILITIES, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL,
};
use crate::backend::{Backend, SystemRegister};
use crate::host::processor::Vendor;
use arrayvec::ArrayVec;
use emulator::paging::is_legal_pat;
use emulator::registers::{Efer, Fault};

const P5_MC_ADDR: u32 = 0x0;
const P5_MC_TYPE: u32 = 0x1;
const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const CORE_THREAD_COUNT: u32 = 0x35;
const PLATFORM_INFO: u32 = 0xce;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const PERF_STATUS: u32 = 0x198;
const DEBUG_CTL: u32 = 0x1d9;
const LAST_BRANCH_FIRST: u32 = 0x1db;
const LAST_BRANCH_LAST: u32 = 0x1de;
const PAT: u32 = 0x277;
const TSC_DEADLINE: u32 = 0x6e0;
const XSS: u32 = 0xda0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
const EFER: u32 = 0xc000_0080;
const TOP_MEM: u32 = 0xc001_001a;
const TOP_MEM2: u32 = 0xc001_001d;

/// The bits of EFER that processors have, whether guests have them or not.
const EFER_DEFINED: Efer = Efer::new()
    .with_syscall(true)
    .with_long_mode_enable(true)
    .with_long_mode_active(true)
    .with_no_execute(true)
    .with_svme(true)
    .with_lmsle(true)
    .with_ffxsr(true)
    .with_tce(true);
/// CPUID 8000_0001h, EDX: fast FXSAVE and FXRSTOR.
const CPUID_FFXSR: u32 = 1 << 25;

/// Registers without an owner elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Msrs {
    mtrrs: Mtrrs,
    mcg_status: u64,
    /// The values of registers that keep what is written and have no other effect, by number.
    kept: ArrayVec<(u32, u64), 8>,
    /// Registers that the guest touched in vain, each logged once.
    complained: ArrayVec<u32, 32>,
}

impl Msrs {
    /// There is room for each register that is kept.
    fn keep(&mut self, index: u32, value: u64) {
        match self.kept.iter_mut().find(|(kept, _)| *kept == index) {
            Some((_, old)) => *old = value,
            None => _ = self.kept.try_push((index, value)),
        }
    }
}

impl<B: Backend> Vcpu<B> {
    /// RDMSR.
    pub(super) fn read_msr(&mut self, index: u32) -> Result<u64, Fault> {
        let value = match index {
            EFER => self.backend.efer().into(),
            APIC_BASE => self.apic.apic_base(),
            TSC => self.platform.tsc().wrapping_add(self.backend.tsc_offset()),
            TSC_DEADLINE => self.apic.tsc_deadline(),
            X2APIC_FIRST..=X2APIC_LAST => {
                self.apic.read_msr(index).map_err(|_| Fault::PROTECTION)?
            }
            PAT => self.backend.system_register(SystemRegister::Pat),
            // No supervisor state is offered.
            XSS if self.vm.cpuid.has_xsaves() => 0,
            MCG_STATUS => self.msrs.mcg_status,
            PLATFORM_INFO | PERF_STATUS | CORE_THREAD_COUNT if self.is_of(Vendor::Intel) => {
                self.read_platform_msr(index)
            }
            TOP_MEM if self.is_of(Vendor::Amd) => self.vm.space.ram_layout().low_end(),
            TOP_MEM2 if self.is_of(Vendor::Amd) => match self.vm.space.ram_layout() {
                layout if layout.high_bytes() == 0 => 0,
                layout => layout.high_end(),
            },
            P5_MC_ADDR | P5_MC_TYPE | MCG_CAP => 0,
            MSR_SPEC_CTRL | MSR_PRED_CMD | MSR_FLUSH_CMD | MSR_ARCH_CAPABILITIES => {
                return self.read_speculation_msr(index);
            }
            // Steps by the branch and branch records are not offered: exits of stepped instructions
            // would not know of them.
            DEBUG_CTL | LAST_BRANCH_FIRST..=LAST_BRANCH_LAST => 0,
            _ if Mtrrs::has(index) => self.msrs.mtrrs.read(index)?,
            _ => return self.read_inert_msr(index),
        };
        Ok(value)
    }

    /// WRMSR.
    pub(super) fn write_msr(&mut self, index: u32, value: u64) -> Result<(), Fault> {
        match index {
            TSC_DEADLINE => {
                let host_tsc = value.wrapping_sub(self.backend.tsc_offset());
                let deadline = (value != 0).then(|| self.vm.clock.at_tsc(host_tsc));
                self.apic.set_tsc_deadline(deadline, value);
            }
            X2APIC_FIRST..=X2APIC_LAST => {
                self.apic.write_msr(index, value).map_err(|_| Fault::PROTECTION)?;
                self.backend.note_vectors();
            }
            EFER => self.write_efer(value)?,
            APIC_BASE if value >> self.vm.cpuid.physical_address_bits() != 0 => {
                return Err(Fault::PROTECTION);
            }
            APIC_BASE => {
                self.apic.set_apic_base(value).map_err(|_| Fault::PROTECTION)?;
                self.place_apic();
            }
            TSC => {
                self.backend.set_tsc_offset(value.wrapping_sub(self.platform.tsc()));
                self.note_tsc_offset();
            }
            PAT => self.write_pat(value)?,
            XSS if self.vm.cpuid.has_xsaves() && value == 0 => {}
            MCG_STATUS => self.msrs.mcg_status = value & 7,
            P5_MC_ADDR | P5_MC_TYPE | DEBUG_CTL => {}
            MSR_SPEC_CTRL | MSR_PRED_CMD | MSR_FLUSH_CMD | MSR_ARCH_CAPABILITIES => {
                return self.write_speculation_msr(index, value);
            }
            _ if Mtrrs::has(index) => {
                self.msrs.mtrrs.write(index, value, self.vm.cpuid.physical_address_bits())?;
            }
            _ => return self.write_inert_msr(index, value),
        }
        Ok(())
    }

    fn write_efer(&mut self, value: u64) -> Result<(), Fault> {
        let (new, old) = (Efer::from(value), self.backend.efer());
        let reserved = value & !EFER_DEFINED.into_bits() != 0;
        let lacks_ffxsr = new.ffxsr() && self.cpuid(0x8000_0001, 0).edx & CPUID_FFXSR == 0;
        // A value that passes here must pass the processor's own check at the next entry.
        let absent = reserved || new.svme() || new.lmsle() || new.tce() || lacks_ffxsr;
        let toggles_long_mode = new.long_mode_enable() != old.long_mode_enable();
        if absent || toggles_long_mode && self.backend.cr0().paging() {
            return Err(Fault::PROTECTION);
        }
        self.backend.set_efer(new.with_long_mode_active(old.long_mode_active()));
        Ok(())
    }

    fn write_pat(&mut self, value: u64) -> Result<(), Fault> {
        if !is_legal_pat(value) {
            return Err(Fault::PROTECTION);
        }
        self.backend.set_system_register(SystemRegister::Pat, value);
        Ok(())
    }

    fn is_of(&self, vendor: Vendor) -> bool {
        self.vm.cpuid.processor().vendor == vendor
    }

    /// The MSRs by which Intel's processors describe themselves beyond CPUID.
    fn read_platform_msr(&self, index: u32) -> u64 {
        // In units of 100 MHz.
        let ratio = self.vm.clock.tsc_hz() / 100_000_000;
        match index {
            PLATFORM_INFO => (ratio & 0xff) << 8,
            // The ratio now, and the highest one.
            PERF_STATUS => (ratio & 0xff) << 8 | (ratio & 0x1f) << 40,
            _ => u64::from(self.vm.cpuid.vcpu_count()) * 0x1_0001,
        }
    }

    #[cold]
    fn read_inert_msr(&mut self, index: u32) -> Result<u64, Fault> {
        if self.vm.pv.is_some() && index == xen::cpuid::HYPERCALL_MSR {
            return Ok(0);
        }
        let inert = inert_msrs::find(index, self.vm.cpuid.processor()).and_then(|msr| msr.value);
        let kept = self.msrs.kept.iter().find(|&&(kept, _)| kept == index);
        match (inert, kept) {
            (None, _) => Err(self.unknown_msr(index, "read")),
            (Some(_), Some(&(_, value))) | (Some(value), None) => Ok(value),
        }
    }

    #[cold]
    fn write_inert_msr(&mut self, index: u32, value: u64) -> Result<(), Fault> {
        if self.write_hypercall_msr(index, value)? {
            return Ok(());
        }
        let write = inert_msrs::find(index, self.vm.cpuid.processor()).map(|msr| msr.write);
        match write {
            Some(Write::Ignored) => {}
            Some(Write::Kept { fixed }) => self.msrs.keep(index, value | fixed),
            Some(Write::Refused) | None => return Err(self.unknown_msr(index, "write")),
        }
        Ok(())
    }

    #[cold]
    pub(super) fn unknown_msr(&mut self, index: u32, what: &str) -> Fault {
        if !self.msrs.complained.contains(&index) && self.msrs.complained.try_push(index).is_ok() {
            log::info!(
                "{}: vCPU {}: {what} of absent MSR {index:#x}: #GP",
                self.vm.name,
                self.index
            );
        }
        Fault::PROTECTION
    }
}
