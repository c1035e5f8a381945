//! Where tables are.

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
}
