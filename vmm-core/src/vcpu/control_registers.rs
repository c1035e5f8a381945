//! MOV to and from control registers that exits and is left to be done.

use super::Vcpu;
use super::counters::ExitKind;
use crate::backend::{Backend, SystemRegister};
use emulator::control_registers::Mode;
use emulator::instruction;
use emulator::registers::{Cr0, Fault, Gpr, SegmentName};

/// The bits of CR0 that there are.
const CR0_BITS: u64 = 0xe005_003f;

impl<B: Backend> Vcpu<B> {
    #[inline(never)]
    pub(super) fn on_control_register(
        &mut self,
        effect: fn(&mut Self, Gpr) -> Result<(), Fault>,
    ) -> ExitKind {
        self.instruction(|vcpu| {
            let register = vcpu.control_register_operand()?;
            effect(vcpu, register)
        });
        ExitKind::ControlRegister
    }

    /// The general register of the instruction at RIP. The processor has checked the privilege.
    fn control_register_operand(&self) -> Result<Gpr, Fault> {
        if let Some(register) = self.backend.control_register_operand() {
            return Ok(register);
        }
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes)?;
        instruction::control_register_operand(&bytes[..count], self.backend.code_bits())
            .ok_or(Fault::PROTECTION)
    }

    /// The operand has 64 bits in 64-bit code, and 32 in all other.
    fn read_operand(&self, register: Gpr) -> u64 {
        match self.backend.code_bits() {
            64 => self.gprs.get(register),
            _ => self.gprs.get32(register).into(),
        }
    }

    fn mode(&self) -> Mode {
        Mode {
            cr0: self.backend.cr0(),
            cr3: self.backend.system_register(SystemRegister::Cr3),
            cr4: self.backend.cr4(),
            efer: self.backend.efer(),
            is_64_bit_code: self.backend.code_bits() == 64,
            task: self.backend.segment_attributes(SegmentName::Tr),
        }
    }

    /// MOV to CR0, or LMSW.
    pub(super) fn on_write_cr0(&mut self) -> ExitKind {
        if self.control_register_operand().is_err() {
            self.backend.let_cr0_be_written();
            return ExitKind::ControlRegister;
        }
        self.on_control_register(Self::write_cr0)
    }

    fn write_cr0(&mut self, source: Gpr) -> Result<(), Fault> {
        let value = self.read_operand(source);
        if !self.mode().takes_cr0(value) {
            return Err(Fault::PROTECTION);
        }
        // Bits that no processor has stay zero, and ET one.
        let defined = value & CR0_BITS | Cr0::new().with_extension_type(true).into_bits();
        self.backend.set_cr0(defined.into());
        Ok(())
    }

    /// MOV to CR4.
    pub(super) fn write_cr4(&mut self, source: Gpr) -> Result<(), Fault> {
        let value = self.read_operand(source);
        let reserved = !self.vm.cpuid.cr4_allowed().into_bits();
        if value & reserved != 0 || !self.mode().takes_cr4(value) {
            return Err(Fault::PROTECTION);
        }
        self.backend.set_cr4(value.into());
        Ok(())
    }

    /// MOV from CR4.
    pub(super) fn read_cr4(&mut self, target: Gpr) -> Result<(), Fault> {
        let value = self.backend.cr4().into_bits();
        match self.backend.code_bits() {
            64 => self.gprs.set(target, value),
            _ => self.gprs.set32(target, value as u32),
        }
        Ok(())
    }

    /// MOV to CR8: the task priority's class.
    pub(super) fn write_cr8(&mut self, source: Gpr) -> Result<(), Fault> {
        let class = u8::try_from(self.read_operand(source)).ok().filter(|class| *class < 16);
        self.apic.set_tpr(class.ok_or(Fault::PROTECTION)? << 4);
        Ok(())
    }
}
