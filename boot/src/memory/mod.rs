//! Host memory: which is free, how it is mapped, and the heap.
//!
//! All RAM is mapped at its physical address (virtual = physical); the image's sections are
//! writable or executable, never both, the first page and the pages under stacks are not mapped.

pub mod frames;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod host;
#[cfg(target_os = "none")]
pub mod image;
#[cfg(target_os = "none")]
pub mod owners;
pub mod paging;

/// A small page.
pub const PAGE_BYTES: u64 = 4 << 10;
/// A large page.
pub const LARGE_BYTES: u64 = 2 << 20;
/// Memory below is the firmware's and is never handed out.
pub const LOW_MEMORY_END: u64 = 1 << 20;

/// `address` rounded down to a multiple of `unit`, a power of two.
pub const fn align_down(address: u64, unit: u64) -> u64 {
    address & !(unit - 1)
}

/// `address` rounded up to a multiple of `unit`, a power of two; saturates at the last multiple.
pub const fn align_up(address: u64, unit: u64) -> u64 {
    align_down(address.saturating_add(unit - 1), unit)
}
