//! Runs an instruction, and keeps all that it leaves.

use core::arch::{asm, naked_asm};
use core::fmt;

use conformance::Global;
use conformance::cpu::{cr0, cr2, poke, rdmsr, set_cr0};
use conformance::descriptors::{self, TSS64, TablePointer, segment, set_descriptor};
use conformance::interrupts::{self, Frame};

use crate::state::{self, Image};
use crate::table::*;
use crate::window::Place;

/// The memory that is filled and compared: around the operand, and around the top of the stack.
const BEFORE_OPERAND: u64 = 16;
const STACK_HALF: u64 = 64;
const MOST_MEMORY: usize = 0xb00 + BEFORE_OPERAND as usize;

const CODE64: u64 = descriptors::CODE64 as u64;
const DATA: u64 = descriptors::DATA as u64;

/// All that an instruction leaves.
#[repr(C)]
pub struct Outcome {
    pub vector: u64,
    registers: [u64; REGISTERS],
    flags: u64,
    system: [u64; SYSTEM],
    memory: [u8; MOST_MEMORY],
    stack: [u8; 2 * STACK_HALF as usize],
    memory_before: [u8; MOST_MEMORY],
    stack_before: [u8; 2 * STACK_HALF as usize],
    vectors: Image,
}

const REGISTERS: usize = 16;
const REGISTER_NAMES: [&str; REGISTERS] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

const PAGE_FAULT: u64 = 14;
const PF_WRITE: u64 = 2;

const SYSTEM: usize = 18;
/// Of [`SYSTEM_NAMES`].
const ERROR_CODE: usize = 0;
const SYSTEM_NAMES: [&str; SYSTEM] = [
    "error code",
    "rip",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs base",
    "gs base",
    "cr0",
    "cr2",
    "gdt limit",
    "gdt base",
    "idt limit",
    "idt base",
    "ldt",
    "task",
];

/// The first thing that differs.
pub struct Difference {
    pub what: &'static str,
    pub place: usize,
    pub got: u64,
    pub want: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} +{:x}: got {:x}, want {:x}",
            self.what, self.place, self.got, self.want
        )
    }
}

impl Outcome {
    pub const NONE: Self = Self {
        vector: 0,
        registers: [0; REGISTERS],
        flags: 0,
        system: [0; SYSTEM],
        memory: [0; MOST_MEMORY],
        stack: [0; 2 * STACK_HALF as usize],
        memory_before: [0; MOST_MEMORY],
        stack_before: [0; 2 * STACK_HALF as usize],
        vectors: Image::ZERO,
    };

    pub fn compare(&self, want: &Self, case: &Case) -> Result<(), Difference> {
        let differs = |what, place, got: u64, want: u64| match got == want {
            true => Ok(()),
            false => Err(Difference { what, place, got, want }),
        };
        let bytes = |what, got: &[u8], want: &[u8]| match state::first_difference(got, want) {
            Some(place) => differs(what, place, got[place].into(), want[place].into()),
            None => Ok(()),
        };
        let extent = (case.extent + BEFORE_OPERAND) as usize;
        differs("vector", 0, self.vector, want.vector)?;
        for (index, name) in SYSTEM_NAMES.into_iter().enumerate() {
            // QEMU reads what is to be changed before it finds that it cannot be written, and says
            // so.
            let write = if index == ERROR_CODE && self.vector == PAGE_FAULT && case.writes {
                PF_WRITE
            } else {
                0
            };
            differs(name, 0, self.system[index] | write, want.system[index] | write)?;
        }
        for (index, name) in REGISTER_NAMES.into_iter().enumerate() {
            differs(name, 0, self.registers[index], want.registers[index])?;
        }
        differs(
            "flags",
            0,
            self.flags & u64::from(case.flags),
            want.flags & u64::from(case.flags),
        )?;
        // Where a store runs into an absent page, QEMU has written some of it, and so has Bochs of
        // what is not a plain store.
        let is_whole =
            self.vector == PAGE_FAULT && self.memory[..extent] == self.memory_before[..extent];
        if !is_whole {
            bytes("memory", &self.memory[..extent], &want.memory[..extent])?;
        }
        let is_whole = self.vector == PAGE_FAULT && self.stack == self.stack_before;
        if case.stack && !is_whole {
            bytes("stack", &self.stack, &want.stack)?;
        }
        match state::difference(&self.vectors, &want.vectors) {
            Some(place) => differs(
                "vector state",
                place,
                self.vectors.0[place].into(),
                want.vectors.0[place].into(),
            ),
            None => Ok(()),
        }
    }
}

/// The registers to begin with; the order is that of [`enter`].
#[repr(C)]
struct Entry {
    data: u64,
    frame: [u64; 5],
    registers: [u64; REGISTERS],
}

static ENTRY: Global<Entry> =
    Global::new(Entry { data: 0, frame: [0; 5], registers: [0; REGISTERS] });
static HOME: Global<u64> = Global::new(0);
static OUTCOME: Global<*mut Outcome> = Global::new(core::ptr::null_mut());

const STACK_BYTES: usize = 16 << 10;
#[repr(C, align(16))]
struct Stack([u8; STACK_BYTES]);
static STACK: Global<Stack> = Global::new(Stack([0; STACK_BYTES]));

/// The interrupt stack table's entry of all exceptions.
const STACK_ENTRY: u8 = 2;

const INT3: u8 = 0xcc;

pub fn set_up() {
    let code_flags = |d_b: u8| segment(CODE as u32, 0xffff, 0x9b, d_b);
    set_descriptor(CODE32 as u16, code_flags(4));
    set_descriptor(CODE16 as u16, code_flags(0));
    set_descriptor(DATA16 as u16, segment(WINDOW as u32, 0xffff, 0x93, 0));
    const LDT_ACCESS: u8 = 0x82;
    set_descriptor(LDT as u16, segment(WINDOW as u32, 0xff, LDT_ACCESS, 0));
    set_descriptor(LDT as u16 + 8, 0);
    unsafe {
        let entries = (&raw mut (*descriptors::TASK_STATE.address()).ist).cast::<u64>();
        entries
            .add(usize::from(STACK_ENTRY) - 1)
            .write_unaligned(STACK.address() as u64 + STACK_BYTES as u64);
    }
    for vector in 0..32 {
        let mut gate = interrupts::gate(vector);
        gate.ist = STACK_ENTRY;
        interrupts::set_gate(vector, gate);
        interrupts::handle(vector, Some(stop));
    }
    for offset in 0..0x1000 {
        poke(CODE + offset, INT3);
    }
}

/// An instruction at a place.
pub struct Run<'a> {
    pub case: &'a Case,
    pub place: Place,
    pub on_device: bool,
}

impl Run<'_> {
    pub fn perform(&self, outcome: &mut Outcome) {
        let Self { case, place, on_device } = *self;
        place.map_all(on_device);
        let (operand, extent) = (WINDOW + place.operand(case), case.extent);
        let stack = WINDOW + place.stack(case);
        self.prepare(&mut outcome.memory_before);
        copy(
            outcome.memory_before.as_ptr() as u64,
            operand - BEFORE_OPERAND,
            extent + BEFORE_OPERAND,
        );
        if case.stack {
            self.prepare_stack(&mut outcome.stack_before);
            copy(outcome.stack_before.as_ptr() as u64, stack - STACK_HALF, 2 * STACK_HALF);
        }
        set_task();
        for (offset, &byte) in (0..).zip(case.bytes) {
            poke(CODE + offset, byte);
        }
        self.set_entry();
        OUTCOME.set(outcome);
        place.map(on_device);
        state::load(&state::BEFORE);
        unsafe { enter() };
        place.map_all(on_device);
        for offset in 0..case.bytes.len() as u64 {
            poke(CODE + offset, INT3);
        }
        copy(operand - BEFORE_OPERAND, outcome.memory.as_mut_ptr() as u64, extent + BEFORE_OPERAND);
        if case.stack {
            copy(stack - STACK_HALF, outcome.stack.as_mut_ptr() as u64, 2 * STACK_HALF);
        }
    }

    /// The memory around the operand.
    fn prepare(&self, memory: &mut [u8; MOST_MEMORY]) {
        let extent = (self.case.extent + BEFORE_OPERAND) as usize;
        // Numbers that are positive integers and plausible floating-point numbers.
        for (number, word) in (0_u32..).zip(memory[..extent].chunks_exact_mut(4)) {
            word.copy_from_slice(&(0x3c71_5e47 + number * 0x0101_0b17).to_le_bytes());
        }
        let operand = &mut memory[BEFORE_OPERAND as usize..extent];
        let image = |image: &Global<Image>| unsafe { &(*image.address()).0 };
        let mut put = |bytes: &[u8]| {
            let count = bytes.len().min(operand.len());
            operand[..count].copy_from_slice(&bytes[..count]);
        };
        match self.case.memory {
            Memory::Operand(bytes) => put(bytes),
            Memory::GlobalTable => put(&table_pointer(stored_gdt())),
            Memory::InterruptTable => put(&table_pointer(stored_idt())),
            Memory::LegacyState | Memory::ExtendedState => put(image(&state::OTHER)),
            Memory::CompactedState => put(image(&state::OTHER_COMPACTED)),
            Memory::Pattern | Memory::Stack(_) => {}
        }
    }

    fn prepare_stack(&self, memory: &mut [u8; 2 * STACK_HALF as usize]) {
        for (index, byte) in (0_u8..).zip(memory.iter_mut()) {
            *byte = index.wrapping_mul(0x5b) ^ 0xa7;
        }
        if let Memory::Stack(bytes) = self.case.memory {
            memory[STACK_HALF as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    fn set_entry(&self) {
        let Self { case, place, .. } = *self;
        const FLAGS: u64 = 2;
        const NUMBER: u64 = 0x9a8b_7c6d_6e5f_4a2b;
        let (base, data) = match case.mode {
            Mode::Bits16 => (0, DATA16),
            Mode::Bits32 | Mode::Bits64 => (WINDOW, DATA),
        };
        let (code, start) = match case.mode {
            Mode::Bits16 => (CODE16, 0),
            Mode::Bits32 => (CODE32, 0),
            Mode::Bits64 => (CODE64, CODE),
        };
        let (operand, stack) = (base + place.operand(case), base + place.stack(case));
        let base_pointer = match case.base_pointer {
            BasePointer::Number => NUMBER,
            BasePointer::Stack => stack,
            BasePointer::Two => 2,
        };
        let second = if case.has_second { operand + 0x40 } else { operand };
        ENTRY.set(Entry {
            data,
            frame: [start, code, FLAGS, stack, data],
            registers: [
                RAX,
                5,
                RDX,
                operand,
                0,
                base_pointer,
                operand,
                second,
                !NUMBER,
                9,
                10,
                NUMBER / 3,
                12,
                13,
                14,
                15,
            ],
        });
    }
}

impl Copy for Entry {}
impl Clone for Entry {
    fn clone(&self) -> Self {
        *self
    }
}

fn copy(from: u64, to: u64, count: u64) {
    unsafe {
        asm!("rep movsb", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") count => _)
    };
}

/// An available TSS: the same as the guest's own.
fn set_task() {
    const AVAILABLE_TSS: u8 = 0x89;
    let state = descriptors::TASK_STATE.address() as u64;
    set_descriptor(TASK as u16, segment(state as u32, 0x67, AVAILABLE_TSS, 0));
    set_descriptor(TASK as u16 + 8, 0);
}

fn stored_gdt() -> TablePointer {
    let mut pointer = TablePointer { limit: 0, base: 0 };
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut pointer) };
    pointer
}

fn stored_idt() -> TablePointer {
    let mut pointer = TablePointer { limit: 0, base: 0 };
    unsafe { asm!("sidt [{}]", in(reg) &raw mut pointer) };
    pointer
}

/// The operand that loads the same table with another limit.
fn table_pointer(pointer: TablePointer) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&(pointer.limit - 8).to_le_bytes());
    bytes[2..].copy_from_slice(&{ pointer.base }.to_le_bytes());
    bytes
}

/// The handler of all exceptions: keeps what there is, and goes on at the end of [`enter`].
fn stop(frame: &mut Frame) {
    let outcome = unsafe { &mut *OUTCOME.get() };
    let (control, fault_address) = (cr0(), cr2());
    const EMULATION_AND_TASK_SWITCHED: u64 = 0xc;
    set_cr0(control & !EMULATION_AND_TASK_SWITCHED);
    state::save(&raw mut outcome.vectors);
    let (gdt, idt) = (stored_gdt(), stored_idt());
    let selectors = selectors();
    const FS_BASE: u32 = 0xc000_0100;
    outcome.vector = frame.vector;
    outcome.flags = frame.rflags;
    outcome.registers = [
        frame.rax, frame.rcx, frame.rdx, frame.rbx, frame.rsp, frame.rbp, frame.rsi, frame.rdi,
        frame.r8, frame.r9, frame.r10, frame.r11, frame.r12, frame.r13, frame.r14, frame.r15,
    ];
    outcome.system = [
        frame.error,
        frame.rip,
        frame.cs,
        frame.ss,
        selectors[0],
        selectors[1],
        selectors[2],
        selectors[3],
        rdmsr(FS_BASE),
        rdmsr(FS_BASE + 1),
        control,
        if frame.vector == PAGE_FAULT { fault_address } else { 0 },
        gdt.limit.into(),
        gdt.base,
        idt.limit.into(),
        idt.base,
        selectors[4],
        selectors[5],
    ];
    frame.cs = CODE64;
    frame.ss = DATA;
    let home: unsafe extern "C" fn() = resume;
    frame.rip = home as usize as u64;
    frame.rsp = HOME.get();
    frame.rflags = 2;
    restore(gdt, idt, selectors[5]);
}

/// DS, ES, FS, GS, LDTR, TR.
fn selectors() -> [u64; 6] {
    let mut selectors = [0; 6];
    unsafe {
        asm!(
            "mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs", "mov {3:e}, gs", "sldt {4:e}",
            "str {5:e}",
            out(reg) selectors[0], out(reg) selectors[1], out(reg) selectors[2],
            out(reg) selectors[3], out(reg) selectors[4], out(reg) selectors[5],
        );
    }
    selectors
}

/// Undoes loads of tables.
fn restore(mut gdt: TablePointer, idt: TablePointer, task: u64) {
    const GDT_LIMIT: u16 = 64 * 8 - 1;
    if gdt.limit != GDT_LIMIT {
        gdt.limit = GDT_LIMIT;
        unsafe { asm!("lgdt [{}]", in(reg) &raw const gdt) };
    }
    if idt.limit != 256 * 16 - 1 {
        interrupts::load_table();
    }
    unsafe { asm!("lldt {0:x}", in(reg) 0) };
    if task != u64::from(TSS64) {
        descriptors::load_task_state();
    }
}

/// Goes to the instruction by IRETQ; [`stop`] comes back to [`resume`].
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov [{home}], rsp",
        "lea rdi, [{entry}]",
        "mov eax, [rdi]",
        "mov ds, eax", "mov es, eax", "mov fs, eax", "mov gs, eax",
        "push [rdi + 40]", "push [rdi + 32]", "push [rdi + 24]", "push [rdi + 16]",
        "push [rdi + 8]",
        "mov rax, [rdi + 48]", "mov rcx, [rdi + 56]", "mov rdx, [rdi + 64]", "mov rbx, [rdi + 72]",
        "mov rbp, [rdi + 88]", "mov rsi, [rdi + 96]",
        "mov r8, [rdi + 112]", "mov r9, [rdi + 120]", "mov r10, [rdi + 128]",
        "mov r11, [rdi + 136]", "mov r12, [rdi + 144]", "mov r13, [rdi + 152]",
        "mov r14, [rdi + 160]", "mov r15, [rdi + 168]",
        "mov rdi, [rdi + 104]",
        "iretq",
        home = sym HOME,
        entry = sym ENTRY,
    )
}

/// The end of [`enter`].
#[unsafe(naked)]
unsafe extern "C" fn resume() {
    naked_asm!(
        "mov eax, {data}",
        "mov ds, eax", "mov es, eax", "mov ss, eax", "mov fs, eax", "mov gs, eax",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        data = const DATA,
    )
}
