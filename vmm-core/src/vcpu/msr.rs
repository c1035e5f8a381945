//! Model-specific registers. `docs/msr.md` has the table in words.
//!
//! STAR, LSTAR, CSTAR, SFMASK, FS.base, GS.base, KernelGSbase, TSC_AUX and SYSENTER_* never come here: the guest
//! accesses them without an exit.

use super::Vcpu;
use super::mtrr::Mtrrs;
use crate::backend::{Backend, SystemRegister};
use crate::paging::is_legal_pat;
use crate::registers::{Efer, Fault};
use arrayvec::ArrayVec;

const P5_MC_ADDR: u32 = 0x0;
const P5_MC_TYPE: u32 = 0x1;
const TSC: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const APIC_BASE: u32 = 0x1b;
const POWER_ON: u32 = 0x2a;
const FREQUENCY_ID: u32 = 0x2c;
const MICROCODE_UPDATE: u32 = 0x79;
const MICROCODE_REVISION: u32 = 0x8b;
const P6_COUNTER_FIRST: u32 = 0xc1;
const P6_COUNTER_LAST: u32 = 0xc2;
const FSB_FREQUENCY: u32 = 0xcd;
const PLATFORM_INFO: u32 = 0xce;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const P6_EVENT_SELECT_FIRST: u32 = 0x186;
const P6_EVENT_SELECT_LAST: u32 = 0x187;
const PERF_STATUS: u32 = 0x198;
const PERF_CTL: u32 = 0x199;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUG_CTL: u32 = 0x1d9;
const LAST_BRANCH_FIRST: u32 = 0x1db;
const LAST_BRANCH_LAST: u32 = 0x1de;
const PAT: u32 = 0x277;
const TSC_DEADLINE: u32 = 0x6e0;
const XSS: u32 = 0xda0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
const EFER: u32 = 0xc000_0080;
const K7_COUNTERS_FIRST: u32 = 0xc001_0000;
const K7_COUNTERS_LAST: u32 = 0xc001_0007;
const SYSCFG: u32 = 0xc001_0010;
const HWCR: u32 = 0xc001_0015;
const IORR_FIRST: u32 = 0xc001_0016;
const IORR_LAST: u32 = 0xc001_0019;
const TOP_MEM: u32 = 0xc001_001a;
const TOP_MEM2: u32 = 0xc001_001d;
const NB_CFG: u32 = 0xc001_001f;
const PATCH_LOADER: u32 = 0xc001_0020;
const MC4_MISC0: u32 = 0x413;
const INT_PENDING: u32 = 0xc001_0055;
const MMIO_CFG_BASE: u32 = 0xc001_0058;
const TSEG_ADDRESS: u32 = 0xc001_0112;
const TSEG_MASK: u32 = 0xc001_0113;
const LS_CFG: u32 = 0xc001_1020;
const IC_CFG: u32 = 0xc001_1021;
const DC_CFG: u32 = 0xc001_1022;
const DE_CFG: u32 = 0xc001_1029;

/// DE_CFG: LFENCE waits for all earlier instructions, as it does on every processor with AMD-V that matters.
const DE_CFG_LFENCE_SERIALIZES: u64 = 1 << 1;
/// HWCR: the TSC counts at the P0 frequency.
const HWCR_TSC_AT_P0: u64 = 1 << 24;
/// EBC_FREQUENCY_ID (family Fh): a bus of 100 MHz, times one. Systems divide by what they find.
const FREQUENCY_ID_100_MHZ: u64 = 1 << 24;
/// FSB_FREQ (Core): a bus of 166 MHz.
const FSB_FREQUENCY_166_MHZ: u64 = 3;
/// MISC_ENABLE: fast string operations.
const MISC_ENABLE_FAST_STRINGS: u64 = 1;
/// The revision that a hypervisor without microcode of its own reports, high half of the register.
const MICROCODE_REVISION_VALUE: u64 = 1 << 32;
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
#[derive(Clone, Debug)]
pub struct Msrs {
    mtrrs: Mtrrs,
    mcg_status: u64,
    misc_enable: u64,
    hwcr: u64,
    syscfg: u64,
    /// Registers that the guest touched in vain, each logged once.
    complained: ArrayVec<u32, 32>,
}

impl Default for Msrs {
    fn default() -> Self {
        Self {
            mtrrs: Mtrrs::default(),
            mcg_status: 0,
            misc_enable: MISC_ENABLE_FAST_STRINGS,
            hwcr: HWCR_TSC_AT_P0,
            syscfg: 0,
            complained: ArrayVec::new(),
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
            X2APIC_FIRST..=X2APIC_LAST => self.apic.read_msr(index).map_err(|_| Fault::PROTECTION)?,
            PAT => self.backend.system_register(SystemRegister::Pat),
            // No supervisor state is offered.
            XSS if self.vm.cpuid.has_xsaves() => 0,
            MCG_STATUS => self.msrs.mcg_status,
            MISC_ENABLE => self.msrs.misc_enable,
            PLATFORM_INFO => (self.vm.clock.tsc_hz() / 100_000_000) << 8,
            MICROCODE_REVISION => MICROCODE_REVISION_VALUE,
            HWCR => self.msrs.hwcr,
            SYSCFG => self.msrs.syscfg,
            TOP_MEM => self.vm.space.low_ram_bytes(),
            TOP_MEM2 => match self.vm.space.high_ram_bytes() {
                0 => 0,
                bytes => (4 << 30) + bytes,
            },
            DE_CFG => DE_CFG_LFENCE_SERIALIZES,
            FREQUENCY_ID => FREQUENCY_ID_100_MHZ,
            FSB_FREQUENCY => FSB_FREQUENCY_166_MHZ,
            P5_MC_ADDR | P5_MC_TYPE | PLATFORM_ID | POWER_ON | MCG_CAP | MC4_MISC0 | PERF_STATUS
            | PERF_CTL | NB_CFG | INT_PENDING | MMIO_CFG_BASE | TSEG_ADDRESS | TSEG_MASK | LS_CFG
            | IC_CFG | DC_CFG => 0,
            // Steps by the branch and branch records are not offered: exits of stepped instructions would not know of them.
            DEBUG_CTL | LAST_BRANCH_FIRST..=LAST_BRANCH_LAST | IORR_FIRST..=IORR_LAST => 0,
            // Counters that count nothing: they are older than the CPUID leaves that tell of counters.
            P6_COUNTER_FIRST..=P6_COUNTER_LAST
            | P6_EVENT_SELECT_FIRST..=P6_EVENT_SELECT_LAST
            | K7_COUNTERS_FIRST..=K7_COUNTERS_LAST => 0,
            _ if Mtrrs::has(index) => self.msrs.mtrrs.read(index)?,
            _ => return Err(self.unknown_msr(index, "read")),
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
            APIC_BASE => {
                self.apic.set_apic_base(value).map_err(|_| Fault::PROTECTION)?;
                self.place_apic();
            }
            TSC => self.backend.set_tsc_offset(value.wrapping_sub(self.platform.tsc())),
            PAT => self.write_pat(value)?,
            XSS if self.vm.cpuid.has_xsaves() && value == 0 => {}
            MCG_STATUS => self.msrs.mcg_status = value & 7,
            MISC_ENABLE => self.msrs.misc_enable = value,
            HWCR => self.msrs.hwcr = value | HWCR_TSC_AT_P0,
            SYSCFG => self.msrs.syscfg = value,
            // Nothing to update, nothing to configure.
            MICROCODE_UPDATE | MICROCODE_REVISION | PATCH_LOADER | P5_MC_ADDR | P5_MC_TYPE | POWER_ON
            | DEBUG_CTL | PERF_CTL | NB_CFG | INT_PENDING | LS_CFG | IC_CFG | DC_CFG | DE_CFG => {}
            P6_COUNTER_FIRST..=P6_COUNTER_LAST
            | P6_EVENT_SELECT_FIRST..=P6_EVENT_SELECT_LAST
            | K7_COUNTERS_FIRST..=K7_COUNTERS_LAST
            | IORR_FIRST..=IORR_LAST => {}
            _ if Mtrrs::has(index) => self.msrs.mtrrs.write(index, value)?,
            _ => return Err(self.unknown_msr(index, "write")),
        }
        Ok(())
    }

    fn write_efer(&mut self, value: u64) -> Result<(), Fault> {
        let (new, old) = (Efer::from(value), self.backend.efer());
        let reserved = value & !EFER_DEFINED.into_bits() != 0;
        let lacks_ffxsr = new.ffxsr() && self.cpuid(0x8000_0001, 0).edx & CPUID_FFXSR == 0;
        // Whatever passes here must pass the processor's own check at the next entry.
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

    #[cold]
    fn unknown_msr(&mut self, index: u32, what: &str) -> Fault {
        if !self.msrs.complained.contains(&index) && self.msrs.complained.try_push(index).is_ok() {
            log::info!("{}: vCPU {}: {what} of absent MSR {index:#x}: #GP", self.vm.name, self.index);
        }
        Fault::PROTECTION
    }
}
