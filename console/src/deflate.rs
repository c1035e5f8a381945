//! A compressor for rows of pixels, in the zlib format (RFC 1950) with one block of fixed codes
//! (RFC 1951).
//!
//! It looks for repetitions in two places only: the pixel before and the row above. That does for
//! screens, is fast, and needs no tables: general compressors take some 250 KiB, and build them on
//! the stack, where the hypervisor has not that much.

use adler2::Adler32;
use alloc::vec::Vec;

/// Deflate, a window of 32 KiB, fastest level (RFC 1950, 2.2).
const HEADER: [u8; 2] = [0x78, 0x01];
/// The last block, with fixed codes: three bits.
const BLOCK_START: u32 = 0b011;
const END_OF_BLOCK: u32 = 256;

const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
const MAX_DISTANCE: usize = 32 << 10;
/// Bytes of a pixel.
const PIXEL_BYTES: usize = 3;

/// First length of each code from 257 on (RFC 1951, 3.2.5), and the end.
const LENGTHS: [u16; 30] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258, 259,
];
/// First distance of each code, and the end.
const DISTANCES: [u16; 31] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577, 32769,
];

/// Compresses row by row.
#[derive(Debug)]
pub struct Compressor {
    output: Vec<u8>,
    /// Bits that do not yet fill a byte, the first one lowest.
    bits: u64,
    bit_count: u32,
    checksum: Adler32,
    above: Vec<u8>,
}

impl Compressor {
    /// A compressor that was given nothing yet.
    pub fn new() -> Self {
        let mut compressor = Self {
            output: HEADER.into(),
            bits: 0,
            bit_count: 0,
            checksum: Adler32::new(),
            above: Vec::new(),
        };
        compressor.put_bits(BLOCK_START, 3);
        compressor
    }

    /// Adds a row.
    pub fn row(&mut self, row: &[u8]) {
        self.checksum.write_slice(row);
        let above = core::mem::take(&mut self.above);
        let reaches_above = above.len() == row.len() && row.len() <= MAX_DISTANCE;
        let mut at = 0;
        while at < row.len() {
            let rest = &row[at..];
            let before = at.checked_sub(PIXEL_BYTES).map_or(0, |start| common(rest, &row[start..]));
            let up = if reaches_above { common(rest, &above[at..]) } else { 0 };
            let (length, distance) =
                if up > before { (up, row.len()) } else { (before, PIXEL_BYTES) };
            if length >= MIN_MATCH {
                self.put_match(length, distance);
                at += length;
            } else {
                self.put_symbol(rest[0].into());
                at += 1;
            }
        }
        self.above = above;
        self.above.clear();
        self.above.extend_from_slice(row);
    }

    /// The whole bytes of the stream that were not taken yet.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// They were taken.
    pub fn clear_output(&mut self) {
        self.output.clear();
    }

    /// Ends the stream; nothing may be added afterwards.
    pub fn finish(&mut self) {
        self.put_symbol(END_OF_BLOCK);
        self.put_bits(0, self.bit_count.wrapping_neg() & 7);
        self.output.extend_from_slice(&self.checksum.checksum().to_be_bytes());
    }

    fn put_match(&mut self, length: usize, distance: usize) {
        let (code, extra_bits, extra) = split(&LENGTHS, length);
        self.put_symbol(END_OF_BLOCK + 1 + code);
        self.put_bits(extra, extra_bits);
        let (code, extra_bits, extra) = split(&DISTANCES, distance);
        self.put_code(code, 5);
        self.put_bits(extra, extra_bits);
    }

    /// A literal or length in the fixed code (RFC 1951, 3.2.6).
    fn put_symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.put_code(0x30 + symbol, 8),
            144..=255 => self.put_code(0x190 + symbol - 144, 9),
            256..=279 => self.put_code(symbol - 256, 7),
            _ => self.put_code(0xc0 + symbol - 280, 8),
        }
    }

    /// Codes go out highest bit first.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put_bits(code.reverse_bits() >> (32 - count), count);
    }

    fn put_bits(&mut self, bits: u32, count: u32) {
        self.bits |= u64::from(bits) << self.bit_count;
        self.bit_count += count;
        while self.bit_count >= 8 {
            self.output.push(self.bits as u8);
            self.bits >>= 8;
            self.bit_count -= 8;
        }
    }
}

/// Bytes that both start with, as far as a match can go.
fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take(MAX_MATCH).take_while(|(left, right)| left == right).count()
}

/// The code whose range `value` is in, the number of bits that say where in the range, and these.
fn split(firsts: &[u16], value: usize) -> (u32, u32, u32) {
    let code = firsts.partition_point(|&first| usize::from(first) <= value).saturating_sub(1);
    let first = |code: usize| firsts.get(code).map_or(value, |&first| usize::from(first));
    // The last length has a code of its own, at the cost of the range before it.
    let range = first(code + 1) - first(code);
    (code as u32, range.next_power_of_two().trailing_zeros(), (value - first(code)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(rows: &[Vec<u8>]) -> usize {
        let mut compressor = Compressor::new();
        rows.iter().for_each(|row| compressor.row(row));
        compressor.finish();
        let stream = compressor.output();
        let text = miniz_oxide::inflate::decompress_to_vec_zlib(stream).unwrap();
        assert_eq!(text, rows.concat());
        stream.len()
    }

    #[test]
    fn every_length_and_many_distances() {
        let noise = |n: usize| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        for length in 1..600 {
            let row: Vec<u8> = (0..length).map(noise).collect();
            round_trip(&[row.clone(), row.clone(), vec![7; length], row]);
        }
        for length in [1024, 1025, 4096, 5761, 24_576, 24_577, 32_768, 32_769, 40_000] {
            let row: Vec<u8> = (0..length).map(noise).collect();
            round_trip(&[row.clone(), row]);
        }
    }

    #[test]
    fn an_empty_screen_becomes_small() {
        assert!(round_trip(&vec![vec![0; 1920 * 3 + 1]; 1080]) < 100_000);
    }

    proptest! {
        #[test]
        fn any_rows(rows in prop::collection::vec(prop::collection::vec(0_u8..4, 0..40), 0..20)) {
            round_trip(&rows);
        }
    }
}
