//! Tables as tools make them, broken ones, and anything else.

use super::image::Image;
use super::*;
use crate::Medium;
use crate::test_disk::TestDisk;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use proptest::prelude::*;

fn table(image: Image) -> Table {
    let disk = TestDisk::new(image.bytes, image.block_bytes as u32);
    let disk: Arc<dyn Medium> = Arc::new(disk);
    read(&mut Reader::open(&disk, &mut || false)).expect("the first sector is there")
}

/// Numbers and places, in blocks.
fn places(table: &Table, block_bytes: u64) -> Vec<(u32, u64, u64)> {
    let place = |partition: &Partition| {
        let Range { start, end } = partition.range;
        (partition.number, start / block_bytes, end / block_bytes)
    };
    table.partitions.iter().map(place).collect()
}

#[test]
fn a_gpt_is_read_in_blocks_and_entries_of_any_length() {
    for (block_bytes, entry_bytes) in [(512, 128), (512, 256), (4096, 128), (4096, 4096)] {
        let mut image = Image::new(400, block_bytes);
        let entries = [(0xc1, 140, 149, "EFI System"), (0, 0, 0, ""), (0xaf, 150, 159, "wurzel ä")];
        image.put_gpt(&entries, 128.min(130 * block_bytes / entry_bytes), entry_bytes);
        let table = table(image);
        assert_eq!(table.faults, []);
        assert_eq!(places(&table, block_bytes as u64), [(1, 140, 150), (3, 150, 160)]);
        let [first, last] = &table.partitions[..] else { panic!("{table:?}") };
        assert_eq!((&*first.label, &*last.label), ("EFI System", "wurzel ä"));
        let guid = "000000c1-0000-0000-0000-000000000000";
        assert_eq!((first.kind.to_string(), &*first.uuid), (guid.to_string(), guid));
    }
}

#[test]
fn the_second_gpt_is_used_if_the_first_is_bad() {
    // A byte of: signature, header, array; of the first table.
    for at in [512, 512 + 40, 1024 + 200] {
        let mut image = Image::new(400, 512);
        image.put_gpt(&[(1, 100, 199, "a")], 128, 128);
        image.bytes[at] ^= 0xff;
        let read = table(image);
        assert_eq!(
            (places(&read, 512), &read.faults[..]),
            (vec_of((1, 100, 200)), &[Fault::FirstGpt][..])
        );
    }
    let mut image = Image::new(400, 512);
    image.put_gpt(&[(1, 100, 199, "a")], 128, 128);
    image.bytes[512] ^= 0xff;
    image.bytes[399 * 512 + 91] ^= 0xff;
    assert_eq!(table(image), Table { partitions: Vec::new(), faults: [Fault::BothGpts].into() });
}

fn vec_of<T>(one: T) -> Vec<T> {
    [one].into()
}

#[test]
fn a_gpt_counts_with_an_entry_for_it_alone() {
    let with_mbr = |entries: &[_]| {
        let mut image = Image::new(400, 512);
        image.put_gpt(&[(1, 100, 199, "")], 128, 128);
        image.put_mbr(0, &[(0, 0, 0); 4]);
        image.put_mbr(0, entries);
        places(&table(image), 512)
    };
    // A hybrid table.
    assert_eq!(with_mbr(&[(0x83, 300, 10), (0xee, 1, 99)]), [(1, 100, 200)]);
    // As an ISO image has them: type 0 is no reason to pass over an entry.
    assert_eq!(with_mbr(&[(0, 0, 300), (0xef, 20, 10)]), [(1, 0, 300), (2, 20, 30)]);
    assert_eq!(with_mbr(&[(0xee, 2, 99), (0x83, 300, 10)]), []);
}

#[test]
fn logical_partitions_count_from_five() {
    let mut image = Image::new(400, 512);
    image.put_mbr(0, &[(0x83, 10, 10), (0x0f, 100, 300), (0, 0, 0), (0x82, 30, 10)]);
    image.put_mbr(100, &[(0x83, 10, 10), (0x05, 50, 50), (0x83, 290, 400), (0, 0, 0)]);
    image.put_mbr(150, &[(0, 0, 0), (0x05, 100, 50)]);
    image.put_mbr(200, &[(0x07, 1, 199)]);
    let table = table(image);
    // Of an extended one there is room for a boot loader.
    let expected = [(1, 10, 20), (2, 100, 102), (4, 30, 40), (5, 110, 120), (6, 201, 400)];
    assert_eq!((places(&table, 512), &table.faults[..]), (expected.to_vec(), &[][..]));
    assert_eq!(table.partitions[4].uuid, "deadbeef-06");
    assert_eq!(format!("{}", table.partitions[4].kind), "0x07");
}

#[test]
fn chains_of_logical_partitions_end() {
    // A ring with a partition in each record, one without, and a record that is none.
    let ring = |entries: &[_]| {
        let mut image = Image::new(400, 512);
        image.put_mbr(0, &[(0x05, 100, 300)]);
        image.put_mbr(100, entries);
        table(image)
    };
    let full = ring(&[(0x83, 1, 1), (0x05, 0, 300)]);
    assert_eq!(full.partitions.last().map(|partition| partition.number), Some(MAX_NUMBER));
    assert_eq!(places(&ring(&[(0x05, 0, 300)]), 512), [(1, 100, 102)]);
    let lost = ring(&[(0x83, 2, 1), (0x05, 50, 1)]);
    assert_eq!((places(&lost, 512).len(), &lost.faults[..]), (2, &[Fault::Chain(6)][..]));
}

#[test]
fn partitions_stay_on_the_disk() {
    let mut image = Image::new(100, 512);
    image.put_mbr(0, &[(0x83, 10, 10), (0x83, 15, 10), (0x83, 90, u32::MAX), (0x83, 100, 1)]);
    let mbr = table(image);
    assert_eq!(places(&mbr, 512), [(1, 10, 20), (2, 15, 25), (3, 90, 100)]);
    assert_eq!(mbr.faults, [Fault::Cut(3), Fault::Beyond(4), Fault::Overlap(1, 2)]);

    let mut image = Image::new(400, 512);
    image.put_gpt(&[(1, 100, 400, ""), (1, 200, 199, ""), (1, 0, u64::MAX, "")], 4, 128);
    let gpt = table(image);
    assert_eq!(
        (gpt.partitions, &gpt.faults[..]),
        (Vec::new(), &[Fault::Beyond(1), Fault::Beyond(3)][..])
    );
}

#[test]
fn boot_sectors_have_no_partitions() {
    // The status bytes of entries are code or text there.
    let mut image = Image::new(100, 512);
    image.put_mbr(0, &[(0x83, 10, 10)]);
    image.bytes[0x1be] = 0x20;
    assert_eq!(table(image), Table::default());
    let mut image = Image::new(100, 512);
    image.put_mbr(0, &[(0x83, 10, 10)]);
    image.bytes[511] = 0;
    assert_eq!(table(image), Table::default());
}

proptest! {
    #[test]
    fn what_fuzzers_drive_holds(data in prop::collection::vec(any::<u8>(), 0..800)) {
        fuzzing::partitions(&data);
    }
}
