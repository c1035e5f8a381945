//! Two tasks in flat memory, switched by each of the four ways.

use super::fake::*;
use super::*;
use crate::registers::{Gpr, SegmentAttributes};
use devices::memory::GuestMemory;

const ABSENT_DATA: u16 = 0x28;
const LDT: u16 = 0x30;
const USER_CODE: u16 = 0x3b;
const USER_DATA: u16 = 0x43;

impl Cpu {
    fn switch(&mut self, source: Source) -> Result<(), Fault> {
        self.switch_with(source, NEW, None)
    }

    fn switch_with(
        &mut self,
        source: Source,
        selector: u16,
        event: Option<Event>,
    ) -> Result<(), Fault> {
        switch(self, TaskSwitch { selector, source, resume_rip: 0x4002, event })
    }
}

fn named(exception: Exception, selector: u16) -> Result<(), Fault> {
    Err(selector_fault(exception, selector))
}

#[test]
fn a_jump_saves_one_task_and_loads_the_other() {
    let mut cpu = Cpu::new();
    assert_eq!(cpu.switch(Source::Jump), Ok(()));
    assert_eq!((cpu.rip, cpu.gprs.get(Gpr::Rax), cpu.gprs.get(Gpr::Rdi)), (0x5000, 0x200, 0x207));
    assert_eq!(
        (cpu.get(OLD_TSS + 0x20), cpu.get(OLD_TSS + 0x28), cpu.get(OLD_TSS + 0x4c)),
        (0x4002, 0x100, 8)
    );
    assert_eq!(cpu.get(OLD_TSS + 0x24), 0x202, "flags");
    assert_eq!((cpu.access_byte(OLD), cpu.access_byte(NEW)), (0x89, 0x8b));
    let tr = cpu.segment(SegmentName::Tr);
    assert_eq!((tr.selector, tr.base, tr.limit, tr.attributes.kind()), (NEW, NEW_TSS, 0x67, 11));
    assert!(cpu.cr0.task_switched() && !cpu.rflags.nested_task());
    assert_eq!(cpu.dr7, 0x6aa);
    assert_eq!(cpu.get(NEW_TSS), 0, "no link");
}

#[test]
fn flags_that_no_processor_has_are_not_loaded() {
    let mut cpu = Cpu::new();
    cpu.put(NEW_TSS + 0x24, !(1 << 17));
    assert_eq!(cpu.switch(Source::Jump), Ok(()));
    assert_eq!(cpu.rflags.into_bits(), 0x3d_7fd7);
}

#[test]
fn a_call_nests_and_iret_returns() {
    let mut cpu = Cpu::new();
    assert_eq!(cpu.switch(Source::Call), Ok(()));
    assert!(cpu.rflags.nested_task());
    assert_eq!(cpu.get(NEW_TSS), u32::from(OLD));
    assert_eq!((cpu.access_byte(OLD), cpu.access_byte(NEW)), (0x8b, 0x8b));
    // Back: what was saved of the caller is loaded.
    assert_eq!(cpu.switch_with(Source::Iret, OLD, None), Ok(()));
    assert_eq!((cpu.rip, cpu.gprs.get(Gpr::Rcx)), (0x4002, 0x101));
    assert!(!cpu.rflags.nested_task() && cpu.rflags.interrupt());
    assert_eq!((cpu.access_byte(OLD), cpu.access_byte(NEW)), (0x8b, 0x89));
    assert_eq!(cpu.get(NEW_TSS + 0x24) & 1 << 14, 0, "NT is not saved by IRET");
}

#[test]
fn an_exception_through_a_task_gate_finds_its_error_code_on_the_new_stack() {
    let mut cpu = Cpu::new();
    assert_eq!(cpu.switch_with(Source::Gate, NEW, Some(exception(0x1234))), Ok(()));
    assert_eq!(cpu.gprs.get(Gpr::Rsp), 0x200);
    assert_eq!(cpu.get(0x200), 0x1234);
}

/// #GP.
fn exception(error_code: u32) -> Event {
    Event::Fault(Fault { error_code: Some(error_code), ..Fault::PROTECTION })
}

#[test]
fn faults_of_a_switch_that_delivers_an_event_say_so() {
    for (event, external) in [
        (None, 0),
        (Some(Event::Interrupt(0x30)), 1),
        (Some(Event::Nmi), 1),
        (Some(exception(0)), 1),
    ] {
        let mut cpu = Cpu::new();
        let busy = cpu.switch_with(Source::Gate, OLD, event);
        assert_eq!(
            busy.unwrap_err().error_code,
            Some(u32::from(OLD) | external),
            "before the switch"
        );
        cpu.put(NEW_TSS + 0x54, ABSENT_DATA.into());
        let absent = cpu.switch_with(Source::Gate, NEW, event);
        assert_eq!(
            absent.unwrap_err().error_code,
            Some(u32::from(ABSENT_DATA) | external),
            "after it"
        );
        cpu.cr0.set_paging(true);
        // Its tables are at zero, where nothing is present.
        assert_eq!(
            cpu.switch_with(Source::Gate, OLD, event).unwrap_err().error_code,
            Some(0),
            "page fault"
        );
    }
}

#[test]
fn what_is_wrong_before_the_switch_changes_nothing() {
    let general = Exception::GeneralProtection;
    let mut cpu = Cpu::new();
    assert_eq!(cpu.switch_with(Source::Jump, 0, None), named(general, 0));
    assert_eq!(cpu.switch_with(Source::Jump, 0x48, None), named(general, 0x48), "beyond the GDT");
    assert_eq!(cpu.switch_with(Source::Jump, NEW | 4, None), named(general, NEW | 4), "LDT");
    assert_eq!(cpu.switch_with(Source::Jump, DATA, None), named(general, DATA), "no TSS");
    assert_eq!(cpu.switch_with(Source::Call, OLD, None), named(general, OLD), "busy");
    assert_eq!(
        cpu.switch_with(Source::Iret, NEW, None),
        named(Exception::InvalidTss, NEW),
        "not busy"
    );
    cpu.put(GDT + u64::from(NEW), 0x3000_0066);
    assert_eq!(cpu.switch(Source::Jump), named(Exception::InvalidTss, NEW), "too short");
    cpu.put(GDT + u64::from(NEW), 0x3000_0067);
    cpu.put(GDT + u64::from(NEW) + 4, 0x0900);
    assert_eq!(cpu.switch(Source::Jump), named(Exception::SegmentNotPresent, NEW));
    assert_eq!((cpu.rip, cpu.segment(SegmentName::Tr).selector), (0x4000, OLD));
    assert_eq!(cpu.get(OLD_TSS + 0x20), 0);
}

#[test]
fn segments_are_checked_in_the_new_task() {
    let load = |code, data| {
        let mut cpu = Cpu::new();
        cpu.put_task(code, data);
        let result = cpu.switch(Source::Jump);
        assert_eq!(cpu.segment(SegmentName::Tr).selector, NEW);
        result
    };
    assert_eq!(load(CODE, ABSENT_DATA), named(Exception::StackFault, ABSENT_DATA));
    assert_eq!(load(DATA, DATA), named(Exception::InvalidTss, DATA));
    assert_eq!(load(CODE, USER_DATA), named(Exception::InvalidTss, USER_DATA), "privilege");
    assert_eq!(load(USER_CODE, USER_DATA), Ok(()));
    assert_eq!(load(CODE, 0), named(Exception::InvalidTss, 0), "null stack");
}

#[test]
fn a_segment_that_faults_leaves_what_a_vm_entry_accepts() {
    for (code, stack, fault) in [
        (CODE, 0xfff8, named(Exception::InvalidTss, 0xfff8)),
        (CODE, ABSENT_DATA, named(Exception::StackFault, ABSENT_DATA)),
        (0xfff8, DATA, named(Exception::InvalidTss, 0xfff8)),
        (0xfffb, USER_DATA, named(Exception::InvalidTss, 0xfff8)),
        (DATA, DATA, named(Exception::InvalidTss, DATA)),
    ] {
        for mut cpu in [Cpu::new(), Cpu::in_virtual_8086_mode()] {
            cpu.put_task(code, DATA);
            cpu.put(NEW_TSS + 0x50, stack.into());
            assert_eq!(cpu.switch(Source::Jump), fault);
            assert!(cpu.is_legal(), "{code:#x} {stack:#x}: {:x?}", cpu.segments);
            assert_eq!((cpu.rip, cpu.segment(SegmentName::Cs).selector), (0x5000, code));
        }
    }
    // A local table that cannot be loaded comes before all of them.
    let mut cpu = Cpu::in_virtual_8086_mode();
    cpu.put(NEW_TSS + 0x60, 0xfff8);
    assert_eq!(cpu.switch(Source::Jump), named(Exception::InvalidTss, 0xfff8));
    assert!(cpu.is_legal());
}

#[test]
fn ldt_and_trap_flag_and_virtual_8086_mode() {
    let mut cpu = Cpu::new();
    cpu.put(NEW_TSS + 0x60, LDT.into());
    cpu.put(NEW_TSS + 0x64, 1);
    assert_eq!(cpu.switch(Source::Jump), Err(DEBUG_TRAP));
    assert!(cpu.trapped);
    assert_eq!(cpu.segment(SegmentName::Ldtr).base, 0x6000);

    let mut cpu = Cpu::new();
    cpu.put_task(0x1234, 0x2345);
    cpu.put(NEW_TSS + 0x24, 0x2_0002);
    assert_eq!(cpu.switch(Source::Call), Ok(()));
    let ds = cpu.segment(SegmentName::Ds);
    assert_eq!((ds.selector, ds.base, ds.limit), (0x2345, 0x2_3450, 0xffff));
    assert_eq!(ds.attributes, SegmentAttributes::from(0xf3));
}

#[test]
fn a_286_task_keeps_what_its_tss_has_no_room_for() {
    let mut cpu = Cpu::new();
    cpu.put(GDT + u64::from(NEW) + 4, 0x8100);
    let fields: [u16; 15] = [0x5000, 2, 1, 2, 3, 4, 5, 6, 7, 8, DATA, CODE, DATA, DATA, 0];
    for (index, field) in fields.into_iter().enumerate() {
        let gpa = NEW_TSS + 0x0e + 2 * index as u64;
        GuestMemory::write(&*cpu.memory, gpa, &field.to_le_bytes()).unwrap();
    }
    assert_eq!(cpu.switch(Source::Jump), Ok(()));
    assert_eq!((cpu.rip, cpu.gprs.get(Gpr::Rax), cpu.gprs.get(Gpr::Rdi)), (0x5000, 1, 8));
    assert_eq!(cpu.segment(SegmentName::Tr).attributes.kind(), 3);
}

proptest::proptest! {
    #[test]
    fn no_tss_and_no_descriptor_panics_or_leaves_what_no_vm_entry_accepts(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 104), descriptor: u64,
        source in 0..4usize, selector: u16, old_is_virtual_8086: bool
    ) {
        let mut cpu = if old_is_virtual_8086 { Cpu::in_virtual_8086_mode() } else { Cpu::new() };
        GuestMemory::write(&*cpu.memory, NEW_TSS, &bytes).unwrap();
        let at = GDT + u64::from(ABSENT_DATA);
        GuestMemory::write(&*cpu.memory, at, &descriptor.to_le_bytes()).unwrap();
        let sources = [Source::Call, Source::Iret, Source::Jump, Source::Gate];
        let result = cpu.switch_with(sources[source], selector, Some(exception(0)));
        let tr = cpu.segment(SegmentName::Tr);
        proptest::prop_assert!(tr.selector == OLD || tr.attributes.kind() & 2 != 0);
        proptest::prop_assert!(cpu.is_legal(), "{:?}: {:x?}", result, cpu.segments);
    }
}

fn transfer(cpu: &Cpu, cpl: u8, source: Source, selector: u16) -> Option<(u16, Source)> {
    let found = of_transfer(cpu, cpl, Transfer { source, selector, next_rip: 0x1234 });
    assert!(found.is_none_or(|task| task.resume_rip == 0x1234 && task.event.is_none()));
    found.map(|task| (task.selector, task.source))
}

#[test]
fn a_transfer_is_a_task_switch_if_its_selector_leads_to_a_tss() {
    let cpu = Cpu::new();
    for source in [Source::Call, Source::Jump] {
        assert_eq!(transfer(&cpu, 0, source, NEW), Some((NEW, source)));
        // Whether it may be switched to is looked at when it is.
        assert_eq!(transfer(&cpu, 0, source, OLD), Some((OLD, source)));
        for selector in [0, 3, CODE, DATA, LDT, 0x48, NEW | 4] {
            assert_eq!(transfer(&cpu, 0, source, selector), None, "{selector:#x}");
        }
        assert_eq!(transfer(&cpu, 3, source, NEW), None, "DPL 0");
        assert_eq!(transfer(&cpu, 0, source, NEW | 3), None, "RPL 3");
    }
}

#[test]
fn a_task_gate_has_the_privilege_level_that_counts() {
    const GATE: u16 = LDT;
    let cpu = Cpu::new();
    let set_gate = |access: u64| {
        let gate = u64::from(NEW) << 16 | access << 40;
        cpu.memory.write(GDT + u64::from(GATE), &gate.to_le_bytes()).unwrap();
    };
    set_gate(0xe5);
    assert_eq!(transfer(&cpu, 3, Source::Call, GATE | 3), Some((NEW, Source::Call)));
    set_gate(0x85);
    assert_eq!(transfer(&cpu, 3, Source::Call, GATE), None, "DPL 0");
    set_gate(0x65);
    assert_eq!(transfer(&cpu, 3, Source::Jump, GATE), None, "not present");
    set_gate(0xec);
    assert_eq!(transfer(&cpu, 0, Source::Call, GATE), None, "a call gate");
}

#[test]
fn a_return_goes_to_the_task_in_the_link() {
    let cpu = Cpu::new();
    cpu.memory.write(OLD_TSS, &NEW.to_le_bytes()).unwrap();
    assert_eq!(transfer(&cpu, 0, Source::Iret, 0), Some((NEW, Source::Iret)));
}

#[test]
fn an_event_is_a_task_switch_if_its_gate_is_a_task_gate() {
    const IDT: u64 = 0x8000;
    let cpu = Cpu::new();
    let idtr = TableRegister { base: IDT, limit: 0x6f };
    let gate = |vector: u64, access: u64| {
        let gate = u64::from(NEW) << 16 | access << 40;
        cpu.memory.write(IDT + 8 * vector, &gate.to_le_bytes()).unwrap();
    };
    let fault = Event::Fault(Fault { error_code: Some(0x18), ..Fault::PROTECTION });
    let switch = |event| of_event(&cpu, idtr, event, 0x1234);
    gate(13, 0x85);
    let want =
        TaskSwitch { selector: NEW, source: Source::Gate, resume_rip: 0x1234, event: Some(fault) };
    assert_eq!(switch(fault), Some(want));
    gate(13, 0x8e);
    assert_eq!(switch(fault), None, "an interrupt gate");
    gate(13, 0x05);
    assert_eq!(switch(fault), None, "not present");
    gate(2, 0x85);
    assert_eq!(switch(Event::Nmi).map(|task| task.selector), Some(NEW));
    gate(14, 0x85);
    assert_eq!(switch(Event::Interrupt(14)), None, "beyond the table");
}
