//! Tables and stacks of 64-bit code.

use core::arch::asm;

use conformance::Global;
use conformance::apic::{self, register::*};
use conformance::cpu::{inb, outb, peek, poke};
use conformance::descriptors::{
    self, CODE64, DATA, FREE, TSS64, TablePointer, TaskState64, segment, set_descriptor,
};
use conformance::interrupts::{
    self, BP, DB, DE, Event, Frame, UD, catch, gp, handle, load_table, np, pf,
};
use conformance::legacy;
use conformance::report::{check, equal};
use conformance::user;

use crate::{at, copy};

const VECTOR: u8 = 0x90;
/// The interrupt stack table's entry on the planes.
const STACK_ENTRY: u8 = 3;
const NOWHERE: u64 = 0x100_0000_0000;
const TF: u64 = 1 << 8;
const USER: u64 = 3;

/// How often the handler ran, and the last frame's RIP, RSP and flags.
static SEEN: Global<(u32, u64, u64, u64)> = Global::new((0, 0, 0, 0));
static POINTER: Global<FarPointer> = Global::new(FarPointer { offset: 0, selector: 0 });

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct FarPointer {
    offset: u32,
    selector: u16,
}

conformance::assembly! {
    // Through the call gate in the pointer at RDI, which leaves the own privilege level in EAX.
    fn call_gate() { "xor eax, eax" "call fword ptr [rdi]" "int 0x82" }
    fn call_gate_and_return() { "xor eax, eax" "call fword ptr [rdi]" "ret" }
    fn behind_gate() { "mov eax, cs" "retfq" }
    fn interrupt_82() { "int 0x82" }
}

pub fn run() {
    handle(VECTOR, Some(note));
    interrupts_by_table();
    stacks();
    global_table();
    local_table();
    task_state();
    handle(VECTOR, None);
}

fn note(frame: &mut Frame) {
    let (count, ..) = SEEN.get();
    SEEN.set((count + 1, frame.rip, frame.rsp, frame.rflags));
    if apic::is_set(ISR, VECTOR) {
        apic::end_of_interrupt();
    }
}

fn stored_table() -> TablePointer {
    let mut pointer = TablePointer { limit: 0, base: 0 };
    unsafe { asm!("sidt [{}]", in(reg) &raw mut pointer) };
    pointer
}

/// Loads the interrupt descriptor table's copy on the planes.
fn move_interrupt_table() {
    let TablePointer { limit, base } = stored_table();
    copy(base, at::IDT, u64::from(limit) + 1);
    let pointer = TablePointer { limit, base: at::IDT };
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

fn event(body: impl FnOnce()) -> Option<Event> {
    catch(body).err().map(|fault| fault.event)
}

/// How often the handler ran in `body`, and whether the flags that it found have TF; or another
/// event.
fn handled(body: impl FnOnce()) -> Result<(u32, bool), Event> {
    SEEN.set((0, 0, 0, 0));
    catch(body).map_err(|fault| fault.event)?;
    let (count, _, _, flags) = SEEN.get();
    Ok((count, flags & TF != 0))
}

const ONCE: Result<(u32, bool), Event> = Ok((1, false));

fn int_n() {
    unsafe { asm!("int 0x90") };
}

fn interrupts_by_table() {
    move_interrupt_table();
    equal("idt-undefined-opcode", event(|| unsafe { asm!("ud2") }), Some(UD));
    equal("idt-breakpoint", event(|| unsafe { asm!("int3") }), Some(BP));
    equal(
        "idt-divide-error",
        event(|| unsafe { asm!("div ecx", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _) }),
        Some(DE),
    );
    equal(
        "idt-protection",
        event(|| unsafe { asm!("mov ds, eax", in("eax") 0xfff8) }),
        Some(gp(0xfff8)),
    );
    let fault = catch(|| {
        peek::<u8>(NOWHERE);
    });
    equal(
        "idt-page-fault",
        fault.err().map(|fault| (fault.event, fault.cr2)),
        Some((pf(0), NOWHERE)),
    );
    equal("idt-interrupt-comes-once", handled(int_n), ONCE);
    equal(
        "idt-interrupt-behind-a-load-of-ss",
        handled(|| {
            poke(at::DATA, DATA);
            unsafe { asm!("mov ss, [{}]", "int 0x90", in(reg) at::DATA) };
        }),
        ONCE,
    );
    let trapped =
        catch(|| unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop") }).err();
    equal("idt-single-step", trapped.map(|fault| (fault.event, fault.rflags & TF)), Some((DB, TF)));
    let gate = at::IDT + 16 * 0x91;
    copy(at::IDT + 16 * u64::from(VECTOR), gate, 16);
    poke(gate + 5, 0x0e_u8);
    let absent = np(0x91 * 8 + 2);
    equal("idt-gate-not-present", event(|| unsafe { asm!("int 0x91") }), Some(absent));
    let counted = handled(|| {
        equal("idt-undefined-opcode-again", event(|| unsafe { asm!("ud2") }), Some(UD));
        int_n();
    });
    equal("idt-interrupt-after-faults", counted, ONCE);
    load_table();
}

/// An interrupt of the local APIC's to itself.
pub fn local_interrupt() {
    const SELF_FIXED: u32 = 1 << 18 | 1 << 14;
    handle(VECTOR, Some(note));
    move_interrupt_table();
    // Those of the 8259 pair wait for the BIOS's handlers.
    let masks = [0x21, 0xa1].map(|port| (port, inb(port)));
    masks.iter().for_each(|&(port, _)| outb(port, 0xff));
    apic::enable();
    let counted = handled(|| {
        apic::write(ICR_LOW, SELF_FIXED | u32::from(VECTOR));
        unsafe { asm!("sti", "nop", "nop", "nop", "cli") };
    });
    masks.iter().for_each(|&(port, mask)| outb(port, mask));
    equal("idt-local-interrupt", counted, ONCE);
    load_table();
    handle(VECTOR, None);
}

fn stacks() {
    let on_planes = |rsp: u64| (at::STACK_END - 0x1000..at::STACK_END).contains(&rsp);
    // PUSH, CALL, INT n, IRET, RET and POP.
    let mut value = 0_u64;
    let counted = handled(|| unsafe {
        asm!(
            "xchg rsp, {stack}", "push 0x1234", "call 2f", "jmp 3f",
            "2: int 0x90", "add qword ptr [rsp + 8], 1", "ret", "3: pop {value}",
            "xchg rsp, {stack}",
            stack = inout(reg) at::STACK_END => _, value = out(reg) value
        );
    });
    equal("stack-of-interrupts", (counted, value), (ONCE, 0x1235));
    check("stack-saved", on_planes(SEEN.get().2));
    let stack = unsafe { (&raw mut (*descriptors::TASK_STATE.address()).ist).cast::<u64>() };
    unsafe { stack.add(usize::from(STACK_ENTRY) - 1).write_unaligned(at::STACK_END) };
    let mut gate = interrupts::gate(VECTOR);
    gate.ist = STACK_ENTRY;
    interrupts::set_gate(VECTOR, gate);
    equal("stack-of-the-table", handled(int_n), ONCE);
    let frame: [u64; 5] = core::array::from_fn(|index| peek(at::STACK_END - 40 + 8 * index as u64));
    equal("stack-has-the-frame", [frame[0], frame[3]], [SEEN.get().1, SEEN.get().2]);
    move_interrupt_table();
    equal("stack-and-idt", handled(int_n), ONCE);
    load_table();
    gate.ist = 0;
    interrupts::set_gate(VECTOR, gate);
    iret();
}

/// IRET of a frame on the planes.
fn iret() {
    let rsp: u64;
    unsafe {
        asm!(
            "mov {saved}, rsp", "mov rsp, {stack}", "push {ss}", "push {saved}", "push 2",
            "push {cs}", "lea {target}, [rip + 2f]", "push {target}", "iretq", "2:",
            "mov {saved}, rsp",
            saved = out(reg) rsp, target = out(reg) _, stack = in(reg) at::STACK_END,
            ss = in(reg) u64::from(DATA), cs = in(reg) u64::from(CODE64)
        );
    }
    check("stack-of-iret", !(at::STACK_END - 0x1000..=at::STACK_END).contains(&rsp));
}

const GDT_BYTES: u64 = 64 * 8;

fn load_global_table(base: u64) {
    let pointer = TablePointer { limit: GDT_BYTES as u16 - 1, base };
    unsafe { asm!("lgdt [{}]", in(reg) &raw const pointer) };
}

fn own_global_table() -> u64 {
    let mut pointer = TablePointer { limit: 0, base: 0 };
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut pointer) };
    pointer.base
}

fn load_fs(selector: u16) {
    unsafe { asm!("mov fs, {:e}", in(reg) u32::from(selector)) };
}

/// The first 32 bits of the segment in FS.
fn read_fs() -> u32 {
    let value;
    unsafe { asm!("mov {:e}, fs:[0]", out(reg) value) };
    value
}

const WRITABLE: u8 = 0x92;
const READABLE_CODE: u8 = 0x9a;

fn global_table() {
    let own = own_global_table();
    poke(at::DATA, 0x10ca_10ca_u32);
    set_descriptor(FREE, segment(at::DATA as u32, 0xfff, WRITABLE, 0));
    set_descriptor(FREE + 8, 0x00af_0000_0000_ffff | u64::from(READABLE_CODE) << 40);
    set_descriptor(FREE + 16, segment(0, 0xfff, WRITABLE & 0x7f, 0));
    set_call_gate(FREE + 24, CODE64);
    copy(own, at::GDT, GDT_BYTES);
    load_global_table(at::GDT);
    let access = |selector: u16| peek::<u8>(at::GDT + u64::from(selector) + 5);
    load_fs(FREE);
    equal("gdt-data-segment", read_fs(), 0x10ca_10ca);
    equal("gdt-data-segment-is-accessed", access(FREE), WRITABLE | 1);
    equal("gdt-segment-not-present", event(|| load_fs(FREE + 16)), Some(np(u32::from(FREE) + 16)));
    equal("gdt-selector-beyond-it", event(|| load_fs(0xfff8)), Some(gp(0xfff8)));
    unsafe {
        asm!(
            "push {cs}", "lea {at}, [rip + 2f]", "push {at}", "retfq", "2:",
            cs = in(reg) u64::from(FREE) + 8, at = out(reg) _
        );
    }
    equal("gdt-far-return", access(FREE + 8), READABLE_CODE | 1);
    unsafe {
        asm!(
            "push {cs}", "lea {at}, [rip + 2f]", "push {at}", "retfq", "2:",
            cs = in(reg) u64::from(CODE64), at = out(reg) _
        );
    }
    let (limit, rights): (u32, u32);
    unsafe {
        asm!("lsl {:e}, {:e}", out(reg) limit, in(reg) u32::from(FREE));
        asm!("lar {:e}, {:e}", out(reg) rights, in(reg) u32::from(FREE));
    }
    equal("gdt-limit-and-rights", (limit, rights), (0xfff, 0x9300));
    POINTER.set(FarPointer { offset: 0, selector: FREE + 24 });
    equal("gdt-call-gate", through_gate(), u32::from(CODE64));
    // The gate of ring 0 leads back to where it came from.
    equal("gdt-interrupt", handled(int_n), ONCE);
    poke(at::GDT + u64::from(TSS64) + 5, 0x89_u8);
    unsafe { asm!("ltr {0:x}", in(reg) TSS64) };
    equal("gdt-task-is-busy", access(TSS64), 0x8b);
    move_interrupt_table();
    equal("gdt-and-idt", handled(int_n), ONCE);
    equal("gdt-and-idt-fault", event(|| unsafe { asm!("ud2") }), Some(UD));
    load_table();
    load_global_table(own);
    descriptors::load_task_state();
    load_fs(0);
}

/// A call gate of 64 bits to [`behind_gate`], for ring 3 too.
fn set_call_gate(selector: u16, code: u16) {
    const CALL_GATE_RING3: u64 = 0xec;
    let offset = u64::from(legacy::address(behind_gate));
    let low = offset & 0xffff
        | u64::from(code) << 16
        | CALL_GATE_RING3 << 40
        | (offset >> 16 & 0xffff) << 48;
    set_descriptor(selector, low);
    set_descriptor(selector + 8, offset >> 32);
}

fn through_gate() -> u32 {
    let selector;
    unsafe {
        asm!(
            "call {}", in(reg) u64::from(legacy::address(call_gate_and_return)),
            in("rdi") POINTER.address(), out("eax") selector
        );
    }
    selector
}

fn local_table() {
    const LDT: u8 = 0x82;
    poke(at::DATA, 0x10ca_10ca_u32);
    poke(at::LDT, 0_u64);
    poke(at::LDT + 8, segment(at::DATA as u32, 0xfff, WRITABLE, 0));
    set_descriptor(FREE, segment(at::LDT as u32, 15, LDT, 0));
    set_descriptor(FREE + 8, 0);
    unsafe { asm!("lldt {0:x}", in(reg) FREE) };
    load_fs(8 | 4);
    equal("ldt-segment", read_fs(), 0x10ca_10ca);
    equal("ldt-segment-is-accessed", peek(at::LDT + 13), WRITABLE | 1);
    equal("ldt-selector-beyond-it", event(|| load_fs(16 | 4)), Some(gp(16 | 4)));
    load_fs(0);
    unsafe { asm!("lldt {0:x}", in(reg) 0) };
}

fn task_state() {
    const AVAILABLE_TSS: u8 = 0x89;
    let size = size_of::<TaskState64>() as u64;
    copy(descriptors::TASK_STATE.address() as u64, at::TASK, size);
    // The stack of ring 0.
    poke(at::TASK + 4, at::STACK_END);
    set_descriptor(TSS64, segment(at::TASK as u32, size as u32 - 1, AVAILABLE_TSS, 0));
    set_descriptor(TSS64 + 8, 0);
    unsafe { asm!("ltr {0:x}", in(reg) TSS64) };
    let fault = user::run(interrupt_82, 0, 0);
    equal("tss-interrupt-from-ring-3", (fault.event, u64::from(fault.cs) & 3), (user::END, USER));
    equal("tss-frame-is-on-the-planes", peek::<u64>(at::STACK_END - 16), fault.rsp);
    set_call_gate(FREE, CODE64);
    POINTER.set(FarPointer { offset: 0, selector: FREE | 3 });
    let fault = user::run(call_gate, 0, POINTER.address() as u64);
    equal("tss-call-gate-from-ring-3", (fault.event, u64::from(fault.cs) & 3), (user::END, USER));
    move_interrupt_table();
    let fault = user::run(interrupt_82, 0, 0);
    equal("tss-and-idt", (fault.event, u64::from(fault.cs) & 3), (user::END, USER));
    load_table();
    descriptors::load_task_state();
}
