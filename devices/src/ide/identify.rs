//! The pages that IDENTIFY DEVICE and IDENTIFY PACKET DEVICE return (ATA/ATAPI-6, sections 8.15 and
//! 8.16).

use super::atapi::CdState;
use super::unit::{DiskState, MAX_MULTIPLE, TransferMode};

const PAGE_BYTES: usize = 512;
/// ATA-4 to ATA-6.
const MAJOR_VERSIONS: u16 = 0x0070;
/// ATA/ATAPI-6 T13 1410D revision 0.
const MINOR_VERSION: u16 = 0x0016;
const MULTIWORD_DMA_MODES: u16 = 0x07;
const ULTRA_DMA_MODES: u16 = 0x3f;
/// LBA and DMA are supported.
const CAPABILITIES: u16 = 1 << 9 | 1 << 8;
/// Words 54-58, 64-70 and 88 are valid.
const VALID_WORDS: u16 = 0x07;
/// Bit 14 marks the validity of a word.
const VALID: u16 = 1 << 14;

struct Page([u8; PAGE_BYTES]);

impl Page {
    fn word(&mut self, index: usize, value: u16) {
        if let Some(word) = self.0.get_mut(2 * index..2 * index + 2) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn words(&mut self, index: usize, value: u64, count: usize) {
        for word in 0..count {
            self.word(index + word, (value >> (16 * word)) as u16);
        }
    }

    /// Text has the first character in the upper byte of each word, and is padded with spaces.
    fn text(&mut self, index: usize, words: usize, text: &[u8]) {
        let mut characters = text.iter().copied().chain(core::iter::repeat(b' '));
        for word in index..index + words {
            let pair = [characters.next().unwrap_or(b' '), characters.next().unwrap_or(b' ')];
            self.word(word, u16::from_be_bytes(pair));
        }
    }

    fn names(&mut self, model: &[u8], number: u8) {
        self.text(10, 10, &[b'B', b'H', b'0', b'0', b'0', b'0', b'1' + number % 9]);
        self.text(23, 4, env!("CARGO_PKG_VERSION").as_bytes());
        self.text(27, 20, model);
    }

    fn transfer_modes(&mut self, mode: TransferMode) {
        let (multiword, ultra) = match mode {
            TransferMode::Pio => (0, 0),
            TransferMode::MultiwordDma(mode) => (0x100 << mode, 0),
            TransferMode::UltraDma(mode) => (0, 0x100 << mode),
        };
        self.word(63, MULTIWORD_DMA_MODES | multiword);
        self.word(88, ULTRA_DMA_MODES | ultra);
        // PIO modes 3 and 4; cycle times in nanoseconds.
        self.word(64, 0x03);
        for word in 65..=68 {
            self.word(word, 120);
        }
    }
}

/// IDENTIFY DEVICE of drive `number`.
pub(super) fn disk(disk: &DiskState, number: u8) -> [u8; PAGE_BYTES] {
    let mut page = Page([0; PAGE_BYTES]);
    let default = DiskState::default_geometry(disk.sectors);
    // A fixed device.
    page.word(0, 0x0040);
    page.word(1, default.cylinders);
    page.word(3, default.heads.into());
    page.word(6, default.sectors.into());
    page.names(b"BULKHEAD HARDDISK", number);
    page.word(47, 0x8000 | u16::from(MAX_MULTIPLE));
    // IORDY may be used.
    page.word(49, CAPABILITIES | 1 << 11);
    page.word(50, VALID);
    page.word(53, VALID_WORDS);
    let current = disk.geometry;
    page.word(54, current.cylinders);
    page.word(55, current.heads.into());
    page.word(56, current.sectors.into());
    page.words(
        57,
        u64::from(current.cylinders) * u64::from(current.heads) * u64::from(current.sectors),
        2,
    );
    if disk.multiple != 0 {
        page.word(59, 0x100 | u16::from(disk.multiple));
    }
    page.words(60, disk.sectors.min(0xfff_ffff), 2);
    page.transfer_modes(disk.transfer_mode);
    page.word(80, MAJOR_VERSIONS);
    page.word(81, MINOR_VERSION);
    // Supported: NOP, write cache; 48-bit addresses, both flushes; writes with FUA.
    page.word(82, 1 << 14 | 1 << 5);
    page.word(83, VALID | 1 << 13 | 1 << 12 | 1 << 10);
    page.word(84, VALID | 1 << 6);
    page.word(85, 1 << 14 | u16::from(disk.write_cache) << 5);
    page.word(86, 1 << 13 | 1 << 12 | 1 << 10);
    page.word(87, VALID | 1 << 6);
    // An 80-conductor cable.
    page.word(93, VALID | 1 << 13 | 1);
    page.words(100, disk.sectors, 4);
    page.0
}

/// IDENTIFY PACKET DEVICE of drive `number`.
pub(super) fn cdrom(cd: &CdState, number: u8) -> [u8; PAGE_BYTES] {
    let mut page = Page([0; PAGE_BYTES]);
    // A removable CD-ROM; DRQ within 50 us of PACKET; packets of 12 bytes.
    page.word(0, 0x85c0);
    page.names(b"BULKHEAD DVD-ROM", number);
    page.word(49, CAPABILITIES | 1 << 11);
    page.word(53, VALID_WORDS & !1);
    page.transfer_modes(cd.transfer_mode);
    page.word(80, MAJOR_VERSIONS);
    page.word(81, MINOR_VERSION);
    // Supported and enabled: NOP, DEVICE RESET, PACKET.
    page.word(82, 1 << 14 | 1 << 9 | 1 << 4);
    page.word(83, VALID);
    page.word(84, VALID);
    page.word(85, 1 << 14 | 1 << 9 | 1 << 4);
    page.word(87, VALID);
    page.word(93, VALID | 1 << 13 | 1);
    page.0
}
