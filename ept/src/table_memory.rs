//! Where tables are.

/// The memory that an entry makes reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointsTo {
    /// None: the entry is not present.
    Nothing,
    /// A lower table.
    Table {
        /// Its host-physical address.
        hpa: u64,
    },
    /// A page of the guest's.
    Page {
        /// Its host-physical address.
        hpa: u64,
        /// Its size.
        bytes: u64,
        /// The guest may write to it.
        write: bool,
    },
}

/// The memory that the tables are in.
pub trait TableMemory {
    /// A zeroed 4 KiB table: its host-physical address. `None` if memory is short.
    fn allocate(&mut self) -> Option<u64>;
    /// Takes a table back.
    fn free(&mut self, table_hpa: u64);
    /// Reads entry `index` (below 512).
    fn read(&self, table_hpa: u64, index: usize) -> u64;
    /// Writes entry `index` (below 512) in one piece.
    fn write(&mut self, table_hpa: u64, index: usize, entry: u64);
    /// Told before each write of what the entry will point to. For builds that check it.
    #[inline]
    fn note(&mut self, _table_hpa: u64, _index: usize, _to: PointsTo) {}
}
