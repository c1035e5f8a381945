//! The bits of the VMX controls (SDM volume 3, 25.6 to 25.8).

use bitflags::bitflags;

bitflags! {
    /// Pin-based VM-execution controls (25.6.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PinControls: u32 {
        const EXTERNAL_INTERRUPT = 1 << 0;
        const NMI = 1 << 3;
        const VIRTUAL_NMIS = 1 << 5;
        const PREEMPTION_TIMER = 1 << 6;
        const POSTED_INTERRUPTS = 1 << 7;
        const _ = !0;
    }

    /// Primary processor-based VM-execution controls (25.6.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PrimaryControls: u32 {
        const INTERRUPT_WINDOW = 1 << 2;
        const TSC_OFFSETTING = 1 << 3;
        const HLT = 1 << 7;
        const INVLPG = 1 << 9;
        const MWAIT = 1 << 10;
        const RDPMC = 1 << 11;
        const RDTSC = 1 << 12;
        const CR3_LOAD = 1 << 15;
        const CR3_STORE = 1 << 16;
        const TERTIARY = 1 << 17;
        const CR8_LOAD = 1 << 19;
        const CR8_STORE = 1 << 20;
        const TPR_SHADOW = 1 << 21;
        const NMI_WINDOW = 1 << 22;
        const MOV_DR = 1 << 23;
        const UNCONDITIONAL_IO = 1 << 24;
        const IO_BITMAPS = 1 << 25;
        const MONITOR_TRAP = 1 << 27;
        const MSR_BITMAPS = 1 << 28;
        const MONITOR = 1 << 29;
        const PAUSE = 1 << 30;
        const SECONDARY = 1 << 31;
        const _ = !0;
    }

    /// Secondary processor-based VM-execution controls (25.6.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SecondaryControls: u32 {
        const APIC_ACCESSES = 1 << 0;
        const EPT = 1 << 1;
        const DESCRIPTOR_TABLES = 1 << 2;
        const RDTSCP = 1 << 3;
        const X2APIC = 1 << 4;
        const VPID = 1 << 5;
        const WBINVD = 1 << 6;
        const UNRESTRICTED_GUEST = 1 << 7;
        const APIC_REGISTERS = 1 << 8;
        const VIRTUAL_INTERRUPTS = 1 << 9;
        const PAUSE_LOOP = 1 << 10;
        const INVPCID = 1 << 12;
        const PAGE_LOG = 1 << 17;
        const XSAVES = 1 << 20;
        const _ = !0;
    }

    /// VM-exit controls (25.7.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExitControls: u32 {
        const SAVE_DEBUG = 1 << 2;
        const HOST_64_BIT = 1 << 9;
        const LOAD_PERF_GLOBAL = 1 << 12;
        const ACKNOWLEDGE_INTERRUPT = 1 << 15;
        const SAVE_PAT = 1 << 18;
        const LOAD_PAT = 1 << 19;
        const SAVE_EFER = 1 << 20;
        const LOAD_EFER = 1 << 21;
        const SAVE_PREEMPTION_TIMER = 1 << 22;
        const _ = !0;
    }

    /// VM-entry controls (25.8.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryControls: u32 {
        const LOAD_DEBUG = 1 << 2;
        const GUEST_64_BIT = 1 << 9;
        const TO_SMM = 1 << 10;
        const LEAVE_DUAL_MONITOR = 1 << 11;
        const LOAD_PERF_GLOBAL = 1 << 13;
        const LOAD_PAT = 1 << 14;
        const LOAD_EFER = 1 << 15;
        const _ = !0;
    }
}
