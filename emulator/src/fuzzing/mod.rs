//! What fuzzers drive, and bounded property tests too: each function takes any bytes, makes of them what a guest could do, and
//! panics if a promise is broken.

mod input;
mod instruction;
mod paging;
mod task;
#[cfg(test)]
mod tests;

pub use input::Input;
pub use instruction::emulator;
pub use paging::paging;
pub use task::task_switch;
