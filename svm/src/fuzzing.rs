//! Exits as a processor reports them, made of any bytes, for the fuzz target in `tests/fuzz` and
//! for bounded property tests.

use crate::decode::decode;
use crate::dump::dump;
use crate::events;
use crate::spec::{EventField, Vmcb};
use alloc::string::String;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::fuzzing::Input;
use emulator::registers::{Exception, Fault};
use emulator::task_switch::Source;
use vmm_core::backend::exit::{
    DescriptorAccess, DescriptorRegister, Direction, Exit, INTERCEPTED_EXCEPTIONS, PortAccess,
};

/// Exits of one run.
const MAX_EXITS: usize = 64;

/// Exits that a processor may report come out as what they report, whatever reserved bits hold; all
/// others are no more than a number. Events that an exit interrupted go in again as they were.
pub fn exits(data: &[u8]) {
    let mut input = Input::new(data);
    for _ in 0..MAX_EXITS {
        if exit(&mut input).is_none() {
            return;
        }
    }
}

fn exit(input: &mut Input<'_>) -> Option<()> {
    // SAFETY: the block is plain data, of which zeroes are a value.
    #[allow(unsafe_code)]
    let mut vmcb: Vmcb = unsafe { core::mem::zeroed() };
    let control = &mut vmcb.control;
    let noise = input.u64()?;
    let expected = match input.u8()? % 8 {
        0 => {
            // 15.10.2: direction, string, repeat, sizes of operand and address, effective segment;
            // the port.
            const DEFINED: u64 = 0xffff_007d;
            let (port, choice) = (input.u16()?, input.u8()?);
            let (input_bit, string) = (choice & 1, choice >> 1 & 1);
            let size_log2 = (choice >> 2) % 3;
            control.exit_code = 0x7b;
            control.exit_info_1 = u64::from(port) << 16
                | 1 << (4 + size_log2)
                | u64::from(string) << 2
                | u64::from(input_bit)
                | noise & !DEFINED;
            Exit::Port(PortAccess {
                port,
                size_bytes: 1 << size_log2,
                direction: if input_bit == 1 { Direction::In } else { Direction::Out },
                string: string == 1,
            })
        }
        1 => {
            // 15.25.6: of the page fault's error code, W and I/D; bit 33 for an access by the page
            // walk.
            const DEFINED: u64 = 1 << 33 | 1 << 4 | 1 << 1;
            let (gpa, choice) = (input.u64()?, u64::from(input.u8()?));
            control.exit_code = 0x400;
            control.exit_info_1 =
                (choice & 1) << 1 | (choice >> 1 & 1) << 4 | (choice >> 2 & 1) << 33;
            control.exit_info_1 |= noise & !DEFINED;
            control.exit_info_2 = gpa;
            let [write, execute, page_walk] = [0, 1, 2].map(|bit| choice >> bit & 1 == 1);
            Exit::Memory(MemoryAccess { gpa, write, execute, page_walk })
        }
        2 => {
            let write = input.flag()?;
            control.exit_code = 0x7c;
            control.exit_info_1 = write.into();
            if write { Exit::WriteMsr } else { Exit::ReadMsr }
        }
        3 => {
            use DescriptorRegister::{Gdtr, Idtr, Ldtr, Tr};
            let number = input.u8()? % 8;
            control.exit_code = 0x66 + u64::from(number);
            control.exit_info_1 = noise;
            let register = [Idtr, Gdtr, Ldtr, Tr][usize::from(number % 4)];
            Exit::Descriptor(DescriptorAccess { register, load: number >= 4 })
        }
        4 => {
            let vector = input.u8()? % 32;
            control.exit_code = 0x40 + u64::from(vector);
            control.exit_info_1 = noise;
            match Exception::from_vector(vector) {
                None => Exit::Unknown(control.exit_code),
                Some(exception) if INTERCEPTED_EXCEPTIONS >> vector & 1 == 1 => {
                    Exit::Exception(exception)
                }
                Some(exception) => {
                    let has_code = matches!(vector, 8 | 10..=14 | 17);
                    Exit::Fault { exception, error_code: has_code.then_some(noise as u32) }
                }
            }
        }
        5 => {
            // 15.14.1: IRET, far JMP; the selector. An event says what else it is.
            const DEFINED: u64 = 1 << 38 | 1 << 36;
            let (selector, choice) = (input.u16()?, input.u8()?);
            control.exit_code = 0x7d;
            control.exit_info_1 = noise & !0xffff | u64::from(selector);
            let (bits, has_event, source) = [
                (0, false, Source::Call),
                (1 << 36, false, Source::Iret),
                (1 << 38, false, Source::Jump),
                (0, true, Source::Gate),
            ][usize::from(choice % 4)];
            control.exit_info_2 = noise & !DEFINED | bits;
            control.exit_interrupt_info = EventField::new().with_valid(has_event);
            Exit::TaskSwitchAhead { selector, source }
        }
        6 => {
            // Appendix C: the code says all of it.
            let (code, exit) = input.pick(&BARE)?;
            control.exit_code = code;
            (control.exit_info_1, control.exit_info_2) = (noise, noise);
            exit
        }
        _ => {
            let code = input.u64()?;
            control.exit_code = code;
            control.exit_info_1 = noise;
            if is_reported(code) {
                decode(control);
                return Some(());
            }
            Exit::Unknown(code)
        }
    };
    assert_eq!(
        decode(control),
        expected,
        "code {:#x}, info {:#x}",
        control.exit_code,
        control.exit_info_1
    );
    control.exit_interrupt_info = EventField::from(input.u64()?);
    check_event(control.exit_interrupt_info);
    if noise % 16 != 0 {
        return Some(());
    }
    let mut words = String::new();
    assert!(dump(&vmcb, &mut words).is_ok() && words.is_ascii());
    Some(())
}

/// Exits that their code says all of.
const BARE: [(u64, Exit); 27] = [
    (0x04, Exit::ReadCr4),
    (0x14, Exit::WriteCr4),
    (0x18, Exit::WriteCr8),
    (0x60, Exit::ExternalInterrupt),
    (0x61, Exit::HostNmi),
    (0x63, Exit::ExternalInterrupt),
    (0x64, Exit::InterruptWindow),
    (0x65, Exit::WriteCr0),
    (0x6f, Exit::Forbidden),
    (0x70, Exit::PushFlags),
    (0x72, Exit::Cpuid),
    (0x74, Exit::NmiWindow),
    (0x76, Exit::CacheInvalidate),
    (0x77, Exit::Pause),
    (0x78, Exit::Halt),
    (0x7a, Exit::Undefined),
    (0x7e, Exit::Exception(Exception::X87)),
    (0x7f, Exit::TripleFault),
    (0x80, Exit::Undefined),
    (0x81, Exit::Hypercall),
    (0x82, Exit::Undefined),
    (0x86, Exit::Undefined),
    (0x89, Exit::CacheInvalidate),
    (0x8a, Exit::Undefined),
    (0x8d, Exit::Xsetbv),
    (0x8e, Exit::Undefined),
    (u64::MAX, Exit::EntryFailure),
];

/// Codes that have a meaning here.
fn is_reported(code: u64) -> bool {
    let is_bare = BARE.iter().any(|&(known, _)| known == code);
    // Between the ends: VMSAVE, STGI, CLGI, and both kinds of MWAIT. 1 << 32 and the short form of
    // -1 are not the manual's.
    is_bare
        || matches!(code, 0x40..=0x5f | 0x66..=0x6d | 0x7b..=0x7d | 0x83..=0x85 | 0x8b | 0x8c)
        || matches!(code, 0x400 | 0x1_0000_0000 | 0xffff_ffff)
}

/// An event that is delivered again is injected as it was reported; software interrupts and traps
/// are not.
fn check_event(info: EventField) {
    let Some(event) = events::interrupted(info) else {
        assert!(!info.valid() || !matches!(info.kind(), 0 | 2), "an interrupt is lost: {info:?}");
        return;
    };
    let injected = events::injection(event);
    assert!(info.valid() && injected.valid());
    assert_eq!(injected.kind(), info.kind());
    assert_eq!(events::interrupted(injected), Some(event));
    match event {
        Event::Interrupt(vector) => assert_eq!(vector, info.vector()),
        Event::Nmi => assert_eq!(injected.vector(), 2),
        Event::Fault(Fault { exception, error_code, .. }) => {
            assert_eq!(exception as u8, info.vector());
            assert_eq!(error_code, info.has_error_code().then_some(info.error_code()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        emulator::fuzzing::replay("svm_exits", super::exits);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn every_exit_is_what_the_processor_reports(
            data in prop::collection::vec(any::<u8>(), 0..1500)
        ) {
            super::exits(&data);
        }
    }
}
