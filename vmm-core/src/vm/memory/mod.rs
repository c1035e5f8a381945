//! Guest memory: the frames that hold it, the guest-physical address space that they appear in, and
//! the second-level page tables that show it to the CPU.
//!
//! `unsafe` is confined to `raw`, and to where frames are handed to it. No reference into guest
//! memory ever leaves this module: bytes are copied.

mod frames;
mod nested;
mod own;
mod page_log;
mod part;
#[allow(unsafe_code)]
mod raw;
mod space;
#[cfg(test)]
mod tests;

pub use frames::FrameMemory;
pub use own::OwnMemory;
pub use part::MemoryPart;
pub use space::{
    Area, AreaOwner, Backing, BouncePages, FaultCause, GuestSpace, LowPage, MAX_LEAVING,
    PAGE_BYTES, Side, SpaceError, SpaceMemory,
};
