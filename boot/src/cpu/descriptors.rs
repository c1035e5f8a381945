//! GDT, TSS and IDT.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;

/// The hypervisor's code segment.
pub const CODE_SELECTOR: u16 = 0x08;
/// The hypervisor's data segment.
pub const DATA_SELECTOR: u16 = 0x10;
const TASK_SELECTOR: u16 = 0x18;

const CODE_SEGMENT: u64 = 0x00af_9b00_0000_ffff;
const DATA_SEGMENT: u64 = 0x00cf_9300_0000_ffff;
/// An available 64-bit TSS, limit and base to be filled in.
const TASK_SEGMENT: u64 = 0x0000_8900_0000_0000;

/// Numbers of the stacks in the TSS.
const NMI_STACK: u8 = 1;
const DOUBLE_FAULT_STACK: u8 = 2;
const MACHINE_CHECK_STACK: u8 = 3;

/// The 64-bit TSS (Intel SDM volume 3, 8.7).
#[repr(C, packed(4))]
struct TaskState {
    reserved_0: u32,
    stacks: [u64; 3],
    reserved_1: u64,
    interrupt_stacks: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    io_map: u16,
}

/// The operand of LGDT and LIDT.
#[repr(C, packed(2))]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// A CPU's GDT and TSS.
#[repr(C, align(16))]
pub struct Descriptors {
    gdt: [u64; 5],
    task: TaskState,
}

impl Descriptors {
    /// Tables to be loaded later.
    pub const fn new() -> Self {
        Self {
            gdt: [0, CODE_SEGMENT, DATA_SEGMENT, 0, 0],
            task: TaskState {
                reserved_0: 0,
                stacks: [0; 3],
                reserved_1: 0,
                interrupt_stacks: [0; 7],
                reserved_2: 0,
                reserved_3: 0,
                io_map: size_of::<TaskState>() as u16,
            },
        }
    }

    /// Loads the tables and the IDT into this CPU. `stack_tops`: for NMI, double fault and machine
    /// check.
    ///
    /// # Safety
    /// `self` must stay where it is for ever, and so must the stacks.
    pub unsafe fn load(&mut self, stack_tops: [u64; 3]) {
        let [nmi, double_fault, machine_check] = stack_tops;
        self.task.interrupt_stacks = [nmi, double_fault, machine_check, 0, 0, 0, 0];
        let base = &raw const self.task as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        self.gdt[3] =
            TASK_SEGMENT | limit | ((base & 0xff_ffff) << 16) | ((base >> 24 & 0xff) << 56);
        self.gdt[4] = base >> 32;
        let gdt = TablePointer {
            limit: size_of_val(&self.gdt) as u16 - 1,
            base: self.gdt.as_ptr() as u64,
        };
        let idt =
            TablePointer { limit: size_of::<[Gate; 256]>() as u16 - 1, base: IDT.0.get() as u64 };
        // SAFETY: the tables are complete and stay for ever (caller's promise); the new code
        // segment is like the one in use, so execution goes on behind the far return.
        unsafe {
            asm!(
                "lgdt [{gdt}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "mov ss, {data:e}",
                "lidt [{idt}]",
                "ltr {task:x}",
                gdt = in(reg) &raw const gdt,
                idt = in(reg) &raw const idt,
                code = in(reg) u64::from(CODE_SELECTOR),
                data = in(reg) u32::from(DATA_SELECTOR),
                task = in(reg) TASK_SELECTOR,
                scratch = out(reg) _,
            );
        }
    }
}

/// A gate of the IDT (Intel SDM volume 3, 7.14.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

#[repr(C, align(4096))]
struct Idt(UnsafeCell<[Gate; 256]>);

// SAFETY: written once by the boot CPU before it has interrupts, and read by CPUs only.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([Gate { low: 0, high: 0 }; 256]));

// SAFETY: assembly code defines it; only its address is used.
unsafe extern "C" {
    static interrupt_stubs: u8;
}

/// Distance between two of the stubs below.
const STUB_BYTES: u64 = 16;
/// Present, 64-bit interrupt gate.
const INTERRUPT_GATE: u64 = 0x8e00;

/// Fills the table that all CPUs use. Runs once, on the boot CPU, before any of them has
/// interrupts.
pub fn fill_idt() {
    for vector in 0..256u64 {
        let stub = &raw const interrupt_stubs as u64 + vector * STUB_BYTES;
        let stack = match vector {
            2 => NMI_STACK,
            8 => DOUBLE_FAULT_STACK,
            18 => MACHINE_CHECK_STACK,
            _ => 0,
        };
        let attributes = INTERRUPT_GATE | u64::from(stack);
        let low = (stub & 0xffff)
            | u64::from(CODE_SELECTOR) << 16
            | attributes << 32
            | (stub >> 16 & 0xffff) << 48;
        // SAFETY: only the boot CPU is here, and nobody has interrupts yet.
        unsafe { (*IDT.0.get())[vector as usize] = Gate { low, high: stub >> 32 } };
    }
}

/// The registers of interrupted code, as the stubs push them.
#[derive(Clone, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

// One stub a vector, 16 bytes each: error code (0 where the CPU pushes none), vector, then the
// common part.
global_asm!(
    ".section .text.interrupts, \"ax\"",
    ".balign 16",
    ".global interrupt_stubs",
    "interrupt_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if (vector == 8) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30) || ((vector >= 10) && (vector <= 14))",
    ".else",
    "push 0",
    ".endif",
    "push vector",
    "jmp interrupt_common",
    ".set vector, vector + 1",
    ".endr",
    "interrupt_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {handle}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    handle = sym super::interrupts::handle,
);
