//! Page-table entries and page-fault error codes (Intel SDM volume 3, chapter 4; AMD APM volume 2,
//! chapter 5).

use bitfield_struct::bitfield;

/// A page-table entry of any level, 8 bytes wide; the 4-byte entries of 32-bit paging are its low
/// half.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Entry {
    /// Present.
    pub present: bool,
    /// Writable.
    pub writable: bool,
    /// User-mode accesses allowed.
    pub user: bool,
    /// Write-through.
    pub write_through: bool,
    /// Cache disabled.
    pub cache_disable: bool,
    /// Set by the CPU when it used the entry.
    pub accessed: bool,
    /// Set by the CPU when it wrote through the entry (leaves only).
    pub dirty: bool,
    /// A page, not a table (PAT in the last level).
    pub page_size: bool,
    /// Global.
    pub global: bool,
    #[bits(3)]
    __: u8,
    /// Bits 12 to 51.
    #[bits(40)]
    pub frame: u64,
    #[bits(7)]
    __: u8,
    /// Protection key (4- and 5-level paging, leaves only).
    #[bits(4)]
    pub protection_key: u8,
    /// No execution.
    pub no_execute: bool,
}

/// The error code of a page fault (SDM volume 3, 4.7).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ErrorCode {
    /// The page was present: a protection violation.
    pub present: bool,
    /// A write.
    pub write: bool,
    /// A user-mode access.
    pub user: bool,
    /// A reserved bit was set in an entry.
    pub reserved: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// A protection key forbade it.
    pub protection_key: bool,
    #[bits(26)]
    __: u32,
}
