//! The virtual machine control block: appendix B of the manual.

use bitfield_struct::bitfield;
use emulator::registers::{Segment, SegmentAttributes};

/// The first half of the VMCB: what the hypervisor asks for and what the processor reports (table
/// B-1).
#[repr(C)]
pub struct ControlArea {
    /// CR reads in the low half, CR writes in the high half.
    pub intercept_cr: u32,
    /// DR reads in the low half, DR writes in the high half.
    pub intercept_dr: u32,
    /// One bit an exception vector.
    pub intercept_exceptions: u32,
    pub intercept_1: Intercept1,
    pub intercept_2: Intercept2,
    pub intercept_3: u32,
    reserved_018: [u8; 0x3c - 0x18],
    pub pause_filter_threshold: u16,
    pub pause_filter_count: u16,
    pub iopm_base_hpa: u64,
    pub msrpm_base_hpa: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: TlbControl,
    pub interrupt_control: InterruptControl,
    /// Bit 0: interrupts are held off for one instruction.
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info_1: u64,
    pub exit_info_2: u64,
    pub exit_interrupt_info: EventField,
    /// Bit 0: nested paging.
    pub nested_control: u64,
    reserved_098: [u8; 0xa8 - 0x98],
    pub event_injection: EventField,
    pub nested_cr3: u64,
    pub lbr_control: u64,
    /// Zero: nothing is assumed unchanged since the last exit.
    pub clean_bits: u64,
    pub next_rip: u64,
    pub fetched_count: u8,
    pub fetched_bytes: [u8; 15],
    reserved_0e0: [u8; 0x400 - 0xe0],
}

/// A segment register (table B-2).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VmcbSegment {
    pub selector: u16,
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

impl From<Segment> for VmcbSegment {
    fn from(segment: Segment) -> Self {
        Self {
            selector: segment.selector,
            attributes: segment.attributes.into(),
            limit: segment.limit,
            base: segment.base,
        }
    }
}

impl From<VmcbSegment> for Segment {
    fn from(segment: VmcbSegment) -> Self {
        Self {
            selector: segment.selector,
            attributes: SegmentAttributes::from(segment.attributes),
            limit: segment.limit,
            base: segment.base,
        }
    }
}

/// The second half of the VMCB: the guest's registers (table B-2).
#[repr(C)]
pub struct SaveArea {
    pub es: VmcbSegment,
    pub cs: VmcbSegment,
    pub ss: VmcbSegment,
    pub ds: VmcbSegment,
    pub fs: VmcbSegment,
    pub gs: VmcbSegment,
    pub gdtr: VmcbSegment,
    pub ldtr: VmcbSegment,
    pub idtr: VmcbSegment,
    pub tr: VmcbSegment,
    reserved_0a0: [u8; 0xcb - 0xa0],
    pub cpl: u8,
    reserved_0cc: [u8; 4],
    pub efer: u64,
    reserved_0d8: [u8; 0x148 - 0xd8],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u8; 0x1d8 - 0x180],
    pub rsp: u64,
    reserved_1e0: [u8; 0x1f8 - 0x1e0],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    pub pat: u64,
    reserved_270: [u8; 0x2e0 - 0x270],
    pub spec_ctrl: u64,
    reserved_2e8: [u8; 0xc00 - 0x2e8],
}

/// The virtual machine control block.
#[repr(C, align(4096))]
pub struct Vmcb {
    pub control: ControlArea,
    pub save: SaveArea,
}

const _: () = assert!(size_of::<Vmcb>() == 4096);
const _: () = assert!(core::mem::offset_of!(ControlArea, event_injection) == 0xa8);
const _: () = assert!(core::mem::offset_of!(ControlArea, fetched_bytes) == 0xd1);
const _: () = assert!(core::mem::offset_of!(SaveArea, rip) == 0x178);
const _: () = assert!(core::mem::offset_of!(SaveArea, pat) == 0x268);
const _: () = assert!(core::mem::offset_of!(SaveArea, spec_ctrl) == 0x2e0);

/// Intercepts at offset 00ch.
#[bitfield(u32)]
pub struct Intercept1 {
    pub intr: bool,
    pub nmi: bool,
    pub smi: bool,
    pub init: bool,
    pub vintr: bool,
    pub cr0_selective: bool,
    pub read_idtr: bool,
    pub read_gdtr: bool,
    pub read_ldtr: bool,
    pub read_tr: bool,
    pub write_idtr: bool,
    pub write_gdtr: bool,
    pub write_ldtr: bool,
    pub write_tr: bool,
    pub rdtsc: bool,
    pub rdpmc: bool,
    pub pushf: bool,
    pub popf: bool,
    pub cpuid: bool,
    pub rsm: bool,
    pub iret: bool,
    pub int_n: bool,
    pub invd: bool,
    pub pause: bool,
    pub hlt: bool,
    pub invlpg: bool,
    pub invlpga: bool,
    pub ioio: bool,
    pub msr: bool,
    pub task_switch: bool,
    pub ferr_freeze: bool,
    pub shutdown: bool,
}

impl Intercept1 {
    /// Those of loads and stores of GDTR, IDTR, LDTR and TR.
    #[must_use]
    pub const fn with_descriptor_tables(self, on: bool) -> Self {
        self.with_read_idtr(on)
            .with_read_gdtr(on)
            .with_read_ldtr(on)
            .with_read_tr(on)
            .with_write_idtr(on)
            .with_write_gdtr(on)
            .with_write_ldtr(on)
            .with_write_tr(on)
    }
}

/// Intercepts at offset 010h.
#[bitfield(u32)]
pub struct Intercept2 {
    pub vmrun: bool,
    pub vmmcall: bool,
    pub vmload: bool,
    pub vmsave: bool,
    pub stgi: bool,
    pub clgi: bool,
    pub skinit: bool,
    pub rdtscp: bool,
    pub icebp: bool,
    pub wbinvd: bool,
    pub monitor: bool,
    pub mwait: bool,
    pub mwait_armed: bool,
    pub xsetbv: bool,
    pub rdpru: bool,
    pub efer_write_trap: bool,
    __: u16,
}

/// TLB_CONTROL at offset 05ch (15.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TlbControl {
    /// Nothing.
    Keep = 0,
    /// Flush every entry of every ASID.
    FlushAll = 1,
    /// Flush this guest's entries; needs the flush-by-ASID feature.
    FlushGuest = 3,
}

/// Virtual interrupt control at offset 060h (15.21).
#[bitfield(u64)]
pub struct InterruptControl {
    #[bits(8)]
    pub tpr: u8,
    pub irq: bool,
    pub gif: bool,
    #[bits(6)]
    __: u8,
    #[bits(4)]
    pub priority: u8,
    pub ignore_tpr: bool,
    #[bits(3)]
    __: u8,
    pub masking: bool,
    #[bits(7)]
    __: u8,
    pub vector: u8,
    #[bits(24)]
    __: u32,
}

/// EVENTINJ and EXITINTINFO (15.20).
#[bitfield(u64)]
pub struct EventField {
    pub vector: u8,
    #[bits(3)]
    pub kind: u8,
    pub has_error_code: bool,
    #[bits(19)]
    __: u32,
    pub valid: bool,
    pub error_code: u32,
}

/// External interrupt.
pub const EVENT_INTERRUPT: u8 = 0;
/// NMI.
pub const EVENT_NMI: u8 = 2;
/// Exception.
pub const EVENT_EXCEPTION: u8 = 3;
/// Software interrupt: INT n.
pub const EVENT_SOFTWARE: u8 = 4;

/// EXITINFO1 of an IOIO exit (15.10.2).
#[bitfield(u64)]
pub struct IoInfo {
    pub input: bool,
    __: bool,
    pub string: bool,
    pub repeat: bool,
    /// One bit each for 1, 2 and 4 bytes.
    #[bits(3)]
    pub size_bits: u8,
    #[bits(9)]
    __: u16,
    pub port: u16,
    __: u32,
}

/// EXITINFO1 of an access to a control register, on processors with decode assists (15.8.1).
#[bitfield(u64)]
pub struct CrInfo {
    #[bits(4)]
    pub gpr: u8,
    #[bits(59)]
    __: u64,
    /// It is MOV: neither CLTS, LMSW nor SMSW.
    pub is_move: bool,
}

/// EXITINFO1 of a nested page fault (15.25.6).
#[bitfield(u64)]
pub struct NestedFaultInfo {
    pub present: bool,
    pub write: bool,
    pub user: bool,
    pub reserved_bits: bool,
    pub execute: bool,
    #[bits(27)]
    __: u32,
    /// The guest's final address, not its page tables.
    pub final_address: bool,
    pub page_walk: bool,
    #[bits(30)]
    __: u32,
}

/// EXITINFO2 of a task switch (15.14.1). EXITINFO1 is the selector of the new task's TSS.
#[bitfield(u64)]
pub struct TaskSwitchInfo {
    pub error_code: u32,
    #[bits(4)]
    __: u8,
    pub iret: bool,
    __: bool,
    /// A far JMP.
    pub jump: bool,
    #[bits(5)]
    __: u8,
    pub has_error_code: bool,
    #[bits(3)]
    __: u8,
    /// RFLAGS.RF as the old task is to be saved with it.
    pub resume: bool,
    #[bits(15)]
    __: u16,
}

/// Exit codes (appendix C).
pub mod exit_code {
    #![allow(missing_docs, dead_code, reason = "the ends of ranges stand for what is between")]
    pub const READ_CR4: u64 = 0x04;
    pub const WRITE_CR4: u64 = 0x14;
    pub const WRITE_CR8: u64 = 0x18;
    pub const EXCEPTION_FIRST: u64 = 0x40;
    pub const EXCEPTION_LAST: u64 = 0x5f;
    pub const INTR: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const INIT: u64 = 0x63;
    pub const VINTR: u64 = 0x64;
    pub const SELECTIVE_CR0_WRITE: u64 = 0x65;
    pub const IDTR_READ: u64 = 0x66;
    pub const GDTR_READ: u64 = 0x67;
    pub const LDTR_READ: u64 = 0x68;
    pub const TR_READ: u64 = 0x69;
    pub const IDTR_WRITE: u64 = 0x6a;
    pub const GDTR_WRITE: u64 = 0x6b;
    pub const LDTR_WRITE: u64 = 0x6c;
    pub const TR_WRITE: u64 = 0x6d;
    pub const RDPMC: u64 = 0x6f;
    pub const PUSHF: u64 = 0x70;
    pub const CPUID: u64 = 0x72;
    pub const IRET: u64 = 0x74;
    pub const INVD: u64 = 0x76;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const INVLPGA: u64 = 0x7a;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const FERR_FREEZE: u64 = 0x7e;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const VMSAVE: u64 = 0x83;
    pub const STGI: u64 = 0x84;
    pub const CLGI: u64 = 0x85;
    pub const SKINIT: u64 = 0x86;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT: u64 = 0x8b;
    pub const MWAIT_ARMED: u64 = 0x8c;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const NESTED_PAGE_FAULT: u64 = 0x400;
    /// None of the processor's: a step is done.
    pub const STEPPED: u64 = 1 << 32;
    pub const INVALID: u64 = u64::MAX;
    /// The same from QEMU, which leaves the upper half zero.
    pub const INVALID_32: u64 = u32::MAX as u64;
}
