//! Hardware task switches: by JMP, CALL, IRET, through task gates and by interrupts, and what may go wrong (Intel SDM volume 3, chapter 8).

#![no_std]
#![no_main]

use conformance::Global;
use conformance::descriptors::{FREE, descriptor, set_descriptor};
use conformance::interrupts::{DB, Event, gp, np, ts};
use conformance::legacy::{self, PROTECTED, Registers, TSS32, TaskState32, call32, task_descriptor};
use conformance::report::{check, equal};

conformance::topic!(run);

/// The other task, and a gate to it.
const TASK: u32 = FREE as u32;
const GATE: u32 = TASK + 8;
const TASK_GATE: u8 = 0x85;
const BUSY: u64 = 1 << 41;
const NT: u32 = 1 << 14;
const TS: u32 = 1 << 3;

static OTHER: Global<TaskState32> = Global::new(TaskState32::new());

const STACK_BYTES: usize = 1024;
static STACK: Global<[u32; STACK_BYTES / 4]> = Global::new([0; STACK_BYTES / 4]);

conformance::assembly! {
    // A far jump, a far call, to the selector in EBX.
    fn jump() { ".code32" "push ebx" "push 0" "jmp fword ptr [esp]" ".code64" }
    fn call_task() { ".code32" "push ebx" "push 0" "call fword ptr [esp]" "add esp, 8" "mov edx, cr0" "ret" ".code64" }
    fn interrupt() { ".code32" "int 0x90" "ret" ".code64" }
    fn return_to_task() { ".code32" "pushfd" "or dword ptr [esp], 0x4000" "popfd" "iretd" ".code64" }
    // What the other task does: back by IRET; a trap; back by a jump to the selector in EDX.
    fn returns() { ".code32" "2: inc eax" "mov esi, 0x5151" "iretd" "jmp 2b" ".code64" }
    fn traps() { ".code32" "ud2" ".code64" }
}

/// The other task, fresh, that runs `code`.
fn prepare(code: extern "C" fn()) -> &'static mut TaskState32 {
    let state = unsafe { &mut *OTHER.address() };
    *state = TaskState32 {
        eip: legacy::address(code),
        eflags: 2,
        eax: 0x41,
        ebp: 0x42,
        esp: STACK.address() as u32 + STACK_BYTES as u32,
        es: 0x10,
        cs: 0x08,
        ss: 0x10,
        ds: 0x10,
        fs: 0x10,
        gs: 0x10,
        ..TaskState32::new()
    };
    set_descriptor(FREE, task_descriptor(state));
    set_descriptor(GATE as u16, legacy::gate(TASK as u16, 0, TASK_GATE));
    legacy::reset_gates();
    state
}

fn go(code: extern "C" fn(), selector: u32) -> Result<Registers, legacy::Fault> {
    let mut registers = Registers { ebx: selector, ..Registers::default() };
    call32(code, PROTECTED, &mut registers).map(|()| registers)
}

fn event(code: extern "C" fn(), selector: u32) -> Option<Event> {
    go(code, selector).err().map(|fault| fault.event)
}

fn run() {
    calls();
    jumps();
    interrupts();
    faults();
}

fn calls() {
    let state = prepare(returns);
    let registers = go(call_task, TASK).ok();
    check("call-and-iret", registers.is_some());
    equal("call-sets-ts", registers.map(|registers| registers.edx & TS), Some(TS));
    equal("call-leaves-a-link", state.link & 0xffff, u32::from(TSS32));
    equal("call-runs-with-the-task's-registers", (state.eax, state.esi, state.ebp), (0x42, 0x5151, 0x42));
    equal("call-sets-nt-in-the-task", state.eflags & NT, 0);
    equal("iret-frees-the-task", descriptor(FREE) & BUSY, 0);
    equal("iret-keeps-the-caller-busy", descriptor(TSS32) & BUSY, BUSY);
    equal(
        "saved-eip-of-the-caller",
        unsafe { (*legacy::TASK_STATE.address()).eip },
        legacy::address(call_task) + 6,
    );
    prepare(returns);
    check("call-through-a-gate", go(call_task, GATE).is_ok());
    // The task goes on where it was: behind its IRET.
    check("call-again", go(call_task, TASK).is_ok());
    equal("call-again-goes-on", unsafe { (*OTHER.address()).eax }, 0x43);
}

fn jumps() {
    let state = prepare(traps);
    let fault = go(jump, TASK).err();
    equal(
        "jump",
        fault.map(|fault| (fault.event, fault.eip)),
        Some((Event::plain(6), legacy::address(traps))),
    );
    equal(
        "jump-runs-with-the-task's-registers",
        fault.map(|fault| (fault.registers.eax, fault.registers.ebp)),
        Some((0x41, 0x42)),
    );
    equal("jump-leaves-no-link", state.link, 0);
    equal("jump-sets-no-nt", fault.map(|fault| fault.eflags & NT), Some(0));
    equal("jump-makes-the-task-busy", descriptor(FREE) & BUSY, BUSY);
    equal("jump-frees-the-old-one", descriptor(TSS32) & BUSY, 0);
    let state = prepare(traps);
    state.trap = 1;
    equal("debug-trap-of-a-task", event(jump, TASK), Some(DB));
}

fn interrupts() {
    let state = prepare(returns);
    legacy::set_gate(0x90, legacy::gate(TASK as u16, 0, TASK_GATE));
    check("interrupt-through-a-task-gate", go(interrupt, 0).is_ok());
    equal("interrupt-leaves-a-link", state.link & 0xffff, u32::from(TSS32));
    let state = prepare(traps);
    legacy::set_gate(13, legacy::gate(TASK as u16, 0, TASK_GATE));
    // A fault that pushes an error code, onto the task's stack.
    let fault = go(call_task, 0xfff8).err();
    equal("fault-through-a-task-gate", fault.map(|fault| fault.event.vector), Some(6));
    let top = unsafe { STACK.address().cast::<u32>().add(STACK_BYTES / 4 - 1).read_volatile() };
    equal("fault-pushes-its-error-code", top, 0xfff8);
    equal("fault-leaves-a-link", state.link & 0xffff, u32::from(TSS32));
}

fn faults() {
    prepare(traps);
    set_descriptor(FREE, descriptor(FREE) | BUSY);
    equal("jump-to-a-busy-task", event(jump, TASK), Some(gp(TASK)));
    equal("call-to-a-busy-task", event(call_task, TASK), Some(gp(TASK)));
    prepare(traps);
    set_descriptor(FREE, descriptor(FREE) & !(1 << 47));
    equal("task-not-present", event(jump, TASK), Some(np(TASK)));
    prepare(traps);
    set_descriptor(GATE as u16, legacy::gate(TASK as u16, 0, TASK_GATE & 0x7f));
    equal("gate-not-present", event(call_task, GATE), Some(np(GATE)));
    let small = task_descriptor(OTHER.address()) & !0xffff | 0x66;
    prepare(traps);
    set_descriptor(FREE, small);
    equal("task-too-small", event(jump, TASK), Some(ts(TASK)));
    // Of the faults in the new task only those that leave it a stack can be seen without a third task.
    prepare(traps).ds = 0xfff8;
    equal("task-with-a-selector-beyond-the-table", event(jump, TASK), Some(ts(0xfff8)));
    prepare(traps);
    unsafe { (*legacy::TASK_STATE.address()).link = 0xfff8 };
    equal("iret-to-no-task", event(return_to_task, 0), Some(ts(0xfff8)));
}
