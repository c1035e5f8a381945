//! Hypercalls.

use super::*;
use crate::backend::{Backend, SystemRegister};
use crate::vcpu::Activity;
use devices::memory::GuestMemory;
use emulator::registers::{Fault, SegmentName};

const VMMCALL: &[u8] = &[0x0f, 0x01, 0xd9];
/// Where a list of calls is.
const LIST: u64 = 0x3_0000;
const MULTICALL: u64 = 13;
const XEN_VERSION: u32 = 17;
const SCHED_OP: u64 = 29;
const SCHED_OP_BLOCK: u64 = 1;
/// Bytes of a call in a list of 32-bit code.
const ENTRY_BYTES: u64 = 32;

fn call(machine: &mut Machine, number: u64, arguments: [u64; 2]) {
    let (_, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rax, number);
    gprs.set(Gpr::Rbx, arguments[0]);
    gprs.set(Gpr::Rcx, arguments[1]);
    machine.put_instruction(VMMCALL);
    machine.exit(Exit::Hypercall);
}

#[test]
fn a_long_list_of_calls_lets_the_host_in_between() {
    let mut machine = machine();
    let space = machine.vcpu.vm().space.clone();
    for index in 0..20 {
        let at = LIST + ENTRY_BYTES * index;
        space.write(at, &XEN_VERSION.to_le_bytes()).unwrap();
    }
    call(&mut machine, MULTICALL, [LIST, 20]);
    let mut exits = 1;
    let start = machine.vcpu.backend.rip;
    while machine.vcpu.gprs.get(Gpr::Rax) == MULTICALL {
        assert_eq!(machine.vcpu.gprs.get(Gpr::Rcx), 20 - 8 * exits);
        machine.exit(Exit::Hypercall);
        exits += 1;
    }
    assert_eq!(exits, 3);
    assert_eq!(machine.vcpu.backend.rip, start + VMMCALL.len() as u64);
    let versions: Vec<_> =
        (0..20).map(|index| space.read_u32(LIST + ENTRY_BYTES * index + 4)).collect();
    assert_eq!(versions, [Ok(4 << 16 | 17); 20]);
}

#[test]
fn an_event_ends_a_sleep_in_a_hypercall_and_no_other() {
    let mut machine = machine();
    let inbox = machine.vcpu.apic.inbox().clone();
    call(&mut machine, SCHED_OP, [SCHED_OP_BLOCK, 0]);
    assert_eq!(machine.vcpu.activity(), Activity::Polling);
    inbox.post_look();
    machine.exit(Exit::HostNmi);
    assert_eq!(machine.vcpu.activity(), Activity::Running);
    machine.put_instruction(&[0xf4]);
    machine.exit(Exit::Halt);
    inbox.post_look();
    machine.vcpu.deliver_events();
    assert_eq!(machine.vcpu.activity(), Activity::Halted);
}

#[test]
fn pointers_of_64_bit_code_are_canonical_or_lead_nowhere() {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 0x80;
    const TABLES: u64 = 0x4_0000;
    const GET_FEATURES: u64 = 6;
    let mut machine = machine();
    let space = machine.vcpu.vm().space.clone();
    // The first 2 MiB are mapped to themselves.
    for (level, entry) in [TABLES + 0x1000, TABLES + 0x2000, LARGE].into_iter().enumerate() {
        let entry = (entry | PRESENT_WRITABLE).to_le_bytes();
        space.write(TABLES + 0x1000 * level as u64, &entry).unwrap();
    }
    let backend = &mut machine.vcpu.backend;
    backend.set_system_register(SystemRegister::Cr3, TABLES);
    backend.cr0 = backend.cr0.with_paging(true);
    backend.cr4 = backend.cr4.with_pae(true);
    backend.efer.set_long_mode_enable(true);
    backend.efer.set_long_mode_active(true);
    let mut code = backend.segment(SegmentName::Cs);
    code.attributes = code.attributes.with_long(true).with_default_big(false);
    backend.set_segment(SegmentName::Cs, code);
    for (pointer, result) in
        [(LIST, 0), (1 << 48 | LIST, -14), (1 << 63 | LIST, -14), (u64::MAX, -14)]
    {
        let (_, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rax, XEN_VERSION.into());
        gprs.set(Gpr::Rdi, GET_FEATURES);
        gprs.set(Gpr::Rsi, pointer);
        machine.put_instruction(VMMCALL);
        machine.exit(Exit::Hypercall);
        assert_eq!(machine.vcpu.gprs.get(Gpr::Rax) as i64, result, "{pointer:#x}");
    }
}

#[test]
fn an_upcall_past_the_local_apic_comes_until_the_guest_takes_it() {
    const VECTOR: u8 = 0xf3;
    const HVM_OP: u64 = 34;
    const MEMORY_OP: u64 = 12;
    const SELF: u32 = 0x7ff0;
    const SHARED_INFO_GFN: u32 = 0x50;
    const UPCALL_PENDING: u64 = 0x5_0000;
    let mut machine = machine();
    let space = machine.vcpu.vm().space.clone();
    for (number, sub, structure) in [
        (MEMORY_OP, 7, [SELF, 0, 0, SHARED_INFO_GFN]),
        (HVM_OP, 0, [SELF, 0, VECTOR.into(), 2 << 24]),
    ] {
        let bytes: Vec<u8> = structure.iter().flat_map(|word| word.to_le_bytes()).collect();
        space.write(LIST, &bytes).unwrap();
        call(&mut machine, number, [sub, LIST]);
        assert_eq!(machine.vcpu.gprs.get(Gpr::Rax), 0, "{number}");
    }
    machine.put_instruction(&[0x90]);
    machine.vcpu.backend.rflags.set_interrupt(true);
    space.write(UPCALL_PENDING, &[1]).unwrap();
    machine.vcpu.apic.inbox().post_look();
    let upcall = Some(Event::Interrupt(VECTOR));
    assert_eq!(next_event(&mut machine), upcall);
    assert_eq!(next_event(&mut machine), upcall, "it is a level");
    machine.vcpu.backend.rflags.set_interrupt(false);
    assert_eq!(next_event(&mut machine), None);
    machine.vcpu.backend.rflags.set_interrupt(true);
    assert_eq!(next_event(&mut machine), upcall);
    space.write(UPCALL_PENDING, &[0]).unwrap();
    assert_eq!(next_event(&mut machine), None);
}

#[test]
fn a_halt_with_interrupts_off_is_down() {
    for is_up in [false, true] {
        let mut machine = machine();
        let platform = machine.vcpu.vm().pv.clone().unwrap();
        platform.set_up(0, true);
        machine.vcpu.backend.rflags.set_interrupt(is_up);
        machine.put_instruction(&[0xf4]);
        machine.exit(Exit::Halt);
        assert_eq!(platform.is_up(0), is_up);
    }
}

#[test]
fn what_ends_a_halt_with_interrupts_off_sets_it_up_again() {
    let nmi: fn(&mut Machine) = |machine| machine.vcpu.apic.inbox().post_nmi();
    let trap: fn(&mut Machine) = |machine| {
        machine.vcpu.backend.pending_debug = true;
        machine.vcpu.apic.inbox().post_nmi();
    };
    let fault: fn(&mut Machine) = |machine| machine.vcpu.raise(Fault::UNDEFINED);
    for (event, is_up) in
        [(None, false), (Some(nmi), true), (Some(trap), true), (Some(fault), true)]
    {
        let mut machine = machine();
        let platform = machine.vcpu.vm().pv.clone().unwrap();
        machine.put_instruction(&[0xf4]);
        machine.exit(Exit::Halt);
        // Something comes that does not end it.
        machine.vcpu.apic.inbox().post_look();
        if let Some(event) = event {
            event(&mut machine);
        }
        machine.vcpu.deliver_events();
        assert_eq!(platform.is_up(0), is_up);
        assert_eq!(machine.vcpu.activity() == Activity::Running, is_up);
    }
}
