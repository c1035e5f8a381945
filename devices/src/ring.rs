//! A queue of fixed size, for device FIFOs.

/// First in, first out, at most `N` entries.
#[derive(Clone, Debug)]
pub struct Ring<T, const N: usize> {
    entries: [T; N],
    first: usize,
    length: usize,
}

impl<T: Copy + Default, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self { entries: [T::default(); N], first: 0, length: 0 }
    }
}

impl<T: Copy + Default, const N: usize> Ring<T, N> {
    /// Entries inside.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Entries that still fit.
    pub fn room(&self) -> usize {
        N - self.length
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends; false if it is full.
    pub fn push(&mut self, entry: T) -> bool {
        if self.length == N {
            return false;
        }
        self.entries[(self.first + self.length) % N] = entry;
        self.length += 1;
        true
    }

    /// Appends all entries, or none if they do not fit.
    pub fn push_all(&mut self, entries: &[T]) -> bool {
        let fits = entries.len() <= self.room();
        if fits {
            for entry in entries {
                self.push(*entry);
            }
        }
        fits
    }

    /// The oldest entry, which stays.
    pub fn first(&self) -> Option<T> {
        (self.length > 0).then(|| self.entries[self.first % N])
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let entry = self.first()?;
        self.first = (self.first + 1) % N;
        self.length -= 1;
        Some(entry)
    }

    /// Replaces the newest entry.
    pub fn replace_last(&mut self, entry: T) {
        if self.length > 0 {
            self.entries[(self.first + self.length - 1) % N] = entry;
        }
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.length).map(|n| self.entries[(self.first + n) % N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_the_seam_and_refuses_what_does_not_fit() {
        let mut ring = Ring::<u8, 3>::default();
        assert!(ring.push_all(&[1, 2]));
        assert_eq!(ring.pop(), Some(1));
        assert!(!ring.push_all(&[3, 4, 5]));
        assert!(ring.push_all(&[3, 4]));
        assert!(!ring.push(5));
        ring.replace_last(6);
        assert!(ring.iter().eq([2, 3, 6]));
        assert_eq!(ring.room(), 0);
        ring.clear();
        assert_eq!(ring.pop(), None);
    }
}
