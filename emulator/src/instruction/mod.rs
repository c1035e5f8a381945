//! The instruction emulator: carries out one instruction of the guest's that touched memory-mapped
//! I/O, or one INS or OUTS, in place of the CPU.
//!
//! [`step`] fetches the instruction at RIP and decodes it: the most frequent moves and all string
//! instructions here (`quick`, `string_form`), the rest by `iced-x86`. It finds the operands
//! (segmentation in `address`, the guest's page tables in [`crate::paging`]), and reads and writes
//! guest-physical memory through [`EmulatedCpu`], whose implementation sends it to RAM or to a
//! device. All operands are translated, with write intent where they will be written, before the
//! first access, so that a fault leaves no side effects; each device access is made once, with
//! the instruction's own size.
//!
//! The CPU had begun the instruction before it exited, so what it checks first is not checked
//! again: the code segment's limit, privileged operands, whether SSE or AVX is enabled, I/O
//! permission, and the segment of an operand that it was refused.

mod address;
mod alu;
mod arithmetic;
mod control_register;
mod disassembly;
mod execute;
#[cfg(any(test, feature = "test-cpu"))]
pub mod fake;
mod far;
mod fetch;
mod length;
mod named;
mod operand;
mod place;
mod quick;
mod stack;
mod string;
mod string_form;
mod string_io;
mod vector;

#[cfg(test)]
mod tests;

pub use control_register::control_register_operand;
pub use disassembly::disassemble;
pub use far::far_transfer;
pub use length::{instruction_length, simple_length};
pub use named::{MAX_NAMED, Named, NamedMemory, Namer, Writes};

use crate::MemoryAccess;
use crate::breakpoints::Breakpoints;
use crate::registers::{
    Cr0, Cr4, Efer, Fault, Gprs, Rflags, Segment, SegmentAttributes, SegmentName,
};
use arrayvec::ArrayVec;
use devices::memory::GuestMemory;
use fetch::Code;
use iced_x86::{Instruction, Mnemonic};
use quick::Move;
use string_form::StringInstruction;

/// The bytes of an instruction, at most as many as one can have.
pub type InstructionBytes = ArrayVec<u8, 15>;

/// The virtual CPU as the emulator sees it.
pub trait EmulatedCpu {
    /// Guest-physical memory.
    type Memory: GuestMemory + ?Sized;

    /// Guest-physical memory, for page tables and instructions.
    fn memory(&self) -> &Self::Memory;
    /// RAM or ROM is at `gpa`, and no device.
    fn is_ram(&self, gpa: u64) -> bool {
        self.memory().read(gpa, &mut [0]).is_ok()
    }
    /// The guest has enabled breakpoints.
    fn has_breakpoints(&mut self) -> bool {
        false
    }
    /// The guest's breakpoints.
    fn breakpoints(&mut self) -> Option<Breakpoints> {
        None
    }
    /// The instruction that is about to be complete, or a part of it, has met breakpoints: DR6's
    /// bits for them, for a #DB behind it.
    fn meet_breakpoints(&mut self, _causes: u64) {}
    /// The general registers.
    fn gprs(&self) -> &Gprs;
    /// The general registers, to be changed.
    fn gprs_mut(&mut self) -> &mut Gprs;
    /// Instruction pointer.
    fn rip(&self) -> u64;
    /// The bytes at RIP, at most 15, if the hardware saved them.
    fn instruction_bytes(&self) -> Option<&[u8]> {
        None
    }
    /// The instruction at RIP has been carried out: moves on to `next_rip` and ends the interrupt
    /// shadow.
    fn complete_instruction(&mut self, next_rip: u64);
    /// Flags.
    fn rflags(&self) -> Rflags;
    /// Sets the flags.
    fn set_rflags(&mut self, rflags: Rflags);
    /// A segment register with its hidden part.
    fn segment(&self, name: SegmentName) -> Segment;
    /// The attributes of a segment register alone.
    fn segment_attributes(&self, name: SegmentName) -> SegmentAttributes {
        self.segment(name).attributes
    }
    /// The linear base address of a segment register alone.
    fn segment_base(&self, name: SegmentName) -> u64 {
        self.segment(name).base
    }
    /// Current privilege level.
    fn cpl(&self) -> u8;
    /// CR0 as the guest sees it.
    fn cr0(&self) -> Cr0;
    /// CR3.
    fn cr3(&self) -> u64;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4;
    /// EFER as the guest sees it.
    fn efer(&self) -> Efer;
    /// PKRU; asked for only where CR4 turns protection keys on.
    fn pkru(&self) -> u32 {
        0
    }
    /// Width of a guest-physical address that the guest's CPUID promises.
    fn physical_address_bits(&self) -> u8;
    /// Reads the low 256 bits of vector register `index` (0 to 15).
    fn vector_register(&self, index: u8) -> [u8; 32];
    /// Reads all of vector register `index` (0 to 31).
    fn wide_register(&self, index: u8) -> [u8; 64] {
        let mut bytes = [0; 64];
        if index < 16 {
            for (byte, low) in bytes.iter_mut().zip(self.vector_register(index)) {
                *byte = low;
            }
        }
        bytes
    }
    /// Reads the low 16 bits of mask register `index` (0 to 7).
    fn mask_register(&self, _index: u8) -> u16 {
        0
    }
    /// Writes the low `bytes.len()` (16 or 32) bytes of a vector register.
    fn set_vector_register(&mut self, index: u8, bytes: &[u8]);

    /// An instruction with LOCK, or XCHG, begins its accesses: until [`EmulatedCpu::release_bus`]
    /// no other processor may write to a device (SDM volume 3, 9.1.2).
    fn lock_bus(&mut self) {}
    /// It has made them, or ends in a fault.
    fn release_bus(&mut self) {}

    /// Reads `size_bytes` (1, 2, 4 or 8; within a page, aligned or not) of RAM or from a device.
    fn read_gpa(&mut self, gpa: u64, size_bytes: u8) -> u64;
    /// Writes the low `size_bytes` (as for [`EmulatedCpu::read_gpa`]) of `value` to RAM or to a
    /// device.
    fn write_gpa(&mut self, gpa: u64, size_bytes: u8, value: u64);
    /// Reads consecutive elements of `element_bytes` each, within a page: a device sees one access
    /// for each, in order.
    fn read_gpa_run(&mut self, gpa: u64, element_bytes: u8, data: &mut [u8]) {
        for (element, gpa) in
            data.chunks_exact_mut(element_bytes.into()).zip((gpa..).step_by(element_bytes.into()))
        {
            let value = self.read_gpa(gpa, element_bytes).to_le_bytes();
            for (byte, value) in element.iter_mut().zip(value) {
                *byte = value;
            }
        }
    }
    /// Writes consecutive elements; the counterpart of [`EmulatedCpu::read_gpa_run`].
    fn write_gpa_run(&mut self, gpa: u64, element_bytes: u8, data: &[u8]) {
        for (element, gpa) in
            data.chunks_exact(element_bytes.into()).zip((gpa..).step_by(element_bytes.into()))
        {
            self.write_gpa(gpa, element_bytes, place::little_endian(element));
        }
    }
    /// Reads elements of `size_bytes` (1, 2 or 4) from one port into `data`; returns the bytes
    /// filled, at least one element.
    fn port_in(&mut self, port: u16, size_bytes: u8, data: &mut [u8]) -> usize;
    /// Writes elements of `size_bytes` (1, 2 or 4) to one port; returns the bytes taken, at least
    /// one element.
    fn port_out(&mut self, port: u16, size_bytes: u8, data: &[u8]) -> usize;
    /// Asked between the parts of a repeated instruction, once for each part: true if it has kept
    /// the host for so long that it has to let others in. It then goes on at the guest's next
    /// entry.
    fn must_yield(&mut self) -> bool {
        false
    }
}

/// The outcome of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete.
    Done {
        /// RFLAGS.TF was set: raise the single-step #DB (DR6.BS) before the next instruction.
        /// After one element of a repeated string instruction RIP still points at it.
        trap: bool,
    },
    /// A repeated string instruction did a part of its work and its registers say how much, or the
    /// instruction is another one by now: run the guest again at the same RIP, after pending
    /// interrupts.
    Continue,
    /// It raises this fault, at the RIP that stands.
    Fault(Fault),
    /// The emulator does not know it; nothing was changed.
    Unsupported(InstructionBytes),
}

/// Carries out the instruction at RIP. `refused` is the access for which it exited, if that was one
/// of its own: where the hardware said what it leads to, a page walk is saved.
#[inline]
pub fn step<C: EmulatedCpu>(cpu: &mut C, refused: Option<MemoryAccess>) -> Outcome {
    let mode = Mode::of(cpu);
    let mut memory = MemoryUnit::new(cpu, mode, refused);
    let mut code = Code::new();
    match memory.run(&mut code) {
        Ok(completed) => memory.retire(completed),
        Err(Stop::Fault(fault)) => Outcome::Fault(fault),
        Err(Stop::Unsupported) => Outcome::Unsupported(code.to_instruction_bytes()),
        Err(Stop::Changed) => Outcome::Continue,
    }
}

/// Why an instruction was not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Fault(Fault),
    Unsupported,
    /// This is not the instruction that exited.
    Changed,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

type Step<T> = Result<T, Stop>;

/// Where execution goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// At the next instruction.
    Next,
    /// At a jump target.
    Jump(u64),
    /// At the same string instruction, whose count has not run out.
    Repeat,
}

/// The CPU's modes when the instruction began. State that only some instructions need is asked for
/// when they do.
struct Mode {
    /// Default operand size of the code: 16, 32 or 64.
    bitness: u32,
    rflags: Rflags,
}

impl Mode {
    fn of<C: EmulatedCpu>(cpu: &C) -> Self {
        let code = cpu.segment_attributes(SegmentName::Cs);
        let bitness = match (code.long() && cpu.efer().long_mode_active(), code.default_big()) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        };
        Self { bitness, rflags: cpu.rflags() }
    }

    const fn is_64(&self) -> bool {
        self.bitness == 64
    }
}

/// An instruction that was carried out.
#[derive(Clone, Copy, Debug)]
struct Completed {
    flow: Flow,
    length_bytes: usize,
    /// The flags as it leaves them.
    rflags: Rflags,
}

/// The CPU's way to memory, in the modes in which the instruction began.
struct MemoryUnit<'a, C> {
    cpu: &'a mut C,
    mode: Mode,
    /// The access for which the instruction exited.
    refused: Option<MemoryAccess>,
    /// The guest has enabled breakpoints.
    is_watched: bool,
    /// Those that it has met, as DR6's bits.
    met: u64,
}

impl<'a, C: EmulatedCpu> MemoryUnit<'a, C> {
    #[inline]
    fn new(cpu: &'a mut C, mode: Mode, refused: Option<MemoryAccess>) -> Self {
        let is_watched = cpu.has_breakpoints();
        Self { cpu, mode, refused, is_watched, met: 0 }
    }

    /// Decodes and executes. The most frequent forms have decoders of their own, which take a tenth
    /// of the time.
    #[inline]
    fn run(&mut self, code: &mut Code) -> Step<Completed> {
        code.fetch(self)?;
        if let Some(instruction) =
            Move::decode(code, self.mode.bitness, self.cpu.rip(), self.cpu.gprs())
        {
            self.transfer(&instruction)?;
            let length_bytes = instruction.length_bytes;
            return Ok(Completed { flow: Flow::Next, length_bytes, rflags: self.mode.rflags });
        }
        self.run_other(code)
    }

    /// All but plain moves. Apart from them, because the general decoder's stack frame is large.
    #[inline(never)]
    fn run_other(&mut self, code: &mut Code) -> Step<Completed> {
        if let Some(instruction) = StringInstruction::decode(code, self.mode.bitness) {
            let flow = self.string(&instruction)?;
            // Comparisons set the flags element by element.
            let rflags = self.cpu.rflags();
            return Ok(Completed { flow, length_bytes: instruction.length_bytes, rflags });
        }
        self.run_decoded(code)
    }

    /// The same for all forms.
    fn run_decoded(&mut self, code: &mut Code) -> Step<Completed> {
        let instruction = code.decode(self)?;
        let rflags = self.mode.rflags;
        let mut execution = Execution { memory: self, instruction: &instruction, rflags };
        let flow = match locks_bus(&instruction) {
            false => execution.execute()?,
            true => execution.execute_locked()?,
        };
        Ok(Completed { flow, length_bytes: instruction.len(), rflags: execution.rflags })
    }

    /// Writes flags and RIP back.
    fn retire(self, completed: Completed) -> Outcome {
        // An interrupt or trap between two rounds of a repeated instruction saves RF (SDM volume 3,
        // 17.3.1.1).
        let rflags = completed.rflags.with_resume(matches!(completed.flow, Flow::Repeat));
        if rflags != self.mode.rflags {
            self.cpu.set_rflags(rflags);
        }
        let trap = self.mode.rflags.trap();
        if self.met != 0 {
            self.cpu.meet_breakpoints(self.met);
        }
        let rip = match completed.flow {
            Flow::Next => self.cpu.rip().wrapping_add(completed.length_bytes as u64),
            Flow::Jump(target) => target,
            Flow::Repeat if trap || self.met != 0 => self.cpu.rip(),
            Flow::Repeat => return Outcome::Continue,
        };
        self.cpu.complete_instruction(if self.mode.is_64() { rip } else { rip & 0xffff_ffff });
        Outcome::Done { trap }
    }
}

/// XCHG locks the bus without the prefix too (SDM volume 2, XCHG).
fn locks_bus(instruction: &Instruction) -> bool {
    instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Xchg
}

/// An instruction of any form, decoded.
struct Execution<'a, 'b, C> {
    memory: &'a mut MemoryUnit<'b, C>,
    instruction: &'a Instruction,
    /// The flags as the instruction leaves them.
    rflags: Rflags,
}
