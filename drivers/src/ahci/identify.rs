//! A disk's description of itself (ATA/ATAPI Command Set 3, 7.12).

use alloc::string::String;

use arrayvec::ArrayVec;
use block::Geometry;

use crate::dma::PAGE_BYTES;
use crate::hardware::Fault;
use crate::names::printable;

/// Its length.
pub const LENGTH_BYTES: usize = 512;
const TEXT_BYTES: usize = 40;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub serial: String,
    pub model: String,
    pub geometry: Geometry,
    /// Writes may be in a cache that power takes away.
    pub has_cache: bool,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// It is none of a disk that is driven.
    pub fn new(data: &[u8; LENGTH_BYTES]) -> Result<Self, Fault> {
        let word = |index: usize| u16::from_le_bytes([data[2 * index], data[2 * index + 1]]);
        let has = |index: usize, bit: u32| word(index) >> bit & 1 != 0;
        // Some words mean something only with these two bits.
        let is_valid = |index: usize| word(index) >> 14 == 1;
        if has(0, 15) || !has(49, 8) || !is_valid(83) || !has(83, 10) {
            return Err(Fault("it takes no DMA with addresses of 48 bits"));
        }
        let sectors = (100..104).rev().fold(0, |sum, index| sum << 16 | u64::from(word(index)));
        let words = u32::from(word(117)) | u32::from(word(118)) << 16;
        let is_long = is_valid(106) && has(106, 12);
        let sector_bytes = if is_long { words.saturating_mul(2) } else { 512 };
        if !sector_bytes.is_power_of_two() || !(512..=PAGE_BYTES as u32).contains(&sector_bytes) {
            return Err(Fault("its sectors have a size that is not supported"));
        }
        let is_grouped = is_valid(106) && has(106, 13);
        let physical_exponent = if is_grouped { (word(106) & 0xf).min(8) } else { 0 };
        let size_bytes = sectors.checked_mul(sector_bytes.into()).filter(|&bytes| bytes > 0);
        Ok(Self {
            serial: text(&data[20..40]),
            model: text(&data[54..94]),
            geometry: Geometry {
                size_bytes: size_bytes.ok_or(Fault("it has no size"))?,
                sector_bytes,
                physical_sector_bytes: sector_bytes << physical_exponent,
                is_read_only: false,
                has_discard: false,
            },
            // One that does not say that it can be switched off may have one.
            has_cache: !has(82, 5) || has(85, 5),
        })
    }
}

/// Texts have the two letters of each word the other way round.
fn text(field: &[u8]) -> String {
    let words = field.chunks_exact(2).take(TEXT_BYTES / 2);
    let letters: ArrayVec<u8, TEXT_BYTES> = words.flat_map(|pair| [pair[1], pair[0]]).collect();
    printable(&letters)
}
