//! Pauses and steps, on a processor that the test plays.

use super::*;
use crate::backend::exit::{DescriptorAccess, DescriptorRegister, Direction, Exit, PortAccess};
use crate::fuzzing::Machine;
use crate::test_backend::TestCpu;
use crate::test_platform::TestPlatform;
use crate::vcpu::{CpuShare, Housekeeping};
use crate::vm::Stop;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::mailbox::{Answer, Client, Mailbox, Request};
use control::state::GuestState;
use devices::memory::GuestMemory;
use devices::time::Clock;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::{Exception, Fault, Gpr};

const START: u64 = 0x8000;

/// A guest that is paused before `code`, on a processor whose entries end by `exit`.
fn paused(code: &[u8], exit: Exit) -> Machine {
    let mut machine = Machine::new(TestPlatform::leak());
    machine.put_instruction(code);
    let (backend, _) = machine.vcpu.registers_mut();
    (backend.rip, backend.exit) = (START, exit);
    machine.vcpu.pause();
    machine
}

fn rip(machine: &mut Machine) -> u64 {
    machine.vcpu.registers_mut().0.rip
}

#[test]
fn the_processor_makes_a_step_and_gets_to_know_the_instruction() {
    let mut machine = paused(&[0x90, 0x0f, 0xa2], Exit::Stepped);
    assert_eq!(machine.vcpu.location().text, "nop");
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert_eq!(machine.vcpu.location().text, "cpuid");
    assert_eq!(machine.vcpu.registers_mut().0.stepped[0][..3], [0x90, 0x0f, 0xa2]);
    machine.vcpu.resume();
    assert_eq!(machine.vcpu.step(), StepEnd::Refused);
}

#[test]
fn an_instruction_that_the_hypervisor_carries_out_is_one_step() {
    let port = PortAccess { port: 0x80, size_bytes: 1, direction: Direction::In, string: false };
    let string = PortAccess { string: true, ..port };
    let hpet = MemoryAccess { gpa: 0xfed0_0000, write: false, execute: false, page_walk: false };
    for (code, exit, length) in [
        (&[0x0f, 0xa2][..], Exit::Cpuid, 2),
        (&[0xe4, 0x80], Exit::Port(port), 2),
        (&[0xf3, 0x6c], Exit::Port(string), 2),
        (&[0x8b, 0x07], Exit::Memory(hpet), 2),
        (&[0xf4], Exit::Halt, 1),
        (&[0x9c], Exit::PushFlags, 1),
    ] {
        let mut machine = paused(code, exit);
        let (_, gprs) = machine.vcpu.registers_mut();
        gprs.set(Gpr::Rcx, 3);
        gprs.set(Gpr::Rdi, if exit == Exit::Memory(hpet) { hpet.gpa } else { 0x9000 });
        gprs.set(Gpr::Rsp, 0x7000);
        assert_eq!(machine.vcpu.step(), StepEnd::Done, "{exit:?}");
        assert_eq!(rip(&mut machine), START + length, "{exit:?}");
        assert_eq!(machine.vcpu.registers_mut().0.stepped.len(), 1, "{exit:?}");
    }
}

#[test]
fn a_part_of_a_repeated_instruction_is_a_step() {
    let string = PortAccess { port: 0x80, size_bytes: 1, direction: Direction::In, string: true };
    let mut machine = paused(&[0xf3, 0x6c], Exit::Port(string));
    let (_, gprs) = machine.vcpu.registers_mut();
    gprs.set(Gpr::Rcx, 100_000);
    gprs.set(Gpr::Rdi, 0x10_0000);
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert_eq!(rip(&mut machine), START);
    assert!(machine.vcpu.registers_mut().1.get(Gpr::Rcx) < 100_000);
}

#[test]
fn what_does_not_end_the_instruction_is_no_step() {
    let mut machine = paused(&[0x90], Exit::Stepped);
    let ram = MemoryAccess { gpa: 0x1000, write: false, execute: false, page_walk: false };
    let others = [Exit::ExternalInterrupt, Exit::Memory(ram), Exit::InterruptWindow, Exit::HostNmi];
    machine.vcpu.registers_mut().0.exits_before.extend(others);
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert_eq!(machine.vcpu.registers_mut().0.stepped.len(), others.len() + 1);
    assert_eq!(rip(&mut machine), START + 1);
}

#[test]
fn a_fault_is_taken_in_the_step_of_its_instruction() {
    let mut machine = paused(&[0x0f, 0x0b], Exit::Stepped);
    let fault = Exit::Fault { exception: Exception::InvalidOpcode, error_code: None };
    machine.vcpu.registers_mut().0.exits_before.push_back(fault);
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert_eq!(machine.vcpu.registers_mut().0.injected, [Event::Fault(Fault::UNDEFINED)]);
}

#[test]
fn the_guests_own_single_step_traps_after_the_step() {
    let mut machine = paused(&[0x0f, 0xa2], Exit::Cpuid);
    machine.vcpu.registers_mut().0.rflags.set_trap(true);
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert_eq!(rip(&mut machine), START + 2);
    assert!(machine.vcpu.registers_mut().0.injected.is_empty(), "that is the next step");
    machine.vcpu.registers_mut().0.exit = Exit::Stepped;
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    let debug = Fault { exception: Exception::Debug, error_code: None, address: None };
    assert_eq!(machine.vcpu.registers_mut().0.injected, [Event::Fault(debug)]);
}

#[test]
fn a_guest_that_comes_no_further_or_sleeps_ends_the_steps() {
    let mut stuck = paused(&[0x90], Exit::ExternalInterrupt);
    assert_eq!(stuck.vcpu.step(), StepEnd::Stuck);
    let mut halted = paused(&[0xf4], Exit::Halt);
    assert_eq!(halted.vcpu.step(), StepEnd::Done);
    assert_eq!(halted.vcpu.step(), StepEnd::Halted);
    halted.vcpu.vm().stop.request(Stop::PowerOff);
    assert_eq!(halted.vcpu.step(), StepEnd::Refused);
}

#[test]
fn guest_time_stands_still_between_steps() {
    let mut machine = paused(&[0x90; 8], Exit::Stepped);
    let before = machine.vcpu.vm().clock.now();
    let offset = machine.vcpu.registers_mut().0.tsc_offset;
    machine.platform.advance_ns(5_000_000);
    assert_eq!(machine.vcpu.vm().clock.now(), before);
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    machine.platform.advance_ns(7_000_000);
    machine.vcpu.resume();
    assert_eq!(machine.vcpu.vm().clock.now(), before);
    assert_eq!(machine.vcpu.registers_mut().0.tsc_offset, offset.wrapping_sub(12_000_000));
}

/// Pauses the guest, and resumes it when it is attended to for the third time after that; then its
/// share of the CPU is over.
struct Visitor {
    mailbox: Arc<Mailbox>,
    turns: u32,
}

impl Housekeeping for Visitor {
    fn attend(&mut self) {
        self.turns += 1;
        match self.turns {
            1 => assert!(self.mailbox.post(Client::Prompt, Request::Pause)),
            4 => assert!(self.mailbox.post(Client::Prompt, Request::Resume)),
            _ => {}
        }
    }

    fn take_answers(&mut self) {
        let answer = self.mailbox.take_answer(Client::Prompt);
        assert!(matches!(answer, Some(Answer::Paused(_) | Answer::Done)), "{answer:?}");
    }

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }

    fn share_cpu(&mut self) -> CpuShare {
        CpuShare { is_over: self.turns == 4, ..CpuShare::ALL }
    }
}

#[test]
fn a_paused_guest_stays_out_of_the_cpu_until_it_is_resumed() {
    let mut machine = Machine::new(TestPlatform::leak());
    machine.vcpu.registers_mut().0.exit = Exit::ExternalInterrupt;
    let mailbox = machine.vcpu.vm().mailbox.clone();
    let mut visitor = Visitor { mailbox, turns: 0 };
    machine.vcpu.unload();
    for (turns, end) in
        [(1, RunEnd::Waits), (2, RunEnd::Waits), (3, RunEnd::Waits), (4, RunEnd::Preempted)]
    {
        assert_eq!(machine.vcpu.run(&TestCpu::default(), &mut visitor), end);
        assert_eq!((visitor.turns, machine.vcpu.paused), (turns, turns < 4));
        machine.platform.advance_ns(1_000);
    }
    // It goes since the last turn.
    assert_eq!(machine.vcpu.vm().clock.now().as_ns(), 1_000);
}

/// Lets a guest that is held go on at once, and notes where it stood.
struct Passer {
    mailbox: Arc<Mailbox>,
    held_at: Vec<u64>,
}

impl Housekeeping for Passer {
    fn attend(&mut self) {
        assert!(self.mailbox.post(Client::Prompt, Request::Stats));
    }

    fn take_answers(&mut self) {
        match self.mailbox.take_answer(Client::Prompt) {
            Some(Answer::Stats(stats)) if stats.state == GuestState::Paused => {
                assert!(self.mailbox.post(Client::Prompt, Request::Registers));
            }
            Some(Answer::Registers(_, location)) => {
                self.held_at.push(location.rip);
                assert!(self.mailbox.post(Client::Prompt, Request::Resume));
            }
            _ => {}
        }
    }

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}

/// The answers of the guest's vCPU to one request after the other.
struct Asker {
    mailbox: Arc<Mailbox>,
    requests: VecDeque<Request>,
    answers: Vec<Answer>,
}

impl Asker {
    fn ask(&mut self) {
        if let Some(request) = self.requests.pop_front() {
            assert!(self.mailbox.post(Client::Management, request));
        }
    }
}

impl Housekeeping for Asker {
    fn attend(&mut self) {
        if self.answers.is_empty() {
            self.ask();
        }
    }

    fn take_answers(&mut self) {
        self.answers.extend(self.mailbox.take_answer(Client::Management));
        self.ask();
    }

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}

#[test]
fn all_that_is_asked_is_answered_in_one_turn() {
    let mut machine = Machine::new(TestPlatform::leak());
    machine.put_instruction(&[0x90, 0x0f, 0xa2]);
    let (backend, _) = machine.vcpu.registers_mut();
    backend.exit = Exit::Stepped;
    (backend.rip, backend.exit) = (START, Exit::Stepped);
    backend.exits_before.push_back(Exit::ExternalInterrupt);
    let set = |name: &str| Request::SetRegister { name: name.into(), value: 5 };
    let requests = [
        Request::Step(1),
        set("rax"),
        Request::Pause,
        Request::Step(2),
        set("rax"),
        set("cs"),
        Request::Registers,
        Request::Stats,
        Request::Dump,
        Request::CatchTables(true),
        Request::Reset,
        Request::Resume,
    ];
    let mailbox = machine.vcpu.vm().mailbox.clone();
    let mut asker = Asker { mailbox, requests: requests.into(), answers: Vec::new() };
    machine.vcpu.turn(&mut asker);
    let [
        Answer::Runs,
        Answer::Runs,
        Answer::Paused(at),
        Answer::Steps(steps),
        Answer::Done,
        Answer::NoRegister(name),
        Answer::Registers(registers, _),
        Answer::Stats(stats),
        Answer::Dump(dump),
        Answer::Done,
        Answer::Done,
        Answer::Done,
    ] = &asker.answers[..]
    else {
        panic!("{:?}", asker.answers)
    };
    assert_eq!((at.rip, at.text.as_str()), (START, "nop"));
    assert_eq!((&steps.done[0], steps.done.len(), steps.end), (at, 2, None));
    assert_eq!(steps.next.rip, START + 2);
    assert_eq!(name, "cs");
    assert!(registers.0.contains(&("rax", 5)));
    assert_eq!(stats.state, GuestState::Paused);
    assert!(dump.contains("vCPU 0"), "{dump}");
    assert_eq!(machine.vcpu.vm().stop.requested(), Some(Stop::Reset));
}

#[test]
fn an_access_to_a_register_of_descriptors_is_caught_before_it_is_done_and_then_passes() {
    // NOP, LIDT [EDI]
    let mut machine = paused(&[0x90, 0x0f, 0x01, 0x1f], Exit::Stepped);
    let access = DescriptorAccess { register: DescriptorRegister::Idtr, load: true };
    machine.vcpu.registers_mut().0.descriptor_access = Some((START + 1, access));
    assert!(machine.vcpu.catch_tables(true));
    machine.vcpu.resume();
    let mailbox = machine.vcpu.vm().mailbox.clone();
    let mut passer = Passer { mailbox, held_at: Vec::new() };
    for _ in 0..3 {
        machine.vcpu.turn(&mut passer);
    }
    assert_eq!(passer.held_at, [START + 1]);
    assert_eq!(rip(&mut machine), START + 3, "NOP, LIDT in a step, and one more");
    assert_eq!(machine.vcpu.registers_mut().0.stepped.len(), 1);
    // The next one is caught too, until nobody asks for it.
    for (catch, times) in [(true, 2), (false, 2)] {
        assert!(machine.vcpu.catch_tables(catch));
        machine.vcpu.registers_mut().0.rip = START + 1;
        machine.vcpu.turn(&mut passer);
        assert_eq!(passer.held_at.len(), times);
    }
}

#[test]
fn a_step_is_not_caught() {
    let mut machine = paused(&[0x0f, 0x00, 0xd8], Exit::Stepped);
    let access = DescriptorAccess { register: DescriptorRegister::Tr, load: true };
    machine.vcpu.registers_mut().0.descriptor_access = Some((START, access));
    assert!(machine.vcpu.catch_tables(true));
    assert_eq!(machine.vcpu.step(), StepEnd::Done);
    assert!(machine.vcpu.registers_mut().0.descriptor_exits, "later ones are");
    assert_eq!(rip(&mut machine), START + 1);
}

#[test]
fn registers_are_set_by_name() {
    let mut machine = paused(&[0x90], Exit::Stepped);
    for (name, value) in [
        ("rax", 1),
        ("r15", 2),
        ("rip", 3),
        ("cr0", 0x11),
        ("cr2", 5),
        ("cr3", 0x6000),
        ("dr7", 0x400),
    ] {
        assert!(machine.vcpu.set_register(name, value), "{name}");
        assert!(machine.vcpu.registers().0.contains(&(name, value)), "{name}");
    }
    assert!(!machine.vcpu.set_register("cs", 8), "a selector alone is no segment");
}

#[test]
fn control_registers_that_are_set_bring_the_page_directory_pointers() {
    const POINTERS: [u64; 4] = [0x5001, 0x6001, 0x7001, 0];
    for (name, value) in [("cr3", 0x9020), ("cr0", 0x8000_0011), ("cr4", 0x20)] {
        let mut machine = paused(&[0x90], Exit::Stepped);
        for (gpa, pointer) in (0x9020..).step_by(8).zip(POINTERS) {
            machine.vcpu.vm.space.write(gpa, &pointer.to_le_bytes()).unwrap();
        }
        let (backend, _) = machine.vcpu.registers_mut();
        backend.system[SystemRegister::Cr3 as usize] = 0x9020;
        (backend.cr0, backend.cr4) = (0x8000_0011.into(), 0x20.into());
        assert!(machine.vcpu.set_register(name, value));
        assert_eq!(machine.vcpu.registers_mut().0.page_directory_pointers, POINTERS, "{name}");
        // Without PAE there are none.
        let (backend, _) = machine.vcpu.registers_mut();
        backend.page_directory_pointers = [0; 4];
        assert!(machine.vcpu.set_register("cr4", 0) && machine.vcpu.set_register("cr3", 0x9020));
        assert_eq!(machine.vcpu.registers_mut().0.page_directory_pointers, [0; 4]);
    }
}
