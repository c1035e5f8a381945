//! Hardware task switches: by JMP, CALL, IRET, through task gates and by interrupts, and what may
//! go wrong (Intel SDM volume 3, chapter 8).

#![no_std]
#![no_main]

use conformance::Global;
use conformance::cpu::{poke, set_dr7};
use conformance::descriptors::{
    CODE32, DATA, DATA16, FREE, USER_CODE32, USER_DATA, descriptor, segment, set_descriptor,
};
use conformance::interrupts::{DB, DF, Event, gp, np, ss, ts};
use conformance::legacy::{
    self, Mode, PROTECTED, Registers, TSS32, TaskState32, call32, task_descriptor,
};
use conformance::report::{check, equal};

conformance::topic!(run);

/// The other task, a gate to it, its local descriptor table, and a third task.
const TASK: u32 = FREE as u32;
const GATE: u32 = TASK + 8;
const LOCAL: u32 = TASK + 16;
const THIRD: u32 = TASK + 24;
/// A selector beyond the table.
const BEYOND: u32 = 0xfff8;
const TASK_GATE: u8 = 0x85;
const BUSY: u64 = 1 << 41;
const NT: u32 = 1 << 14;
const RF: u32 = 1 << 16;
const TS: u32 = 1 << 3;
/// Bits 1, 3, 5, 15 and 22 to 31, all the other way round than a processor has them.
const NO_FLAGS: u32 = 0xffc0_8028;
/// DR7: breakpoint 0 of the task, breakpoint 1 of all.
const L0_G1: u32 = 1 << 0 | 1 << 3;
const ENABLES: u32 = 0xff;

static OTHER: Global<TaskState32> = Global::new(TaskState32::new());
static OTHER_16: Global<TaskState16> = Global::new(TaskState16::new());
static THIRD_STATE: Global<TaskState32> = Global::new(TaskState32::new());
static LOCAL_TABLE: Global<[u64; 2]> = Global::new([0; 2]);
/// The first value of the local table's segment.
static LOCAL_VALUE: Global<u32> = Global::new(0x10ca_10ca);

/// A task state segment of 16 bits (Intel SDM volume 3, section 8.6).
#[repr(C)]
#[derive(Clone, Copy)]
struct TaskState16 {
    link: u16,
    stacks: [u16; 6],
    ip: u16,
    flags: u16,
    ax: u16,
    cx: u16,
    dx: u16,
    bx: u16,
    sp: u16,
    bp: u16,
    si: u16,
    di: u16,
    es: u16,
    cs: u16,
    ss: u16,
    ds: u16,
    ldt: u16,
}

impl TaskState16 {
    const fn new() -> Self {
        unsafe { core::mem::zeroed() }
    }
}

const STACK_BYTES: usize = 1024;
static STACK: Global<[u32; STACK_BYTES / 4]> = Global::new([0; STACK_BYTES / 4]);

conformance::assembly! {
    // A far jump, a far call, to the selector in EBX.
    fn jump() { ".code32" "push ebx" "push 0" "jmp fword ptr [esp]" ".code64" }
    fn call_task() { ".code32" "push ebx" "push 0" "call fword ptr [esp]" "add esp, 8" "mov edx, cr0" "ret" ".code64" }
    fn interrupt() { ".code32" "int 0x90" "ret" ".code64" }
    fn return_to_task() { ".code32" "pushfd" "or dword ptr [esp], 0x4000" "popfd" "iretd" ".code64" }
    // The other task's code: back by IRET; a trap; back by a jump to the selector in EDX.
    fn returns() { ".code32" "2: inc eax" "mov esi, 0x5151" "iretd" "jmp 2b" ".code64" }
    fn traps() { ".code32" "ud2" ".code64" }
    fn reads() { ".code32" "mov eax, [esi]" "ud2" ".code64" }
    fn reads_and_returns() { ".code32" "mov eax, [esi]" "iretd" ".code64" }
    fn call_and_read() { ".code32" "push ebx" "push 0" "call fword ptr [esp]" "add esp, 8" "mov eax, [esi]" "ret" ".code64" }
    fn reads_local() { ".code32" "mov eax, fs:[0]" "ud2" ".code64" }
    fn reads_dr7() { ".code32" "mov eax, dr7" "ud2" ".code64" }
    fn jump_with_breakpoints() { ".code32" "mov dr7, eax" "push ebx" "push 0" "jmp fword ptr [esp]" ".code64" }
    // A 16-bit task has an instruction pointer of 16 bits.
    #[unsafe(link_section = ".low.text")]
    fn returns_16() { ".code32" "inc eax" "mov esi, 0x5151" "iretd" ".code64" }
    // The first time with another NMI to itself, which waits for the IRET.
    fn interrupts_itself_and_returns() {
        ".code32" "2: inc eax" "cmp eax, 0x42" "jne 3f" "mov dword ptr [0xfee00310], 0"
        "mov dword ptr [0xfee00300], 0x4400" "3: iretd" "jmp 2b" ".code64"
    }
    // An NMI to itself, and time for it to come: until the word at ESI is EDI.
    fn interrupts_itself() {
        ".code32" "mov dword ptr [0xfee00310], 0" "mov dword ptr [0xfee00300], 0x4400" "mov ecx, 1000000"
        "2: cmp [esi], edi" "je 3f" "dec ecx" "jnz 2b" "3: ret" ".code64"
    }
}

/// The other task, fresh, that runs `code`.
fn prepare(code: extern "C" fn()) -> &'static mut TaskState32 {
    let state = unsafe { &mut *OTHER.address() };
    let stack = STACK.address() as u32 + STACK_BYTES as u32;
    *state = TaskState32 { eax: 0x41, ebp: 0x42, ..TaskState32::flat(code, stack) };
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
    nmi_behind_iret();
    faults();
    task_of_16_bits();
    page_tables();
    local_table();
    faults_of_gates();
    faults_of_segments();
}

fn calls() {
    let state = prepare(returns);
    let registers = go(call_task, TASK).ok();
    check("call-and-iret", registers.is_some());
    equal("call-sets-ts", registers.map(|registers| registers.edx & TS), Some(TS));
    equal("call-leaves-a-link", state.link & 0xffff, u32::from(TSS32));
    equal(
        "call-runs-with-the-task's-registers",
        (state.eax, state.esi, state.ebp),
        (0x42, 0x5151, 0x42),
    );
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
    prepare(traps).eflags = NO_FLAGS;
    equal("flags-that-do-not-exist", go(jump, TASK).err().map(|fault| fault.eflags & !RF), Some(2));
    prepare(reads_dr7);
    let mut registers = Registers { eax: L0_G1, ebx: TASK, ..Registers::default() };
    let fault = call32(jump_with_breakpoints, PROTECTED, &mut registers).err();
    set_dr7(0x400);
    equal(
        "local-breakpoints-end",
        fault.map(|fault| fault.registers.eax & ENABLES),
        Some(L0_G1 & !1),
    );
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
    let state = prepare(traps);
    legacy::set_gate(8, legacy::gate(TASK as u16, 0, TASK_GATE));
    legacy::set_gate(13, 0);
    equal("double-fault-through-a-task-gate", event(call_task, BEYOND), Some(Event::plain(6)));
    equal("double-fault-leaves-a-link", state.link & 0xffff, u32::from(TSS32));
    equal(
        "double-fault-pushes-zero",
        unsafe { STACK.address().cast::<u32>().add(STACK_BYTES / 4 - 1).read_volatile() },
        0,
    );
    let state = prepare(returns);
    for (case, eax) in [("nmi-through-a-task-gate", 0x42), ("nmi-again-after-iret", 0x43)] {
        legacy::set_gate(2, legacy::gate(TASK as u16, 0, TASK_GATE));
        let mut registers =
            Registers { esi: &raw const state.eax as u32, edi: eax, ..Registers::default() };
        check(
            case,
            call32(interrupts_itself, PROTECTED, &mut registers).is_ok() && registers.ecx != 0,
        );
    }
}

/// An NMI that comes while the task of another one runs.
fn nmi_behind_iret() {
    const TF: u32 = 1 << 8;
    let state = prepare(interrupts_itself_and_returns);
    legacy::set_gate(2, legacy::gate(TASK as u16, 0, TASK_GATE));
    let mut registers =
        Registers { esi: &raw const state.eax as u32, edi: 0x43, ..Registers::default() };
    let outcome = call32(interrupts_itself, PROTECTED, &mut registers);
    check("nmi-behind-iret-of-a-task", outcome.is_ok() && registers.ecx != 0);
    let flags = [state.eflags, unsafe { (*legacy::TASK_STATE.address()).eflags }];
    equal("nmi-behind-iret-saves-flags", flags.map(|flags| flags & TF), [0, 0]);
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
    // Of the faults in the new task only those that leave it a stack can be seen without a third
    // task.
    prepare(traps).ds = 0xfff8;
    equal("task-with-a-selector-beyond-the-table", event(jump, TASK), Some(ts(0xfff8)));
    prepare(traps);
    unsafe { (*legacy::TASK_STATE.address()).link = 0xfff8 };
    equal("iret-to-no-task", event(return_to_task, 0), Some(ts(0xfff8)));
}

fn task_of_16_bits() {
    const AVAILABLE_TSS_16: u8 = 0x81;
    prepare(returns);
    let state = unsafe { &mut *OTHER_16.address() };
    *state = TaskState16 {
        ip: legacy::address(returns_16) as u16,
        flags: 2,
        ax: 0x41,
        bp: 0x42,
        sp: 0x7000,
        es: DATA,
        cs: CODE32,
        ss: DATA16,
        ds: DATA,
        ..TaskState16::new()
    };
    let limit = size_of::<TaskState16>() as u32 - 1;
    set_descriptor(FREE, segment(OTHER_16.address() as u32, limit, AVAILABLE_TSS_16, 0));
    check("call-of-a-16-bit-task", go(call_task, TASK).is_ok());
    equal("16-bit-task-has-a-link", state.link, TSS32);
    equal(
        "16-bit-task-has-its-registers",
        (state.ax, state.si, state.bp, state.sp),
        (0x42, 0x5151, 0x42, 0x7000),
    );
    equal(
        "16-bit-task-has-its-segments",
        (state.es, state.cs, state.ss, state.ds),
        (DATA, CODE32, DATA16, DATA),
    );
    equal("16-bit-task-goes-on-behind-iret", u32::from(state.ip), legacy::address(returns_16) + 7);
    set_descriptor(FREE, segment(OTHER_16.address() as u32, limit - 1, AVAILABLE_TSS_16, 0));
    equal("16-bit-task-too-small", event(jump, TASK), Some(ts(TASK)));
}

/// Two address spaces that differ at [`ADDRESS`], in otherwise unused memory.
const TABLES: [u32; 2] = [0x0100_0000, 0x0101_0000];
const FRAMES: [u32; 2] = [0x0140_0000, 0x0180_0000];
const ADDRESS: u32 = 0xc000_0000;

fn page_tables() {
    const P: u32 = 1 << 0;
    const W: u32 = 1 << 1;
    const PS: u32 = 1 << 7;
    const PSE: u32 = 1 << 4;
    const PAE: u32 = 1 << 5;
    const PAGED: u32 = 0x8001_0031;
    for frame in FRAMES {
        poke(u64::from(frame), frame);
    }
    let two_levels = |tables: u32, frame: u32| {
        poke(u64::from(tables), P | W | PS);
        poke(u64::from(tables + (ADDRESS >> 22) * 4), frame | P | W | PS);
    };
    let pae = |tables: u32, frame: u32| {
        let (low, high) = (tables + 0x1000, tables + 0x2000);
        poke(u64::from(tables), u64::from(low | P));
        poke(u64::from(tables + (ADDRESS >> 30) * 8), u64::from(high | P));
        poke(u64::from(low), u64::from(P | W | PS));
        poke(u64::from(high), u64::from(frame | P | W | PS));
    };
    type Fill<'a> = &'a dyn Fn(u32, u32);
    let ways: [(u32, Fill, [&str; 3]); 2] = [
        (PSE, &two_levels, ["task-has-its-cr3", "call-changes-cr3", "iret-changes-cr3"]),
        (
            PAE,
            &pae,
            ["task-has-its-cr3-with-pae", "call-changes-cr3-with-pae", "iret-changes-cr3-with-pae"],
        ),
    ];
    for (cr4, fill, [jumps, calls, returns]) in ways {
        for (tables, frame) in TABLES.into_iter().zip(FRAMES) {
            poke(u64::from(tables), [0_u8; 0x3000]);
            fill(tables, frame);
        }
        let mode = Mode { cr0: PAGED, cr3: TABLES[0], cr4: PROTECTED.cr4 | cr4 };
        let task = |code| {
            let state = prepare(code);
            (state.cr3, state.esi) = (TABLES[1], ADDRESS);
            state
        };
        task(reads);
        let mut registers = Registers { ebx: TASK, ..Registers::default() };
        let fault = call32(jump, mode, &mut registers).err();
        equal(
            jumps,
            fault.map(|fault| (fault.event, fault.registers.eax)),
            Some((Event::plain(6), FRAMES[1])),
        );
        let state = task(reads_and_returns);
        // CR3 is not saved.
        unsafe { (*legacy::TASK_STATE.address()).cr3 = TABLES[0] };
        let mut registers = Registers { ebx: TASK, esi: ADDRESS, ..Registers::default() };
        let result = call32(call_and_read, mode, &mut registers);
        equal(calls, state.eax, FRAMES[1]);
        equal(returns, result.ok().map(|()| registers.eax), Some(FRAMES[0]));
    }
}

/// A task whose FS is of its own descriptor table.
fn with_local_table() -> &'static mut TaskState32 {
    const LDT: u8 = 0x82;
    const WRITABLE_DATA: u8 = 0x92;
    LOCAL_TABLE.set([0, segment(LOCAL_VALUE.address() as u32, 3, WRITABLE_DATA, 0)]);
    let state = prepare(reads_local);
    set_descriptor(LOCAL as u16, segment(LOCAL_TABLE.address() as u32, 15, LDT, 0));
    (state.ldt, state.fs) = (LOCAL, 8 | 4);
    state
}

fn local_table() {
    const ACCESSED: u64 = 1 << 40;
    with_local_table();
    let fault = go(jump, TASK).err();
    equal(
        "task-with-a-local-table",
        fault.map(|fault| (fault.event, fault.registers.eax)),
        Some((Event::plain(6), LOCAL_VALUE.get())),
    );
    equal("local-segment-is-accessed", LOCAL_TABLE.get()[1] & ACCESSED, ACCESSED);
    with_local_table().fs = 16 | 4;
    equal("beyond-the-local-table", event(jump, TASK), Some(ts(16 | 4)));
}

/// Faults while an event is delivered by a task switch (sections 6.13 and 6.15).
fn faults_of_gates() {
    let gate_to = |vector, task: u32| {
        legacy::set_gate(vector, legacy::gate(task as u16, 0, TASK_GATE));
    };
    prepare(traps).ds = BEYOND;
    gate_to(0x90, TASK);
    equal("fault-of-a-software-interrupt", event(interrupt, 0), Some(ts(BEYOND)));
    prepare(traps).ds = BEYOND;
    gate_to(6, TASK);
    equal("fault-of-an-exception-has-ext", event(traps, 0), Some(ts(BEYOND | 1)));
    prepare(traps).ds = BEYOND;
    gate_to(13, TASK);
    equal("fault-of-a-fault-is-a-double-fault", event(call_task, BEYOND), Some(DF));
    prepare(traps).ds = BEYOND;
    let third = unsafe { &mut *THIRD_STATE.address() };
    *third = TaskState32 { ds: BEYOND, ..unsafe { *OTHER.address() } };
    set_descriptor(THIRD as u16, task_descriptor(third));
    gate_to(10, THIRD);
    equal("invalid-tss-by-its-own-gate-is-a-double-fault", event(jump, TASK), Some(DF));
}

/// Faults of SS, CS and the local table, whose handler finds the stack of ring 0 in the task's own
/// state.
fn faults_of_segments() {
    const ABSENT: u32 = THIRD;
    const ABSENT_DATA: u64 = 0x00cf_7300_0000_ffff;
    let user = || {
        let state = prepare(traps);
        (state.cs, state.ss) = (USER_CODE32.into(), USER_DATA.into());
        (state.ds, state.es, state.fs, state.gs) = (0, 0, 0, 0);
        state.esp = 0x7000;
        set_descriptor(ABSENT as u16, ABSENT_DATA);
        state
    };
    user().ss = BEYOND;
    equal("stack-beyond-the-table", event(jump, TASK), Some(ts(BEYOND)));
    user().ss = ABSENT | 3;
    equal("stack-not-present", event(jump, TASK), Some(ss(ABSENT)));
    user().ss = DATA.into();
    equal("stack-of-another-ring", event(jump, TASK), Some(ts(DATA.into())));
    user().cs = BEYOND | 3;
    equal("code-beyond-the-table", event(jump, TASK), Some(ts(BEYOND)));
    user().cs = USER_DATA.into();
    equal("code-in-data", event(jump, TASK), Some(ts(u32::from(USER_DATA) & !3)));
    user().ldt = BEYOND;
    equal("local-table-beyond-the-table", event(jump, TASK), Some(ts(BEYOND)));
    user().ds = ABSENT | 3;
    equal("data-not-present", event(jump, TASK), Some(np(ABSENT)));
}
