//! Second-level page tables: guest-physical to host-physical addresses, in Intel's EPT and AMD's NPT formats.
#![no_std]
#![forbid(unsafe_code)]

/// The vendor's format of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Intel extended page tables (SDM volume 3, 29.3).
    Ept,
    /// AMD nested page tables: the long-mode format (APM volume 2, 15.25).
    Npt,
}
