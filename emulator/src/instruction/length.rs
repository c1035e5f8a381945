//! The length of an instruction whose exit says all but that.

use iced_x86::{Decoder, DecoderError, DecoderOptions};

/// Length of the instruction at the start of `bytes`, in code of `bitness` 16, 32 or 64; `None` if
/// it is not whole or not valid.
///
/// The opcodes that exit without saying their length (CPUID, RDMSR, WRMSR, HLT, IN, OUT and their
/// like) are told by their first bytes; prefixed ones and others take the decoder.
pub fn instruction_length(bytes: &[u8], bitness: u32) -> Option<usize> {
    simple_length(bytes).or_else(|| decoded_length(bytes, bitness))
}

/// [`instruction_length`] for the opcodes that are told by their first three bytes.
#[inline]
pub fn simple_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        // HLT; IN and OUT through DX.
        [0xf4 | 0xec..=0xef, ..] => Some(1),
        // CPUID, RDMSR, WRMSR, RDTSC, RDPMC, INVD, WBINVD, CLTS; IN and OUT with an immediate port.
        [0x0f, 0xa2 | 0x30..=0x33 | 0x08 | 0x09 | 0x06, ..] | [0xe4..=0xe7, _, ..] => Some(2),
        // VMCALL, MONITOR, MWAIT, XGETBV, XSETBV, VMRUN, VMMCALL and the rest of SVM, RDTSCP: ModRM
        // is an opcode.
        [0x0f, 0x01, 0xc1 | 0xc8 | 0xc9 | 0xd0 | 0xd1 | 0xd8..=0xdf | 0xf9, ..] => Some(3),
        // MOV to and from control registers.
        [0x0f, 0x20 | 0x22, 0xc0..=0xff, ..] => Some(3),
        _ => None,
    }
}

fn decoded_length(bytes: &[u8], bitness: u32) -> Option<usize> {
    let bytes = bytes.get(..15).unwrap_or(bytes);
    let mut decoder = Decoder::try_new(bitness, bytes, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    (decoder.last_error() == DecoderError::None).then(|| instruction.len())
}
