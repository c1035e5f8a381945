//! The decoders for the frequent forms, against `iced-x86`.

use super::*;
use crate::instruction::string_form::{Repeat, StringInstruction, StringOperation};
use crate::registers::Rflags;
use iced_x86::Mnemonic;
use proptest::prelude::*;

/// The instruction in the memory of a CPU, fetched.
fn fetched(cpu: &mut FakeCpu, instruction: &[u8]) -> Code {
    cpu.put(cpu.rip, instruction);
    let mode = Mode::of(cpu);
    let unit = MemoryUnit::new(cpu, mode, None);
    let mut code = Code::new();
    code.fetch(&unit).unwrap();
    code
}

fn cpu_of(bitness: u32) -> FakeCpu {
    match bitness {
        16 => FakeCpu::real(),
        32 => FakeCpu::protected(),
        _ => FakeCpu::long(),
    }
}

fn operation(mnemonic: Mnemonic) -> Option<StringOperation> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => StringOperation::Movs,
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => StringOperation::Stos,
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => StringOperation::Lods,
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => StringOperation::Scas,
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => StringOperation::Cmps,
        M::Insb | M::Insw | M::Insd => StringOperation::Ins,
        M::Outsb | M::Outsw | M::Outsd => StringOperation::Outs,
        _ => return None,
    })
}

const PREFIXES: [u8; 10] = [0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const MOVES: [u8; 12] = [0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7, 0xb6, 0xb7];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn string_instructions_are_decoded_as_iced_does(
        bitness in prop::sample::select(vec![16, 32, 64]),
        prefixes in prop::collection::vec(prop::sample::select(PREFIXES.to_vec()), 0..4),
        rex in prop::option::of(0x40..0x50u8), opcode in 0x6c..0xb0u8,
    ) {
        let mut bytes = prefixes;
        bytes.extend(rex.filter(|_| bitness == 64));
        bytes.extend([opcode, 0x05, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut cpu = cpu_of(bitness);
        let mut code = fetched(&mut cpu, &bytes);
        let ours = StringInstruction::decode(&code, bitness);
        let mode = Mode::of(&cpu);
        let unit = MemoryUnit::new(&mut cpu, mode, None);
        let Ok(theirs) = code.decode(&unit) else { return Ok(()) };
        if !theirs.is_string_instruction() {
            prop_assert_eq!(ours, None);
            return Ok(());
        }
        let ours = ours.expect("not decoded");
        prop_assert_eq!(Some(ours.operation), operation(theirs.mnemonic()));
        prop_assert_eq!(ours.length_bytes, theirs.len());
        prop_assert_eq!(usize::from(ours.width.bytes()), theirs.memory_size().size());
        let repeated = theirs.has_rep_prefix() || theirs.has_repne_prefix();
        prop_assert_eq!(ours.repeat != Repeat::Once, repeated);
        if repeated {
            prop_assert_eq!(ours.repeat == Repeat::WhileNotEqual, theirs.has_repne_prefix());
        }
        let reads_source = !matches!(ours.operation,
            StringOperation::Stos | StringOperation::Scas | StringOperation::Ins);
        if reads_source {
            let theirs = operand::segment_name(theirs.memory_segment()).unwrap();
            // In 64-bit mode the others are all alike.
            let matters = bitness != 64 || matches!(theirs, SegmentName::Fs | SegmentName::Gs);
            prop_assert_eq!(ours.source_segment, if matters { theirs } else { SegmentName::Ds });
        }
        let address_bytes = (0..2).find_map(|index| match theirs.op_kind(index) {
            iced_x86::OpKind::MemorySegSI | iced_x86::OpKind::MemoryESDI => Some(2),
            iced_x86::OpKind::MemorySegESI | iced_x86::OpKind::MemoryESEDI => Some(4),
            iced_x86::OpKind::MemorySegRSI | iced_x86::OpKind::MemoryESRDI => Some(8),
            _ => None,
        });
        prop_assert_eq!(Some(ours.address_width.bytes()), address_bytes);
    }

    /// The same move through both decoders has the same effects.
    #[test]
    fn moves_do_what_they_do_decoded_by_iced(
        is_64 in any::<bool>(), narrow in any::<bool>(), rex in prop::option::of(0x40..0x50u8),
        opcode in prop::sample::select(MOVES.to_vec()),
        mod_rm in 0..0xc0u8, tail in any::<[u8; 9]>(), registers in any::<[u32; 16]>(),
    ) {
        let bitness = if is_64 { 64 } else { 32 };
        let mut bytes = Vec::new();
        if narrow {
            bytes.push(0x66);
        }
        bytes.extend(rex.filter(|_| is_64));
        if matches!(opcode, 0xb6 | 0xb7) {
            bytes.push(0x0f);
        }
        bytes.push(opcode);
        if !matches!(opcode, 0xa0..=0xa3) {
            bytes.push(mod_rm & if matches!(opcode, 0xc6 | 0xc7) { 0xc7 } else { 0xff });
        }
        bytes.extend(tail);
        let results = [false, true].map(|by_iced| {
            let mut cpu = cpu_of(bitness);
            for (register, value) in cpu.gprs.0.iter_mut().zip(registers) {
                *register = u64::from(value) << 20 | 0x10_0000 | u64::from(value & 0xffff);
            }
            cpu.rflags = Rflags::new();
            let code = fetched(&mut cpu, &bytes);
            let quick = Move::decode(&code, bitness, cpu.rip, &cpu.gprs).is_some();
            let mode = Mode::of(&cpu);
            let mut unit = MemoryUnit::new(&mut cpu, mode, None);
            let mut code = code;
            let result = if by_iced { unit.run_decoded(&mut code) } else { unit.run(&mut code) };
            let outcome = match result {
                Ok(completed) => unit.retire(completed),
                Err(Stop::Fault(fault)) => Outcome::Fault(fault),
                Err(Stop::Unsupported) => Outcome::Unsupported(InstructionBytes::new()),
                Err(Stop::Changed) => Outcome::Continue,
            };
            (quick, outcome, cpu.rip, cpu.gprs.0, cpu.accesses)
        });
        let [(quick, ..), _] = &results;
        prop_assert!(quick);
        prop_assert_eq!(&results[0], &results[1]);
    }
}
