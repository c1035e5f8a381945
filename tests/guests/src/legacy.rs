//! Calls of 32-bit protected-mode code and of real-mode code, and what ends them.
//!
//! Such code is a function that ends in a near return ([`assembly!`](crate::assembly)).

use core::arch::global_asm;
use core::fmt;

use crate::cpu;
use crate::descriptors::{
    CODE32, DATA, GDT_POINTER, TablePointer, load_task_state, segment, set_descriptor,
};
use crate::global::Global;
use crate::interrupts::{self, Event};

/// The task state segment of 32-bit mode.
pub const TSS32: u16 = 0x58;

/// Control registers of 32-bit code unless a topic asks for others: protected mode with native x87
/// errors, no paging.
pub const PROTECTED: Mode = Mode { cr0: 0x31, cr3: 0, cr4: 0x600 };

/// The control registers of a call. Pages must map the first 512 KiB to themselves.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// PE is set.
    pub cr0: u32,
    /// The page tables.
    pub cr3: u32,
    /// Without PCIDE.
    pub cr4: u32,
}

/// The registers that a call begins with and ends with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    /// At the end only.
    pub eflags: u32,
    /// In real mode only.
    pub ds: u16,
    /// In real mode only.
    pub es: u16,
}

/// An event that ended a call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The event; in real mode without an error code.
    pub event: Event,
    /// The address that it would have returned to.
    pub eip: u32,
    /// The code segment interrupted.
    pub cs: u16,
    /// The flags saved.
    pub eflags: u32,
    /// The registers that the processor saved beside them if the event came from an outer ring:
    /// ESP, SS, and from virtual-8086 mode ES, DS, FS, GS too.
    pub outer: [u32; 6],
    /// CR2 after it.
    pub cr2: u32,
    /// CR0 after it, but for real mode.
    pub cr0: u32,
    /// The registers at the event.
    pub registers: Registers,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:x}:{:x}", self.event, self.cs, self.eip)
    }
}

const FRAME_WORDS: usize = 10;

/// The words that the assembly shares; their offsets stand there.
#[repr(C)]
struct State {
    entry: u32,
    is_real: u32,
    mode: [u32; 3],
    faulted: u32,
    home: [u32; 4],
    registers: Registers,
    vector: u32,
    cr2: u32,
    cr0: u32,
    frame: [u32; FRAME_WORDS],
}

#[unsafe(link_section = ".low.state")]
static STATE: Global<State> = Global::new(State {
    entry: 0,
    is_real: 0,
    mode: [0; 3],
    faulted: 0,
    home: [0; 4],
    registers: Registers {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
        esi: 0,
        edi: 0,
        ebp: 0,
        eflags: 0,
        ds: 0,
        es: 0,
    },
    vector: 0,
    cr2: 0,
    cr0: 0,
    frame: [0; FRAME_WORDS],
});

const STACK_SIZE: usize = 8 << 10;
#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);
static STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));
static RING0_STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));

static IDT: Global<[u64; 256]> = Global::new([0; 256]);

#[unsafe(link_section = ".low.idt_pointer")]
static IDT_POINTER: Global<TablePointer> = Global::new(TablePointer { limit: 0, base: 0 });
#[unsafe(link_section = ".low.ivt_pointer")]
static IVT_POINTER: Global<TablePointer> = Global::new(TablePointer { limit: 0x3ff, base: 0 });

/// Ports that the I/O permission map of [`TaskState32`] covers.
pub const MAPPED_PORTS: usize = 0x800;

/// A task state segment of 32-bit mode (Intel SDM volume 3, section 8.2.1).
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct TaskState32 {
    pub link: u32,
    pub esp0: u32,
    pub ss0: u32,
    pub esp1: u32,
    pub ss1: u32,
    pub esp2: u32,
    pub ss2: u32,
    pub cr3: u32,
    pub eip: u32,
    pub eflags: u32,
    pub eax: u32,
    pub ecx: u32,
    pub edx: u32,
    pub ebx: u32,
    pub esp: u32,
    pub ebp: u32,
    pub esi: u32,
    pub edi: u32,
    pub es: u32,
    pub cs: u32,
    pub ss: u32,
    pub ds: u32,
    pub fs: u32,
    pub gs: u32,
    pub ldt: u32,
    pub trap: u16,
    pub io_map: u16,
    /// A bit for each vector: not redirected to the virtual-8086 program (section 21.3).
    pub not_redirected: [u8; 32],
    /// A bit for each port: refused.
    pub refused_ports: [u8; MAPPED_PORTS / 8],
    /// All ones.
    pub end: u32,
}

impl TaskState32 {
    /// Nothing but the map: all ports refused, nothing redirected.
    pub const fn new() -> Self {
        let mut state: Self = unsafe { core::mem::zeroed() };
        state.io_map = core::mem::offset_of!(Self, refused_ports) as u16;
        state.not_redirected = [0xff; 32];
        state.refused_ports = [0xff; MAPPED_PORTS / 8];
        state.end = u32::MAX;
        state
    }

    /// A task of ring 0 in flat segments, without paging, that runs `code` on the stack below
    /// `stack`; so do its handlers of outer rings' events.
    pub fn flat(code: extern "C" fn(), stack: u32) -> Self {
        let data = u32::from(DATA);
        Self {
            esp0: stack,
            ss0: data,
            eip: address(code),
            eflags: 2,
            esp: stack,
            es: data,
            cs: CODE32.into(),
            ss: data,
            ds: data,
            fs: data,
            gs: data,
            ..Self::new()
        }
    }
}

impl Default for TaskState32 {
    fn default() -> Self {
        Self::new()
    }
}

/// The task state segment of the calls.
pub static TASK_STATE: Global<TaskState32> = Global::new(TaskState32::new());

/// A descriptor of an available 32-bit task state segment.
pub fn task_descriptor(state: *const TaskState32) -> u64 {
    const AVAILABLE_TSS: u8 = 0x89;
    segment(state as u32, size_of::<TaskState32>() as u32 - 1, AVAILABLE_TSS, 0)
}

/// Replaces the gate of `vector` in the 32-bit interrupt descriptor table until the next call has
/// ended.
pub fn set_gate(vector: u8, gate: u64) {
    unsafe { IDT.address().cast::<u64>().add(usize::from(vector)).write_volatile(gate) };
}

/// A 32-bit gate: `access` is type, DPL and P.
pub const fn gate(selector: u16, offset: u32, access: u8) -> u64 {
    offset as u64 & 0xffff
        | (selector as u64) << 16
        | (access as u64) << 40
        | (offset as u64 >> 16) << 48
}

/// Sets up the 32-bit interrupt descriptor table: every event ends the call. Called after each
/// call; a topic calls it before it changes gates for the first time.
pub fn reset_gates() {
    const INTERRUPT_GATE_RING3: u8 = 0xee;
    let entries = &raw const legacy_entries as u32;
    for vector in 0..=255u8 {
        set_gate(vector, gate(CODE32, entries + u32::from(vector) * 8, INTERRUPT_GATE_RING3));
    }
}

/// The address of code in assembly.
pub fn address(code: extern "C" fn()) -> u32 {
    code as usize as u32
}

/// Calls 32-bit code in protected mode, flat segments, ring 0, interrupts off.
///
/// # Errors
/// The event that ended it.
pub fn call32(code: extern "C" fn(), mode: Mode, registers: &mut Registers) -> Result<(), Fault> {
    call(address(code), false, mode, registers)
}

/// Calls 16-bit code in real mode, segments of zero but those of `registers`, interrupts off.
///
/// # Errors
/// The exception that ended it: one of vectors 0 to 15.
pub fn call16(code: extern "C" fn(), registers: &mut Registers) -> Result<(), Fault> {
    let saved: [u32; 16] = cpu::peek(0);
    for vector in 0..16 {
        cpu::poke(4 * vector, (&raw const real_mode_entries as u64 + 4 * vector) as u32);
    }
    let outcome = call(address(code), true, PROTECTED, registers);
    cpu::poke(0, saved);
    outcome
}

/// Calls a BIOS interrupt in real mode. The BIOS may turn interrupts on: the 8259 pair must be as
/// it left it.
pub fn bios(vector: u8, registers: &mut Registers) {
    cpu::poke(&raw const bios_vector as u64, vector);
    // No exception ends it: its vectors are the BIOS's own.
    let _ = call(&raw const bios_interrupt as u32, true, PROTECTED, registers);
}

fn call(entry: u32, is_real: bool, mode: Mode, registers: &mut Registers) -> Result<(), Fault> {
    let state = STATE.address();
    let task = TASK_STATE.address();
    unsafe {
        if (*IDT_POINTER.address()).limit == 0 {
            reset_gates();
        }
        IDT_POINTER.set(TablePointer {
            limit: (size_of::<[u64; 256]>() - 1) as u16,
            base: IDT.address() as u64,
        });
        (*task).esp0 = RING0_STACK.address() as u32 + STACK_SIZE as u32;
        (*task).ss0 = u32::from(DATA);
        set_descriptor(TSS32, task_descriptor(task));
        (*state).entry = entry;
        (*state).is_real = u32::from(is_real);
        (*state).mode = [mode.cr0, mode.cr3, mode.cr4];
        (*state).registers = *registers;
        (*state).faulted = 0;
        (*state).vector = 0;
        legacy_call();
        load_task_state();
        interrupts::load_table();
        reset_gates();
        *registers = (*state).registers;
        if (&raw const (*state).faulted).read_volatile() == 0 {
            return Ok(());
        }
        Err(fault(&*state, is_real))
    }
}

fn fault(state: &State, is_real: bool) -> Fault {
    let vector = state.vector as u8;
    let has_error = !is_real && matches!(vector, 8 | 10..=14 | 17);
    let frame = &state.frame[usize::from(has_error)..];
    let mut outer = [0; 6];
    outer.copy_from_slice(&frame[3..9]);
    Fault {
        event: Event { vector, error: if has_error { state.frame[0] } else { 0 } },
        eip: frame[0],
        cs: frame[1] as u16,
        eflags: frame[2],
        outer,
        cr2: state.cr2,
        cr0: state.cr0,
        registers: state.registers,
    }
}

unsafe extern "C" {
    static legacy_entries: u8;
    static real_mode_entries: u8;
    static bios_vector: u8;
    static bios_interrupt: u8;
    fn legacy_call();
}

global_asm!(
    include_str!("legacy.s"),
    state = sym STATE,
    stack = sym STACK,
    STACK_SIZE = const STACK_SIZE,
    gdt_pointer = sym GDT_POINTER,
    idt_pointer = sym IDT_POINTER,
    ivt_pointer = sym IVT_POINTER,
);
