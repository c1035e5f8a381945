//! Operands as the decoder names them: registers with their parts, immediates, memory.

use super::address::Reference;
use super::alu::Width;
use super::place::Place;
use super::{EmulatedCpu, Execution, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::{Gpr, Gprs, SegmentName};
use iced_x86::{OpKind, Register};

/// Where a result goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    Register(Register),
    Memory(Place),
}

/// A general register or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) register: Gpr,
    pub(super) width: Width,
    /// AH, CH, DH, BH.
    pub(super) high_byte: bool,
}

impl Part {
    /// The register that an instruction's encoding numbers 0 to 15. Without a REX prefix
    /// (`legacy`), bytes 4 to 7 are AH to BH.
    #[inline]
    pub(super) fn encoded(number: u8, width: Width, legacy: bool) -> Self {
        let high_byte = legacy && width == Width::Byte && number & 4 != 0;
        let number = if high_byte { number & 3 } else { number };
        Self { register: gpr(number), width, high_byte }
    }

    #[inline]
    pub(super) const fn read(self, gprs: &Gprs) -> u64 {
        let value = gprs.get(self.register);
        if self.high_byte { (value >> 8) & 0xff } else { value & self.width.mask() }
    }

    /// Writes the part: bytes and words leave the rest of the register, doublewords clear the upper
    /// half.
    #[inline]
    pub(super) const fn write(self, gprs: &mut Gprs, value: u64) {
        let old = gprs.get(self.register);
        let new = match (self.width, self.high_byte) {
            (Width::Byte, true) => (old & !0xff00) | ((value & 0xff) << 8),
            (Width::Byte | Width::Word, _) => {
                (old & !self.width.mask()) | (value & self.width.mask())
            }
            (Width::Dword | Width::Qword, _) => value & self.width.mask(),
        };
        gprs.set(self.register, new);
    }
}

/// The register with a number from 0 to 15.
#[inline]
pub(super) const fn gpr(number: u8) -> Gpr {
    Gpr::from_number(number)
}

/// The decoder's numbers of the first and last names of a kind, which stand in the order of the
/// encoding.
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
    Some(Part { register: gpr(index as u8), width, high_byte })
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

impl<C: EmulatedCpu> Execution<'_, '_, C> {
    /// The memory operand of the instruction.
    pub(super) fn reference(&self) -> Step<Reference> {
        let instruction = self.instruction;
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let segment = segment_name(instruction.memory_segment()).ok_or(Stop::Unsupported)?;
        let mut offset = instruction.memory_displacement64();
        let mut mask = match instruction.memory_displ_size() {
            2 => 0xffff,
            8 => u64::MAX,
            _ => 0xffff_ffff,
        };
        if let Some((register, width)) = general_register(base) {
            mask = width.mask();
            offset = offset.wrapping_add(self.memory.cpu.gprs().get(register));
        } else if base == Register::RIP {
            // The displacement is the target already.
            mask = u64::MAX;
        }
        if index == Register::AL {
            // XLAT's, whose size is not that of addresses.
            offset = offset.wrapping_add(self.register(index)?);
        } else if let Some((register, width)) = general_register(index) {
            mask = width.mask();
            let scaled = self
                .memory
                .cpu
                .gprs()
                .get(register)
                .wrapping_mul(instruction.memory_index_scale().into());
            offset = offset.wrapping_add(scaled);
        } else if index != Register::None {
            return Err(Stop::Unsupported);
        }
        Ok(Reference { segment, offset: offset & mask, mask })
    }

    /// Translates the instruction's memory operand. If the hardware said where it leads, the walk
    /// is saved.
    pub(super) fn memory_operand(&mut self, kind: AccessKind) -> Step<Place> {
        let size_bytes = self.instruction.memory_size().size() as u64;
        self.memory.operand_at(self.reference()?, size_bytes, kind)
    }

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
            return Ok(part.read(self.memory.cpu.gprs()));
        }
        let name = segment_name(register).ok_or(Stop::Unsupported)?;
        Ok(self.memory.cpu.segment(name).selector.into())
    }

    pub(super) fn set_register(&mut self, register: Register, value: u64) -> Step<()> {
        part(register).ok_or(Stop::Unsupported)?.write(self.memory.cpu.gprs_mut(), value);
        Ok(())
    }

    /// Reads a register, immediate or memory operand; immediates come sign-extended where the
    /// instruction says so.
    pub(super) fn read_operand(&mut self, operand: u32) -> Step<u64> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.register(self.instruction.op_register(operand)),
            OpKind::Memory => {
                let place = self.memory_operand(AccessKind::Read)?;
                Ok(self.memory.read_place(place))
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
            Destination::Memory(place) => Ok(self.memory.read_place(place)),
        }
    }

    pub(super) fn store(&mut self, destination: Destination, value: u64) -> Step<()> {
        match destination {
            Destination::Register(register) => self.set_register(register, value)?,
            Destination::Memory(place) => self.memory.write_place(place, value),
        }
        Ok(())
    }
}
