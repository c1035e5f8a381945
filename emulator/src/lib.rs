//! The processor's work, done in software: an instruction on device memory, a walk of the
//! guest's page tables, a hardware task switch; and the registers that all of it is about.
//!
//! The guest's state and memory are traits ([`instruction::EmulatedCpu`], [`paging`]'s memory): the
//! crate knows no vCPU, no backend and no machine, and its tests run it on a processor of plain
//! memory or beside the host's own.
//!
//! ```
//! // mov eax, [rdi] is 2 bytes long; its text is for logs and debuggers.
//! assert_eq!(emulator::instruction::instruction_length(&[0x8b, 0x07], 32), Some(2));
//! ```
#![cfg_attr(not(any(test, feature = "test-cpu")), no_std)]
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;

mod access;
pub mod breakpoints;
pub mod control_registers;
pub mod event;
#[cfg(any(test, feature = "test-cpu"))]
pub mod fuzzing;
pub mod instruction;
pub mod paging;
pub mod registers;
pub mod task_switch;

pub use access::MemoryAccess;
