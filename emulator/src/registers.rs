//! The registers of a virtual CPU, in the forms that both vendors share.

use bitfield_struct::bitfield;

/// A general-purpose register, numbered as instructions encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

impl Gpr {
    /// The register of an encoding, of which the low four bits count.
    pub const fn from_number(number: u8) -> Self {
        const ALL: [Gpr; 16] = [
            Gpr::Rax,
            Gpr::Rcx,
            Gpr::Rdx,
            Gpr::Rbx,
            Gpr::Rsp,
            Gpr::Rbp,
            Gpr::Rsi,
            Gpr::Rdi,
            Gpr::R8,
            Gpr::R9,
            Gpr::R10,
            Gpr::R11,
            Gpr::R12,
            Gpr::R13,
            Gpr::R14,
            Gpr::R15,
        ];
        ALL[(number & 15) as usize]
    }
}

/// The general-purpose registers, indexed by [`Gpr`].
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Gprs(pub [u64; 16]);

impl Gprs {
    /// Reads a register.
    pub const fn get(&self, register: Gpr) -> u64 {
        self.0[register as usize]
    }

    /// Writes all 64 bits of a register.
    pub const fn set(&mut self, register: Gpr, value: u64) {
        self.0[register as usize] = value;
    }

    /// Reads the low half.
    pub const fn get32(&self, register: Gpr) -> u32 {
        self.get(register) as u32
    }

    /// Writes the low half and clears the high half, as a 32-bit operation does.
    pub const fn set32(&mut self, register: Gpr, value: u32) {
        self.set(register, value as u64);
    }

    /// EDX:EAX as one value.
    pub const fn edx_eax(&self) -> u64 {
        (self.get(Gpr::Rdx) << 32) | self.get32(Gpr::Rax) as u64
    }

    /// Writes EDX:EAX.
    pub const fn set_edx_eax(&mut self, value: u64) {
        self.set32(Gpr::Rax, value as u32);
        self.set32(Gpr::Rdx, (value >> 32) as u32);
    }
}

/// A segment register, numbered as instructions encode it; the two system segments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SegmentName {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    Ldtr = 6,
    Tr = 7,
}

impl SegmentName {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs, Self::Ldtr, Self::Tr];
}

/// Segment attributes in AMD's packed form: descriptor bits 40-47 and 52-55 (APM volume 2, 15.5.1).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SegmentAttributes {
    /// Type.
    #[bits(4)]
    pub kind: u8,
    /// Code or data segment (not a system segment).
    pub code_or_data: bool,
    /// Descriptor privilege level.
    #[bits(2)]
    pub dpl: u8,
    /// Present.
    pub present: bool,
    /// Available to software.
    pub available: bool,
    /// 64-bit code.
    pub long: bool,
    /// Default operand size 32 bits, or big stack.
    pub default_big: bool,
    /// Limit counted in pages.
    pub granularity: bool,
    #[bits(4)]
    __: u8,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Attributes.
    pub attributes: SegmentAttributes,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Linear base address.
    pub base: u64,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// RFLAGS.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rflags {
    pub carry: bool,
    #[bits(default = true)]
    pub always_one: bool,
    pub parity: bool,
    __: bool,
    pub auxiliary: bool,
    __: bool,
    pub zero: bool,
    pub sign: bool,
    pub trap: bool,
    pub interrupt: bool,
    pub direction: bool,
    pub overflow: bool,
    #[bits(2)]
    pub iopl: u8,
    pub nested_task: bool,
    __: bool,
    pub resume: bool,
    pub virtual_8086: bool,
    pub alignment_check: bool,
    pub virtual_interrupt: bool,
    pub virtual_interrupt_pending: bool,
    pub id: bool,
    #[bits(42)]
    __: u64,
}

impl Rflags {
    /// The flags that processors have, and bit 1: a VM entry refuses others (SDM volume 3,
    /// 27.3.1.4).
    pub const DEFINED: Self = Self::from_bits(0x3f_7fd7);

    /// As a processor takes them from memory: bits that are no flags keep their fixed values.
    pub const fn from_image(image: u32) -> Self {
        Self::from_bits(image as u64 & Self::DEFINED.into_bits()).with_always_one(true)
    }
}

/// CR0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cr0 {
    pub protection: bool,
    pub monitor_coprocessor: bool,
    pub emulation: bool,
    pub task_switched: bool,
    pub extension_type: bool,
    pub numeric_error: bool,
    #[bits(10)]
    __: u16,
    pub write_protect: bool,
    __: bool,
    pub alignment_mask: bool,
    #[bits(10)]
    __: u16,
    pub not_write_through: bool,
    pub cache_disable: bool,
    pub paging: bool,
    __: u32,
}

/// CR4.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cr4 {
    pub vme: bool,
    pub pvi: bool,
    pub tsd: bool,
    pub de: bool,
    pub pse: bool,
    pub pae: bool,
    pub mce: bool,
    pub pge: bool,
    pub pce: bool,
    pub osfxsr: bool,
    pub osxmmexcpt: bool,
    pub umip: bool,
    pub la57: bool,
    pub vmxe: bool,
    pub smxe: bool,
    __: bool,
    pub fsgsbase: bool,
    pub pcide: bool,
    pub osxsave: bool,
    __: bool,
    pub smep: bool,
    pub smap: bool,
    pub pke: bool,
    pub cet: bool,
    pub pks: bool,
    #[bits(39)]
    __: u64,
}

/// DR6: what a #DB was for.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Dr6 {
    /// B0 to B3: breakpoints that were met.
    #[bits(4)]
    pub breakpoints: u8,
    #[bits(9)]
    __: u16,
    /// BD: an access to the debug registers.
    pub general_detect: bool,
    /// BS.
    pub single_step: bool,
    /// BT: the trap of a task.
    pub task_switch: bool,
    #[bits(48)]
    __: u64,
}

/// DR7, but for the kinds and lengths of breakpoints.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Dr7 {
    /// L0, G0 to L3, G3.
    #[bits(8)]
    pub enables: u8,
    /// LE.
    pub local_exact: bool,
    /// GE.
    pub global_exact: bool,
    /// Reads as one.
    #[bits(default = true)]
    pub always_one: bool,
    #[bits(2)]
    __: u8,
    /// GD: accesses to the debug registers raise #DB.
    pub general_detect: bool,
    #[bits(50)]
    __: u64,
}

/// MSRs that the guest reads and writes without an exit: the processor keeps the guest's value in
/// the VMCB or VMCS, or the hypervisor never uses them.
pub const DIRECT_MSRS: [u32; 11] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS.base
    0xc000_0101, // GS.base
    0xc000_0102, // KernelGSbase
    0xc000_0103, // TSC_AUX
];

/// EFER.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Efer {
    pub syscall: bool,
    #[bits(7)]
    __: u8,
    pub long_mode_enable: bool,
    __: bool,
    pub long_mode_active: bool,
    pub no_execute: bool,
    pub svme: bool,
    pub lmsle: bool,
    pub ffxsr: bool,
    pub tce: bool,
    #[bits(48)]
    __: u64,
}

/// An exception vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Exception {
    DivideError = 0,
    Debug = 1,
    Breakpoint = 3,
    Overflow = 4,
    BoundRange = 5,
    InvalidOpcode = 6,
    DeviceNotAvailable = 7,
    DoubleFault = 8,
    InvalidTss = 10,
    SegmentNotPresent = 11,
    StackFault = 12,
    GeneralProtection = 13,
    PageFault = 14,
    X87 = 16,
    AlignmentCheck = 17,
    MachineCheck = 18,
    Simd = 19,
}

impl Exception {
    /// The exception of a vector; `None` for reserved vectors and for NMI.
    pub const fn from_vector(vector: u8) -> Option<Self> {
        Some(match vector {
            0 => Self::DivideError,
            1 => Self::Debug,
            3 => Self::Breakpoint,
            4 => Self::Overflow,
            5 => Self::BoundRange,
            6 => Self::InvalidOpcode,
            7 => Self::DeviceNotAvailable,
            8 => Self::DoubleFault,
            10 => Self::InvalidTss,
            11 => Self::SegmentNotPresent,
            12 => Self::StackFault,
            13 => Self::GeneralProtection,
            14 => Self::PageFault,
            16 => Self::X87,
            17 => Self::AlignmentCheck,
            18 => Self::MachineCheck,
            19 => Self::Simd,
            _ => return None,
        })
    }

    /// It pushes an error code (in protected mode).
    pub const fn has_error_code(&self) -> bool {
        matches!(
            self,
            Self::DoubleFault
                | Self::InvalidTss
                | Self::SegmentNotPresent
                | Self::StackFault
                | Self::GeneralProtection
                | Self::PageFault
                | Self::AlignmentCheck
        )
    }

    /// False for those that an instruction raises on purpose (INT3, INTO), which report the
    /// instruction after.
    pub const fn is_fault(&self) -> bool {
        !matches!(self, Self::Breakpoint | Self::Overflow)
    }
}

/// A fault that an emulated instruction raises in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub exception: Exception,
    /// The error code, for the exceptions that push one.
    pub error_code: Option<u32>,
    /// CR2, for page faults.
    pub address: Option<u64>,
}

impl Fault {
    /// #UD.
    pub const UNDEFINED: Self =
        Self { exception: Exception::InvalidOpcode, error_code: None, address: None };
    /// #GP(0).
    pub const PROTECTION: Self =
        Self { exception: Exception::GeneralProtection, error_code: Some(0), address: None };

    /// #PF with its error code and linear address.
    pub const fn page(error_code: u32, address: u64) -> Self {
        Self {
            exception: Exception::PageFault,
            error_code: Some(error_code),
            address: Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_those_of_the_manual() {
        // SDM volume 3, table 7-1: 2 is NMI, 9 and 15 are reserved, as are those above 19 here.
        for vector in 0..=u8::MAX {
            let exists = matches!(vector, 0 | 1 | 3..=8 | 10..=14 | 16..=19);
            let expected = exists.then_some(vector);
            assert_eq!(Exception::from_vector(vector).map(|found| found as u8), expected);
        }
        let with_code =
            |vector: &u8| Exception::from_vector(*vector).is_some_and(|e| e.has_error_code());
        assert_eq!((0..32).filter(with_code).collect::<Vec<u8>>(), [8, 10, 11, 12, 13, 14, 17]);
    }
}
