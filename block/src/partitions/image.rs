//! Disks with partition tables, for tests.

use alloc::vec;
use alloc::vec::Vec;

/// An entry of an MBR: type, first block, blocks.
pub type MbrEntry = (u8, u32, u32);

/// An entry of a GPT: the first byte of type and GUID (0 for none), first and last block, label.
pub type GptEntry<'a> = (u8, u64, u64, &'a str);

/// The content of a disk.
pub struct Image {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its logical blocks.
    pub block_bytes: usize,
}

impl Image {
    /// A blank one.
    pub fn new(blocks: usize, block_bytes: usize) -> Self {
        Self { bytes: vec![0; blocks * block_bytes], block_bytes }
    }

    /// Writes a record of an MBR, or of the chain of logical partitions.
    pub fn put_mbr(&mut self, block: usize, entries: &[MbrEntry]) {
        const SIGNATURE: &[u8] = &[0xef, 0xbe, 0xad, 0xde];
        let record = &mut self.bytes[block * self.block_bytes..][..512];
        record[0x1b8..0x1bc].copy_from_slice(SIGNATURE);
        record[510..].copy_from_slice(&[0x55, 0xaa]);
        for (place, (kind, first, count)) in record[0x1be..].chunks_exact_mut(16).zip(entries) {
            place[4] = *kind;
            place[8..12].copy_from_slice(&first.to_le_bytes());
            place[12..].copy_from_slice(&count.to_le_bytes());
        }
    }

    /// Writes both tables of a GPT and the MBR that protects it. The array has `count` entries.
    pub fn put_gpt(&mut self, entries: &[GptEntry<'_>], count: usize, entry_bytes: usize) {
        self.put_mbr(0, &[(0xee, 1, u32::MAX)]);
        let mut array = vec![0; count * entry_bytes];
        for (place, (kind, first, last, label)) in array.chunks_exact_mut(entry_bytes).zip(entries)
        {
            (place[0], place[16]) = (*kind, *kind);
            place[32..40].copy_from_slice(&first.to_le_bytes());
            place[40..48].copy_from_slice(&last.to_le_bytes());
            for (field, unit) in place[56..128].chunks_exact_mut(2).zip(label.encode_utf16()) {
                field.copy_from_slice(&unit.to_le_bytes());
            }
        }
        let last = self.bytes.len() / self.block_bytes - 1;
        let array_blocks = array.len().div_ceil(self.block_bytes);
        for (block, other, array_block) in [(1, last, 2), (last, 1, last - array_blocks)] {
            self.bytes[array_block * self.block_bytes..][..array.len()].copy_from_slice(&array);
            let header = &mut self.bytes[block * self.block_bytes..][..92];
            header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
            let usable = [2 + array_blocks, last - array_blocks - 1];
            let numbers = [block, other, usable[0], usable[1]];
            for (field, number) in header[24..56].chunks_exact_mut(8).zip(numbers) {
                field.copy_from_slice(&(number as u64).to_le_bytes());
            }
            header[72..80].copy_from_slice(&(array_block as u64).to_le_bytes());
            header[80..84].copy_from_slice(&(count as u32).to_le_bytes());
            header[84..88].copy_from_slice(&(entry_bytes as u32).to_le_bytes());
            self.seal(block, &array);
        }
    }

    /// Makes the checksums of the header in this block right, for this array.
    pub fn seal(&mut self, block: usize, array: &[u8]) {
        let header = &mut self.bytes[block * self.block_bytes..][..92];
        header[88..92].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
        header[16..20].fill(0);
        let crc = crc32fast::hash(header);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
    }
}
