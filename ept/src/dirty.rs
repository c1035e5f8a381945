//! Which pages the guest wrote to, by the dirty flags that the processor sets.

use crate::flush::Flush;
use crate::table_memory::TableMemory;
use crate::tables::{NestedTables, index, level_bytes};

const PAGE_BYTES: u64 = level_bytes(1);

impl NestedTables {
    /// Takes the dirty flags of the 4 KiB pages in a range: calls `written` with the address of
    /// each page that the guest wrote to since its flag was last taken, or since it was mapped
    /// as [tracked](crate::Attributes::tracked), and clears the flag. Larger pages are passed
    /// over. Address and length are multiples of 4 KiB.
    ///
    /// Before its CPUs are flushed the guest may write on by translations that they hold, and no
    /// flag tells.
    pub fn take_dirty(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        length_bytes: u64,
        mut written: impl FnMut(u64),
    ) -> Flush {
        let mut flush = Flush::default();
        let end = gpa + length_bytes;
        let mut at = gpa;
        while at < end {
            let table_end = at - at % level_bytes(2) + level_bytes(2);
            let pages = (at..end.min(table_end)).step_by(PAGE_BYTES as usize);
            if let Some(table) = self.lowest_table(memory, at) {
                pages.filter(|&page| self.clean(memory, table, page)).for_each(|page| {
                    flush.needed = true;
                    written(page);
                });
            }
            at = table_end;
        }
        flush
    }

    /// Clears the dirty flag of the page at `gpa`, which `table` maps; true if it was set.
    fn clean(&self, memory: &mut impl TableMemory, table: u64, gpa: u64) -> bool {
        let slot = index(gpa, 1);
        let entry = memory.read(table, slot);
        let Some(clean) = self.format.cleaned(entry).filter(|_| self.format.is_present(entry))
        else {
            return false;
        };
        memory.write(table, slot, clean);
        true
    }
}
