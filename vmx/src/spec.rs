//! Registers and formats of VMX.

use bitfield_struct::bitfield;

/// MSR numbers (SDM volume 4, table 2-2).
pub mod msr {
    #![allow(missing_docs)]
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const PAT: u32 = 0x277;
    pub const VMX_BASIC: u32 = 0x480;
    pub const VMX_PIN: u32 = 0x481;
    pub const VMX_PRIMARY: u32 = 0x482;
    pub const VMX_EXIT: u32 = 0x483;
    pub const VMX_ENTRY: u32 = 0x484;
    pub const VMX_MISC: u32 = 0x485;
    pub const VMX_CR0_FIXED0: u32 = 0x486;
    pub const VMX_CR0_FIXED1: u32 = 0x487;
    pub const VMX_CR4_FIXED0: u32 = 0x488;
    pub const VMX_CR4_FIXED1: u32 = 0x489;
    pub const VMX_SECONDARY: u32 = 0x48b;
    pub const VMX_EPT_VPID: u32 = 0x48c;
    pub const VMX_TRUE_PIN: u32 = 0x48d;
    pub const VMX_TRUE_PRIMARY: u32 = 0x48e;
    pub const VMX_TRUE_EXIT: u32 = 0x48f;
    pub const VMX_TRUE_ENTRY: u32 = 0x490;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// IA32_FEATURE_CONTROL: which the firmware locks.
#[bitfield(u64)]
pub struct FeatureControl {
    pub locked: bool,
    pub vmx_in_smx: bool,
    pub vmx_outside_smx: bool,
    #[bits(61)]
    __: u64,
}

/// IA32_VMX_BASIC (A.1).
#[bitfield(u64)]
pub struct VmxBasic {
    #[bits(31)]
    pub revision: u32,
    __: bool,
    #[bits(13)]
    pub region_bytes: u16,
    #[bits(3)]
    __: u8,
    /// Addresses of VMX structures have 32 bits.
    pub narrow_addresses: bool,
    pub dual_monitor: bool,
    #[bits(4)]
    pub memory_type: u8,
    __: bool,
    /// The TRUE capability MSRs exist.
    pub true_controls: bool,
    /// Exceptions may be injected with or without an error code.
    pub any_error_code: bool,
    #[bits(7)]
    __: u8,
}

/// IA32_VMX_MISC (A.6), as far as it is used.
#[bitfield(u64)]
pub struct VmxMisc {
    /// The preemption timer counts down when this bit of the TSC changes.
    #[bits(5)]
    pub preemption_timer_shift: u8,
    #[bits(59)]
    __: u64,
}

/// IA32_VMX_EPT_VPID_CAP (A.10).
#[bitfield(u64)]
pub struct EptVpidCapabilities {
    pub execute_only: bool,
    #[bits(5)]
    __: u8,
    pub four_levels: bool,
    pub five_levels: bool,
    pub uncached_tables: bool,
    #[bits(5)]
    __: u8,
    pub write_back_tables: bool,
    __: bool,
    pub pages_2m: bool,
    pub pages_1g: bool,
    #[bits(2)]
    __: u8,
    pub invept: bool,
    pub accessed_dirty: bool,
    pub advanced_information: bool,
    pub supervisor_shadow_stack: bool,
    __: bool,
    pub invept_single: bool,
    pub invept_all: bool,
    #[bits(5)]
    __: u8,
    pub invvpid: bool,
    #[bits(7)]
    __: u8,
    pub invvpid_address: bool,
    pub invvpid_single: bool,
    pub invvpid_all: bool,
    pub invvpid_single_retaining_globals: bool,
    #[bits(20)]
    __: u32,
}

/// The EPT pointer (25.6.11).
#[bitfield(u64)]
pub struct EptPointer {
    /// 6 is write-back.
    #[bits(3)]
    pub memory_type: u8,
    /// One less than the number of levels.
    #[bits(3)]
    pub walk_length_less_one: u8,
    pub accessed_dirty: bool,
    pub shadow_stack: bool,
    #[bits(4)]
    __: u8,
    #[bits(52)]
    pub frame: u64,
}

/// The format of the exit reason field (25.9.1).
#[bitfield(u32)]
pub struct ExitReason {
    pub basic: u16,
    #[bits(15)]
    __: u16,
    pub entry_failure: bool,
}

/// Basic exit reasons (appendix C).
pub mod reason {
    #![allow(missing_docs)]
    pub const EXCEPTION_OR_NMI: u16 = 0;
    pub const EXTERNAL_INTERRUPT: u16 = 1;
    pub const TRIPLE_FAULT: u16 = 2;
    pub const INIT: u16 = 3;
    pub const INTERRUPT_WINDOW: u16 = 7;
    pub const NMI_WINDOW: u16 = 8;
    pub const TASK_SWITCH: u16 = 9;
    pub const CPUID: u16 = 10;
    pub const GETSEC: u16 = 11;
    pub const HLT: u16 = 12;
    pub const INVD: u16 = 13;
    pub const RDPMC: u16 = 15;
    pub const VMCALL: u16 = 18;
    pub const VMCLEAR: u16 = 19;
    pub const VMXON: u16 = 27;
    pub const CONTROL_REGISTER: u16 = 28;
    pub const MOV_DR: u16 = 29;
    pub const PORT: u16 = 30;
    pub const RDMSR: u16 = 31;
    pub const WRMSR: u16 = 32;
    pub const MWAIT: u16 = 36;
    pub const MONITOR_TRAP: u16 = 37;
    pub const MONITOR: u16 = 39;
    pub const PAUSE: u16 = 40;
    pub const MACHINE_CHECK_AT_ENTRY: u16 = 41;
    pub const TPR_BELOW_THRESHOLD: u16 = 43;
    pub const APIC_ACCESS: u16 = 44;
    pub const VIRTUAL_EOI: u16 = 45;
    pub const GDTR_IDTR: u16 = 46;
    pub const LDTR_TR: u16 = 47;
    pub const EPT_VIOLATION: u16 = 48;
    pub const EPT_MISCONFIGURATION: u16 = 49;
    pub const INVEPT: u16 = 50;
    pub const PREEMPTION_TIMER: u16 = 52;
    pub const INVVPID: u16 = 53;
    pub const WBINVD: u16 = 54;
    pub const XSETBV: u16 = 55;
    pub const APIC_WRITE: u16 = 56;
    pub const VMFUNC: u16 = 59;
    pub const PAGE_LOG_FULL: u16 = 62;

    const NAMES: [&str; 63] = [
        "exception or NMI",
        "external interrupt",
        "triple fault",
        "INIT signal",
        "start-up IPI",
        "I/O SMI",
        "other SMI",
        "interrupt window",
        "NMI window",
        "task switch",
        "CPUID",
        "GETSEC",
        "HLT",
        "INVD",
        "INVLPG",
        "RDPMC",
        "RDTSC",
        "RSM",
        "VMCALL",
        "VMCLEAR",
        "VMLAUNCH",
        "VMPTRLD",
        "VMPTRST",
        "VMREAD",
        "VMRESUME",
        "VMWRITE",
        "VMXOFF",
        "VMXON",
        "control register",
        "MOV DR",
        "port",
        "RDMSR",
        "WRMSR",
        "entry failure: guest state",
        "entry failure: MSR loading",
        "reason 35",
        "MWAIT",
        "monitor trap flag",
        "reason 38",
        "MONITOR",
        "PAUSE",
        "entry failure: machine check",
        "reason 42",
        "TPR below threshold",
        "APIC access",
        "virtualised EOI",
        "GDTR or IDTR",
        "LDTR or TR",
        "EPT violation",
        "EPT misconfiguration",
        "INVEPT",
        "RDTSCP",
        "preemption timer",
        "INVVPID",
        "WBINVD",
        "XSETBV",
        "APIC write",
        "RDRAND",
        "INVPCID",
        "VMFUNC",
        "ENCLS",
        "RDSEED",
        "page-modification log full",
    ];

    /// A basic exit reason in words.
    pub fn name(basic: u16) -> &'static str {
        NAMES.get(usize::from(basic)).copied().unwrap_or("a reason of later processors")
    }
}

/// Exit qualification of a port access (table 28-5).
#[bitfield(u64)]
pub struct PortQualification {
    /// 0, 1 and 3 for 1, 2 and 4 bytes.
    #[bits(3)]
    pub size_less_one: u8,
    pub input: bool,
    pub string: bool,
    #[bits(11)]
    __: u16,
    pub port: u16,
    __: u32,
}

/// Instruction information of an exit for LGDT, SGDT, LIDT or SIDT, and of one for LLDT, SLDT, LTR
/// or STR (28.2.5), as far as it is used.
#[bitfield(u32)]
pub struct DescriptorInstruction {
    #[bits(28)]
    __: u32,
    /// IDTR and not GDTR, or TR and not LDTR.
    pub second_register: bool,
    pub load: bool,
    #[bits(2)]
    __: u8,
}

/// Exit qualification of an EPT violation (table 28-7).
#[bitfield(u64)]
pub struct EptQualification {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    pub user_executable: bool,
    /// The guest-linear-address field is valid.
    pub linear_valid: bool,
    /// The access was to the translation of the linear address, not to a page table on the way.
    pub final_access: bool,
    #[bits(3)]
    __: u8,
    /// NMIs were unblocked by an IRET that then exited; also in the qualification of a full
    /// page-modification log.
    pub nmi_unblocked_by_iret: bool,
    #[bits(51)]
    __: u64,
}

/// Exit qualification of an APIC access (table 28-6).
#[bitfield(u64)]
pub struct ApicAccessQualification {
    #[bits(12)]
    pub offset: u16,
    /// See [`apic_access`].
    #[bits(4)]
    pub kind: u8,
    #[bits(48)]
    __: u64,
}

/// Kinds of APIC accesses. 0 is a read, 3 a linear access during the delivery of an event; those
/// from [`apic_access::PHYSICAL`] on are not translated: page walks and the like.
pub mod apic_access {
    #![allow(missing_docs)]
    pub const WRITE: u8 = 1;
    pub const FETCH: u8 = 2;
    pub const PHYSICAL: u8 = 10;
}

/// The guest interrupt status (25.4.2).
#[bitfield(u16)]
pub struct InterruptStatus {
    /// The highest vector requested, 0 for none.
    pub requested: u8,
    /// The highest vector in service, 0 for none.
    pub in_service: u8,
}

/// Exit qualification of a control-register access (table 28-3).
#[bitfield(u64)]
pub struct CrQualification {
    #[bits(4)]
    pub register: u8,
    /// See [`cr_access`].
    #[bits(2)]
    pub access: u8,
    pub lmsw_from_memory: bool,
    __: bool,
    #[bits(4)]
    pub gpr: u8,
    #[bits(4)]
    __: u8,
    pub lmsw_source: u16,
    __: u32,
}

/// Kinds of control-register accesses. CLTS (2) and LMSW (3) change none of the bits that the host
/// keeps.
pub mod cr_access {
    #![allow(missing_docs)]
    pub const TO_CR: u8 = 0;
    pub const FROM_CR: u8 = 1;
}

/// Exit qualification of a task switch (table 28-2).
#[bitfield(u64)]
pub struct TaskSwitchQualification {
    pub selector: u16,
    #[bits(14)]
    __: u16,
    /// See [`task_source`].
    #[bits(2)]
    pub source: u8,
    __: u32,
}

/// The causes of a task switch; 3 is a task gate in the IDT.
pub mod task_source {
    #![allow(missing_docs)]
    pub const CALL: u8 = 0;
    pub const IRET: u8 = 1;
    pub const JUMP: u8 = 2;
}

/// The interruption information of exits and entries and the IDT-vectoring information (25.8.3,
/// 25.9.2, 25.9.3).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Interruption {
    pub vector: u8,
    /// See [`interruption`].
    #[bits(3)]
    pub kind: u8,
    pub has_error_code: bool,
    #[bits(19)]
    __: u32,
    pub valid: bool,
}

/// Kinds of interruptions. 4 is INT n, 6 INT3 and INTO.
pub mod interruption {
    #![allow(missing_docs)]
    pub const EXTERNAL: u8 = 0;
    pub const NMI: u8 = 2;
    pub const HARDWARE_EXCEPTION: u8 = 3;
    /// INT1.
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u8 = 5;
    pub const OTHER: u8 = 7;
}

/// The guest's interruptibility state (table 25-3).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Interruptibility {
    pub by_sti: bool,
    pub by_mov_ss: bool,
    pub by_smi: bool,
    pub by_nmi: bool,
    pub enclave: bool,
    #[bits(27)]
    __: u32,
}

/// Pending debug exceptions (table 25-4).
#[bitfield(u64)]
pub struct PendingDebug {
    #[bits(4)]
    pub breakpoints: u8,
    #[bits(8)]
    __: u8,
    pub enabled_breakpoint: bool,
    __: bool,
    pub single_step: bool,
    __: bool,
    pub rtm: bool,
    #[bits(47)]
    __: u64,
}

/// A segment's access rights (table 25-2).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AccessRights {
    #[bits(4)]
    pub kind: u8,
    pub code_or_data: bool,
    #[bits(2)]
    pub dpl: u8,
    pub present: bool,
    #[bits(4)]
    __: u8,
    pub available: bool,
    pub long: bool,
    pub default_big: bool,
    pub granularity: bool,
    pub unusable: bool,
    #[bits(15)]
    __: u16,
}

/// The meaning of the instruction-error field (31.4).
pub fn instruction_error(number: u64) -> &'static str {
    match number {
        0 => "none",
        1 => "VMCALL in VMX root operation",
        2 => "VMCLEAR with an invalid address",
        3 => "VMCLEAR with the VMXON pointer",
        4 => "VMLAUNCH with a VMCS that is not clear",
        5 => "VMRESUME with a VMCS that was not launched",
        6 => "VMRESUME after VMXOFF",
        7 => "entry with invalid control fields",
        8 => "entry with invalid host-state fields",
        9 => "VMPTRLD with an invalid address",
        10 => "VMPTRLD with the VMXON pointer",
        11 => "VMPTRLD with another VMCS revision",
        12 => "VMREAD or VMWRITE of a field that does not exist",
        13 => "VMWRITE of a read-only field",
        15 => "VMXON in VMX root operation",
        26 => "entry with events blocked by MOV SS",
        28 => "INVEPT or INVVPID with an invalid operand",
        _ => "another error",
    }
}
