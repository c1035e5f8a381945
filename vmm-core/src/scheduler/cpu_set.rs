//! Sets of physical CPUs.

use crate::host::platform::MAX_CPUS;
use core::fmt;
use core::ops::{BitAnd, BitOr};

const WORDS: usize = MAX_CPUS / 64;

/// A set of physical CPUs by number.
///
/// ```
/// use vmm_core::scheduler::CpuSet;
///
/// let odd: CpuSet = [1, 3, 5].into_iter().collect();
/// let low = CpuSet::first(4);
/// assert_eq!((odd & low).iter().collect::<Vec<_>>(), [1, 3]);
/// assert_eq!(odd.next_from(4), Some(5));
/// assert_eq!(odd.next_from(6), Some(1));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// No CPU.
    pub const NONE: Self = Self([0; WORDS]);

    /// Every CPU that there can be.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// CPUs 0 to `count - 1`.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count.min(MAX_CPUS)).collect()
    }

    /// One CPU.
    #[must_use]
    pub fn one(cpu: usize) -> Self {
        core::iter::once(cpu).collect()
    }

    /// Adds a CPU. A number from [`MAX_CPUS`] on is left out.
    pub fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word &= !(1 << (cpu % 64));
        }
    }

    /// Whether a CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// Whether there is no CPU in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// How many CPUs are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The CPUs from the lowest number up.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        self.iter_from(0)
    }

    /// The CPUs from `start` up, then from 0 up.
    pub fn iter_round(&self, start: usize) -> impl Iterator<Item = usize> + use<> {
        let before = Self::first(start) & *self;
        self.iter_from(start).chain(before.iter_from(0))
    }

    /// The first CPU from `start` up, else the first of all.
    #[must_use]
    pub fn next_from(&self, start: usize) -> Option<usize> {
        self.iter_round(start).next()
    }

    fn iter_from(&self, start: usize) -> impl Iterator<Item = usize> + use<> {
        let words = self.0;
        let (first, below) = (start / 64, (1_u64 << (start % 64)) - 1);
        (first..WORDS).flat_map(move |index| {
            let mut word = words[index] & if index == first { !below } else { u64::MAX };
            core::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::NONE;
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

impl BitAnd for CpuSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(core::array::from_fn(|index| self.0[index] & other.0[index]))
    }
}

impl BitOr for CpuSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(core::array::from_fn(|index| self.0[index] | other.0[index]))
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_is_as_a_sorted_one(cpus in btree_set(0..MAX_CPUS, 0..40), start in 0..MAX_CPUS) {
            let set: CpuSet = cpus.iter().copied().collect();
            prop_assert_eq!(set.len(), cpus.len());
            prop_assert_eq!(set.is_empty(), cpus.is_empty());
            prop_assert!(set.iter().eq(cpus.iter().copied()));
            let round = cpus.range(start..).chain(cpus.range(..start)).copied();
            prop_assert!(set.iter_round(start).eq(round));
            for cpu in 0..MAX_CPUS {
                prop_assert_eq!(set.contains(cpu), cpus.contains(&cpu));
            }
        }
    }

    #[test]
    fn a_number_too_large_is_left_out() {
        let mut set = CpuSet::ALL;
        set.remove(MAX_CPUS);
        set.insert(MAX_CPUS);
        assert!(set == CpuSet::first(usize::MAX) && !set.contains(MAX_CPUS));
    }
}
