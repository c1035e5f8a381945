//! Guest memory: the frames that hold it, the guest-physical address space that they appear in, and
//! the second-level page tables that show it to the CPU.
//!
//! This is the one place of the shared code with `unsafe`, confined to `raw`. No reference into
//! guest memory ever leaves it: bytes are copied.

mod frames;
mod nested;
mod page_log;
mod part;
#[allow(unsafe_code)]
mod raw;
mod space;
#[cfg(test)]
mod tests;

pub use frames::FrameMemory;
pub use part::MemoryPart;
pub use space::{
    Area, Backing, BouncePages, FaultCause, GuestSpace, LowPage, PAGE_BYTES, Side, SpaceError,
    SpaceMemory,
};
