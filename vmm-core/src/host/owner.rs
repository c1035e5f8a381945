//! Whose a frame of host memory is.

use core::sync::atomic::{AtomicU32, Ordering};

/// The number of a guest, which no other has had since the hypervisor started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestId(u32);

impl GuestId {
    /// The next guest's.
    pub fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The owner of a frame that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// No guest ever reaches it.
    Hypervisor,
    /// This guest may read and write it.
    Guest(GuestId),
    /// Second-level page tables of this guest, which itself never reaches them.
    Tables(GuestId),
    /// Every guest may read it, and none may write it.
    Shared,
}
