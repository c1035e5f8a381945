//! Exits as a processor reports them, made of any bytes, for the fuzz target in `tests/fuzz` and
//! for bounded property tests.

use crate::decode::{decode, task_switch};
use crate::dump::dump;
use crate::events;
use crate::field::Field;
use crate::spec::Interruption;
use crate::vmcs::Fields;
use alloc::string::String;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::fuzzing::Input;
use emulator::registers::{Exception, Fault};
use emulator::task_switch::{Source, TaskSwitch};
use vmm_core::backend::exit::{
    DescriptorAccess, DescriptorRegister, Direction, Exit, INTERCEPTED_EXCEPTIONS, PortAccess,
};

/// Exits of one run.
const MAX_EXITS: usize = 64;

/// A VMCS in a table.
struct Table([u64; Field::COUNT]);

impl Fields for Table {
    fn get(&self, field: Field) -> u64 {
        self.0[field as usize]
    }
}

impl Table {
    fn set(&mut self, field: Field, value: u64) {
        self.0[field as usize] = value;
    }
}

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
    let noise = input.u64()?;
    let mut table = Table([noise; Field::COUNT]);
    let (reason, expected) = match input.u8()? % 8 {
        0 => port(input, noise, &mut table)?,
        1 => {
            // Table 28-7: data write, fetch, linear address valid, access to its translation.
            const DEFINED: u64 = 1 << 1 | 1 << 2 | 1 << 7 | 1 << 8;
            let (gpa, choice) = (input.u64()?, input.u8()?);
            let [write, execute, linear, translation] =
                [0, 1, 2, 3].map(|bit| choice >> bit & 1 == 1);
            let bits = u64::from(write) << 1
                | u64::from(execute) << 2
                | u64::from(linear) << 7
                | u64::from(translation) << 8;
            table.set(Field::ExitQualification, bits | noise & !DEFINED);
            table.set(Field::GuestPhysicalAddress, gpa);
            let page_walk = !(linear && translation);
            (48, Exit::Memory(MemoryAccess { gpa, write, execute, page_walk }))
        }
        2 => {
            // Table 28-6: offset and kind of access.
            let (offset, kind) = (u64::from(input.u16()? & 0xfff), u64::from(input.u8()? & 0xf));
            table.set(Field::ExitQualification, offset | kind << 12 | noise & !0xffff);
            let (write, execute, page_walk) = (kind == 1, kind == 2, kind >= 10);
            (
                44,
                Exit::Memory(MemoryAccess { gpa: 0xfee0_0000 + offset, write, execute, page_walk }),
            )
        }
        3 => {
            use DescriptorRegister::{Gdtr, Idtr, Ldtr, Tr};
            let choice = input.u8()?;
            let (reason, registers) =
                if choice & 1 == 0 { (46, [Gdtr, Idtr]) } else { (47, [Ldtr, Tr]) };
            // 28.2.5: the instruction's identity in bits 29:28.
            let (second, load) = (choice >> 1 & 1, choice >> 2 & 1);
            let identity = u64::from(second | load << 1) << 28;
            table.set(Field::ExitInstructionInfo, identity | noise & !(3 << 28));
            let register = registers[usize::from(second)];
            (reason, Exit::Descriptor(DescriptorAccess { register, load: load == 1 }))
        }
        4 => exception(input, &mut table)?,
        5 => input.pick(&BARE)?,
        6 => return task(input, &mut table),
        _ => {
            let reason = input.u16()?;
            if is_reported(reason) {
                decode(reason, &table);
                return Some(());
            }
            (reason, Exit::Unknown(reason.into()))
        }
    };
    assert_eq!(decode(reason, &table), expected, "reason {reason}");
    check_event(Interruption::from(input.u32()?), noise as u32);
    if noise % 16 != 0 {
        return Some(());
    }
    let mut words = String::new();
    assert!(dump(|field| Some(table.get(field)), &mut words).is_ok() && words.is_ascii());
    Some(())
}

/// Table 28-5: size less one, direction, string, repeated, port in the instruction; the port.
fn port(input: &mut Input<'_>, noise: u64, table: &mut Table) -> Option<(u16, Exit)> {
    const DEFINED: u64 = 0xffff_001f;
    let (port, choice) = (input.u16()?, input.u8()?);
    let (is_input, string) = (choice & 1, choice >> 1 & 1);
    let size_bytes = input.pick(&[1_u8, 2, 4])?;
    let bits = u64::from(port) << 16
        | u64::from(string) << 4
        | u64::from(is_input) << 3
        | u64::from(size_bytes - 1);
    table.set(Field::ExitQualification, bits | noise & !DEFINED);
    let direction = if is_input == 1 { Direction::In } else { Direction::Out };
    Some((30, Exit::Port(PortAccess { port, size_bytes, direction, string: string == 1 })))
}

/// 25.9.2: vector, kind, error code valid; the error code.
fn exception(input: &mut Input<'_>, table: &mut Table) -> Option<(u16, Exit)> {
    let (vector, kind, has_code) = (input.u8()?, input.u8()? & 7, input.flag()?);
    let info = 1 << 31 | u64::from(has_code) << 11 | u64::from(kind) << 8 | u64::from(vector);
    let error_code = input.u32()?;
    table.set(Field::ExitInterruption, info);
    table.set(Field::ExitErrorCode, error_code.into());
    let exit = match (kind, Exception::from_vector(vector)) {
        (2, _) => Exit::HostNmi,
        (_, None) => Exit::Unknown(0),
        (_, Some(exception)) if INTERCEPTED_EXCEPTIONS >> vector & 1 == 1 => {
            Exit::Exception(exception)
        }
        (_, Some(exception)) => {
            Exit::Fault { exception, error_code: has_code.then_some(error_code) }
        }
    };
    Some((0, exit))
}

/// Table 28-2: the new task's selector, and what switches in bits 31:30.
fn task(input: &mut Input<'_>, table: &mut Table) -> Option<()> {
    let (selector, choice, rip) = (input.u16()?, input.u8()?, input.u64()?);
    let (vectoring, length) = (input.u32()?, u64::from(input.u8()? & 0xf));
    let kind = u64::from(choice & 3);
    table.set(Field::ExitQualification, u64::from(selector) | kind << 30);
    table.set(Field::VectoringInfo, vectoring.into());
    table.set(Field::ExitInstructionLength, length);
    table.set(Field::GuestRip, rip);
    let source = [Source::Call, Source::Iret, Source::Jump, Source::Gate][usize::from(choice & 3)];
    let event = events::interrupted(Interruption::from(vectoring), 0);
    // A gate in the IDT: an event from outside leaves RIP where it was, INT n and the like go on
    // behind themselves.
    let is_instruction = source != Source::Gate || event.is_none() && vectoring >> 31 == 1;
    let resume_rip = if is_instruction { rip.wrapping_add(length) } else { rip };
    let expected = TaskSwitch { selector, source, resume_rip, event };
    assert_eq!(task_switch(table, event), expected);
    Some(())
}

/// Reasons that say all of an exit (appendix C).
const BARE: [(u16, Exit); 31] = [
    (1, Exit::ExternalInterrupt),
    (2, Exit::TripleFault),
    (3, Exit::ExternalInterrupt),
    (7, Exit::InterruptWindow),
    (8, Exit::NmiWindow),
    (10, Exit::Cpuid),
    (11, Exit::Undefined),
    (12, Exit::Halt),
    (13, Exit::CacheInvalidate),
    (15, Exit::Forbidden),
    (18, Exit::Hypercall),
    (19, Exit::Undefined),
    (20, Exit::Undefined),
    (21, Exit::Undefined),
    (24, Exit::Undefined),
    (26, Exit::Undefined),
    (27, Exit::Undefined),
    (31, Exit::ReadMsr),
    (32, Exit::WriteMsr),
    (36, Exit::Undefined),
    (37, Exit::Stepped),
    (39, Exit::Undefined),
    (40, Exit::Pause),
    (43, Exit::InterruptWindow),
    (50, Exit::Undefined),
    (52, Exit::ExternalInterrupt),
    (53, Exit::Undefined),
    (54, Exit::CacheInvalidate),
    (55, Exit::Xsetbv),
    (59, Exit::Undefined),
    (62, Exit::WriteLogFull),
];

/// Reasons that have a meaning here: those with fields of their own, and the instructions of VMX.
fn is_reported(reason: u16) -> bool {
    BARE.iter().any(|&(known, _)| known == reason)
        || matches!(reason, 0 | 19..=27 | 30 | 44..=49 | 56)
}

/// An event that is delivered again is injected as it was reported; software interrupts and
/// exceptions are not.
fn check_event(info: Interruption, error_code: u32) {
    let Some(event) = events::interrupted(info, error_code) else {
        assert!(!info.valid() || !matches!(info.kind(), 0 | 2), "an interrupt is lost: {info:?}");
        return;
    };
    let (injected, injected_code) = events::injection(event);
    assert!(info.valid() && injected.valid());
    assert_eq!(injected.kind(), info.kind());
    match event {
        Event::Interrupt(vector) => {
            assert_eq!((vector, vector), (info.vector(), injected.vector()))
        }
        Event::Nmi => assert_eq!(injected.vector(), 2),
        Event::Fault(Fault { exception, error_code: told, .. }) => {
            assert_eq!((exception as u8, exception as u8), (info.vector(), injected.vector()));
            assert_eq!(told, info.has_error_code().then_some(error_code));
            // 27.2.1.3: an entry refuses more than 16 bits.
            assert_eq!(injected_code, told.unwrap_or(0) & 0xffff);
            assert_eq!(injected.has_error_code(), told.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        emulator::fuzzing::replay("vmx_exits", super::exits);
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
