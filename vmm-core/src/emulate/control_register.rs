//! MOV to a control register, for processors whose exit does not name the general register.

use super::operand;
use crate::registers::Gpr;
use iced_x86::{Decoder, DecoderError, DecoderOptions, OpKind, Register};

/// The general register that the MOV to a control register at the start of `bytes`, in code of `bitness` 16, 32 or 64, takes its
/// value from; `None` if it is another instruction.
///
/// AMD's LOCK MOV CR0, which is MOV CR8 outside 64-bit code, is one too (APM volume 3, MOV CRn).
pub fn control_register_source(bytes: &[u8], bitness: u32) -> Option<Gpr> {
    let mut decoder = Decoder::try_new(bitness, bytes, DecoderOptions::AMD).ok()?;
    let instruction = decoder.decode();
    let is_move = decoder.last_error() == DecoderError::None
        && instruction.op_count() == 2
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_cr();
    let source = instruction.op1_register();
    (is_move && source != Register::None).then(|| operand::gpr(source.number() as u8))
}

#[cfg(test)]
mod tests {
    use super::control_register_source;
    use crate::registers::Gpr;

    #[test]
    fn the_source_is_named_with_its_prefixes_and_in_amds_form() {
        assert_eq!(control_register_source(&[0x44, 0x0f, 0x22, 0xc0], 64), Some(Gpr::Rax));
        assert_eq!(control_register_source(&[0x45, 0x0f, 0x22, 0xc7, 0x90], 64), Some(Gpr::R15));
        assert_eq!(control_register_source(&[0xf0, 0x0f, 0x22, 0xc1], 32), Some(Gpr::Rcx));
        // MOV RAX, CR8; NOP; half an instruction.
        assert_eq!(control_register_source(&[0x44, 0x0f, 0x20, 0xc0], 64), None);
        assert_eq!(control_register_source(&[0x90], 64), None);
        assert_eq!(control_register_source(&[0x44, 0x0f], 64), None);
    }
}
