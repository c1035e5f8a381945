//! Short programs for ring 3 of 64-bit mode.

use core::arch::naked_asm;

use crate::descriptors::{USER_CODE64, USER_DATA};
use crate::global::Global;
use crate::interrupts::{Event, Fault, catch, gate, set_gate};

/// The event that a program should end with: `int 0x82`, which ring 3 may use.
pub const END: Event = Event::plain(0x82);

const INTERRUPT_GATE_RING3: u8 = 0xee;

const STACK_SIZE: usize = 4096;
#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);
static STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));

/// Runs `code` in ring 3 with the flags given and RDI = `argument`, until an event.
pub fn run(code: extern "C" fn(), flags: u64, argument: u64) -> Fault {
    set_gate(END.vector, gate(END.vector).with_access(INTERRUPT_GATE_RING3));
    let stack = STACK.address() as u64 + STACK_SIZE as u64;
    let outcome = catch(|| -> () { enter(code as usize as u64, flags | 2, argument, stack) });
    match outcome {
        Err(fault) => fault,
        Ok(()) => unreachable!(),
    }
}

#[unsafe(naked)]
extern "C" fn enter(code: u64, flags: u64, argument: u64, stack: u64) -> ! {
    naked_asm!(
        "mov eax, {USER_DATA}",
        "mov ds, eax",
        "mov es, eax",
        "push {USER_DATA}",
        "push rcx",
        "push rsi",
        "push {USER_CODE64}",
        "push rdi",
        "mov rdi, rdx",
        "iretq",
        USER_DATA = const USER_DATA,
        USER_CODE64 = const USER_CODE64,
    )
}
