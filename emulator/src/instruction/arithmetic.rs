//! Integer arithmetic on operands in memory.

use super::address::Reference;
use super::alu::{self, Binary, Bit, Shift, Width};
use super::operand::Destination;
use super::{EmulatedCpu, Execution, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::{Exception, Fault, Gpr};
use iced_x86::{OpKind, Register};

impl<C: EmulatedCpu> Execution<'_, '_, C> {
    pub(super) fn binary(&mut self, op: Binary) -> Step<()> {
        // Only one of the operands is in memory, so the order of loads does not matter.
        let b = self.read_operand(1)?;
        let (destination, width, a) = self.load_for_update()?;
        let (result, flags) = alu::binary(op, width, a, b, self.rflags);
        self.rflags = flags;
        self.store(destination, result)
    }

    /// CMP and TEST: flags alone.
    pub(super) fn compare(&mut self, op: Binary) -> Step<()> {
        let width = self.width(0)?;
        let (a, b) = (self.read_operand(0)?, self.read_operand(1)?);
        (_, self.rflags) = alu::binary(op, width, a, b, self.rflags);
        Ok(())
    }

    pub(super) fn step_by_one(&mut self, op: Binary) -> Step<()> {
        let (destination, width, a) = self.load_for_update()?;
        let (result, flags) = alu::step_by_one(op, width, a, self.rflags);
        self.rflags = flags;
        self.store(destination, result)
    }

    pub(super) fn negate(&mut self) -> Step<()> {
        let (destination, width, a) = self.load_for_update()?;
        let (result, flags) = alu::negate(width, a, self.rflags);
        self.rflags = flags;
        self.store(destination, result)
    }

    pub(super) fn not(&mut self) -> Step<()> {
        let (destination, _, a) = self.load_for_update()?;
        self.store(destination, !a)
    }

    pub(super) fn xadd(&mut self) -> Step<()> {
        let b = self.read_operand(1)?;
        let (destination, width, a) = self.load_for_update()?;
        let (sum, flags) = alu::binary(Binary::Add, width, a, b, self.rflags);
        self.rflags = flags;
        // If both operands are the same register, the sum stays.
        self.set_register(self.instruction.op_register(1), a)?;
        self.store(destination, sum)
    }

    pub(super) fn cmpxchg(&mut self) -> Step<()> {
        let new = self.read_operand(1)?;
        let (destination, width, old) = self.load_for_update()?;
        let accumulator = accumulator(width);
        let expected = self.register(accumulator)?;
        (_, self.rflags) = alu::binary(Binary::Sub, width, expected, old, self.rflags);
        if self.rflags.zero() {
            return self.store(destination, new);
        }
        // The CPU writes memory back in any case.
        if let Destination::Memory(place) = destination {
            self.memory.write_place(place, old);
        }
        self.set_register(accumulator, old)
    }

    pub(super) fn cmpxchg8b(&mut self) -> Step<()> {
        let place = self.memory_operand(AccessKind::Write)?;
        let old = self.memory.read_place(place);
        let gprs = self.memory.cpu.gprs_mut();
        let equal = gprs.edx_eax() == old;
        let new = if equal {
            u64::from(gprs.get32(Gpr::Rcx)) << 32 | u64::from(gprs.get32(Gpr::Rbx))
        } else {
            gprs.set_edx_eax(old);
            old
        };
        self.rflags.set_zero(equal);
        self.memory.write_place(place, new);
        Ok(())
    }

    pub(super) fn cmpxchg16b(&mut self) -> Step<()> {
        let place = self.memory_operand(AccessKind::Write)?;
        if place.gpa % 16 != 0 {
            return Err(Fault::PROTECTION.into());
        }
        let mut bytes = [0; 16];
        self.memory.read_place_bytes(place, &mut bytes);
        let old = u128::from_le_bytes(bytes);
        let gprs = self.memory.cpu.gprs_mut();
        let join = |high, low| u128::from(gprs.get(high)) << 64 | u128::from(gprs.get(low));
        let equal = join(Gpr::Rdx, Gpr::Rax) == old;
        let new = if equal { join(Gpr::Rcx, Gpr::Rbx) } else { old };
        if !equal {
            gprs.set(Gpr::Rax, old as u64);
            gprs.set(Gpr::Rdx, (old >> 64) as u64);
        }
        self.rflags.set_zero(equal);
        self.memory.write_place_bytes(place, &new.to_le_bytes());
        Ok(())
    }

    pub(super) fn bit(&mut self, op: Bit) -> Step<()> {
        let width = self.width(0)?;
        let index = self.read_operand(1)?;
        let kind = if op == Bit::Test { AccessKind::Read } else { AccessKind::Write };
        let destination = if self.instruction.op_kind(0) == OpKind::Memory
            && self.instruction.op1_kind() == OpKind::Register
        {
            let reference = self.bit_string_reference(width, index)?;
            Destination::Memory(self.memory.operand_at(reference, width.bytes().into(), kind)?)
        } else {
            self.destination(0, kind)?
        };
        let a = self.load(destination)?;
        let (result, flags) = alu::bit(op, a, index as u32 & (width.bits() - 1), self.rflags);
        self.rflags = flags;
        if op == Bit::Test { Ok(()) } else { self.store(destination, result) }
    }

    /// A bit number in a register reaches beyond the operand, to both sides.
    fn bit_string_reference(&self, width: Width, index: u64) -> Step<Reference> {
        let operands = width.signed(index) >> width.bits().trailing_zeros();
        Ok(self.reference()?.moved(operands * i64::from(width.bytes())))
    }

    pub(super) fn shift(&mut self, op: Shift) -> Step<()> {
        let count = self.read_operand(1)? as u8;
        let (destination, width, a) = self.load_for_update()?;
        let (result, flags) = alu::shift(op, width, a, count, self.rflags);
        self.rflags = flags;
        self.store(destination, result)
    }

    pub(super) fn shift_double(&mut self, left: bool) -> Step<()> {
        let b = self.read_operand(1)?;
        let count = self.read_operand(2)? as u8;
        let (destination, width, a) = self.load_for_update()?;
        let shift = if left { alu::shift_left_double } else { alu::shift_right_double };
        let (result, flags) = shift(width, a, b, count, self.rflags);
        self.rflags = flags;
        self.store(destination, result)
    }

    /// MUL and IMUL with one operand (rDX:rAX), IMUL with two and three.
    pub(super) fn multiply(&mut self, signed: bool) -> Step<()> {
        let width = self.width(0)?;
        let operands = self.instruction.op_count();
        if operands > 1 {
            let (a, b) = (self.read_operand(operands - 2)?, self.read_operand(operands - 1)?);
            let (low, _, flags) = alu::multiply(signed, width, a, b, self.rflags);
            self.rflags = flags;
            return self.set_register(self.instruction.op0_register(), low);
        }
        let b = self.read_operand(0)?;
        let (low_half, high_half) = halves(width);
        let a = self.register(low_half)?;
        let (low, high, flags) = alu::multiply(signed, width, a, b, self.rflags);
        self.rflags = flags;
        self.set_register(low_half, low)?;
        self.set_register(high_half, high)
    }

    pub(super) fn divide(&mut self, signed: bool) -> Step<()> {
        let width = self.width(0)?;
        let divisor = self.read_operand(0)?;
        let (low_half, high_half) = halves(width);
        let (high, low) = (self.register(high_half)?, self.register(low_half)?);
        let fault = Fault { exception: Exception::DivideError, error_code: None, address: None };
        let (quotient, remainder) =
            alu::divide(signed, width, high, low, divisor).ok_or(Stop::Fault(fault))?;
        self.set_register(low_half, quotient)?;
        self.set_register(high_half, remainder)
    }
}

/// The part of rAX that is `width` wide.
const fn accumulator(width: Width) -> Register {
    match width {
        Width::Byte => Register::AL,
        Width::Word => Register::AX,
        Width::Dword => Register::EAX,
        Width::Qword => Register::RAX,
    }
}

/// The registers of a double-width product or dividend: low half, high half.
const fn halves(width: Width) -> (Register, Register) {
    match width {
        Width::Byte => (Register::AL, Register::AH),
        Width::Word => (Register::AX, Register::DX),
        Width::Dword => (Register::EAX, Register::EDX),
        Width::Qword => (Register::RAX, Register::RDX),
    }
}
