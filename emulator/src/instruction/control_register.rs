//! MOV to and from control registers, for processors whose exit does not name the general register.

use super::operand;
use crate::registers::Gpr;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Mnemonic, Register};

/// The general register of the MOV to or from a control register at the start of `bytes`, in code
/// of `bitness` 16, 32 or 64; `None` if it is another instruction.
///
/// AMD's LOCK MOV CR0, which is MOV CR8 outside 64-bit code, is one too (APM volume 3, MOV CRn).
pub fn control_register_operand(bytes: &[u8], bitness: u32) -> Option<Gpr> {
    // The form without a prefix, of which the decoder would make ten times the work.
    if let [0x0f, 0x20 | 0x22, modrm @ 0xc0..=0xff, ..] = *bytes {
        return Some(operand::gpr(modrm & 7));
    }
    let mut decoder = Decoder::try_new(bitness, bytes, DecoderOptions::AMD).ok()?;
    let instruction = decoder.decode();
    let is_whole =
        decoder.last_error() == DecoderError::None && instruction.mnemonic() == Mnemonic::Mov;
    let (target, source) = (instruction.op0_register(), instruction.op1_register());
    let general = match (target.is_cr(), source.is_cr()) {
        (true, false) => source,
        (false, true) => target,
        _ => Register::None,
    };
    (is_whole && general.is_gpr()).then(|| operand::gpr(general.number() as u8))
}

#[cfg(test)]
mod tests {
    use super::control_register_operand;
    use crate::registers::Gpr;

    #[test]
    fn the_operand_is_named_with_its_prefixes_and_in_amds_form() {
        assert_eq!(control_register_operand(&[0x44, 0x0f, 0x22, 0xc0], 64), Some(Gpr::Rax));
        assert_eq!(control_register_operand(&[0x45, 0x0f, 0x22, 0xc7, 0x90], 64), Some(Gpr::R15));
        assert_eq!(control_register_operand(&[0xf0, 0x0f, 0x22, 0xc1], 32), Some(Gpr::Rcx));
        assert_eq!(control_register_operand(&[0x0f, 0x22, 0xe6], 32), Some(Gpr::Rsi));
        assert_eq!(control_register_operand(&[0x0f, 0x20, 0xe6], 32), Some(Gpr::Rsi));
        // MOV RSI, CR8; MOV RSI, DR0; NOP; half an instruction.
        assert_eq!(control_register_operand(&[0x44, 0x0f, 0x20, 0xc6], 64), Some(Gpr::Rsi));
        assert_eq!(control_register_operand(&[0x0f, 0x21, 0xc6], 64), None);
        assert_eq!(control_register_operand(&[0x90], 64), None);
        assert_eq!(control_register_operand(&[0x44, 0x0f], 64), None);
    }
}
