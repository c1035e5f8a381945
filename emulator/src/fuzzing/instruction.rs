//! Any instruction with any registers, on a CPU of plain memory.

use super::Input;
use crate::MemoryAccess;
use crate::instruction::fake::{FakeCpu, MMIO_GPA};
use crate::instruction::{Outcome, instruction_length, step};
use crate::registers::{Rflags, SegmentAttributes};

/// Turns that a repeated instruction gets.
const MAX_STEPS: usize = 8;
/// CF, PF, AF, ZF, SF, TF, IF, DF, OF, RF and AC.
const RFLAGS_WRITABLE: u64 = 0x5_0fd5;
/// The addresses that hints may point to.
const DEVICE_MASK: u64 = 0x7fff;

/// For any instruction: RIP moves only when it is done, and one that is not supported changes
/// nothing.
pub fn emulator(data: &[u8]) {
    let mut input = Input::new(data);
    let _ = run(&mut input);
}

fn run(input: &mut Input<'_>) -> Option<()> {
    let mut cpu = match input.u8()? % 3 {
        0 => FakeCpu::real(),
        1 => FakeCpu::protected(),
        _ => FakeCpu::long(),
    };
    for register in &mut cpu.gprs.0 {
        // Most point to the device or near it, some to RAM, some nowhere.
        *register = match input.u8()? {
            choice @ 0..0x40 => u64::from(choice) << 8,
            0x40..0x60 => input.u64()?,
            _ => MMIO_GPA - 0x100 + u64::from(input.u16()? & 0x7fff),
        };
    }
    cpu.rflags = Rflags::from_bits(u64::from(input.u32()?) & RFLAGS_WRITABLE | 2);
    if input.u8()? & 7 == 0 {
        change_segment(&mut cpu, input)?;
    }
    cpu.cpl = if input.u8()? & 7 == 0 { 3 } else { 0 };
    if input.u8()? & 3 == 0 {
        cpu.patience = Some(u32::from(input.u8()?) + 1);
    }
    let access = match input.u16()? {
        hint if hint & 1 == 0 => None,
        hint => Some(MemoryAccess {
            gpa: MMIO_GPA | u64::from(hint) & DEVICE_MASK,
            write: hint & 2 != 0,
            execute: false,
            page_walk: false,
        }),
    };
    let instruction = input.rest(15);
    if let Some(length) = instruction_length(instruction, 64) {
        assert!((1..=instruction.len()).contains(&length));
    }
    // With base 0 the code is where RIP says; another base leads to whatever is there.
    cpu.put(cpu.rip, instruction);
    for _ in 0..MAX_STEPS {
        let (rip, gprs, accesses) = (cpu.rip, cpu.gprs.0, cpu.accesses.len());
        match step(&mut cpu, access) {
            Outcome::Done { .. } => return Some(()),
            Outcome::Continue => assert_eq!(cpu.rip, rip),
            Outcome::Fault(_) => {
                assert_eq!(cpu.rip, rip);
                return Some(());
            }
            Outcome::Unsupported(_) => {
                assert_eq!((cpu.rip, cpu.gprs.0, cpu.accesses.len()), (rip, gprs, accesses));
                return Some(());
            }
        }
    }
    Some(())
}

fn change_segment(cpu: &mut FakeCpu, input: &mut Input<'_>) -> Option<()> {
    let index = usize::from(input.u8()?) % cpu.segments.len();
    let segment = cpu.segments.get_mut(index)?;
    segment.attributes = SegmentAttributes::from(input.u16()?);
    segment.limit = input.u32()?;
    segment.base = u64::from(input.u32()?);
    Some(())
}
