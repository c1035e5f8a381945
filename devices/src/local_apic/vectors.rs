//! A set of vectors, with its highest member at hand.

use super::inbox::split;

/// 256 bits and a summary of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorSet {
    words: [u32; 8],
    /// Bit n: word n is not zero.
    summary: u8,
}

impl VectorSet {
    /// Adds a vector.
    pub fn insert(&mut self, vector: u8) {
        let (word, bit) = split(vector);
        self.words[word] |= bit;
        self.summary |= 1 << word;
    }

    /// Removes a vector.
    pub fn remove(&mut self, vector: u8) {
        let (word, bit) = split(vector);
        self.words[word] &= !bit;
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }

    /// The highest vector.
    pub fn highest(&self) -> Option<u8> {
        let word = self.summary.checked_ilog2()?;
        let bit = self.words[word as usize].checked_ilog2()?;
        Some((word * 32 + bit) as u8)
    }

    /// 32 vectors, from `word` (0 to 7) times 32.
    pub fn word(&self, word: usize) -> u32 {
        self.words[word & 7]
    }
}
