//! Tables, stacks and tasks of 32-bit code.

use conformance::Global;
use conformance::cpu::{peek, poke};
use conformance::descriptors::{CODE32, DATA, FREE, descriptor, segment, set_descriptor};
use conformance::interrupts::{DE, UD, gp};
use conformance::legacy::{self, Fault, PROTECTED, Registers, TSS32, TaskState32, call32};
use conformance::report::{check, equal};

use crate::{at, copy};

const TASK: u16 = FREE;
const TASK_GATE: u16 = FREE + 8;
const CALL_GATE: u16 = FREE + 16;
const OWN_TASK: u16 = FREE + 24;
const FLAT: u16 = FREE + 32;
/// A selector beyond the table.
const BEYOND: u32 = 0xfff8;
const BUSY: u64 = 1 << 41;
const TF: u32 = 1 << 8;
const NT: u32 = 1 << 14;
const GATE_TO_TASK: u8 = 0x85;
const INTERRUPT_GATE: u8 = 0x8e;
const CALL_GATE_RING3: u8 = 0xec;
const RING3: u32 = 3;

/// LGDT's and LIDT's operand.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Pointer {
    limit: u16,
    base: u32,
}

static POINTER: Global<Pointer> = Global::new(Pointer { limit: 0, base: 0 });

conformance::assembly! {
    fn store_idt() { ".code32" "sidt [esi]" "ret" ".code64" }
    fn store_gdt() { ".code32" "sgdt [esi]" "ret" ".code64" }
    // With the interrupt descriptor table at ESI.
    fn undefined() { ".code32" "lidt [esi]" "ud2" ".code64" }
    fn divides() { ".code32" "lidt [esi]" "xor ecx, ecx" "div ecx" ".code64" }
    fn loads_beyond() { ".code32" "lidt [esi]" "mov eax, 0xfff8" "mov fs, eax" ".code64" }
    // Also on the stack at EDI; the interrupt's handler is `counts`.
    fn interrupts() { ".code32" "lidt [esi]" "xor eax, eax" "int 0x90" "ret" ".code64" }
    fn interrupts_on_stack() {
        ".code32" "lidt [esi]" "xor eax, eax" "xchg esp, edi" "push 0x1234" "int 0x90" "pop ebx"
        "xchg esp, edi" "ret" ".code64"
    }
    fn faults_on_stack() { ".code32" "lidt [esi]" "mov esp, edi" "ud2" ".code64" }
    // Software interrupts right behind a load of SS from the memory at EDI.
    fn behind_mov() { ".code32" "xor eax, eax" "mov ss, [edi]" "int 0x90" "ret" ".code64" }
    fn int3_behind_mov() { ".code32" "xor eax, eax" "mov ss, [edi]" "int3" "ret" ".code64" }
    fn into_behind_mov() {
        ".code32" "mov eax, 0x7fffffff" "inc eax" "mov eax, 0" "mov ss, [edi]" "into" "ret"
        ".code64"
    }
    fn int1_behind_mov() { ".code32" "xor eax, eax" "mov ss, [edi]" ".byte 0xf1" "ret" ".code64" }
    fn behind_pop() {
        ".code32" "xor eax, eax" "mov ebx, esp" "mov esp, edi" "pop ss" "int 0x90" "mov esp, ebx"
        "ret" ".code64"
    }
    fn behind_lss() {
        ".code32" "xor eax, eax" "mov [edi], esp" "mov word ptr [edi + 4], 0x10" "lss esp, [edi]"
        "int 0x90"
        "ret" ".code64"
    }
    // Counts in EAX, and leaves the flags saved in EDX.
    fn counts() { ".code32" "inc eax" "mov edx, [esp + 8]" "iretd" ".code64" }
    // With the global descriptor table at ESI and the selector in EBX.
    fn loads_fs() { ".code32" "lgdt [esi]" "mov fs, ebx" "mov eax, fs:[0]" "ret" ".code64" }
    fn calls_gate() {
        ".code32" "lgdt [esi]" "push ebx" "push 0" "call fword ptr [esp]" "add esp, 8" "ret"
        ".code64"
    }
    fn returns_far() { ".code32" "mov eax, 0x600d" "retf" ".code64" }
    // In the task in ECX to ring 3, code at EDX and stack at EDI; there through the gate in EBX.
    fn to_ring_3() {
        ".code32" "ltr cx" "push 0x3b" "push edi" "push 0x33" "push edx" "retf" ".code64"
    }
    fn calls_ring_0() { ".code32" "push ebx" "push 0" "call fword ptr [esp]" ".code64" }
    fn shows_ring() { ".code32" "mov eax, cs" "mov edi, esp" "ud2" ".code64" }
    fn interrupts_ring_0() { ".code32" "int 0x93" ".code64" }
    // A far jump, a far call, to the selector in EBX; an interrupt. The own task may be another:
    // ECX.
    fn jumps() { ".code32" "push ebx" "push 0" "jmp fword ptr [esp]" ".code64" }
    fn calls_task() {
        ".code32" "jecxz 2f" "ltr cx" "2: push ebx" "push 0" "call fword ptr [esp]" "add esp, 8"
        "mov edx, 0x7a5c"
        "ret" ".code64"
    }
    fn interrupts_task() { ".code32" "jecxz 2f" "ltr cx" "2: int 0x92" "mov edx, 0x7a5c" "ret"
        ".code64" }
    // The other task: back by IRET; a trap.
    fn returns() { ".code32" "2: inc eax" "push eax" "pop esi" "iretd" "jmp 2b" ".code64" }
    fn traps() { ".code32" "pop esi" "ud2" ".code64" }
}

pub fn run() {
    let table = move_interrupt_table();
    interrupts_by_table(table);
    loads_of_ss();
    global_table();
    rings();
    tasks();
}

/// The operand that loads a table: its place, for ESI.
fn pointer_to(base: u64, limit: u16) -> u32 {
    POINTER.set(Pointer { limit, base: base as u32 });
    POINTER.address() as u32
}

/// Copies the interrupt descriptor table to the planes. Returns its limit.
fn move_interrupt_table() -> u16 {
    let mut registers = Registers { esi: POINTER.address() as u32, ..Registers::default() };
    check("32-bit-idt-is-stored", call32(store_idt, PROTECTED, &mut registers).is_ok());
    let Pointer { limit, base } = POINTER.get();
    copy(base.into(), at::IDT, u64::from(limit) + 1);
    poke(at::IDT + 8 * 0x90, legacy::gate(CODE32, legacy::address(counts), INTERRUPT_GATE));
    limit
}

fn go(code: extern "C" fn(), registers: Registers) -> Result<Registers, Fault> {
    let mut registers = registers;
    call32(code, PROTECTED, &mut registers).map(|()| registers)
}

fn interrupts_by_table(limit: u16) {
    let esi = pointer_to(at::IDT, limit);
    let with = |edi: u64| Registers { esi, edi: edi as u32, ..Registers::default() };
    let event = |code| go(code, with(0)).err().map(|fault| fault.event);
    equal("32-bit-idt-undefined-opcode", event(undefined), Some(UD));
    equal("32-bit-idt-divide-error", event(divides), Some(DE));
    equal("32-bit-idt-protection", event(loads_beyond), Some(gp(BEYOND)));
    let counted = |registers: Registers| (registers.eax, registers.edx & TF);
    equal(
        "32-bit-idt-interrupt-comes-once",
        go(interrupts, with(0)).ok().map(counted),
        Some((1, 0)),
    );
    let registers = go(interrupts_on_stack, with(at::STACK_END)).ok();
    equal(
        "32-bit-stack-of-interrupts",
        registers.map(|registers| (counted(registers), registers.ebx)),
        Some(((1, 0), 0x1234)),
    );
    let fault = go(faults_on_stack, with(at::STACK_END)).err();
    equal("32-bit-stack-of-faults", fault.map(|fault| fault.event), Some(UD));
    let saved: [u32; 3] = core::array::from_fn(|index| peek(at::STACK_END - 12 + 4 * index as u64));
    equal("32-bit-stack-has-the-frame", Some(saved[0]), fault.map(|fault| fault.eip));
}

/// No step of a hypervisor's shows in the flags that an interrupt right behind a load of SS saves.
fn loads_of_ss() {
    for (case, code) in [
        ("32-bit-int-behind-mov-ss", behind_mov as extern "C" fn()),
        ("32-bit-int3-behind-mov-ss", int3_behind_mov),
        ("32-bit-into-behind-mov-ss", into_behind_mov),
        ("32-bit-int1-behind-mov-ss", int1_behind_mov),
        ("32-bit-int-behind-pop-ss", behind_pop),
        ("32-bit-int-behind-lss", behind_lss),
    ] {
        for vector in [1, 3, 4, 0x90] {
            legacy::set_gate(vector, legacy::gate(CODE32, legacy::address(counts), INTERRUPT_GATE));
        }
        poke(at::STACK_END - 0x800, u32::from(DATA));
        let registers = Registers { edi: at::STACK_END as u32 - 0x800, ..Registers::default() };
        let outcome = go(code, registers).map_err(|fault| fault.event);
        equal(case, outcome.map(|registers| (registers.eax, registers.edx & TF)), Ok((1, 0)));
    }
}

fn global_table() {
    const WRITABLE: u8 = 0x92;
    poke(at::DATA, 0x10ca_10ca_u32);
    set_descriptor(FLAT, segment(at::DATA as u32, 0xfff, WRITABLE, 4));
    set_descriptor(CALL_GATE, legacy::gate(CODE32, legacy::address(returns_far), CALL_GATE_RING3));
    let mut registers = Registers { esi: POINTER.address() as u32, ..Registers::default() };
    check("32-bit-gdt-is-stored", call32(store_gdt, PROTECTED, &mut registers).is_ok());
    let Pointer { limit, base } = POINTER.get();
    copy(base.into(), at::GDT, u64::from(limit) + 1);
    let esi = pointer_to(at::GDT, limit);
    let with = |ebx: u32| Registers { esi, ebx, ..Registers::default() };
    let value = |code, selector| {
        go(code, with(selector)).map(|registers| registers.eax).map_err(|fault| fault.event)
    };
    equal("32-bit-gdt-segment", value(loads_fs, FLAT.into()), Ok(0x10ca_10ca));
    equal("32-bit-gdt-segment-is-accessed", peek(at::GDT + u64::from(FLAT) + 5), WRITABLE | 1);
    equal("32-bit-gdt-beyond-it", value(loads_fs, BEYOND), Err(gp(BEYOND)));
    equal("32-bit-gdt-call-gate", value(calls_gate, CALL_GATE.into()), Ok(0x600d));
}

/// A task state on the planes, and its descriptor.
fn put_task(selector: u16, at: u64, state: TaskState32) {
    let bytes = size_of::<TaskState32>() as u64;
    copy(&raw const state as u64, at, bytes);
    const AVAILABLE_TSS: u8 = 0x89;
    set_descriptor(selector, segment(at as u32, bytes as u32 - 1, AVAILABLE_TSS, 0));
}

fn own_state() -> TaskState32 {
    TaskState32 { esp0: at::STACK_END as u32, ss0: DATA.into(), ..TaskState32::new() }
}

/// From ring 3 to ring 0: the stack of that ring is found in the task state, and is on the planes
/// too.
fn rings() {
    const USER_STACK: u32 = 0x0130_1000;
    set_descriptor(CALL_GATE, legacy::gate(CODE32, legacy::address(shows_ring), CALL_GATE_RING3));
    for (case, code) in [
        ("32-bit-call-gate-from-ring-3", calls_ring_0 as extern "C" fn()),
        ("32-bit-interrupt-from-ring-3", interrupts_ring_0),
    ] {
        put_task(OWN_TASK, at::TASK, own_state());
        legacy::set_gate(
            0x93,
            legacy::gate(CODE32, legacy::address(shows_ring), INTERRUPT_GATE | 0x60),
        );
        let registers = Registers {
            ebx: u32::from(CALL_GATE) | RING3,
            ecx: OWN_TASK.into(),
            edx: legacy::address(code),
            edi: USER_STACK,
            ..Registers::default()
        };
        let fault = go(to_ring_3, registers).err();
        let found = fault
            .map(|fault| (fault.event, fault.registers.eax & 0xffff, fault.registers.edi >> 12));
        equal(case, found, Some((UD, CODE32.into(), (at::STACK_END - 1) as u32 >> 12)));
    }
}

/// A task on the planes, with its stack, whose top has a word.
fn prepare(code: extern "C" fn()) {
    let stack = at::OTHER_STACK_END as u32 - 4;
    poke(stack.into(), 0x5ac3_u32);
    put_task(
        TASK,
        at::OTHER_TASK,
        TaskState32 { eax: 0x41, ebp: 0x42, ..TaskState32::flat(code, stack) },
    );
    set_descriptor(TASK_GATE, legacy::gate(TASK, 0, GATE_TO_TASK));
    put_task(OWN_TASK, at::TASK, own_state());
    legacy::reset_gates();
    legacy::set_gate(0x92, legacy::gate(TASK, 0, GATE_TO_TASK));
}

/// EAX, ESI, EBP and the link of the task on the planes.
fn state_of_task() -> (u32, u32, u32, u32) {
    let word = |offset: usize| peek::<u32>(at::OTHER_TASK + offset as u64);
    let offset = core::mem::offset_of!(TaskState32, eax);
    let (ebp, esi) =
        (core::mem::offset_of!(TaskState32, ebp), core::mem::offset_of!(TaskState32, esi));
    (word(offset), word(esi), word(ebp), word(0) & 0xffff)
}

fn tasks() {
    let to = |selector: u16, own: u16| Registers {
        ebx: selector.into(),
        ecx: own.into(),
        ..Registers::default()
    };
    let end = |outcome: Result<Registers, Fault>| {
        outcome.map(|registers| registers.edx).map_err(|fault| fault.event)
    };
    const BACK: u32 = 0x7a5c;
    let own_flags = core::mem::offset_of!(TaskState32, eflags);

    prepare(traps);
    let fault = go(jumps, to(TASK, 0)).err();
    equal(
        "task-by-jump",
        fault.map(|fault| (fault.event, fault.eip, fault.registers.esi, fault.registers.ebp)),
        Some((UD, legacy::address(traps) + 1, 0x5ac3, 0x42)),
    );
    equal("task-by-jump-is-busy", descriptor(TASK) & BUSY, BUSY);

    prepare(returns);
    equal("task-by-call", end(go(calls_task, to(TASK, 0))), Ok(BACK));
    equal("task-by-call-has-its-state", state_of_task(), (0x42, 0x42, 0x42, TSS32.into()));
    equal(
        "task-by-call-saves-flags",
        unsafe { (*legacy::TASK_STATE.address()).eflags } & (TF | NT),
        0,
    );
    equal("task-by-call-again", end(go(calls_task, to(TASK_GATE, 0))), Ok(BACK));
    equal("task-by-call-goes-on", state_of_task(), (0x43, 0x43, 0x42, TSS32.into()));

    prepare(returns);
    equal("task-by-call-from-a-task-there", end(go(calls_task, to(TASK, OWN_TASK))), Ok(BACK));
    equal("task-there-is-linked", state_of_task(), (0x42, 0x42, 0x42, OWN_TASK.into()));
    equal("task-there-saves-flags", peek::<u32>(at::TASK + own_flags as u64) & (TF | NT), 0);
    equal("task-there-stays-busy", descriptor(OWN_TASK) & BUSY, BUSY);
    equal("task-is-free", descriptor(TASK) & BUSY, 0);

    prepare(returns);
    equal("task-by-interrupt", end(go(interrupts_task, to(0, OWN_TASK))), Ok(BACK));
    equal("task-by-interrupt-is-linked", state_of_task(), (0x42, 0x42, 0x42, OWN_TASK.into()));
    equal("task-by-interrupt-saves-flags", peek::<u32>(at::TASK + own_flags as u64) & (TF | NT), 0);

    prepare(traps);
    legacy::set_gate(13, legacy::gate(TASK, 0, GATE_TO_TASK));
    let fault = go(jumps, Registers { ebx: BEYOND, ..Registers::default() }).err();
    equal(
        "task-by-fault-has-its-error-code",
        fault.map(|fault| (fault.event, fault.registers.esi)),
        Some((UD, BEYOND)),
    );
    legacy::reset_gates();
}
