//! Hostile disks, for the fuzz target in `tests/fuzz` and for bounded property tests.

use super::image::Image;
use super::{MAX_NUMBER, read};
use crate::test_disk::TestDisk;
use crate::{FileSystem, Medium, Reader};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arbitrary::{Result, Unstructured};

/// The longest disk.
const MAX_BLOCKS: usize = 600;
/// The entries of its GPT.
const COUNT: usize = 16;
const MAX_CHANGES: usize = 16;
/// Reads of the longest tables: both arrays of 4 MiB, or a chain of records.
const MAX_READS: usize = 300;

/// The table of a disk with anything on it is read in a bounded time, has no more partitions than
/// there are numbers, and none of them passes the end.
pub fn partitions(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let block_bytes = *input.choose(&[512, 4096])?;
    let blocks = input.int_in_range(64..=MAX_BLOCKS)?;
    let mut image = Image::new(blocks, block_bytes);
    let block = |input: &mut Unstructured<'_>| input.int_in_range(0..=blocks as u32 + 9);
    if input.arbitrary()? {
        let mut entries = Vec::new();
        for _ in 0..input.int_in_range(0..=COUNT)? {
            let (first, last) = (block(input)?.into(), block(input)?.into());
            let label: String = input.arbitrary()?;
            entries.push((input.arbitrary()?, first, last, label));
        }
        let entries: Vec<_> =
            entries.iter().map(|(a, b, c, label)| (*a, *b, *c, &**label)).collect();
        image.put_gpt(&entries, COUNT, 128);
    }
    for _ in 0..input.int_in_range(0..=8)? {
        let at = block(input)? as usize % blocks;
        let mut entries = [(0, 0, 0); 4];
        for entry in &mut entries {
            let kind = *input.choose(&[0x00, 0x83, 0x05, 0x0f, 0xee])?;
            *entry = (kind, block(input)?, block(input)?);
        }
        image.put_mbr(at, &entries);
    }
    for _ in 0..input.arbitrary_len::<u16>()?.min(MAX_CHANGES) {
        // Most of them in the first header, whose checksum is right afterwards.
        let at = match input.ratio(3, 4)? {
            true => block_bytes + input.choose_index(92)?,
            false => input.choose_index(image.bytes.len())?,
        };
        image.bytes[at] = input.arbitrary()?;
        if input.ratio(3, 4)? {
            let array = image.bytes[2 * block_bytes..][..COUNT * 128].to_vec();
            image.seal(1, &array);
        }
    }
    check(image);
    let rest = input.bytes(input.len())?;
    let mut image = Image::new(rest.len().div_ceil(512).max(1), 512);
    image.bytes[..rest.len()].copy_from_slice(rest);
    check(image);
    Ok(())
}

fn check(image: Image) {
    let size_bytes = image.bytes.len() as u64;
    let disk = Arc::new(TestDisk::new(image.bytes, image.block_bytes as u32));
    let medium: Arc<dyn Medium> = disk.clone();
    let mut wait = || false;
    let mut reader = Reader::open(&medium, &mut wait);
    let Ok(table) = read(&mut reader) else { panic!("the first sector is there") };
    assert!(disk.requests() <= MAX_READS);
    assert!(table.partitions.is_sorted_by(|one, next| one.number < next.number));
    for partition in &table.partitions {
        let range = &partition.range;
        assert!((1..=MAX_NUMBER).contains(&partition.number));
        assert!(range.start < range.end && range.end <= size_bytes);
        assert!((range.start | range.end).is_multiple_of(image.block_bytes as u64));
        assert!(!partition.label.contains(char::is_control));
        FileSystem::find(&mut reader, range.start);
    }
    assert!(table.faults.len() <= 3 * MAX_NUMBER as usize);
}
