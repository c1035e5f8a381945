//! PUSH, POP, CALL and JMP through memory.

use super::address::Reference;
use super::alu::Width;
use super::{EmulatedCpu, Execution, Flow, Step, Stop};
use crate::paging::{self, AccessKind};
use crate::registers::{Fault, Gpr, SegmentName};
use iced_x86::OpKind;

impl<C: EmulatedCpu> Execution<'_, '_, C> {
    pub(super) fn push(&mut self) -> Step<()> {
        self.refuse_segment_register()?;
        self.memory.refused = None;
        let value = self.read_operand(0)?;
        self.push_value(value)
    }

    /// PUSHF, where the processor lets the guest carry it out: it pushes VM and RF as zero.
    pub(super) fn push_flags(&mut self) -> Step<()> {
        self.memory.refused = None;
        let flags = self.rflags.with_virtual_8086(false).with_resume(false);
        self.push_value(flags.into())
    }

    pub(super) fn pop(&mut self) -> Step<()> {
        self.refuse_segment_register()?;
        self.memory.refused = None;
        let size_bytes = self.stack_operand_bytes()?;
        let source = self.memory.place(self.stack_top(0), size_bytes, AccessKind::Read)?;
        let old_rsp = self.memory.cpu.gprs().get(Gpr::Rsp);
        // An operand addressed through rSP is addressed with its new value.
        self.set_stack_pointer(self.stack_top(size_bytes as i64).offset);
        let destination = self.destination(0, AccessKind::Write);
        if destination.is_err() {
            self.memory.cpu.gprs_mut().set(Gpr::Rsp, old_rsp);
        }
        let destination = destination?;
        let value = self.memory.read_place(source);
        self.store(destination, value)
    }

    /// Of a place on the stack that is larger than a selector, a processor may leave the rest alone
    /// (SDM volume 2, PUSH).
    fn refuse_segment_register(&self) -> Step<()> {
        match self.instruction.op0_register().is_segment_register() {
            true => Err(Stop::Unsupported),
            false => Ok(()),
        }
    }

    /// A near call; far ones are not supported.
    pub(super) fn call(&mut self) -> Step<Flow> {
        self.memory.refused = None;
        let target = self.branch_target()?;
        self.push_value(self.instruction.next_ip())?;
        Ok(Flow::Jump(target))
    }

    /// A near jump; far ones are not supported.
    pub(super) fn jump(&mut self) -> Step<Flow> {
        Ok(Flow::Jump(self.branch_target()?))
    }

    fn branch_target(&mut self) -> Step<u64> {
        let instruction = self.instruction;
        let target = match instruction.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                instruction.near_branch_target()
            }
            OpKind::Register | OpKind::Memory
                if instruction.is_call_near_indirect() || instruction.is_jmp_near_indirect() =>
            {
                self.read_operand(0)?
            }
            _ => return Err(Stop::Unsupported),
        };
        let reachable = if self.memory.mode.is_64() {
            paging::is_canonical(target, self.memory.cpu.cr4().la57())
        } else {
            target <= self.memory.cpu.segment(SegmentName::Cs).limit.into()
        };
        if reachable { Ok(target) } else { Err(Fault::PROTECTION.into()) }
    }

    fn push_value(&mut self, value: u64) -> Step<()> {
        let size_bytes = self.stack_operand_bytes()?;
        let top = self.stack_top(-(size_bytes as i64));
        let place = self.memory.place(top, size_bytes, AccessKind::Write)?;
        self.memory.write_place(place, value);
        self.set_stack_pointer(top.offset);
        Ok(())
    }

    fn stack_operand_bytes(&self) -> Step<u64> {
        match self.instruction.stack_pointer_increment().unsigned_abs() {
            bytes @ (2 | 4 | 8) => Ok(bytes.into()),
            _ => Err(Stop::Unsupported),
        }
    }

    /// The stack `distance` bytes from its top, as wide as the stack segment says.
    fn stack_top(&self, distance: i64) -> Reference {
        let width = if self.memory.mode.is_64() {
            Width::Qword
        } else if self.memory.cpu.segment_attributes(SegmentName::Ss).default_big() {
            Width::Dword
        } else {
            Width::Word
        };
        let offset = self.memory.cpu.gprs().get(Gpr::Rsp) & width.mask();
        Reference { segment: SegmentName::Ss, offset, mask: width.mask() }.moved(distance)
    }

    fn set_stack_pointer(&mut self, offset: u64) {
        let mask = self.stack_top(0).mask;
        let old = self.memory.cpu.gprs().get(Gpr::Rsp);
        self.memory.cpu.gprs_mut().set(Gpr::Rsp, (old & !mask) | offset);
    }
}
