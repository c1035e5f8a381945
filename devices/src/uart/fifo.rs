//! A ring of 16 entries.

use super::spec::FIFO_DEPTH;

/// First in, first out, at most [`FIFO_DEPTH`] entries.
#[derive(Clone, Debug, Default)]
pub struct Fifo<T> {
    entries: [T; FIFO_DEPTH],
    first: usize,
    length: usize,
}

impl<T: Copy + Default> Fifo<T> {
    /// Entries inside.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends; false if it is full.
    pub fn push(&mut self, entry: T) -> bool {
        if self.length == FIFO_DEPTH {
            return false;
        }
        self.entries[(self.first + self.length) % FIFO_DEPTH] = entry;
        self.length += 1;
        true
    }

    /// The oldest entry, which stays.
    pub fn first(&self) -> Option<T> {
        (self.length > 0).then(|| self.entries[self.first % FIFO_DEPTH])
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let entry = self.first()?;
        self.first = (self.first + 1) % FIFO_DEPTH;
        self.length -= 1;
        Some(entry)
    }

    /// Replaces the newest entry.
    pub fn replace_last(&mut self, entry: T) {
        if self.length > 0 {
            self.entries[(self.first + self.length - 1) % FIFO_DEPTH] = entry;
        }
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.length).map(|n| self.entries[(self.first + n) % FIFO_DEPTH])
    }
}
