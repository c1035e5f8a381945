//! Anything at all: no panic.

use super::*;
use crate::registers::Rflags;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Random bytes as an instruction, with random registers: whatever comes of it, RIP moves only
    /// when the instruction is done, and an unsupported one changes nothing.
    #[test]
    fn random_bytes_never_panic(
        mode in 0..3, bytes in proptest::collection::vec(any::<u8>(), 15),
        opcode in any::<u8>(), prefixed in any::<bool>(), registers in any::<[u64; 16]>(),
        near in any::<u16>(), flags in any::<u32>(), hint in any::<Option<u64>>(),
    ) {
        let mut cpu = match mode {
            0 => FakeCpu::real(),
            1 => FakeCpu::protected(),
            _ => FakeCpu::long(),
        };
        let mut instruction = bytes;
        // Many instructions with a simple memory operand.
        if prefixed {
            instruction[0] = 0x0f;
            instruction[1] = opcode;
        } else {
            instruction[0] = opcode;
        }
        for (index, value) in registers.into_iter().enumerate() {
            // Most point to the device, some nowhere.
            let is_anywhere = value % 4 == 0;
            let at_device = MMIO_GPA + (value ^ u64::from(near)) % 0x8000;
            cpu.gprs.0[index] = if is_anywhere { value } else { at_device };
        }
        let writable = Rflags::from_bits(0xcd5);
        cpu.rflags = Rflags::from_bits(u64::from(flags) & writable.into_bits() | 2);
        cpu.put(cpu.rip, &instruction);
        // The hint leads anywhere: the device of the test has to be there.
        let access = hint.map(|hint| MemoryAccess {
            gpa: MMIO_GPA | (hint & 0x7fff),
            write: hint & 1 == 0,
            execute: false,
            page_walk: false,
        });
        let before = cpu.gprs.0;
        match step(&mut cpu, access) {
            Outcome::Done { .. } => {}
            Outcome::Continue | Outcome::Fault(_) => prop_assert_eq!(cpu.rip, 0x8000),
            Outcome::Unsupported(_) => {
                prop_assert_eq!(cpu.rip, 0x8000);
                prop_assert_eq!(cpu.gprs.0, before);
                prop_assert!(cpu.accesses.is_empty());
            }
        }
    }

    #[test]
    fn random_lengths_are_possible(
        bytes in proptest::collection::vec(any::<u8>(), 0..20), bitness in 0..3u32
    ) {
        if let Some(length) = instruction_length(&bytes, 16 << bitness) {
            prop_assert!((1..=15).contains(&length) && length <= bytes.len());
        }
    }
}
