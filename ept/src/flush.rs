//! The reminder that CPUs may still hold old translations.

use crate::table_memory::TableMemory;
use alloc::vec::Vec;

/// Translations were taken away or narrowed: the CPUs that run this guest must forget what they
/// cached before the memory that was behind them is used for something else.
#[must_use = "CPUs may have cached the old translations: flush them, then call `flushed`"]
#[derive(Debug, Default)]
pub struct Flush {
    pub(crate) needed: bool,
    pub(crate) retired: Vec<u64>,
}

impl Flush {
    /// True if some CPU may hold an old translation.
    pub const fn is_needed(&self) -> bool {
        self.needed
    }

    /// Joins two reminders into one.
    pub fn and(mut self, other: Self) -> Self {
        self.needed |= other.needed;
        self.retired.extend(other.retired);
        self
    }

    /// Every CPU that runs the guest has been flushed (or none ever ran it): gives the tables that
    /// went out of use back.
    pub fn flushed(self, memory: &mut impl TableMemory) {
        for table in self.retired {
            memory.free(table);
        }
    }
}
