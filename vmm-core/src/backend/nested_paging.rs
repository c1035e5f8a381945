//! A CPU's second-level paging.

/// How it comes to light that a guest wrote to memory that is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteTracking {
    /// The dirty flags of the second-level page tables say it.
    Flags,
    /// The processor lists each page whose dirty flag it sets, and the backend hands the list over
    /// ([`crate::backend::Backend::take_written_pages`]).
    Log,
}

/// The second-level paging of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedPaging {
    /// The vendor's format.
    pub format: ept::Format,
    /// The largest pages.
    pub largest_page: ept::PageSize,
    /// How writes to tracked memory come to light; `None` if they do not, or nobody asks.
    pub tracking: Option<WriteTracking>,
}
