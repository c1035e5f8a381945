//! File systems by their superblocks: kind, label and UUID as udev tells them. Nothing else of them
//! is read.

use alloc::format;
use alloc::string::String;

use uguid::Guid;

use crate::{Reader, text};

/// A file system that begins a medium, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// `ext4`, `vfat`, `iso9660`.
    pub kind: &'static str,
    /// Its label; empty if it has none.
    pub label: String,
    /// Its UUID, or the number that stands for it; empty if it has none.
    pub uuid: String,
}

/// The place of ISO 9660's first volume descriptor, and its length.
const VOLUME_DESCRIPTOR: (u64, usize) = (16 * 2048, 2048);
/// The place of ext's superblock, and its length.
const EXT_SUPERBLOCK: (u64, usize) = (1024, 1024);

impl FileSystem {
    /// The one that begins at `offset_bytes`, if it is one of those known here.
    pub fn find(reader: &mut Reader<'_>, offset_bytes: u64) -> Option<Self> {
        let mut read = |(at, length): (u64, usize)| {
            let bytes = offset_bytes.checked_add(at).map(|at| reader.read(at, length));
            bytes.and_then(Result::ok).unwrap_or_default()
        };
        iso(&read(VOLUME_DESCRIPTOR))
            .or_else(|| ext(&read(EXT_SUPERBLOCK)))
            .or_else(|| fat(&read((0, 512))))
    }
}

/// ECMA-119, section 8.4.
fn iso(descriptor: &[u8]) -> Option<FileSystem> {
    const MAGIC: &[u8] = b"\x01CD001\x01";
    const CREATED: usize = 813;
    const MODIFIED: usize = 830;
    if !descriptor.starts_with(MAGIC) {
        return None;
    }
    // A time stands for a UUID: sixteen digits, all zeroes if it is not known.
    let time = |at: usize| {
        let digits = descriptor.get(at..at + 16)?;
        let is_known = digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|&it| it != b'0');
        let digits: String = digits.iter().map(|&digit| char::from(digit)).collect();
        let (year, rest) = digits.split_at_checked(4).filter(|_| is_known)?;
        let pairs = rest.as_bytes().chunks(2).map(|pair| format!("-{}", pair.escape_ascii()));
        Some(format!("{year}{}", pairs.collect::<String>()))
    };
    let uuid = time(MODIFIED).or_else(|| time(CREATED)).unwrap_or_default();
    Some(FileSystem { kind: "iso9660", label: bytes_label(descriptor.get(40..72)?), uuid })
}

/// Linux, `Documentation/filesystems/ext4/super.rst`.
fn ext(superblock: &[u8]) -> Option<FileSystem> {
    const HAS_JOURNAL: u32 = 4;
    /// Extents, 64 bits, flexible block groups: what ext3 does not have.
    const EXT4: u32 = 0x40 | 0x80 | 0x200;
    const JOURNAL_DEVICE: u32 = 8;
    let u32_at = |at: usize| superblock.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it));
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    let (compatible, incompatible) = (u32_at(0x5c)?, u32_at(0x60)?);
    let kind = match compatible & HAS_JOURNAL != 0 {
        _ if incompatible & JOURNAL_DEVICE != 0 => "jbd",
        _ if incompatible & EXT4 != 0 => "ext4",
        true => "ext3",
        false => "ext2",
    };
    let mut uuid: [u8; 16] = *superblock.get(0x68..)?.first_chunk()?;
    let is_known = uuid != [0; 16];
    // Its first three numbers are big-endian here, and little-endian in a GUID.
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    let uuid = if is_known { format!("{}", Guid::from_bytes(uuid)) } else { String::new() };
    Some(FileSystem { kind, label: bytes_label(superblock.get(0x78..0x88)?), uuid })
}

/// Microsoft FAT specification, section 3.
fn fat(sector: &[u8]) -> Option<FileSystem> {
    const NO_LABEL: &str = "NO NAME";
    let u16_at = |at: usize| sector.get(at..)?.first_chunk().map(|it| u16::from_le_bytes(*it));
    let &[jump, .., 0x55, 0xaa] = sector else { return None };
    let (sector_bytes, cluster_sectors) = (u16_at(11)?, *sector.get(13)?);
    let (reserved, fats, media) = (u16_at(14)?, *sector.get(16)?, *sector.get(21)?);
    let is_fat = matches!(jump, 0xeb | 0xe9)
        && sector_bytes.is_power_of_two()
        && (512..=4096).contains(&sector_bytes)
        && cluster_sectors.is_power_of_two()
        && reserved != 0
        && fats != 0
        && (media == 0xf0 || media >= 0xf8);
    // FAT32 has no length of 16 bits, and more fields before its signature.
    let signature_at = if u16_at(22)? == 0 { 66 } else { 38 };
    if !is_fat || !matches!(sector.get(signature_at)?, 0x28 | 0x29) {
        return None;
    }
    let &[a, b, c, d] = sector.get(signature_at + 1..)?.first_chunk()?;
    let label = bytes_label(sector.get(signature_at + 5..signature_at + 16)?);
    let label = if label == NO_LABEL { String::new() } else { label };
    Some(FileSystem { kind: "vfat", label, uuid: format!("{d:02X}{c:02X}-{b:02X}{a:02X}") })
}

fn bytes_label(bytes: &[u8]) -> String {
    text::label(String::from_utf8_lossy(bytes).chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeapDisk, Medium};
    use alloc::sync::Arc;
    use alloc::vec;

    /// The file system found behind half a KiB, with these bytes at these places.
    fn found(pieces: &[(usize, &[u8])]) -> Option<FileSystem> {
        let mut content = vec![0; 512 + 40_000];
        for (at, bytes) in pieces {
            content[512 + at..][..bytes.len()].copy_from_slice(bytes);
        }
        let disk: Arc<dyn Medium> = Arc::new(HeapDisk::new(content, true));
        FileSystem::find(&mut Reader::open(&disk, &mut || false), 512)
    }

    fn file_system(kind: &'static str, label: &str, uuid: &str) -> Option<FileSystem> {
        Some(FileSystem { kind, label: label.into(), uuid: uuid.into() })
    }

    #[test]
    fn ext_has_a_label_and_a_uuid() {
        let uuid = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
        let of = |compatible: u8, incompatible: u8| {
            found(&[
                (1024 + 0x38, &[0x53, 0xef]),
                (1024 + 0x5c, &[compatible]),
                (1024 + 0x60, &[incompatible]),
                (1024 + 0x68, &uuid),
                (1024 + 0x78, b"root disk"),
            ])
        };
        let text = "12345678-9abc-def0-0102-030405060708";
        assert_eq!(of(4, 0x42), file_system("ext4", "root disk", text));
        assert_eq!(of(4, 2), file_system("ext3", "root disk", text));
        assert_eq!(of(0, 2), file_system("ext2", "root disk", text));
        assert_eq!(of(0, 8), file_system("jbd", "root disk", text));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn fat_has_its_serial_number_for_a_uuid() {
        let start: &[(usize, &[u8])] = &[
            (0, &[0xeb, 0x3c, 0x90]),
            (510, &[0x55, 0xaa]),
            (11, &[0, 2, 4, 1, 0, 2, 0, 2, 0, 0, 0xf8]),
        ];
        let of = |more: &[(usize, &[u8])]| found(&[start, more].concat());
        let small = of(&[(22, &[9]), (38, b"\x29\x78\x56\x34\x12BOOT       FAT16")]);
        assert_eq!(small, file_system("vfat", "BOOT", "1234-5678"));
        let large = of(&[(66, b"\x29\xef\xbe\xad\xdeNO NAME    FAT32")]);
        assert_eq!(large, file_system("vfat", "", "DEAD-BEEF"));
        // The boot sector of a disk: there is no file system by the numbers.
        assert_eq!(of(&[(11, &[0, 0]), (66, &[0x29])]), None);
        assert_eq!(of(&[(0, &[0x33]), (66, &[0x29])]), None);
    }

    #[test]
    fn an_iso_has_its_time_for_a_uuid() {
        const AT: usize = 32_768;
        let start: &[(usize, &[u8])] =
            &[(AT, b"\x01CD001\x01"), (AT + 40, b"Debian 12.8.0 amd64 1    ")];
        let of = |more: &[(usize, &[u8])]| found(&[start, more].concat());
        let label = "Debian 12.8.0 amd64 1";
        let modified = of(&[(AT + 830, b"2024110910281200"), (AT + 813, b"2020010203040506")]);
        assert_eq!(modified, file_system("iso9660", label, "2024-11-09-10-28-12-00"));
        let created = of(&[(AT + 830, b"0000000000000000"), (AT + 813, b"2020010203040506")]);
        assert_eq!(created, file_system("iso9660", label, "2020-01-02-03-04-05-06"));
        assert_eq!(of(&[(AT + 830, b"\xff")]), file_system("iso9660", label, ""));
    }
}
