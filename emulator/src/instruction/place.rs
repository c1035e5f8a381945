//! Guest-physical memory that an operand occupies.

use super::{EmulatedCpu, MemoryUnit};

/// The value of up to 8 bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

/// Memory that an operand occupies, translated: it lies in one page, or in two that need not be
/// neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) gpa: u64,
    pub(super) size_bytes: u8,
    /// Bytes in the first page, and where the rest is, if the operand crosses a page.
    pub(super) crossing: Option<(u8, u64)>,
}

impl Place {
    /// The bits of a value of up to 8 bytes that lies here.
    const fn mask(&self) -> u64 {
        u64::MAX >> (64u32.saturating_sub(8 * self.size_bytes as u32) & 63)
    }
}

impl<C: EmulatedCpu> MemoryUnit<'_, C> {
    /// Reads up to 8 bytes.
    pub(super) fn read_place(&mut self, place: Place) -> u64 {
        if place.crossing.is_none() {
            return self.cpu.read_gpa(place.gpa, place.size_bytes) & place.mask();
        }
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..place.size_bytes.into()).unwrap_or_default();
        self.read_place_bytes(place, bytes);
        little_endian(bytes)
    }

    /// Writes up to 8 bytes.
    pub(super) fn write_place(&mut self, place: Place, value: u64) {
        if place.crossing.is_none() {
            self.cpu.write_gpa(place.gpa, place.size_bytes, value & place.mask());
            return;
        }
        let bytes = value.to_le_bytes();
        self.write_place_bytes(place, bytes.get(..place.size_bytes.into()).unwrap_or_default());
    }

    /// Reads an operand of any size in pieces of at most 8 bytes.
    pub(super) fn read_place_bytes(&mut self, place: Place, bytes: &mut [u8]) {
        let Some((first_bytes, second_gpa)) = place.crossing else {
            return self.read_pieces(place.gpa, bytes);
        };
        let Some((first, second)) = bytes.split_at_mut_checked(first_bytes.into()) else { return };
        self.read_pieces(place.gpa, first);
        self.read_pieces(second_gpa, second);
    }

    /// Writes an operand of any size in pieces of at most 8 bytes.
    pub(super) fn write_place_bytes(&mut self, place: Place, bytes: &[u8]) {
        let Some((first_bytes, second_gpa)) = place.crossing else {
            return self.write_pieces(place.gpa, bytes);
        };
        let Some((first, second)) = bytes.split_at_checked(first_bytes.into()) else { return };
        self.write_pieces(place.gpa, first);
        self.write_pieces(second_gpa, second);
    }

    fn read_pieces(&mut self, mut gpa: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let size_bytes = piece_bytes(bytes.len());
            let value = self.cpu.read_gpa(gpa, size_bytes).to_le_bytes();
            let Some((piece, rest)) = bytes.split_at_mut_checked(size_bytes.into()) else { return };
            for (byte, value) in piece.iter_mut().zip(value) {
                *byte = value;
            }
            bytes = rest;
            gpa += u64::from(size_bytes);
        }
    }

    fn write_pieces(&mut self, mut gpa: u64, mut bytes: &[u8]) {
        while let Some((piece, rest)) = bytes.split_at_checked(piece_bytes(bytes.len()).into())
            && !piece.is_empty()
        {
            self.cpu.write_gpa(gpa, piece.len() as u8, little_endian(piece));
            bytes = rest;
            gpa += piece.len() as u64;
        }
    }
}

/// The largest access that a device can be asked for and that fits into `length` bytes.
const fn piece_bytes(length: usize) -> u8 {
    match length {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => length as u8,
    }
}
