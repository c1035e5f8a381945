//! Virtual-8086 mode: what traps to its monitor and what does not, with its I/O permissions and its
//! extensions (Intel SDM volume 3, chapter 21).

#![no_std]
#![no_main]

use conformance::Global;
use conformance::cpu::{has_feature, outb, peek, poke};
use conformance::descriptors::{FREE, USER_CODE32, set_descriptor};
use conformance::interrupts::{Event, UD, gp, ts};
use conformance::legacy::{
    self, Fault, Mode, PROTECTED, Registers, TASK_STATE, TaskState32, call32, task_descriptor,
};
use conformance::report::{check, equal, skip};

conformance::topic!(run);

const VM: u32 = 1 << 17;
const IF: u32 = 1 << 9;
const VIF: u32 = 1 << 19;
const VIP: u32 = 1 << 20;
const IOPL_3: u32 = 3 << 12;
const VME: u32 = 1 << 0;

/// A vector that only these programs use, and one for each program's end.
const VECTOR: u64 = 0x60;
const END: Event = Event::plain(0x90);
/// One whose gate is a task gate.
const SWITCH: u8 = 0x91;
const TASK: u16 = FREE;
/// A selector beyond the table.
const BEYOND: u32 = 0xfff8;

static TASK_AT_GATE: Global<TaskState32> = Global::new(TaskState32::new());
const STACK_BYTES: usize = 1024;
static STACK: Global<[u32; STACK_BYTES / 4]> = Global::new([0; STACK_BYTES / 4]);

conformance::assembly! {
    // Enters virtual-8086 mode: flags in EAX, the program at 0:ESI, segments of EBX.
    fn enter() {
        ".code32" "push ebx" "push ebx" "push ebx" "push ebx" "push 0" "push 0x7000" "push eax" "push 0" "push esi" "iretd" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn identity() { ".code16" "mov ax, ds" "mov bx, cs" "mov cx, ss" "smsw dx" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn clear_interrupts() { ".code16" "cli" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn set_interrupts() { ".code16" "sti" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn push_flags() { ".code16" "pushf" "pop ax" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn pop_flags() { ".code16" "push 0x3202" "popf" "pushf" "pop ax" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn interrupt() { ".code16" "int 0x60" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn handler() { ".code16" "mov cx, 0x7777" "iret" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn breakpoint() { ".code16" "int3" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn halt() { ".code16" "hlt" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn port() { ".code16" "in al, 0x80" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn control_register() { ".code16" "mov eax, cr0" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn load_table() { ".code16" "lldt ax" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn beyond_limit() { ".code16" "mov ebx, 0x10000" "mov al, [ebx]" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn switches() { ".code16" "int 0x91" "mov ax, ds" "int 0x90" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn addresses() { ".code16" "mov ax, 0x1234" "mov es, ax" "mov al, es:[0x10]" "int 0x90" ".code64" }
    // The other task's code, and the jump to it.
    fn returns() { ".code32" "iretd" ".code64" }
    fn traps() { ".code32" "ud2" ".code64" }
    fn jump() { ".code32" "push ebx" "push 0" "jmp fword ptr [esp]" ".code64" }
}

/// Runs a program until an event, which its end is too.
fn program(code: extern "C" fn(), flags: u32, cr4: u32) -> Fault {
    let mut registers = Registers {
        eax: flags | VM | 2,
        ebx: 0x40,
        esi: legacy::address(code),
        ..Registers::default()
    };
    match call32(enter, Mode { cr4: PROTECTED.cr4 | cr4, ..PROTECTED }, &mut registers) {
        Err(fault) => fault,
        Ok(()) => unreachable!(),
    }
}

fn event(code: extern "C" fn(), flags: u32) -> Event {
    program(code, flags, 0).event
}

fn run() {
    // Interrupts that a program turns on do not come.
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    environment();
    with_iopl_3();
    with_iopl_0();
    ports();
    extensions();
    tasks();
}

fn environment() {
    let fault = program(identity, IOPL_3, 0);
    equal("end", fault.event, END);
    equal(
        "segments",
        (fault.registers.eax & 0xffff, fault.registers.ebx & 0xffff, fault.registers.ecx & 0xffff),
        (0x40, 0, 0),
    );
    check("is-protected-mode", fault.registers.edx & 1 == 1);
    check("saved-flags-have-vm", fault.eflags & VM != 0);
    // ESP, SS, ES, DS, FS, GS stand on the monitor's stack.
    equal("saved-segments", fault.outer, [0x7000, 0, 0x40, 0x40, 0x40, 0x40]);
    equal("saved-eip", fault.eip, legacy::address(identity) + 11);
    poke(0x12350, 0xa5_u8);
    equal("addresses", program(addresses, IOPL_3, 0).registers.eax & 0xff, 0xa5);
    equal("limit", event(beyond_limit, IOPL_3), gp(0));
    equal("hlt", event(halt, IOPL_3), gp(0));
    equal("control-register", event(control_register, IOPL_3), gp(0));
    equal("lldt", event(load_table, IOPL_3), UD);
    equal("int3", event(breakpoint, 0), Event::plain(3));
}

fn with_iopl_3() {
    equal("cli-with-iopl-3", program(clear_interrupts, IOPL_3 | IF, 0).eflags & IF, 0);
    equal("sti-with-iopl-3", program(set_interrupts, IOPL_3, 0).eflags & IF, IF);
    equal("pushf-with-iopl-3", program(push_flags, IOPL_3, 0).registers.eax & 0xffff, 0x3002);
    equal("popf-with-iopl-3", program(pop_flags, IOPL_3, 0).registers.eax & 0xffff, 0x3202);
    equal("int-with-iopl-3", event(interrupt, IOPL_3), Event::plain(VECTOR as u8));
}

fn with_iopl_0() {
    for (case, code) in [
        ("cli-with-iopl-0", clear_interrupts as extern "C" fn()),
        ("sti-with-iopl-0", set_interrupts),
        ("pushf-with-iopl-0", push_flags),
        ("popf-with-iopl-0", pop_flags),
        ("int-with-iopl-0", interrupt),
    ] {
        equal(case, event(code, 0), gp(0));
    }
}

/// The map of I/O permissions counts whatever IOPL is.
fn ports() {
    equal("port-refused", event(port, IOPL_3), gp(0));
    let byte = unsafe { &raw mut (*TASK_STATE.address()).refused_ports[0x80 / 8] };
    unsafe { byte.write_volatile(0xfe) };
    equal("port-allowed", event(port, IOPL_3), END);
    equal("port-allowed-with-iopl-0", program(port, 0, 0).eip > legacy::address(port), true);
    unsafe { byte.write_volatile(0xff) };
}

/// Interrupts redirected to the program, and a flag of its own for CLI and STI.
fn extensions() {
    const CASES: [&str; 6] = [
        "vme-redirects",
        "vme-does-not-redirect",
        "vme-cli-clears-vif",
        "vme-sti-sets-vif",
        "vme-pushf-shows-vif",
        "vme-sti-with-vip",
    ];
    if !has_feature(1, 3, 1) {
        for case in CASES {
            skip(case, "no VME");
        }
        return;
    }
    let saved: u32 = peek(4 * VECTOR);
    poke(4 * VECTOR, legacy::address(handler));
    let byte = unsafe { &raw mut (*TASK_STATE.address()).not_redirected[VECTOR as usize / 8] };
    unsafe { byte.write_volatile(0xfe) };
    let fault = program(interrupt, IOPL_3, VME);
    equal("vme-redirects", (fault.event, fault.registers.ecx & 0xffff), (END, 0x7777));
    unsafe { byte.write_volatile(0xff) };
    equal(
        "vme-does-not-redirect",
        program(interrupt, IOPL_3, VME).event,
        Event::plain(VECTOR as u8),
    );
    poke(4 * VECTOR, saved);
    equal("vme-cli-clears-vif", program(clear_interrupts, VIF | IF, VME).eflags & (VIF | IF), IF);
    equal("vme-sti-sets-vif", program(set_interrupts, IF, VME).eflags & (VIF | IF), VIF | IF);
    // Bit 9 is VIF, and IOPL reads as 3.
    equal("vme-pushf-shows-vif", program(push_flags, VIF, VME).registers.eax & 0xffff, 0x3202);
    equal("vme-sti-with-vip", program(set_interrupts, VIP, VME).event, gp(0));
}

/// Another task, behind [`SWITCH`].
fn prepare(code: extern "C" fn()) -> &'static mut TaskState32 {
    const TASK_GATE_RING3: u8 = 0xe5;
    let state = unsafe { &mut *TASK_AT_GATE.address() };
    *state = TaskState32::flat(code, STACK.address() as u32 + STACK_BYTES as u32);
    set_descriptor(TASK, task_descriptor(state));
    legacy::set_gate(SWITCH, legacy::gate(TASK, 0, TASK_GATE_RING3));
    state
}

/// Task switches out of virtual-8086 mode and into it.
fn tasks() {
    prepare(traps);
    let fault = program(switches, IOPL_3, 0);
    equal("task-out-of-the-mode", (fault.event, fault.eip), (UD, legacy::address(traps)));
    equal("task-out-of-the-mode-has-no-vm", fault.eflags & VM, 0);
    let left = unsafe { *TASK_STATE.address() };
    equal("task-left-has-vm", left.eflags & VM, VM);
    equal("task-left-has-its-segments", (left.cs, left.ds, left.ss), (0, 0x40, 0));
    prepare(returns);
    let fault = program(switches, IOPL_3, 0);
    equal("task-back-into-the-mode", (fault.event, fault.registers.eax & 0xffff), (END, 0x40));
    equal("task-back-into-the-mode-has-vm", fault.eflags & VM, VM);
    // Faults in the new task.
    prepare(traps).ds = BEYOND;
    equal("data-segment-out-of-the-mode", event(switches, IOPL_3), ts(BEYOND));
    let state = prepare(traps);
    (state.cs, state.ss, state.esp) = (USER_CODE32.into(), BEYOND, 0x7000);
    equal("stack-segment-out-of-the-mode", event(switches, IOPL_3), ts(BEYOND));
    // Into the mode from outside.
    let state = prepare(identity);
    (state.eflags, state.cs, state.ss, state.esp) = (VM | IOPL_3 | 2, 0, 0, 0x7000);
    (state.ds, state.es, state.fs, state.gs) = (0x40, 0x41, 0x42, 0x43);
    let mut registers = Registers { ebx: TASK.into(), ..Registers::default() };
    let fault = call32(jump, PROTECTED, &mut registers).err();
    equal(
        "task-into-the-mode",
        fault.map(|fault| (fault.event, fault.eflags & VM, fault.outer)),
        Some((END, VM, [0x7000, 0, 0x41, 0x40, 0x42, 0x43])),
    );
}
