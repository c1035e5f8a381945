//! A single page shown for a while in place of whatever the tables show there.

use crate::entry::Attributes;
use crate::flush::Flush;
use crate::table_memory::TableMemory;
use crate::tables::{ENTRIES, NestedTables, OutOfMemory, TOP_LEVEL, index};
use alloc::vec::Vec;

/// The work of [`NestedTables::cover`]: one entry of the tables was replaced, and is put back by
/// [`NestedTables::uncover`].
#[derive(Debug)]
#[must_use = "the page stays shown until it is uncovered"]
pub struct Cover {
    gpa: u64,
    table_hpa: u64,
    level: u32,
    old: u64,
}

impl NestedTables {
    /// Shows the page at `hpa` at `gpa`, whatever is mapped there. The tables that this takes come
    /// out of `spare`, where they lie zeroed: three are always enough.
    ///
    /// # Errors
    /// [`OutOfMemory`] if `spare` has too few: nothing is changed.
    pub fn cover(
        &mut self,
        memory: &mut impl TableMemory,
        gpa: u64,
        hpa: u64,
        attributes: Attributes,
        spare: &mut Vec<u64>,
    ) -> Result<(Cover, Flush), OutOfMemory> {
        let (table_hpa, level) = self.last_table(memory, gpa);
        let old = memory.read(table_hpa, index(gpa, level));
        let below = level as usize - 1;
        if spare.len() < below {
            return Err(OutOfMemory);
        }
        let mut lower = [0; TOP_LEVEL as usize - 1];
        let lower = &mut lower[..below];
        lower.fill_with(|| spare.pop().unwrap_or_default());
        let mut whole = old;
        for (&table, level) in lower.iter().rev().zip((2..=level).rev()) {
            if self.format.is_present(whole) {
                self.split(memory, whole, level, table);
                whole = memory.read(table, index(gpa, level - 1));
            }
        }
        // From the lowest table up: the entry that is written last points to what is complete.
        let mut new = self.format.leaf(hpa, false, attributes);
        for (&table, level) in lower.iter().zip(1..) {
            self.write(memory, table, index(gpa, level), level, new);
            new = self.format.table(table);
        }
        self.write(memory, table_hpa, index(gpa, level), level, new);
        let flush = Flush { needed: self.format.is_present(old), retired: Vec::new() };
        Ok((Cover { gpa, table_hpa, level, old }, flush))
    }

    /// Takes a page away that was shown in place of others, and puts the tables back. Of several,
    /// the one that was shown last goes first, and nothing else may have been mapped meanwhile.
    /// No CPU may walk the tables before the flush.
    pub fn uncover(
        &mut self,
        memory: &mut impl TableMemory,
        cover: Cover,
        spare: &mut Vec<u64>,
    ) -> Flush {
        let Cover { gpa, table_hpa, level, old } = cover;
        let mut entry = memory.read(table_hpa, index(gpa, level));
        self.write(memory, table_hpa, index(gpa, level), level, old);
        for level in (1..level).rev() {
            let table = self.format.address(entry);
            entry = memory.read(table, index(gpa, level));
            // The others are zero already, unless a large page was split.
            let slot = index(gpa, level);
            let slots = if self.format.is_present(old) { 0..ENTRIES } else { slot..slot + 1 };
            slots.for_each(|slot| self.write(memory, table, slot, level, 0));
            spare.push(table);
        }
        Flush { needed: true, retired: Vec::new() }
    }

    /// The lowest table on the way to `gpa`, and its level.
    fn last_table(&self, memory: &impl TableMemory, gpa: u64) -> (u64, u32) {
        let (mut table, mut level) = (self.root_hpa(), TOP_LEVEL);
        while level > 1 {
            let entry = memory.read(table, index(gpa, level));
            if !self.format.is_present(entry) || self.format.is_large(entry) {
                break;
            }
            table = self.format.address(entry);
            level -= 1;
        }
        (table, level)
    }
}
