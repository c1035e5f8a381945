//! Picks what an instruction does by its mnemonic, and carries out those that move data.

use super::alu::{Binary, Bit, Shift, Width};
use super::operand::Destination;
use super::{EmulatedCpu, Execution, Flow, Step};
use crate::paging::AccessKind;
use iced_x86::Mnemonic;

impl<C: EmulatedCpu> Execution<'_, '_, C> {
    pub(super) fn execute(&mut self) -> Step<Flow> {
        use Mnemonic as M;
        match self.instruction.mnemonic() {
            M::Mov => self.mov()?,
            M::Movzx => self.movzx()?,
            M::Movsx | M::Movsxd => self.movsx()?,
            M::Movbe => self.movbe()?,
            M::Movnti => self.mov()?,
            M::Xchg => self.xchg()?,
            M::Xlatb => self.xlat()?,
            M::Add => self.binary(Binary::Add)?,
            M::Adc => self.binary(Binary::Adc)?,
            M::Sub => self.binary(Binary::Sub)?,
            M::Sbb => self.binary(Binary::Sbb)?,
            M::And => self.binary(Binary::And)?,
            M::Or => self.binary(Binary::Or)?,
            M::Xor => self.binary(Binary::Xor)?,
            M::Cmp => self.compare(Binary::Sub)?,
            M::Test => self.compare(Binary::And)?,
            M::Inc => self.step_by_one(Binary::Add)?,
            M::Dec => self.step_by_one(Binary::Sub)?,
            M::Neg => self.negate()?,
            M::Not => self.not()?,
            M::Xadd => self.xadd()?,
            M::Cmpxchg => self.cmpxchg()?,
            M::Cmpxchg8b => self.cmpxchg8b()?,
            M::Cmpxchg16b => self.cmpxchg16b()?,
            M::Bt => self.bit(Bit::Test)?,
            M::Bts => self.bit(Bit::Set)?,
            M::Btr => self.bit(Bit::Reset)?,
            M::Btc => self.bit(Bit::Complement)?,
            M::Rol => self.shift(Shift::Rol)?,
            M::Ror => self.shift(Shift::Ror)?,
            M::Rcl => self.shift(Shift::Rcl)?,
            M::Rcr => self.shift(Shift::Rcr)?,
            M::Shl | M::Sal => self.shift(Shift::Shl)?,
            M::Shr => self.shift(Shift::Shr)?,
            M::Sar => self.shift(Shift::Sar)?,
            M::Shld => self.shift_double(true)?,
            M::Shrd => self.shift_double(false)?,
            M::Mul => self.multiply(false)?,
            M::Imul => self.multiply(true)?,
            M::Div => self.divide(false)?,
            M::Idiv => self.divide(true)?,
            M::Push => self.push()?,
            M::Pop => self.pop()?,
            M::Pushf | M::Pushfd | M::Pushfq => self.push_flags()?,
            M::Call => return self.call(),
            M::Jmp => return self.jump(),
            // Hints about memory that does nothing when it is hinted at.
            M::Clflush | M::Clflushopt | M::Clwb | M::Nop => {}
            M::Seto
            | M::Setno
            | M::Setb
            | M::Setae
            | M::Sete
            | M::Setne
            | M::Setbe
            | M::Seta
            | M::Sets
            | M::Setns
            | M::Setp
            | M::Setnp
            | M::Setl
            | M::Setge
            | M::Setle
            | M::Setg => self.set_condition()?,
            M::Cmovo
            | M::Cmovno
            | M::Cmovb
            | M::Cmovae
            | M::Cmove
            | M::Cmovne
            | M::Cmovbe
            | M::Cmova
            | M::Cmovs
            | M::Cmovns
            | M::Cmovp
            | M::Cmovnp
            | M::Cmovl
            | M::Cmovge
            | M::Cmovle
            | M::Cmovg => {
                self.move_condition()?;
            }
            _ => self.vector()?,
        }
        Ok(Flow::Next)
    }

    /// The same while no other processor writes to devices.
    pub(super) fn execute_locked(&mut self) -> Step<Flow> {
        self.memory.cpu.lock_bus();
        let flow = self.execute();
        self.memory.cpu.release_bus();
        flow
    }

    /// MOV between general registers, immediates, memory, and from segment registers.
    fn mov(&mut self) -> Step<()> {
        // Found first: there is nothing to be read for a segment register, whose loading is not
        // supported.
        let destination = self.destination(0, AccessKind::Write)?;
        let value = self.read_operand(1)?;
        self.store(destination, value)
    }

    fn movzx(&mut self) -> Step<()> {
        let value = self.read_operand(1)?;
        self.set_register(self.instruction.op_register(0), value)
    }

    fn movsx(&mut self) -> Step<()> {
        let width = self.width(1)?;
        let value = self.read_operand(1)?;
        self.set_register(self.instruction.op_register(0), width.signed(value) as u64)
    }

    fn movbe(&mut self) -> Step<()> {
        let width = self.width(0)?;
        let destination = self.destination(0, AccessKind::Write)?;
        let value = self.read_operand(1)?;
        self.store(destination, value.swap_bytes() >> (64 - width.bits()))
    }

    fn xchg(&mut self) -> Step<()> {
        let (first, second) =
            (self.destination(0, AccessKind::Write)?, self.destination(1, AccessKind::Write)?);
        let (a, b) = (self.load(first)?, self.load(second)?);
        self.store(first, b)?;
        self.store(second, a)
    }

    /// XLAT: AL from the table at rBX.
    fn xlat(&mut self) -> Step<()> {
        let place = self.memory_operand(AccessKind::Read)?;
        let value = self.memory.read_place(place);
        self.set_register(iced_x86::Register::AL, value)
    }

    fn set_condition(&mut self) -> Step<()> {
        let holds = self.condition_holds();
        let destination = self.destination(0, AccessKind::Write)?;
        self.store(destination, holds.into())
    }

    /// CMOVcc reads its source always, and writes its destination always as far as zero extension
    /// goes.
    fn move_condition(&mut self) -> Step<()> {
        let source = self.read_operand(1)?;
        let destination = self.destination(0, AccessKind::Write)?;
        let value = if self.condition_holds() { source } else { self.load(destination)? };
        self.store(destination, value)
    }

    fn condition_holds(&self) -> bool {
        // The decoder numbers conditions as instructions do, from 1 on.
        let code = self.instruction.condition_code() as u8;
        super::alu::condition(code.wrapping_sub(1) & 0xf, self.rflags)
    }

    /// Loads an operand that is written afterwards.
    pub(super) fn load_for_update(&mut self) -> Step<(Destination, Width, u64)> {
        let width = self.width(0)?;
        let destination = self.destination(0, AccessKind::Write)?;
        let value = self.load(destination)?;
        Ok((destination, width, value))
    }
}
