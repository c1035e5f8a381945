//! Hypercalls from code of every mode: 64-bit; 32-bit protected mode; 16-bit protected mode; real
//! mode.

use core::arch::asm;
use core::fmt;

use super::arguments;
use super::bytes::Bytes;
use crate::cpu;
use crate::legacy::{PROTECTED, Registers, call16, call32};

/// The mode of the code that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 64-bit.
    Bits64,
    /// 32-bit, without paging.
    Bits32,
    /// 16-bit in protected mode.
    Bits16,
    /// Real mode.
    Real,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bits64 => "64",
            Self::Bits32 => "32",
            Self::Bits16 => "16",
            Self::Real => "real",
        })
    }
}

/// Whether the processor's instruction is AMD's VMMCALL, not Intel's VMCALL.
pub fn is_amd() -> bool {
    cpu::cpuid(0, 0)[1] == u32::from_le_bytes(*b"Auth")
}

impl Mode {
    /// All.
    pub const ALL: [Self; 4] = [Self::Bits64, Self::Bits32, Self::Bits16, Self::Real];

    /// Bytes of a `long` and of a pointer in the structures of calls.
    pub const fn long_bytes(self) -> u64 {
        match self {
            Self::Bits64 => 8,
            _ => 4,
        }
    }

    /// Makes a call by the processor's own instruction.
    pub fn call(self, number: u64, arguments: [u64; 5]) -> i64 {
        let code = match (self, is_amd()) {
            (Self::Bits64, _) => return call(number, arguments),
            (Self::Bits32, true) => vmmcall_32,
            (Self::Bits32, false) => vmcall_32,
            (Self::Bits16, true) => vmmcall_16,
            (Self::Bits16, false) => vmcall_16,
            (Self::Real, true) => vmmcall_real,
            (Self::Real, false) => vmcall_real,
        };
        self.run(code, number, arguments)
    }

    /// Makes a call by `code`, of this mode, which is not 64-bit.
    pub fn run(self, code: extern "C" fn(), number: u64, arguments: [u64; 5]) -> i64 {
        let [ebx, ecx, edx, esi, edi] = arguments.map(|argument| argument as u32);
        let mut registers =
            Registers { eax: number as u32, ebx, ecx, edx, esi, edi, ..Registers::default() };
        let outcome = match self {
            Self::Real => call16(code, &mut registers),
            _ => call32(code, PROTECTED, &mut registers),
        };
        if let Err(fault) = outcome {
            panic!("{fault} in a call");
        }
        // One that goes on later, goes on by these.
        if number == super::number::MULTICALL {
            return i64::from(registers.eax as i32);
        }
        let kept = [registers.ebx, registers.ecx, registers.edx, registers.esi, registers.edi];
        assert_eq!(kept, [ebx, ecx, edx, esi, edi], "registers of a call");
        i64::from(registers.eax as i32)
    }

    /// A call whose first argument is a sub-operation, and whose second one points to a structure.
    pub fn op(self, number: u64, sub: u64, structure: Bytes) -> i64 {
        let pointer = arguments();
        structure.put(pointer);
        self.call(number, [sub, pointer, 0, 0, 0])
    }
}

/// A call of 64-bit code by the processor's own instruction.
pub fn call(number: u64, arguments: [u64; 5]) -> i64 {
    let [rdi, rsi, rdx, r10, r8] = arguments;
    let mut result = number;
    macro_rules! by {
        ($instruction:literal) => {
            unsafe {
                asm!($instruction, inout("rax") result, inout("rdi") rdi => _,
                    inout("rsi") rsi => _, inout("rdx") rdx => _, inout("r10") r10 => _,
                    inout("r8") r8 => _)
            }
        };
    }
    match is_amd() {
        true => by!("vmmcall"),
        false => by!("vmcall"),
    }
    result as i64
}

/// The same whose first argument is a sub-operation, and whose second one points to a structure.
pub fn op(number: u64, sub: u64, structure: Bytes) -> i64 {
    Mode::Bits64.op(number, sub, structure)
}

crate::assembly! {
    fn vmcall_32() { ".code32" "vmcall" "ret" ".code64" }
    fn vmmcall_32() { ".code32" "vmmcall" "ret" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn vmcall_16() {
        ".code32" ".byte 0xea" ".long 2f" ".short 0x20"
        "2:" ".code16" "vmcall" ".byte 0x66, 0xea" ".long 3f" ".short 0x08"
        "3:" ".code32" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn vmmcall_16() {
        ".code32" ".byte 0xea" ".long 2f" ".short 0x20"
        "2:" ".code16" "vmmcall" ".byte 0x66, 0xea" ".long 3f" ".short 0x08"
        "3:" ".code32" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn vmcall_real() { ".code16" "vmcall" "ret" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn vmmcall_real() { ".code16" "vmmcall" "ret" ".code64" }
}
