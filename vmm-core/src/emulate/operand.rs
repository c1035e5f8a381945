//! Operands: registers with their sub-registers, and memory once it is translated.

use super::alu::Width;
use super::{EmulatedCpu, Execution, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::{Gpr, SegmentName};
use iced_x86::{OpKind, Register};

/// The value of up to 8 bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

/// Memory that an operand occupies, translated: it lies in one page, or in two that need not be neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) gpa: u64,
    pub(super) size_bytes: u8,
    /// Bytes in the first page, and where the rest is, if the operand crosses a page.
    pub(super) crossing: Option<(u8, u64)>,
}

impl Place {
    /// The bits of a value of up to 8 bytes that lies here.
    const fn mask(&self) -> u64 {
        u64::MAX >> (64u32.saturating_sub(8 * self.size_bytes as u32) & 63)
    }
}

/// Where a result goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    Register(Register),
    Memory(Place),
}

/// A general register or a part of one.
#[derive(Clone, Copy, Debug)]
struct Part {
    register: Gpr,
    width: Width,
    /// AH, CH, DH, BH.
    high_byte: bool,
}

const ALL_GPRS: [Gpr; 16] = [
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

/// The decoder's numbers of the first and last names of a kind, which stand in the order of the encoding.
mod number {
    use iced_x86::Register;

    pub(super) const AL: usize = Register::AL as usize;
    pub(super) const BL: usize = Register::BL as usize;
    pub(super) const AH: usize = Register::AH as usize;
    pub(super) const BH: usize = Register::BH as usize;
    pub(super) const SPL: usize = Register::SPL as usize;
    pub(super) const R15L: usize = Register::R15L as usize;
    pub(super) const AX: usize = Register::AX as usize;
    pub(super) const R15W: usize = Register::R15W as usize;
    pub(super) const EAX: usize = Register::EAX as usize;
    pub(super) const R15D: usize = Register::R15D as usize;
    pub(super) const RAX: usize = Register::RAX as usize;
    pub(super) const R15: usize = Register::R15 as usize;
}

/// Which part of which register the decoder's name means.
fn part(register: Register) -> Option<Part> {
    let named = register as usize;
    let (index, width, high_byte) = match named {
        number::AL..=number::BL => (named - number::AL, Width::Byte, false),
        number::AH..=number::BH => (named - number::AH, Width::Byte, true),
        // SPL is number 4.
        number::SPL..=number::R15L => (4 + named - number::SPL, Width::Byte, false),
        number::AX..=number::R15W => (named - number::AX, Width::Word, false),
        number::EAX..=number::R15D => (named - number::EAX, Width::Dword, false),
        number::RAX..=number::R15 => (named - number::RAX, Width::Qword, false),
        _ => return None,
    };
    Some(Part { register: *ALL_GPRS.get(index)?, width, high_byte })
}

/// The general register behind a decoder's name, and the width of the named part.
pub(super) fn general_register(register: Register) -> Option<(Gpr, Width)> {
    part(register).map(|part| (part.register, part.width))
}

/// The segment register behind a decoder's name.
pub(super) fn segment_name(register: Register) -> Option<SegmentName> {
    Some(match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::DS => SegmentName::Ds,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => return None,
    })
}

impl<C: EmulatedCpu> Execution<'_, C> {
    /// The width of an operand, register or memory.
    pub(super) fn width(&self, operand: u32) -> Step<Width> {
        let bytes = match self.instruction.op_kind(operand) {
            OpKind::Register => {
                let register = self.instruction.op_register(operand);
                return Ok(general_register(register).map_or(Width::Word, |(_, width)| width));
            }
            _ => self.instruction.memory_size().size(),
        };
        Width::of_bytes(bytes).ok_or(Stop::Unsupported)
    }

    pub(super) fn register(&self, register: Register) -> Step<u64> {
        if let Some(part) = part(register) {
            let value = self.cpu.gprs().get(part.register);
            return Ok(if part.high_byte { value >> 8 & 0xff } else { value & part.width.mask() });
        }
        let name = segment_name(register).ok_or(Stop::Unsupported)?;
        Ok(self.cpu.segment(name).selector.into())
    }

    pub(super) fn set_register(&mut self, register: Register, value: u64) -> Step<()> {
        let part = part(register).ok_or(Stop::Unsupported)?;
        let gprs = self.cpu.gprs_mut();
        let old = gprs.get(part.register);
        let new = match (part.width, part.high_byte) {
            (Width::Byte, true) => (old & !0xff00) | ((value & 0xff) << 8),
            (width @ (Width::Byte | Width::Word), _) => (old & !width.mask()) | (value & width.mask()),
            (width @ (Width::Dword | Width::Qword), _) => value & width.mask(),
        };
        gprs.set(part.register, new);
        Ok(())
    }

    /// Reads a register, immediate or memory operand; immediates come sign-extended where the instruction says so.
    pub(super) fn read_operand(&mut self, operand: u32) -> Step<u64> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.register(self.instruction.op_register(operand)),
            OpKind::Memory => {
                let place = self.memory_operand(AccessKind::Read)?;
                Ok(self.read_place(place))
            }
            _ => self.instruction.try_immediate(operand).map_err(|_| Stop::Unsupported),
        }
    }

    /// Finds the operand that will be read (`AccessKind::Read`) or also written.
    pub(super) fn destination(&mut self, operand: u32, kind: AccessKind) -> Step<Destination> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => {
                let register = self.instruction.op_register(operand);
                part(register).map(|_| Destination::Register(register)).ok_or(Stop::Unsupported)
            }
            OpKind::Memory => Ok(Destination::Memory(self.memory_operand(kind)?)),
            _ => Err(Stop::Unsupported),
        }
    }

    pub(super) fn load(&mut self, destination: Destination) -> Step<u64> {
        match destination {
            Destination::Register(register) => self.register(register),
            Destination::Memory(place) => Ok(self.read_place(place)),
        }
    }

    pub(super) fn store(&mut self, destination: Destination, value: u64) -> Step<()> {
        match destination {
            Destination::Register(register) => self.set_register(register, value)?,
            Destination::Memory(place) => self.write_place(place, value),
        }
        Ok(())
    }

    /// Reads up to 8 bytes.
    pub(super) fn read_place(&mut self, place: Place) -> u64 {
        if place.crossing.is_none() {
            return self.cpu.read_gpa(place.gpa, place.size_bytes) & place.mask();
        }
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..place.size_bytes.into()).unwrap_or_default();
        self.read_place_bytes(place, bytes);
        little_endian(bytes)
    }

    /// Writes up to 8 bytes.
    pub(super) fn write_place(&mut self, place: Place, value: u64) {
        if place.crossing.is_none() {
            self.cpu.write_gpa(place.gpa, place.size_bytes, value & place.mask());
            return;
        }
        let bytes = value.to_le_bytes();
        self.write_place_bytes(place, bytes.get(..place.size_bytes.into()).unwrap_or_default());
    }

    /// Reads an operand of any size in pieces of at most 8 bytes.
    pub(super) fn read_place_bytes(&mut self, place: Place, bytes: &mut [u8]) {
        let Some((first_bytes, second_gpa)) = place.crossing else {
            return self.read_pieces(place.gpa, bytes);
        };
        let Some((first, second)) = bytes.split_at_mut_checked(first_bytes.into()) else { return };
        self.read_pieces(place.gpa, first);
        self.read_pieces(second_gpa, second);
    }

    /// Writes an operand of any size in pieces of at most 8 bytes.
    pub(super) fn write_place_bytes(&mut self, place: Place, bytes: &[u8]) {
        let Some((first_bytes, second_gpa)) = place.crossing else {
            return self.write_pieces(place.gpa, bytes);
        };
        let Some((first, second)) = bytes.split_at_checked(first_bytes.into()) else { return };
        self.write_pieces(place.gpa, first);
        self.write_pieces(second_gpa, second);
    }

    fn read_pieces(&mut self, mut gpa: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let size_bytes = piece_bytes(bytes.len());
            let value = self.cpu.read_gpa(gpa, size_bytes).to_le_bytes();
            let Some((piece, rest)) = bytes.split_at_mut_checked(size_bytes.into()) else { return };
            for (byte, value) in piece.iter_mut().zip(value) {
                *byte = value;
            }
            bytes = rest;
            gpa += u64::from(size_bytes);
        }
    }

    fn write_pieces(&mut self, mut gpa: u64, mut bytes: &[u8]) {
        while let Some((piece, rest)) = bytes.split_at_checked(piece_bytes(bytes.len()).into())
            && !piece.is_empty()
        {
            self.cpu.write_gpa(gpa, piece.len() as u8, little_endian(piece));
            bytes = rest;
            gpa += piece.len() as u64;
        }
    }
}

/// The largest access that a device can be asked for and that fits into `length` bytes.
const fn piece_bytes(length: usize) -> u8 {
    match length {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => length as u8,
    }
}
