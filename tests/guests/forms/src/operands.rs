//! An instruction of a code, with its operand in memory at RBX wherever it can be there.
//!
//! The registers are those that the guest fills for it (`tests/guests/src/bin/forms`): RBX, RSI and
//! RDI point to the operand, RCX holds a small count, RDX and RAX numbers, RBP a larger one. Vector
//! registers 5 and 6 hold indices of 32 and 64 bits, 1 to 4 hold numbers, K1 a mask.

use iced_x86::{Code, Instruction, Mnemonic, OpCodeOperandKind as Kind, OpKind, Register};

use crate::layout::{CODE16, CODE32, CODE64, Mode, TARGET};

/// An instruction with plain operands, or why there is none.
pub fn instruction(code: Code, mode: Mode) -> Result<Instruction, String> {
    let info = code.op_code();
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    let mut immediates = 0;
    let address_bits = if info.address_size() == 0 { mode.bits() } else { info.address_size() };
    for (operand, &kind) in (0..).zip(info.op_kinds()) {
        if let Some(register) = register(kind, address_bits, code.mnemonic()) {
            instruction.set_op_kind(operand, OpKind::Register);
            instruction.set_op_register(operand, register);
            continue;
        }
        match kind {
            Kind::mem_offs => {
                instruction.set_op_kind(operand, OpKind::Memory);
                instruction.set_memory_displ_size(mode.address_bytes());
                instruction.set_memory_displacement64(mode.operand_offset());
            }
            Kind::seg_rSI => instruction.set_op_kind(
                operand,
                mode.pick(OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI),
            ),
            Kind::es_rDI => instruction.set_op_kind(
                operand,
                mode.pick(OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI),
            ),
            Kind::seg_rDI => instruction.set_op_kind(
                operand,
                mode.pick(OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI),
            ),
            Kind::seg_rBX_al => {
                memory(&mut instruction, operand, address_bits);
                instruction.set_memory_index(Register::AL);
            }
            _ if is_memory(kind) => {
                memory(&mut instruction, operand, address_bits);
                if let Some(index) = index(kind) {
                    instruction.set_memory_index(index);
                    instruction.set_memory_index_scale(4);
                    // There are no such indices with addresses of 16 bits.
                    instruction.set_memory_base(mode.pick(
                        Register::EBX,
                        Register::EBX,
                        Register::RBX,
                    ));
                }
                if kind == Kind::sibmem {
                    instruction.set_memory_base(mode.pick(
                        Register::EBX,
                        Register::EBX,
                        Register::RBX,
                    ));
                }
            }
            Kind::br16_1 | Kind::br16_2 | Kind::xbegin_2 | Kind::brdisp_2 => {
                instruction.set_op_kind(operand, OpKind::NearBranch16);
                instruction.set_near_branch16(TARGET);
            }
            Kind::br32_1 | Kind::br32_4 | Kind::brdisp_4 => {
                instruction.set_op_kind(operand, OpKind::NearBranch32);
                instruction.set_near_branch32(TARGET.into());
            }
            Kind::br64_1 | Kind::br64_4 | Kind::xbegin_4 => {
                instruction.set_op_kind(operand, OpKind::NearBranch64);
                instruction.set_near_branch64(mode.code_base() + u64::from(TARGET));
            }
            Kind::farbr2_2 => {
                instruction.set_op_kind(operand, OpKind::FarBranch16);
                instruction.set_far_branch16(TARGET);
                instruction.set_far_branch_selector(CODE16);
            }
            Kind::farbr4_2 => {
                instruction.set_op_kind(operand, OpKind::FarBranch32);
                instruction.set_far_branch32(TARGET.into());
                instruction.set_far_branch_selector(mode.pick(CODE32, CODE32, CODE64));
            }
            _ => {
                let (kind, value) =
                    immediate(kind, immediates).ok_or_else(|| format!("operand {kind:?}"))?;
                instruction.set_op_kind(operand, kind);
                match kind {
                    OpKind::Immediate8_2nd => instruction.set_immediate8_2nd(value),
                    _ => instruction.set_immediate_u64(operand, value.into()),
                }
                immediates += 1;
            }
        }
    }
    Ok(instruction)
}

fn memory(instruction: &mut Instruction, operand: u32, address_bits: u32) {
    instruction.set_op_kind(operand, OpKind::Memory);
    instruction.set_memory_base(match address_bits {
        16 => Register::BX,
        32 => Register::EBX,
        _ => Register::RBX,
    });
}

/// Whether an operand of that kind is, or may be, in memory at the address that ModRM gives.
pub fn is_memory(kind: Kind) -> bool {
    index(kind).is_some()
        || matches!(
            kind,
            Kind::mem
                | Kind::mem_mpx
                | Kind::mem_mib
                | Kind::sibmem
                | Kind::r8_or_mem
                | Kind::r16_or_mem
                | Kind::r32_or_mem
                | Kind::r32_or_mem_mpx
                | Kind::r64_or_mem
                | Kind::r64_or_mem_mpx
                | Kind::mm_or_mem
                | Kind::xmm_or_mem
                | Kind::ymm_or_mem
                | Kind::zmm_or_mem
                | Kind::bnd_or_mem_mpx
                | Kind::k_or_mem
        )
}

/// The vector of indices of gathers and scatters.
pub fn index(kind: Kind) -> Option<Register> {
    Some(match kind {
        Kind::mem_vsib32x => Register::XMM5,
        Kind::mem_vsib32y => Register::YMM5,
        Kind::mem_vsib32z => Register::ZMM5,
        Kind::mem_vsib64x => Register::XMM6,
        Kind::mem_vsib64y => Register::YMM6,
        Kind::mem_vsib64z => Register::ZMM6,
        _ => return None,
    })
}

fn register(kind: Kind, address_bits: u32, mnemonic: Mnemonic) -> Option<Register> {
    // A bit's number, which may be anywhere in memory.
    let is_bit = matches!(mnemonic, Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    Some(match kind {
        Kind::r16_reg if is_bit => Register::CX,
        Kind::r32_reg if is_bit => Register::ECX,
        Kind::r64_reg if is_bit => Register::RCX,
        Kind::r8_reg | Kind::r8_opcode => Register::DL,
        Kind::r16_reg | Kind::r16_rm | Kind::r16_opcode => Register::BP,
        Kind::r32_reg | Kind::r32_rm | Kind::r32_opcode => Register::EBP,
        Kind::r64_reg | Kind::r64_rm | Kind::r64_opcode => Register::RBP,
        // An address: MOVDIR64B, ENQCMD, UMONITOR.
        Kind::r16_reg_mem | Kind::r32_reg_mem | Kind::r64_reg_mem => match address_bits {
            16 => Register::DI,
            32 => Register::EDI,
            _ => Register::RDI,
        },
        Kind::r32_vvvv => Register::EDX,
        Kind::r64_vvvv => Register::RDX,
        Kind::seg_reg => Register::ES,
        Kind::k_reg | Kind::k_rm => Register::K3,
        Kind::k_vvvv => Register::K2,
        Kind::kp1_reg => Register::K4,
        Kind::mm_reg | Kind::mm_rm => Register::MM1,
        Kind::xmm_reg | Kind::xmm_rm => Register::XMM1,
        Kind::xmm_vvvv => Register::XMM2,
        Kind::xmmp3_vvvv => Register::XMM0,
        Kind::xmm_is4 | Kind::xmm_is5 => Register::XMM3,
        Kind::ymm_reg | Kind::ymm_rm => Register::YMM1,
        Kind::ymm_vvvv => Register::YMM2,
        Kind::ymm_is4 | Kind::ymm_is5 => Register::YMM3,
        Kind::zmm_reg | Kind::zmm_rm => Register::ZMM1,
        Kind::zmm_vvvv => Register::ZMM2,
        Kind::zmmp3_vvvv => Register::ZMM0,
        Kind::cr_reg => Register::CR0,
        Kind::dr_reg => Register::DR0,
        Kind::tr_reg => Register::TR3,
        Kind::bnd_reg => Register::BND1,
        Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::al => Register::AL,
        Kind::cl => Register::CL,
        Kind::ax => Register::AX,
        Kind::dx => Register::DX,
        Kind::eax => Register::EAX,
        Kind::rax => Register::RAX,
        Kind::st0 => Register::ST0,
        Kind::sti_opcode => Register::ST1,
        Kind::tmm_reg => Register::TMM1,
        Kind::tmm_rm => Register::TMM2,
        Kind::tmm_vvvv => Register::TMM3,
        _ => return None,
    })
}

/// A value with several bits for those that choose elements, and below 16 for shifts.
const IMMEDIATE: u8 = 0x0b;

fn immediate(kind: Kind, before: usize) -> Option<(OpKind, u8)> {
    let kind = match kind {
        Kind::imm8 if before > 0 => OpKind::Immediate8_2nd,
        Kind::imm8 => OpKind::Immediate8,
        Kind::imm8_const_1 => return Some((OpKind::Immediate8, 1)),
        Kind::imm4_m2z => return Some((OpKind::Immediate8, 0)),
        Kind::imm8sex16 => OpKind::Immediate8to16,
        Kind::imm8sex32 => OpKind::Immediate8to32,
        Kind::imm8sex64 => OpKind::Immediate8to64,
        Kind::imm16 => OpKind::Immediate16,
        Kind::imm32 => OpKind::Immediate32,
        Kind::imm32sex64 => OpKind::Immediate32to64,
        Kind::imm64 => OpKind::Immediate64,
        _ => return None,
    };
    Some((kind, if before > 0 { 2 } else { IMMEDIATE }))
}
