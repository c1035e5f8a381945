//! The memory that an instruction names, for instructions that the processor carries out itself.

use super::operand::{general_register, segment_name};
use super::{EmulatedCpu, Mode};
use crate::registers::{Gpr, SegmentName};
use arrayvec::ArrayVec;
use iced_x86::{
    CodeSize, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    InstructionInfoOptions, MemorySize, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

/// The most pieces of memory that an instruction names: ENTER of 31 levels pushes and copies 63 values.
pub const MAX_NAMED: usize = 64;
/// The extended state area's header, and where it is (SDM volume 1, 13.4.1).
const XSAVE_HEADER: u64 = 512;
const XSAVE_HEADER_BYTES: u64 = 64;

/// What of a piece of memory an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// Every byte.
    All,
    /// Some bytes or none, by a mask or by the state of the processor. The instruction changes nothing else, so that it may be
    /// run twice, and does not depend on what was there.
    Some,
}

/// A piece of memory that an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its linear address.
    pub linear: u64,
    /// Its length.
    pub size_bytes: u16,
    /// The instruction reads it.
    pub reads: bool,
    /// What it writes of it.
    pub writes: Writes,
}

/// All that an instruction names, in the order of its accesses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedMemory {
    /// The pieces.
    pub pieces: ArrayVec<Named, MAX_NAMED>,
    /// It touches nothing else but its own code and the page tables.
    pub is_all: bool,
}

/// Finds out what an instruction names. It keeps its buffers from one to the next.
#[derive(Debug)]
pub struct Namer {
    factory: InstructionInfoFactory,
}

impl Namer {
    /// One with its buffers.
    pub fn new() -> Self {
        Self { factory: InstructionInfoFactory::new() }
    }

    /// What the instruction in `code`, which stands at RIP, names. `xsave_bytes` says how large an area is that XSAVE or, if true,
    /// XSAVEC and XSAVES write.
    pub fn name<C: EmulatedCpu>(
        &mut self,
        cpu: &C,
        code: &[u8],
        xsave_bytes: impl Fn(bool) -> u16,
    ) -> NamedMemory {
        let mode = Mode::of(cpu);
        let mut decoder = Decoder::with_ip(mode.bitness, code, cpu.rip(), DecoderOptions::NONE);
        let instruction = decoder.decode();
        let mut named = NamedMemory::default();
        if decoder.last_error() != DecoderError::None {
            return named;
        }
        let is_explicit = |index| index == 0 && has_memory_operand(&instruction);
        let info = self.factory.info_options(&instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
        named.is_all = !touches_more(&instruction);
        for (index, used) in info.used_memory().iter().enumerate() {
            let Some(linear) = linear(cpu, &mode, used, is_explicit(index)) else {
                named.is_all = false;
                continue;
            };
            if instruction.is_string_instruction() && is_over(cpu, &instruction, used) {
                continue;
            }
            let size = match used.memory_size() {
                MemorySize::Unknown => instruction.memory_size(),
                size => size,
            };
            let size_bytes = size.size() as u16;
            let piece = Named {
                linear,
                size_bytes,
                reads: reads(used.access()),
                writes: writes(used.access(), &instruction),
            };
            match size {
                MemorySize::Xsave | MemorySize::Xsave64 => named.add_xsave(&instruction, piece, &xsave_bytes),
                _ if size_bytes == 0 => named.is_all = false,
                _ => named.add(piece),
            }
        }
        named
    }
}

impl Default for Namer {
    fn default() -> Self {
        Self::new()
    }
}

impl NamedMemory {
    fn add(&mut self, piece: Named) {
        if self.pieces.try_push(piece).is_err() {
            self.is_all = false;
        }
    }

    /// The area of the XSAVE family. Of the header XSAVE and XSAVEOPT change the first field, whose other bits they keep, and XSAVEC
    /// and XSAVES write two.
    fn add_xsave(&mut self, instruction: &Instruction, area: Named, xsave_bytes: &impl Fn(bool) -> u16) {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        let (keeps_header, compacts) = match mnemonic {
            M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 => (true, false),
            M::Xsavec | M::Xsavec64 | M::Xsaves | M::Xsaves64 => (false, true),
            _ => {
                let size_bytes = xsave_bytes(false).max(xsave_bytes(true));
                return self.add(Named { size_bytes, reads: true, writes: Writes::Nothing, ..area });
            }
        };
        let written = |offset, size_bytes, writes| Named {
            linear: area.linear.wrapping_add(offset),
            size_bytes,
            reads: false,
            writes,
        };
        let components = XSAVE_HEADER + XSAVE_HEADER_BYTES;
        let components_bytes = xsave_bytes(compacts).saturating_sub(components as u16);
        self.add(written(0, XSAVE_HEADER as u16, Writes::Some));
        if components_bytes > 0 {
            self.add(written(components, components_bytes, Writes::Some));
        }
        let header = written(XSAVE_HEADER, if keeps_header { 8 } else { 16 }, Writes::All);
        self.add(Named { reads: keeps_header, ..header });
    }
}

/// The count of a repeated string instruction has run out.
fn is_over<C: EmulatedCpu>(cpu: &C, instruction: &Instruction, used: &UsedMemory) -> bool {
    let mask = match used.address_size() {
        CodeSize::Code16 => 0xffff,
        CodeSize::Code32 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let is_repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    is_repeated && cpu.gprs().get(Gpr::Rcx) & mask == 0
}

fn has_memory_operand(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}

const fn reads(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn writes(access: OpAccess, instruction: &Instruction) -> Writes {
    match access {
        OpAccess::Write if writes_some(instruction.mnemonic()) => Writes::Some,
        // That of a repeated string instruction, which is not over.
        OpAccess::CondWrite if instruction.is_string_instruction() => Writes::All,
        OpAccess::CondWrite => Writes::Some,
        // Comparing and exchanging writes back what was there if it is not equal.
        OpAccess::Write | OpAccess::ReadWrite | OpAccess::ReadCondWrite => Writes::All,
        _ => Writes::Nothing,
    }
}

/// The instruction writes by a mask in a vector register, or leaves reserved parts and those that the mode does not have alone.
/// The decoder tells those with a mask register by itself.
const fn writes_some(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fxsave
            | M::Fxsave64
            | M::Maskmovq
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
    )
}

/// The instruction uses descriptors, or a stack that it does not name.
fn touches_more(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let is_far = instruction.is_call_far()
        || instruction.is_call_far_indirect()
        || instruction.is_jmp_far()
        || instruction.is_jmp_far_indirect();
    let loads_segment = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register()
        && matches!(instruction.mnemonic(), M::Mov | M::Pop);
    is_far
        || loads_segment
        || matches!(instruction.flow_control(), FlowControl::Interrupt | FlowControl::Exception)
        || matches!(
            instruction.mnemonic(),
            M::Retf
                | M::Iret
                | M::Iretd
                | M::Iretq
                | M::Les
                | M::Lds
                | M::Lfs
                | M::Lgs
                | M::Lss
                | M::Lldt
                | M::Ltr
                | M::Lar
                | M::Lsl
                | M::Verr
                | M::Verw
        )
}

/// The linear address of a piece; `None` if a register that it depends on is not known.
fn linear<C: EmulatedCpu>(cpu: &C, mode: &Mode, used: &UsedMemory, is_explicit: bool) -> Option<u64> {
    if !is_explicit && let Some(linear) = stack_linear(cpu, mode, used) {
        return Some(linear);
    }
    let linear = used.virtual_address(0, |register, _, _| match segment_name(register) {
        Some(name) => Some(segment_base(cpu, mode, name)),
        None => {
            let (gpr, width) = general_register(register)?;
            Some(cpu.gprs().get(gpr) & width.mask())
        }
    })?;
    Some(if mode.is_64() { linear } else { linear & 0xffff_ffff })
}

fn segment_base<C: EmulatedCpu>(cpu: &C, mode: &Mode, name: SegmentName) -> u64 {
    match name {
        SegmentName::Fs | SegmentName::Gs => cpu.segment_base(name),
        _ if mode.is_64() => 0,
        _ => cpu.segment_base(name),
    }
}

/// A place on the stack, whose address size is the stack segment's and not, as the decoder has it, the code's.
fn stack_linear<C: EmulatedCpu>(cpu: &C, mode: &Mode, used: &UsedMemory) -> Option<u64> {
    let (displacement, register) = match used.base() {
        Register::SP => (used.displacement() as i16 as u64, Gpr::Rsp),
        Register::BP => (used.displacement() as i16 as u64, Gpr::Rbp),
        Register::ESP => (used.displacement() as i32 as u64, Gpr::Rsp),
        Register::EBP => (used.displacement() as i32 as u64, Gpr::Rbp),
        _ => return None,
    };
    if mode.is_64() || used.segment() != Register::SS {
        return None;
    }
    let is_wide = cpu.segment_attributes(SegmentName::Ss).default_big();
    let mask = if is_wide { 0xffff_ffff } else { 0xffff };
    let offset = cpu.gprs().get(register).wrapping_add(displacement) & mask;
    Some(cpu.segment_base(SegmentName::Ss).wrapping_add(offset) & 0xffff_ffff)
}
