//! The content of memory that an instruction needs to make sense.

use iced_x86::{Code, Instruction, Mnemonic, Register};

use crate::layout::{CODE, CODE16, CODE32, CODE64, DATA, DATA16, LDT, Mode, TARGET, TASK, WINDOW};

/// The values that the guest writes before the instruction, beside the pattern that all memory has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Memory {
    /// Nothing.
    #[default]
    Pattern,
    /// Bytes at the operand.
    Operand(Vec<u8>),
    /// Bytes at the stack pointer.
    Stack(Vec<u8>),
    /// At the operand, limit and base of the guest's GDT.
    GlobalTable,
    /// At the operand, limit and base of the guest's IDT.
    InterruptTable,
    /// At the operand, an image that FXSAVE has made.
    LegacyState,
    /// At the operand, an image that XSAVE has made.
    ExtendedState,
    /// At the operand, an image that XSAVEC has made.
    CompactedState,
}

/// The value of RAX and RDX:RAX at the instruction; the guest has the same.
pub const RAX: u64 = 0x0807_0605_0403_02e7;
/// See [`RAX`].
pub const RDX: u64 = 0x0803;

/// All that a form needs: several, where it takes several ways.
pub fn memory(code: Code, instruction: &Instruction, mode: Mode) -> Vec<Memory> {
    use Code::*;
    let data = mode.pick(DATA16, DATA, DATA);
    let one = |memory| vec![memory];
    let operand = |values: &[(u32, u64)]| vec![Memory::Operand(bytes(values))];
    let stack = |values: &[(u32, u64)]| vec![Memory::Stack(bytes(values))];
    let near = |size: u32| (size, mode.code_base() + u64::from(TARGET));
    // With operands of 16 bits the target has to be below 64 KiB, and is so from the base of a
    // segment of 16-bit code.
    let far = |size: u32| match (size, mode) {
        (2, _) => [(2, u64::from(TARGET)), (2, CODE16.into())],
        (_, Mode::Bits64) => [(size, u64::from(CODE) + u64::from(TARGET)), (size, CODE64.into())],
        _ => [(size, TARGET.into()), (size, CODE32.into())],
    };
    let far_pointer = |size: u32| operand(&[far(size)[0], (2, far(size)[1].1)]);
    const FLAGS: u64 = 0x08d7;
    let interrupt_return = |size: u32| {
        let mut frame = far(size).to_vec();
        frame.push((size, FLAGS));
        if mode == Mode::Bits64 {
            frame.extend([(size, u64::from(WINDOW) & 0xffff | 0x1230), (size, DATA.into())]);
        }
        stack(&frame)
    };
    match code {
        Call_rm16 | Jmp_rm16 => operand(&[near(2)]),
        Call_rm32 | Jmp_rm32 => operand(&[near(4)]),
        Call_rm64 | Jmp_rm64 => operand(&[near(8)]),
        Call_m1616 | Jmp_m1616 => far_pointer(2),
        Call_m1632 | Jmp_m1632 => far_pointer(4),
        Call_m1664 | Jmp_m1664 => far_pointer(8),
        Retnw | Retnw_imm16 => stack(&[near(2)]),
        Retnd | Retnd_imm16 => stack(&[near(4)]),
        Retnq | Retnq_imm16 => stack(&[near(8)]),
        Retfw | Retfw_imm16 => stack(&far(2)),
        Retfd | Retfd_imm16 => stack(&far(4)),
        Retfq | Retfq_imm16 => stack(&far(8)),
        Iretw => interrupt_return(2),
        Iretd => interrupt_return(4),
        Iretq => interrupt_return(8),
        Popfw | Popfd | Popfq => stack(&[(8, 0x0cd7)]),
        Popw_ES | Popd_ES | Popw_DS | Popd_DS | Popw_SS | Popd_SS | Popw_FS | Popd_FS | Popq_FS
        | Popw_GS | Popd_GS | Popq_GS => stack(&[(8, data.into())]),
        Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 => operand(&[(2, data.into())]),
        Lds_r16_m1616 | Les_r16_m1616 | Lss_r16_m1616 | Lfs_r16_m1616 | Lgs_r16_m1616 => {
            operand(&[(2, 0x4321), (2, data.into())])
        }
        Lds_r32_m1632 | Les_r32_m1632 | Lss_r32_m1632 | Lfs_r32_m1632 | Lgs_r32_m1632 => {
            operand(&[(4, 0x8765_4321), (2, data.into())])
        }
        Lss_r64_m1664 | Lfs_r64_m1664 | Lgs_r64_m1664 => {
            operand(&[(8, 0x8765_4321), (2, data.into())])
        }
        Lldt_rm16 | Lldt_r32m16 | Lldt_r64m16 => operand(&[(2, LDT.into())]),
        Ltr_rm16 | Ltr_r32m16 | Ltr_r64m16 => operand(&[(2, TASK.into())]),
        Lgdt_m1632_16 | Lgdt_m1632 | Lgdt_m1664 => one(Memory::GlobalTable),
        Lidt_m1632_16 | Lidt_m1632 | Lidt_m1664 => one(Memory::InterruptTable),
        // PE, MP and TS.
        Lmsw_rm16 | Lmsw_r32m16 | Lmsw_r64m16 => operand(&[(2, 0xb)]),
        Bound_r16_m1616 => operand(&[(2, 0), (2, 0x7fff)]),
        Bound_r32_m3232 => operand(&[(4, 0), (4, 0x7fff_ffff)]),
        Fldcw_m2byte => operand(&[(2, 0x027f)]),
        Fldenv_m14byte => one(Memory::Operand(environment(2))),
        Fldenv_m28byte => one(Memory::Operand(environment(4))),
        Frstor_m94byte => one(Memory::Operand(x87_state(2))),
        Frstor_m108byte => one(Memory::Operand(x87_state(4))),
        Ldmxcsr_m32 | VEX_Vldmxcsr_m32 => operand(&[(4, 0x1fa5)]),
        Invpcid_r32_m128 | Invpcid_r64_m128 => one(Memory::Operand(vec![0; 16])),
        Fxrstor_m512byte | Fxrstor64_m512byte => one(Memory::LegacyState),
        Xrstor_mem | Xrstor64_mem => one(Memory::ExtendedState),
        Xrstors_mem | Xrstors64_mem => one(Memory::CompactedState),
        _ => match instruction.mnemonic() {
            Mnemonic::Verr | Mnemonic::Verw | Mnemonic::Lar | Mnemonic::Lsl => {
                operand(&[(2, data.into())])
            }
            // Unequal and equal.
            Mnemonic::Cmpxchg => vec![Memory::Pattern, Memory::Operand(bytes(&[(8, RAX)]))],
            Mnemonic::Cmpxchg8b => {
                vec![Memory::Pattern, Memory::Operand(bytes(&[(4, RAX), (4, RDX)]))]
            }
            Mnemonic::Cmpxchg16b => {
                vec![Memory::Pattern, Memory::Operand(bytes(&[(8, RAX), (8, RDX)]))]
            }
            _ => one(Memory::Pattern),
        },
    }
}

/// The segment registers that a form has cases for; its own, mostly.
pub fn segments(code: Code) -> &'static [Register] {
    use Register::*;
    match code {
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => {
            &[ES, DS, SS, FS, GS]
        }
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => {
            &[ES, CS, DS, SS, FS, GS]
        }
        _ => &[None],
    }
}

fn bytes(values: &[(u32, u64)]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&(size, value)| value.to_le_bytes().into_iter().take(size as usize))
        .collect()
}

/// An x87 environment of 16 or 32 bits: exceptions masked, two registers in use, a top of 6.
fn environment(word: u32) -> Vec<u8> {
    bytes(&[0x037f, 0x3100, 0x0fff, 0x1111, 0x0022, 0x3333, 0x0044].map(|value| (word, value)))
}

/// The same with the registers: 1.0, pi, and zeros.
fn x87_state(word: u32) -> Vec<u8> {
    let mut state = environment(word);
    let registers = [(1 << 63, 0x3fff), (0xc90f_daa2_2168_c235, 0x4000)];
    state.extend(
        registers.iter().flat_map(|&(mantissa, exponent)| bytes(&[(8, mantissa), (2, exponent)])),
    );
    state.resize(7 * word as usize + 80, 0);
    state
}
