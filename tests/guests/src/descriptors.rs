//! The global descriptor table and the task state segment of 64-bit mode.

use core::arch::asm;
use core::mem::size_of;

use crate::global::Global;

/// 32-bit code, ring 0, 4 GiB from 0.
pub const CODE32: u16 = 0x08;
/// Data, ring 0, 4 GiB from 0.
pub const DATA: u16 = 0x10;
/// 64-bit code, ring 0.
pub const CODE64: u16 = 0x18;
/// 16-bit code, ring 0, 64 KiB from 0.
pub const CODE16: u16 = 0x20;
/// Data of 16-bit code, ring 0, 64 KiB from 0.
pub const DATA16: u16 = 0x28;
/// 32-bit code, ring 3, 4 GiB from 0.
pub const USER_CODE32: u16 = 0x33;
/// Data, ring 3, 4 GiB from 0.
pub const USER_DATA: u16 = 0x3b;
/// 64-bit code, ring 3.
pub const USER_CODE64: u16 = 0x43;
/// The task state segment of 64-bit mode: two entries.
pub const TSS64: u16 = 0x48;
/// From here on entries are the topic's own.
pub const FREE: u16 = 0x60;

/// Entries of the table.
const ENTRIES: usize = 64;

/// The global descriptor table (Intel SDM volume 3, section 3.4.5).
#[unsafe(link_section = ".low.gdt")]
static GDT: Global<[u64; ENTRIES]> = Global::new({
    let mut table = [0; ENTRIES];
    table[1] = 0x00cf_9b00_0000_ffff;
    table[2] = 0x00cf_9300_0000_ffff;
    table[3] = 0x00af_9b00_0000_ffff;
    table[4] = 0x0000_9b00_0000_ffff;
    table[5] = 0x0000_9300_0000_ffff;
    table[6] = 0x00cf_fb00_0000_ffff;
    table[7] = 0x00cf_f300_0000_ffff;
    table[8] = 0x00af_fb00_0000_ffff;
    table
});

/// The operand of LGDT and LIDT.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct TablePointer {
    /// The table's size in bytes less one.
    pub limit: u16,
    /// The table's address.
    pub base: u64,
}

/// In real mode LGDT reads the low half of the address, which is all of it.
#[repr(C, packed)]
pub(crate) struct LowPointer {
    limit: u16,
    base: *const Global<[u64; ENTRIES]>,
}

#[unsafe(link_section = ".low.gdt_pointer")]
pub(crate) static GDT_POINTER: Global<LowPointer> =
    Global::new(LowPointer { limit: (ENTRIES * 8 - 1) as u16, base: &raw const GDT });

/// Stacks of ring 0 for interrupts from ring 3 and for double faults.
const STACK_SIZE: usize = 16 << 10;
#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);
static RING0_STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));
static DOUBLE_FAULT_STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));

/// The interrupt stack table's entry for double faults.
pub(crate) const DOUBLE_FAULT_IST: u8 = 1;

/// Ports that the I/O permission map covers.
pub const MAPPED_PORTS: usize = 0x800;

/// The task state segment of 64-bit mode (section 8.7), with a map of I/O permissions behind it.
#[repr(C, packed)]
pub struct TaskState64 {
    _reserved0: u32,
    /// Stack pointers of rings 0 to 2.
    pub rsp: [u64; 3],
    _reserved1: u64,
    /// The interrupt stack table, from entry 1 on.
    pub ist: [u64; 7],
    _reserved2: u64,
    _reserved3: u16,
    /// Offset of the I/O permission map.
    pub io_map: u16,
    /// A bit for each port: refused.
    pub refused_ports: [u8; MAPPED_PORTS / 8 + 1],
}

/// The task state segment of 64-bit mode.
pub static TASK_STATE: Global<TaskState64> = Global::new(TaskState64 {
    _reserved0: 0,
    rsp: [0; 3],
    _reserved1: 0,
    ist: [0; 7],
    _reserved2: 0,
    _reserved3: 0,
    io_map: 104,
    refused_ports: [0xff; MAPPED_PORTS / 8 + 1],
});

/// Reads the descriptor of `selector`.
pub fn descriptor(selector: u16) -> u64 {
    unsafe { entry(selector).read_volatile() }
}

/// Replaces the descriptor of `selector`.
pub fn set_descriptor(selector: u16, descriptor: u64) {
    unsafe { entry(selector).write_volatile(descriptor) }
}

fn entry(selector: u16) -> *mut u64 {
    let index = usize::from(selector / 8);
    assert!(index < ENTRIES);
    unsafe { GDT.address().cast::<u64>().add(index) }
}

/// A descriptor: `access` is its second-highest word's low byte (type, S, DPL, P), `flags` are the
/// bits AVL, L, D/B and G.
pub const fn segment(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (base as u64, limit as u64);
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (access as u64) << 40
        | (limit >> 16 & 0xf) << 48
        | (flags as u64 & 0xf) << 52
        | (base >> 24) << 56
}

/// Loads the task state segment of 64-bit mode. To be called again after another task register was
/// loaded.
pub fn load_task_state() {
    const AVAILABLE_TSS: u8 = 0x89;
    let state = TASK_STATE.address();
    let address = state as u64;
    unsafe {
        (&raw mut (*state).rsp)
            .cast::<u64>()
            .write_unaligned(RING0_STACK.address() as u64 + STACK_SIZE as u64);
        (&raw mut (*state).ist)
            .cast::<u64>()
            .add(usize::from(DOUBLE_FAULT_IST) - 1)
            .write_unaligned(DOUBLE_FAULT_STACK.address() as u64 + STACK_SIZE as u64);
    }
    set_descriptor(
        TSS64,
        segment(address as u32, size_of::<TaskState64>() as u32 - 1, AVAILABLE_TSS, 0),
    );
    set_descriptor(TSS64 + 8, address >> 32);
    unsafe { asm!("ltr {0:x}", in(reg) TSS64) };
}
