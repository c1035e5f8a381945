//! Hardware task switches, which are carried out here.

use super::{machine, next_event};
use crate::backend::Backend;
use crate::backend::exit::Exit;
use crate::fuzzing::Machine;
use devices::memory::GuestMemory;
use emulator::event::Event;
use emulator::registers::{Fault, Rflags, Segment, SegmentAttributes, SegmentName, TableRegister};
use emulator::task_switch::Source;

const GDT: u64 = 0x1000;
const OLD_TSS: u64 = 0x2000;
const IDT: u64 = 0x4000;
const NEW_TSS: u64 = 0x3000;
/// Code and data, and the two tasks.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const OLD: u16 = 0x18;
const NEW: u16 = 0x20;
/// Where the new task runs, and the top of its stack.
const START: u32 = 0x9000;
const STACK: u32 = 0x5000;
/// Of a TSS (SDM volume 3, figure 9-2).
const EIP: u64 = 0x20;
const EFLAGS: u64 = 0x24;
const ESP: u64 = 0x38;

/// In the old task, at an instruction; the new one is busy if it is returned to.
fn machine_with_tasks(is_busy: bool, code: &[u8]) -> Machine {
    let mut machine = machine();
    let vm = machine.vcpu.vm().clone();
    let new = if is_busy { 0x0000_8b00_3000_0067 } else { 0x0000_8900_3000_0067 };
    let descriptors =
        [0x00cf_9b00_0000_ffff_u64, 0x00cf_9300_0000_ffff, 0x0000_8b00_2000_0067, new];
    for (gpa, descriptor) in (GDT + 8..).step_by(8).zip(descriptors) {
        vm.space.write(gpa, &descriptor.to_le_bytes()).unwrap();
    }
    let segments = [DATA, CODE, DATA, DATA].map(u32::from);
    let registers = [(EIP, START), (EFLAGS, 2), (ESP, STACK)];
    for (offset, value) in (0x48..).step_by(4).zip(segments).chain(registers) {
        vm.space.write(NEW_TSS + offset, &value.to_le_bytes()).unwrap();
    }
    vm.space.write(OLD_TSS, &NEW.to_le_bytes()).unwrap();
    machine.put_instruction(code);
    let (backend, _) = machine.vcpu.registers_mut();
    backend.set_gdtr(TableRegister { base: GDT, limit: 0x27 });
    let attributes = SegmentAttributes::from(0x8b);
    let tr = Segment { selector: OLD, base: OLD_TSS, limit: 0x67, attributes };
    backend.set_segment(SegmentName::Tr, tr);
    machine
}

fn word(machine: &Machine, gpa: u64) -> u32 {
    let mut word = [0; 4];
    machine.vcpu.vm().space.read(gpa, &mut word).unwrap();
    u32::from_le_bytes(word)
}

/// The IRET is carried out here, where the processor does not see it.
#[test]
fn an_nmi_follows_the_iret_that_leaves_the_task_of_another() {
    let mut machine = machine_with_tasks(true, &[0xcf]);
    let (backend, _) = machine.vcpu.registers_mut();
    (backend.nmi_blocked, backend.needs_steps_for_nmis) = (true, true);
    backend.rflags = Rflags::new().with_nested_task(true);
    machine.vcpu.apic.inbox().post_nmi();
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.registers_mut().0.rip, u64::from(START));
    assert_eq!(machine.platform.take_self_interrupts(), 1, "before its first instruction");
    assert_eq!(next_event(&mut machine), Some(Event::Nmi));
}

/// INT n is no event: it returns behind itself, like the others. An event with a gate that leads
/// elsewhere is not the one that switches.
#[test]
fn a_task_goes_on_behind_the_instruction_that_left_it_or_where_an_event_interrupted_it() {
    const CALL: &[u8] = &[0x9a, 0, 0, 0, 0, 0x20, 0];
    let refused = Fault { error_code: Some(0x48), ..Fault::PROTECTION };
    for (code, source, event, passed_bytes, saves_rf) in [
        (CALL, Source::Call, None, 7, false),
        (&[0xcd, 0x90], Source::Gate, None, 2, false),
        (&[0xcd, 0x90], Source::Gate, Some(Event::Interrupt(0x31)), 2, false),
        (&[0x90], Source::Gate, Some(Event::Interrupt(0x30)), 0, false),
        (&[0x90], Source::Gate, Some(Event::Nmi), 0, false),
        (&[0x90], Source::Gate, Some(Event::Fault(refused)), 0, true),
    ] {
        let mut machine = machine_with_tasks(false, code);
        for vector in [2, 13, 0x30] {
            let gate = u64::from(NEW) << 16 | 0x8500_0000_0000;
            machine.vcpu.vm().space.write(IDT + 8 * vector, &gate.to_le_bytes()).unwrap();
        }
        let (backend, _) = machine.vcpu.registers_mut();
        backend.set_idtr(TableRegister { base: IDT, limit: 0x7ff });
        let rip = backend.rip as u32;
        backend.interrupted = event;
        machine.exit(Exit::TaskSwitchAhead { selector: NEW, source });
        let what = format!("{source:?}, {event:?}");
        assert_eq!(word(&machine, OLD_TSS + EIP), rip + passed_bytes, "{what}");
        let saved = Rflags::from(u64::from(word(&machine, OLD_TSS + EFLAGS)));
        assert_eq!(saved.resume(), saves_rf, "{what}");
        let pushes = matches!(event, Some(Event::Fault(_)));
        assert!(!pushes || word(&machine, (STACK - 4).into()) == 0x48, "{what}");
        assert_eq!(machine.vcpu.registers_mut().0.rip, u64::from(START), "{what}");
        assert_eq!(next_event(&mut machine), None, "{what}");
    }
}

#[test]
fn an_iret_between_tasks_opens_nmis() {
    let mut machine = machine_with_tasks(true, &[0xcf]);
    machine.vcpu.registers_mut().0.nmi_blocked = true;
    machine.exit(Exit::TaskSwitchAhead { selector: NEW, source: Source::Iret });
    assert!(!machine.vcpu.registers_mut().0.nmi_blocked);
}
