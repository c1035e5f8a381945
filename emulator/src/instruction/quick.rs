//! The moves that drivers make all the time, decoded without tables: MOV between a register or an
//! immediate and memory, and MOVZX from memory, in 32-bit and 64-bit code, without segment and
//! address-size prefixes.

use super::address::Reference;
use super::alu::Width;
use super::fetch::{Code, Reader};
use super::operand::{Part, gpr};
use super::{EmulatedCpu, MemoryUnit, Step};
use crate::paging::AccessKind;
use crate::registers::{Gprs, SegmentName};
use bitfield_struct::bitfield;

/// The ModRM byte (SDM volume 2, 2.1.3).
#[bitfield(u8)]
struct ModRm {
    #[bits(3)]
    rm: u8,
    #[bits(3)]
    register: u8,
    #[bits(2)]
    mode: u8,
}

/// The SIB byte.
#[bitfield(u8)]
struct Sib {
    #[bits(3)]
    base: u8,
    #[bits(3)]
    index: u8,
    #[bits(2)]
    scale: u8,
}

/// The REX prefix (SDM volume 2, 2.2.1).
#[bitfield(u8)]
struct Rex {
    extends_base: bool,
    extends_index: bool,
    extends_register: bool,
    wide: bool,
    #[bits(4)]
    fixed: u8,
}

const REX: u8 = 4;

/// Numbers of registers, and those that have another meaning in ModRM and SIB.
const RSP: u8 = 4;
const RBP: u8 = 5;
const SIB_FOLLOWS: u8 = 4;
const NO_INDEX: u8 = 4;
const DISPLACEMENT_ONLY: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Into the register, whose upper part is cleared.
    Load(Part),
    Store(Part),
    StoreImmediate(u64),
}

/// A move between memory and a register, or from an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    direction: Direction,
    /// That of the memory operand.
    width: Width,
    reference: Reference,
    pub(super) length_bytes: usize,
}

/// The kind of a move, by its opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Load,
    LoadZeroExtended,
    Store,
    StoreImmediate,
}

impl Move {
    /// Decodes the instruction if it is one of these; its memory operand is addressed with the
    /// registers.
    #[inline(always)]
    pub(super) fn decode(code: &Code, bitness: u32, rip: u64, gprs: &Gprs) -> Option<Self> {
        if bitness == 16 {
            return None;
        }
        let is_64 = bitness == 64;
        let mut reader = code.reader();
        let mut opcode = reader.byte()?;
        let narrow = opcode == 0x66;
        if narrow {
            opcode = reader.byte()?;
        }
        let mut rex = Rex::new();
        if is_64 && Rex::from_bits(opcode).fixed() == REX {
            rex = Rex::from_bits(opcode);
            opcode = reader.byte()?;
        }
        let full = match (rex.wide(), narrow) {
            (true, _) => Width::Qword,
            (false, true) => Width::Word,
            (false, false) => Width::Dword,
        };
        let (form, width) = match opcode {
            0x8b => (Form::Load, full),
            0x89 => (Form::Store, full),
            0x8a => (Form::Load, Width::Byte),
            0x88 => (Form::Store, Width::Byte),
            0xc7 => (Form::StoreImmediate, full),
            0xc6 => (Form::StoreImmediate, Width::Byte),
            0xa0 => return Self::at_offset(reader, is_64, Form::Load, Width::Byte),
            0xa1 => return Self::at_offset(reader, is_64, Form::Load, full),
            0xa2 => return Self::at_offset(reader, is_64, Form::Store, Width::Byte),
            0xa3 => return Self::at_offset(reader, is_64, Form::Store, full),
            0x0f => match reader.byte()? {
                0xb6 => (Form::LoadZeroExtended, Width::Byte),
                0xb7 => (Form::LoadZeroExtended, Width::Word),
                _ => return None,
            },
            _ => return None,
        };
        let mod_rm = ModRm::from_bits(reader.byte()?);
        let (mut reference, rip_relative) = reference(&mut reader, mod_rm, rex, is_64, gprs)?;
        let register = mod_rm.register() | u8::from(rex.extends_register()) << 3;
        let legacy = rex.fixed() != REX;
        let direction = match form {
            Form::Load => Direction::Load(Part::encoded(register, width, legacy)),
            Form::LoadZeroExtended => Direction::Load(Part::encoded(register, full, legacy)),
            Form::Store => Direction::Store(Part::encoded(register, width, legacy)),
            Form::StoreImmediate if mod_rm.register() != 0 => return None,
            Form::StoreImmediate => Direction::StoreImmediate(match width {
                Width::Byte => reader.byte()?.into(),
                Width::Word => u16::from_le_bytes(reader.array()?).into(),
                Width::Dword | Width::Qword => i32::from_le_bytes(reader.array()?) as u64,
            }),
        };
        let length_bytes = reader.length_bytes()?;
        if rip_relative {
            reference = reference.moved(rip.wrapping_add(length_bytes as u64) as i64);
        }
        Some(Self { direction, width, reference, length_bytes })
    }

    /// MOV between the accumulator and an address in the instruction.
    fn at_offset(mut reader: Reader<'_>, is_64: bool, form: Form, width: Width) -> Option<Self> {
        let (offset, mask) = if is_64 {
            (u64::from_le_bytes(reader.array()?), u64::MAX)
        } else {
            (u32::from_le_bytes(reader.array()?).into(), 0xffff_ffff)
        };
        let accumulator = Part::encoded(0, width, true);
        let direction = if form == Form::Load {
            Direction::Load(accumulator)
        } else {
            Direction::Store(accumulator)
        };
        let reference = Reference { segment: SegmentName::Ds, offset, mask };
        Some(Self { direction, width, reference, length_bytes: reader.length_bytes()? })
    }
}

/// The memory operand that ModRM describes, and whether the address of the next instruction has to
/// be added.
#[inline]
fn reference(
    reader: &mut Reader<'_>,
    mod_rm: ModRm,
    rex: Rex,
    is_64: bool,
    gprs: &Gprs,
) -> Option<(Reference, bool)> {
    const TWO_REGISTERS: u8 = 3;
    let mode = mod_rm.mode();
    if mode == TWO_REGISTERS {
        return None;
    }
    let mask = if is_64 { u64::MAX } else { 0xffff_ffff };
    let mut base = mod_rm.rm();
    let mut offset = 0u64;
    if base == SIB_FOLLOWS {
        let sib = Sib::from_bits(reader.byte()?);
        base = sib.base();
        let index = sib.index() | u8::from(rex.extends_index()) << 3;
        if index != NO_INDEX {
            offset = gprs.get(gpr(index)) << sib.scale();
        }
    }
    let mut segment = SegmentName::Ds;
    let mut rip_relative = false;
    if mode == 0 && base == DISPLACEMENT_ONLY {
        offset = offset.wrapping_add(i32::from_le_bytes(reader.array()?) as u64);
        rip_relative = is_64 && mod_rm.rm() == DISPLACEMENT_ONLY;
    } else {
        let base = base | u8::from(rex.extends_base()) << 3;
        if matches!(base, RSP | RBP) {
            segment = SegmentName::Ss;
        }
        offset = offset.wrapping_add(gprs.get(gpr(base)));
        offset = match mode {
            0 => offset,
            1 => offset.wrapping_add(reader.byte()? as i8 as u64),
            _ => offset.wrapping_add(i32::from_le_bytes(reader.array()?) as u64),
        };
    }
    Some((Reference { segment, offset: offset & mask, mask }, rip_relative))
}

impl<C: EmulatedCpu> MemoryUnit<'_, C> {
    /// Carries out a move.
    #[inline]
    pub(super) fn transfer(&mut self, instruction: &Move) -> Step<()> {
        let kind = match instruction.direction {
            Direction::Load(_) => AccessKind::Read,
            Direction::Store(_) | Direction::StoreImmediate(_) => AccessKind::Write,
        };
        let place =
            self.operand_at(instruction.reference, instruction.width.bytes().into(), kind)?;
        match instruction.direction {
            Direction::Load(part) => {
                let value = self.read_place(place);
                part.write(self.cpu.gprs_mut(), value);
            }
            Direction::Store(part) => self.write_place(place, part.read(self.cpu.gprs())),
            Direction::StoreImmediate(value) => self.write_place(place, value),
        }
        Ok(())
    }
}
