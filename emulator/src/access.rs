//! Accesses to guest-physical memory.

/// An access to guest-physical memory that the second-level page tables refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// Guest-physical address.
    pub gpa: u64,
    /// It was a write.
    pub write: bool,
    /// It was an instruction fetch.
    pub execute: bool,
    /// The access was made by the guest's own page walk, not by its instruction.
    pub page_walk: bool,
}
