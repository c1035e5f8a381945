//! Far transfers of control, as far as they may switch tasks.

use super::{EmulatedCpu, Execution, MemoryUnit, Mode};
use crate::paging::AccessKind;
use crate::task_switch::{Source, Transfer};
use iced_x86::{Decoder, DecoderError, DecoderOptions, Mnemonic};

const SELECTOR_BYTES: usize = 2;

/// The far CALL, far JMP or IRET in `code`, which stands at RIP; `None` if it is another
/// instruction, or its operand cannot be read.
pub fn far_transfer<C: EmulatedCpu>(cpu: &mut C, code: &[u8]) -> Option<Transfer> {
    if !may_be_far(code) {
        return None;
    }
    let mode = Mode::of(cpu);
    let mut decoder = Decoder::with_ip(mode.bitness, code, cpu.rip(), DecoderOptions::NONE);
    let instruction = decoder.decode();
    if decoder.last_error() != DecoderError::None {
        return None;
    }
    let next_rip = instruction.next_ip();
    let source = match instruction.mnemonic() {
        Mnemonic::Call => Source::Call,
        Mnemonic::Jmp => Source::Jump,
        Mnemonic::Iret | Mnemonic::Iretd => {
            return Some(Transfer { source: Source::Iret, selector: 0, next_rip });
        }
        _ => return None,
    };
    if instruction.is_call_far() || instruction.is_jmp_far() {
        return Some(Transfer { source, selector: instruction.far_branch_selector(), next_rip });
    }
    if !(instruction.is_call_far_indirect() || instruction.is_jmp_far_indirect()) {
        return None;
    }
    let rflags = mode.rflags;
    let memory = &mut MemoryUnit { cpu, mode, refused: None, is_watched: false, met: 0 };
    let mut execution = Execution { memory, instruction: &instruction, rflags };
    let place = execution.memory_operand(AccessKind::Read).ok()?;
    let mut pointer = [0; 10];
    let pointer = pointer.get_mut(..place.size_bytes.into())?;
    execution.memory.read_place_bytes(place, pointer);
    let selector = u16::from_le_bytes(*pointer.last_chunk::<SELECTOR_BYTES>()?);
    Some(Transfer { source, selector, next_rip })
}

/// The first byte that is no prefix is the opcode of a far transfer, outside 64-bit code. Nearly
/// all instructions are told from them so, without the decoder.
fn may_be_far(code: &[u8]) -> bool {
    let is_prefix =
        |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let opcode = code.iter().find(|byte| !is_prefix(byte));
    matches!(opcode, Some(0x9a | 0xcf | 0xea | 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::fake::FakeCpu;
    use crate::registers::Gpr;

    #[test]
    fn calls_jumps_and_returns_name_their_selectors() {
        let mut cpu = FakeCpu::protected();
        cpu.gprs.set(Gpr::Rdi, 0x5000);
        cpu.write_gpa(0x5000, 8, 0x0060_dead_beef);
        let transfer =
            |source, selector, length: u64| Some(Transfer { source, selector, next_rip: length });
        let rip = cpu.rip();
        for (code, want) in [
            (&[0x9a, 1, 2, 3, 4, 0x60, 0][..], transfer(Source::Call, 0x60, rip + 7)),
            (&[0x66, 0xea, 1, 2, 0x68, 0], transfer(Source::Jump, 0x68, rip + 6)),
            (&[0xff, 0x1f], transfer(Source::Call, 0x60, rip + 2)),
            (&[0x66, 0xff, 0x2f], transfer(Source::Jump, 0xdead, rip + 3)),
            (&[0xcf], transfer(Source::Iret, 0, rip + 1)),
            (&[0xff, 0x17], None),
            (&[0xff, 0xe7], None),
            (&[0xe8, 0, 0, 0, 0], None),
            (&[0x2e, 0xcf], transfer(Source::Iret, 0, rip + 2)),
            (&[0xcb], None),
            (&[0xff], None),
            (&[0x66], None),
            (&[], None),
        ] {
            assert_eq!(far_transfer(&mut cpu, code), want, "{code:x?}");
        }
    }
}
