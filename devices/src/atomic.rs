//! The atomics of what is lock-free: the processor's, and in a model loom's, which tries every
//! order in which threads and memory may act.

#[cfg(not(feature = "loom"))]
pub use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(feature = "loom")]
pub use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
