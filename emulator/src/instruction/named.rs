//! The memory that an instruction names, for instructions that the processor carries out itself.

use super::operand::{general_register, segment_name};
use super::place::little_endian;
use super::{EmulatedCpu, Mode};
use crate::registers::{Gpr, SegmentName};
use arrayvec::ArrayVec;
use iced_x86::{
    CodeSize, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction,
    InstructionInfoFactory, InstructionInfoOptions, MemorySize, Mnemonic, OpAccess, OpKind,
    Register, UsedMemory,
};

/// The most pieces of memory that an instruction names: ENTER of 31 levels pushes and copies 63
/// values.
pub const MAX_NAMED: usize = 64;
/// The extended state area's header, and where it is (SDM volume 1, 13.4.1).
const XSAVE_HEADER: u64 = 512;
const XSAVE_HEADER_BYTES: u64 = 64;

/// The part of a piece of memory that an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// Every byte.
    All,
    /// Some bytes or none, by a mask or by the state of the processor. The instruction changes
    /// nothing else, so that it may be run twice, and does not depend on what was there.
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
    /// The part that it writes.
    pub writes: Writes,
}

/// All that an instruction names, in the order of its accesses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedMemory {
    /// The pieces.
    pub pieces: ArrayVec<Named, MAX_NAMED>,
    /// It touches nothing else but its own code and the page tables.
    pub is_all: bool,
    /// It loads SS, and no trap comes behind it (SDM volume 3, 7.8.3; APM volume 3, MOV and POP).
    /// QEMU holds traps off behind LSS and STI too.
    pub holds_off_traps: bool,
    /// Its length; 0 if it is none.
    pub length_bytes: usize,
}

/// Finds out what an instruction names. It keeps its buffers from one to the next.
#[derive(Debug)]
pub struct Namer {
    factory: InstructionInfoFactory,
    named: NamedMemory,
}

impl Namer {
    /// One with its buffers.
    pub fn new() -> Self {
        Self { factory: InstructionInfoFactory::new(), named: NamedMemory::default() }
    }

    /// All that the instruction in `code`, which stands at RIP, names. `xsave_bytes` says how large
    /// an area is that XSAVE or, if true, XSAVEC and XSAVES write.
    pub fn name<C: EmulatedCpu>(
        &mut self,
        cpu: &C,
        code: &[u8],
        xsave_bytes: impl Fn(bool) -> u16,
    ) -> &NamedMemory {
        let mode = Mode::of(cpu);
        let mut decoder = Decoder::with_ip(mode.bitness, code, cpu.rip(), DecoderOptions::NONE);
        let instruction = decoder.decode();
        let named = &mut self.named;
        named.pieces.clear();
        (named.is_all, named.holds_off_traps, named.length_bytes) = (false, false, 0);
        if decoder.last_error() != DecoderError::None {
            return named;
        }
        let is_explicit = |index| index == 0 && has_memory_operand(&instruction);
        let info =
            self.factory.info_options(&instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
        named.is_all = !touches_more(&instruction);
        named.length_bytes = instruction.len();
        named.holds_off_traps = match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Pop => instruction.op0_register() == Register::SS,
            mnemonic => matches!(mnemonic, Mnemonic::Lss | Mnemonic::Sti),
        };
        for (index, used) in info.used_memory().iter().enumerate() {
            if used.index().is_vector_register() {
                named.add_elements(cpu, &mode, &instruction, used);
                continue;
            }
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
                reads: reads(used.access()) || keeps_some(&instruction),
                writes: writes(used.access(), &instruction),
            };
            match size {
                MemorySize::Xsave | MemorySize::Xsave64 => {
                    named.add_xsave(&instruction, piece, &xsave_bytes)
                }
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

    /// Those elements of a gather or scatter that its mask chooses.
    fn add_elements<C: EmulatedCpu>(
        &mut self,
        cpu: &C,
        mode: &Mode,
        instruction: &Instruction,
        used: &UsedMemory,
    ) {
        let size = used.memory_size().size();
        let scatters = instruction.op0_kind() == OpKind::Memory;
        let data = if scatters { instruction.op1_register() } else { instruction.op0_register() };
        let (index, index_size) = (used.index(), used.vsib_size() as usize);
        let is_known = size > 0 && index_size > 0 && data.is_vector_register();
        if !is_known {
            self.is_all = false;
            return;
        }
        let indices = cpu.wide_register(index.number() as u8);
        let mask = element_mask(cpu, instruction, size);
        let count = (data.size() / size).min(index.size() / index_size);
        for element in (0..count).filter(|element| mask >> element & 1 != 0) {
            let at = element * index_size..(element + 1) * index_size;
            let linear = used.virtual_address(element, |register, _, _| {
                if register == index {
                    return indices.get(at.clone()).map(little_endian);
                }
                register_value(cpu, mode, register)
            });
            let Some(linear) = linear else {
                self.is_all = false;
                continue;
            };
            self.add(Named {
                linear: if mode.is_64() { linear } else { linear & 0xffff_ffff },
                size_bytes: size as u16,
                reads: !scatters,
                writes: if scatters { Writes::All } else { Writes::Nothing },
            });
        }
    }

    /// The area of the XSAVE family. Of the header XSAVE and XSAVEOPT change the first field, whose
    /// other bits they keep, and XSAVEC and XSAVES write two.
    fn add_xsave(
        &mut self,
        instruction: &Instruction,
        area: Named,
        xsave_bytes: &impl Fn(bool) -> u16,
    ) {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        let (keeps_header, compacts) = match mnemonic {
            M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 => (true, false),
            M::Xsavec | M::Xsavec64 | M::Xsaves | M::Xsaves64 => (false, true),
            _ => {
                let size_bytes = xsave_bytes(false).max(xsave_bytes(true));
                return self.add(Named {
                    size_bytes,
                    reads: true,
                    writes: Writes::Nothing,
                    ..area
                });
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
    matches!(
        access,
        OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
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

/// The instruction may leave some of what it writes alone, and changes more than that, so that it
/// cannot be run twice: PUSH of a segment register writes all of its place or the selector (SDM
/// volume 2, PUSH).
fn keeps_some(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Push && instruction.op0_register().is_segment_register()
}

/// The instruction writes by a mask in a vector register, or leaves reserved parts and those that
/// the mode does not have alone. The decoder tells those with a mask register by itself.
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
fn linear<C: EmulatedCpu>(
    cpu: &C,
    mode: &Mode,
    used: &UsedMemory,
    is_explicit: bool,
) -> Option<u64> {
    if !is_explicit && let Some(linear) = stack_linear(cpu, mode, used) {
        return Some(linear);
    }
    let linear = used.virtual_address(0, |register, _, _| register_value(cpu, mode, register))?;
    Some(if mode.is_64() { linear } else { linear & 0xffff_ffff })
}

/// The value that a register adds to an address.
fn register_value<C: EmulatedCpu>(cpu: &C, mode: &Mode, register: Register) -> Option<u64> {
    if let Some(name) = segment_name(register) {
        return Some(segment_base(cpu, mode, name));
    }
    let (gpr, width) = general_register(register)?;
    Some(cpu.gprs().get(gpr) & width.mask())
}

/// The elements that a gather or scatter touches: by a mask register, or by the signs of a vector
/// register's elements.
fn element_mask<C: EmulatedCpu>(cpu: &C, instruction: &Instruction, size_bytes: usize) -> u16 {
    if instruction.has_op_mask() {
        return cpu.mask_register(instruction.op_mask().number() as u8);
    }
    let signs = cpu.wide_register(instruction.op2_register().number() as u8);
    let last_bytes = signs.chunks_exact(size_bytes).filter_map(|element| element.last());
    (0..)
        .zip(last_bytes.take(16))
        .fold(0, |mask, (element, byte)| mask | u16::from(byte >> 7) << element)
}

fn segment_base<C: EmulatedCpu>(cpu: &C, mode: &Mode, name: SegmentName) -> u64 {
    match name {
        SegmentName::Fs | SegmentName::Gs => cpu.segment_base(name),
        _ if mode.is_64() => 0,
        _ => cpu.segment_base(name),
    }
}

/// A place on the stack, whose address size is the stack segment's and not, as the decoder has it,
/// the code's.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::fake::FakeCpu;
    use alloc::vec::Vec;

    const AREA_BYTES: u16 = 832;

    fn name(cpu: &FakeCpu, code: &[u8]) -> NamedMemory {
        Namer::new().name(cpu, code, |compacted| if compacted { 700 } else { AREA_BYTES }).clone()
    }

    /// The pieces as addresses, lengths, whether they are read, and what of them is written.
    fn pieces(cpu: &FakeCpu, code: &[u8]) -> Vec<(u64, u16, bool, Writes)> {
        let named = name(cpu, code);
        named
            .pieces
            .iter()
            .map(|piece| (piece.linear, piece.size_bytes, piece.reads, piece.writes))
            .collect()
    }

    #[test]
    fn operands_are_read_or_written_or_both() {
        let mut cpu = FakeCpu::long();
        cpu.gprs.set(Gpr::Rdi, 0x5000);
        assert_eq!(pieces(&cpu, &[0xdf, 0x2f]), [(0x5000, 8, true, Writes::Nothing)], "FILD");
        assert_eq!(pieces(&cpu, &[0xdb, 0x3f]), [(0x5000, 10, false, Writes::All)], "FSTP");
        assert_eq!(pieces(&cpu, &[0xf0, 0x01, 0x07]), [(0x5000, 4, true, Writes::All)], "LOCK ADD");
        assert_eq!(
            pieces(&cpu, &[0x0f, 0x01, 0x47, 0x10]),
            [(0x5010, 10, false, Writes::All)],
            "SGDT"
        );
        assert_eq!(pieces(&cpu, &[0xdd, 0x37]), [(0x5000, 108, false, Writes::All)], "FNSAVE");
        assert_eq!(
            pieces(&cpu, &[0x0f, 0xae, 0x07]),
            [(0x5000, 512, false, Writes::Some)],
            "FXSAVE"
        );
        assert_eq!(
            pieces(&cpu, &[0x0f, 0xf7, 0xc1]),
            [(0x5000, 8, false, Writes::Some)],
            "MASKMOVQ"
        );
        let rip_relative = [0xdf, 0x2d, 0, 1, 0, 0];
        assert_eq!(pieces(&cpu, &rip_relative), [(cpu.rip + 0x106, 8, true, Writes::Nothing)]);
    }

    #[test]
    fn the_parts_of_an_extended_state_area() {
        let mut cpu = FakeCpu::long();
        cpu.gprs.set(Gpr::Rdi, 0x5000);
        let expected = [
            (0x5000, 512, false, Writes::Some),
            (0x5240, AREA_BYTES - 576, false, Writes::Some),
            (0x5200, 8, true, Writes::All),
        ];
        assert_eq!(pieces(&cpu, &[0x0f, 0xae, 0x27]), expected, "XSAVE");
        assert_eq!(
            pieces(&cpu, &[0x0f, 0xae, 0x2f]),
            [(0x5000, AREA_BYTES, true, Writes::Nothing)],
            "XRSTOR"
        );
        let compacted = pieces(&cpu, &[0x0f, 0xc7, 0x27]);
        assert_eq!(
            compacted[1..],
            [(0x5240, 124, false, Writes::Some), (0x5200, 16, false, Writes::All)]
        );
    }

    #[test]
    fn the_stack_has_the_address_size_of_its_segment() {
        let mut cpu = FakeCpu::protected();
        cpu.gprs.set(Gpr::Rsp, 0x1234_0006);
        let last = |cpu: &FakeCpu| pieces(cpu, &[0x60]).last().copied();
        assert_eq!(last(&cpu), Some((0x1233_ffe6, 4, false, Writes::All)), "PUSHAD");
        let ss = &mut cpu.segments[SegmentName::Ss as usize];
        (ss.base, ss.attributes) = (0x2_0000, ss.attributes.with_default_big(false));
        assert_eq!(last(&cpu), Some((0x2_ffe6, 4, false, Writes::All)), "a stack of 16 bits");
        assert_eq!(pieces(&cpu, &[0xc8, 0, 0, 31]).len(), 62, "ENTER of 31 levels");
    }

    #[test]
    fn elements_are_those_that_the_mask_chooses() {
        let mut cpu = FakeCpu::long();
        cpu.gprs.set(Gpr::Rdi, 0x5000);
        let dwords = |values: [i32; 4]| {
            let mut register = [0; 32];
            for (bytes, value) in register.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            register
        };
        // VGATHERDPS xmm0, [rdi + xmm1 * 4], xmm2
        cpu.vectors[1] = dwords([1, -2, 3, 0x100]);
        cpu.vectors[2] = dwords([-1, i32::MIN, 0x7fff_ffff, -1]);
        let code = [0xc4, 0xe2, 0x69, 0x92, 0x04, 0x8f];
        let expected = [0x5004, 0x4ff8, 0x5400].map(|linear| (linear, 4, true, Writes::Nothing));
        assert_eq!(pieces(&cpu, &code), expected);
        assert!(name(&cpu, &code).is_all);
    }

    #[test]
    fn instructions_that_use_descriptors_touch_more_than_they_name() {
        let mut cpu = FakeCpu::protected();
        cpu.gprs.set(Gpr::Rcx, 0);
        for code in [
            // Far CALL and JMP, direct and by memory; RETF, IRET.
            &[0x9a, 0, 0, 0, 0, 8, 0][..],
            &[0xea, 0, 0, 0, 0, 8, 0],
            &[0xff, 0x1f],
            &[0xff, 0x2f],
            &[0xcb],
            &[0xcf],
            // LES, LDS, LSS, LFS, LGS, MOV to ES, POP DS.
            &[0xc4, 0x07],
            &[0xc5, 0x07],
            &[0x0f, 0xb2, 0x07],
            &[0x0f, 0xb4, 0x07],
            &[0x0f, 0xb5, 0x07],
            &[0x8e, 0x07],
            &[0x1f],
            // LLDT, LTR, VERR, VERW, LAR, LSL.
            &[0x0f, 0x00, 0x17],
            &[0x0f, 0x00, 0x1f],
            &[0x0f, 0x00, 0x27],
            &[0x0f, 0x00, 0x2f],
            &[0x0f, 0x02, 0x07],
            &[0x0f, 0x03, 0x07],
            // INT, INT3, UD2.
            &[0xcd, 0x80],
            &[0xcc],
            &[0x0f, 0x0b],
        ] {
            assert!(!name(&cpu, code).is_all, "{code:x?}");
        }
        assert!(name(&cpu, &[0xc3]).is_all, "RET");
        assert!(name(&cpu, &[0xff, 0x17]).is_all, "a near CALL by memory");
        assert!(name(&cpu, &[0x8c, 0x07]).is_all, "MOV from ES");
        assert!(name(&cpu, &[0x06]).is_all, "PUSH ES");
        assert!(!name(&cpu, &[0x0f]).is_all, "half an instruction");
        assert!(
            name(&cpu, &[0x8e, 0x17]).holds_off_traps && !name(&cpu, &[0x8e, 0x07]).holds_off_traps
        );
        assert!(name(&cpu, &[0x0f, 0xb2, 0x27]).holds_off_traps, "LSS");
        assert_eq!(name(&cpu, &[0xf3, 0xa4]).pieces.len(), 0, "REP MOVSB whose count is 0");
        cpu.gprs.set(Gpr::Rcx, 1);
        assert_eq!(pieces(&cpu, &[0xf3, 0xa4]).len(), 2);
    }
}
