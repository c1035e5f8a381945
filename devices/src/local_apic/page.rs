//! The register page: where a local APIC keeps what the guest can read.
//!
//! Its layout is that of the memory-mapped registers. A processor that has the registers in
//! hardware (Intel's virtual-APIC page, SDM volume 3, 30.1; AMD's backing page, APM volume 2,
//! 15.29) reads and changes them there while the guest runs.

use super::inbox::split;
use super::spec::{LvtEntry, register};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the page.
pub const PAGE_BYTES: u64 = 4096;
const WORDS: usize = PAGE_BYTES as usize / 4;
/// A register takes 16 bytes, of which the first four are it.
const WORDS_PER_REGISTER: usize = 4;

/// A set of 256 vectors in eight registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Vectors {
    /// In service: taken and not ended.
    InService = register::ISR_FIRST,
    /// Level-triggered: their end concerns the I/O APIC.
    Level = register::TMR_FIRST,
    /// Requested: not taken yet.
    Requested = register::IRR_FIRST,
}

/// The registers of one local APIC, in a page of their own.
///
/// Only the vCPU's own thread and its processor access it.
#[repr(C, align(4096))]
pub struct RegisterPage([AtomicU32; WORDS]);

impl RegisterPage {
    /// A page of zeroes.
    pub fn new() -> Arc<Self> {
        Arc::new(Self([const { AtomicU32::new(0) }; WORDS]))
    }

    fn word(&self, number: u8) -> &AtomicU32 {
        // A quarter of the page holds registers; the rest is never used.
        &self.0[usize::from(number & 0x3f) * WORDS_PER_REGISTER]
    }

    /// Register `number` (offset divided by 16, at most 3fh).
    #[inline]
    pub fn get(&self, number: u8) -> u32 {
        self.word(number).load(Ordering::Relaxed)
    }

    /// Sets register `number`.
    #[inline]
    pub fn set(&self, number: u8, value: u32) {
        self.word(number).store(value, Ordering::Relaxed);
    }

    /// The task priority; CR8 is its upper half.
    #[inline]
    pub fn tpr(&self) -> u8 {
        self.get(register::TPR) as u8
    }

    /// Sets the task priority.
    #[inline]
    pub fn set_tpr(&self, tpr: u8) {
        self.set(register::TPR, tpr.into());
    }

    /// 32 vectors, from `word` (0 to 7) times 32.
    #[inline]
    pub fn vectors(&self, set: Vectors, word: u8) -> u32 {
        self.get(set as u8 + (word & 7))
    }

    /// Writes 32 vectors, from `word` (0 to 7) times 32.
    pub(super) fn set_vectors(&self, set: Vectors, word: u8, bits: u32) {
        self.set(set as u8 + (word & 7), bits);
    }

    /// True if `vector` is in the set.
    pub(super) fn has(&self, set: Vectors, vector: u8) -> bool {
        let (word, bit) = split(vector);
        self.vectors(set, word) & bit != 0
    }

    pub(super) fn insert(&self, set: Vectors, vector: u8) {
        let (word, bit) = split(vector);
        self.set_vectors(set, word, self.vectors(set, word) | bit);
    }

    pub(super) fn remove(&self, set: Vectors, vector: u8) {
        let (word, bit) = split(vector);
        self.set_vectors(set, word, self.vectors(set, word) & !bit);
    }

    /// The highest vector of the set.
    #[inline]
    pub fn highest(&self, set: Vectors) -> Option<u8> {
        (0..8).rev().find_map(|word| {
            let bit = self.vectors(set, word).checked_ilog2()?;
            Some(word * 32 + bit as u8)
        })
    }

    /// The processor priority: the task priority, or the class of what is in service if that is
    /// higher (SDM 11.8.3.1).
    #[inline]
    pub fn processor_priority(&self) -> u8 {
        let in_service = self.highest(Vectors::InService).unwrap_or(0) & 0xf0;
        let tpr = self.tpr();
        if tpr >> 4 >= in_service >> 4 { tpr } else { in_service }
    }

    /// The registers after a reset, but for those that the mode decides.
    pub(super) fn reset(&self) {
        for number in 0..=register::LAST {
            self.set(number, 0);
        }
        self.set(register::VERSION, super::spec::VERSION);
        self.set(register::DFR, u32::MAX);
        self.set(register::SVR, super::spec::Svr::new().with_vector(0xff).into_bits());
        for entry in LvtEntry::ALL {
            self.set(entry.register(), super::spec::Lvt::new().with_masked(true).into_bits());
        }
    }
}

impl fmt::Debug for RegisterPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registers = (0..=register::LAST).map(|number| (number, self.get(number)));
        f.debug_map().entries(registers.filter(|&(_, value)| value != 0)).finish()
    }
}
