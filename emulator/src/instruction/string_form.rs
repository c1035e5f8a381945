//! The encodings of the string instructions: one opcode byte behind prefixes.

use super::alu::Width;
use super::fetch::Code;
use crate::registers::{Gpr, SegmentName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringOperation {
    Movs,
    Cmps,
    Stos,
    Lods,
    Scas,
    Ins,
    Outs,
}

/// A repeat prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// None.
    Once,
    /// REP, REPE.
    WhileEqual,
    /// REPNE; as REP where nothing is compared.
    WhileNotEqual,
}

/// A string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringInstruction {
    pub(super) operation: StringOperation,
    /// That of an element.
    pub(super) width: Width,
    pub(super) address_width: Width,
    pub(super) repeat: Repeat,
    pub(super) source_segment: SegmentName,
    pub(super) length_bytes: usize,
}

/// A string operand: the register that walks along it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) segment: SegmentName,
    pub(super) register: Gpr,
    pub(super) mask: u64,
}

impl StringInstruction {
    /// Decodes a string instruction; `None` if it is another one or has a LOCK prefix.
    pub(super) fn decode(code: &Code, bitness: u32) -> Option<Self> {
        let is_64 = bitness == 64;
        let mut reader = code.reader();
        let (mut operand_prefix, mut address_prefix) = (false, false);
        let mut repeat = Repeat::Once;
        let mut source_segment = SegmentName::Ds;
        let mut byte = loop {
            // Each turn takes one byte of at most 15.
            match reader.byte()? {
                0x66 => operand_prefix = true,
                0x67 => address_prefix = true,
                0xf3 => repeat = Repeat::WhileEqual,
                0xf2 => repeat = Repeat::WhileNotEqual,
                // Segments without a base are not to be had in 64-bit mode.
                0x26 | 0x2e | 0x36 | 0x3e if is_64 => {}
                0x26 => source_segment = SegmentName::Es,
                0x2e => source_segment = SegmentName::Cs,
                0x36 => source_segment = SegmentName::Ss,
                0x3e => source_segment = SegmentName::Ds,
                0x64 => source_segment = SegmentName::Fs,
                0x65 => source_segment = SegmentName::Gs,
                other => break other,
            }
        };
        let mut wide = false;
        if is_64 && byte & 0xf0 == 0x40 {
            wide = byte & 8 != 0;
            byte = reader.byte()?;
        }
        let operation = match byte & !1 {
            0x6c => StringOperation::Ins,
            0x6e => StringOperation::Outs,
            0xa4 => StringOperation::Movs,
            0xa6 => StringOperation::Cmps,
            0xaa => StringOperation::Stos,
            0xac => StringOperation::Lods,
            0xae => StringOperation::Scas,
            _ => return None,
        };
        let port = matches!(operation, StringOperation::Ins | StringOperation::Outs);
        let width = match (byte & 1 != 0, wide, operand_prefix != (bitness == 16)) {
            (false, ..) => Width::Byte,
            // Ports have at most 32 bits.
            (true, true, _) => {
                if port {
                    Width::Dword
                } else {
                    Width::Qword
                }
            }
            (true, false, true) => Width::Word,
            (true, false, false) => Width::Dword,
        };
        let address_width = match (bitness, address_prefix) {
            (64, false) => Width::Qword,
            (64, true) | (16, true) | (32, false) => Width::Dword,
            _ => Width::Word,
        };
        let length_bytes = reader.length_bytes()?;
        Some(Self { operation, width, address_width, repeat, source_segment, length_bytes })
    }

    /// DS:rSI, or what a segment prefix says.
    pub(super) const fn source(&self) -> Cursor {
        Cursor { segment: self.source_segment, register: Gpr::Rsi, mask: self.address_width.mask() }
    }

    /// ES:rDI.
    pub(super) const fn destination(&self) -> Cursor {
        Cursor { segment: SegmentName::Es, register: Gpr::Rdi, mask: self.address_width.mask() }
    }
}
