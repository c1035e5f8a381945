//! The emulator against the CPU that the tests run on: the same bytes, registers, flags and memory
//! go to both, and everything that the manuals define must come out the same.

mod forms;
#[allow(unsafe_code)]
mod processor;

use super::*;
use crate::registers::Rflags;
use forms::{Form, Sample};
use processor::{DATA_BYTES, Processor, State};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Where the emulated CPU has the two pages of data that the real one has next to each other.
const DATA_GPA: [u64; 2] = [0x8_0000, 0xc_3000];
/// And the page of code.
const CODE_GPA: u64 = 0xe_0000;

/// The emulated CPU in the state that the real one starts from.
fn emulated(processor: &Processor, state: &State, instruction: &[u8]) -> FakeCpu {
    let mut cpu = FakeCpu::long();
    cpu.map(processor.code_address(), CODE_GPA | 7);
    for (page, gpa) in DATA_GPA.into_iter().enumerate() {
        cpu.map(processor.data_address() + page as u64 * 4096, gpa | 7);
        cpu.put(gpa, &state.data[page * 4096..][..4096]);
    }
    cpu.gprs.0 = state.gprs;
    cpu.rflags = Rflags::from_bits(state.flags);
    cpu.vectors[..2].copy_from_slice(&state.vectors);
    cpu.rip = processor.instruction_address();
    cpu.put(CODE_GPA + (cpu.rip & 0xfff), instruction);
    cpu
}

fn data_of(cpu: &FakeCpu) -> Vec<u8> {
    DATA_GPA.into_iter().flat_map(|gpa| cpu.get(gpa, 4096)).collect()
}

/// Runs one sample on both.
fn compare(processor: &mut Processor, sample: &Sample, state: &State) -> Result<(), TestCaseError> {
    let instruction = &sample.instruction;
    let mut cpu = emulated(processor, state, instruction);
    let mut outcome = step(&mut cpu, None);
    while outcome == Outcome::Continue {
        outcome = step(&mut cpu, None);
    }
    let divide_error = Fault { exception: Exception::DivideError, error_code: None, address: None };
    if sample.may_divide_by_zero && outcome == Outcome::Fault(divide_error) {
        // The real one would end the test with a signal.
        return Ok(());
    }
    prop_assert_eq!(outcome, Outcome::Done { trap: false }, "{:02x?}", instruction);
    let expected = processor.run(instruction, state);
    prop_assert_eq!(cpu.rip, processor.instruction_address() + instruction.len() as u64);
    prop_assert_eq!(cpu.gprs.0, expected.gprs, "{:02x?}", instruction);
    let differing =
        (cpu.rflags.into_bits() ^ expected.flags) & forms::ALL_FLAGS & !sample.undefined_flags;
    prop_assert_eq!(
        differing,
        0,
        "flags of {:02x?}: {:x} instead of {:x}",
        instruction,
        cpu.rflags.into_bits(),
        expected.flags
    );
    prop_assert!(data_of(&cpu) == expected.data, "memory of {:02x?}", instruction);
    prop_assert_eq!(&cpu.vectors[..2], &expected.vectors, "{:02x?}", instruction);
    Ok(())
}

fn random_state(processor: &Processor, seed: u64) -> State {
    let mut random = forms::Random::new(seed);
    let mut state = State { data: vec![0; DATA_BYTES], ..State::default() };
    for chunk in state.data.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.value().to_le_bytes());
    }
    for register in &mut state.gprs {
        *register = random.value();
    }
    for byte in state.vectors.iter_mut().flatten() {
        *byte = random.value() as u8;
    }
    state.flags = random.value() & forms::ALL_FLAGS | 2;
    // RSP stays inside the data, in case the operating system needs a stack.
    state.gprs[Gpr::Rsp as usize] = processor.data_address() + 4096;
    state
}

/// Runs every form with random operands.
fn check(forms: &[Form], cases: u32) {
    let mut processor = Processor::new();
    for form in forms {
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let processor = std::cell::RefCell::new(&mut processor);
        let result = runner.run(&any::<u64>(), |seed| {
            let mut processor = processor.borrow_mut();
            let mut state = random_state(&processor, seed);
            let sample =
                form.sample(&mut forms::Random::new(!seed), &mut state, processor.data_address());
            compare(&mut processor, &sample, &state)
        });
        if let Err(error) = result {
            panic!("{}: {error}", form.name);
        }
    }
}

#[test]
fn integer_instructions_do_what_the_cpu_does() {
    check(&forms::integer(), 50);
}

#[test]
fn string_instructions_do_what_the_cpu_does() {
    check(&forms::string(), 60);
}

#[test]
fn vector_moves_do_what_the_cpu_does() {
    check(&forms::vector(std::arch::is_x86_feature_detected!("avx")), 60);
}
