//! Requests of each kind, right and wrong.

use super::test_front::{DATA, RING, SETTINGS, segment_bytes};
use super::*;
use crate::blkback::spec::Protocol;
use block::Error;

fn with_data(disk: TestDisk, pages: u32) -> Front {
    let front = Front::connected(disk);
    (0..pages).for_each(|page| front.guest.grant(DATA + page, false));
    front
}

#[test]
fn reads_go_to_the_sectors_of_the_segments_only() {
    for is_slow in [false, true] {
        let mut front = with_data(TestDisk::new(64, is_slow), 2);
        assert_eq!(front.ask(0, 10, &[(DATA, 6, 7), (DATA + 1, 0, 0)]), 0);
        let page = front.guest.bytes(DATA);
        assert!(page[..6 * 512].iter().all(|&byte| byte == 0));
        assert!(page[6 * 512..7 * 512].iter().all(|&byte| byte == 10));
        assert!(page[7 * 512..].iter().all(|&byte| byte == 11));
        let page = front.guest.bytes(DATA + 1);
        assert!(page[..512].iter().all(|&byte| byte == 12));
        assert!(page[512..].iter().all(|&byte| byte == 0));
        assert_eq!(front.guest.held(), [RING]);
    }
}

#[test]
fn writes_reach_the_disk_and_flushes_the_medium() {
    for is_slow in [false, true] {
        let mut front = with_data(TestDisk::new(64, is_slow), 1);
        front.guest.fill(DATA, 512, &[0xaa; 1024]);
        assert_eq!(front.ask(1, 20, &[(DATA, 1, 2)]), 0);
        assert_eq!(front.disk.data.lock()[20 * 512..22 * 512], [0xaa; 1024]);
        assert_ne!(front.disk.durable.lock()[20 * 512], 0xaa);
        assert_eq!(front.ask(3, 0, &[]), 0);
        assert_eq!(front.disk.durable.lock()[20 * 512..22 * 512], [0xaa; 1024]);
    }
}

#[test]
fn barriers_are_alone_and_durable() {
    let mut front = with_data(TestDisk::new(64, true), 3);
    for (page, byte) in [(DATA, 0xa1), (DATA + 1, 0xa2), (DATA + 2, 0xa3)] {
        front.guest.fill(page, 0, &[byte; 512]);
    }
    for (id, op) in [(1, 1), (2, 2), (3, 1)] {
        let page = DATA + id as u32 - 1;
        let entry = front.entry_of(op, id, 7, &[(page, 0, 0)]);
        front.put(&entry);
    }
    front.push();
    let log = |front: &Front| front.disk.log.lock().iter().map(|it| it.0).collect::<Vec<_>>();
    // The second waits for the first, the third for the second.
    const WRITE: Op = Op::WRITE;
    use Op::Flush;
    assert_eq!(log(&front), [WRITE]);
    front.disk.complete_one();
    assert_eq!(front.responses(), [(1, 1, 0)]);
    assert_eq!(log(&front), [WRITE, Flush]);
    front.disk.complete_one();
    assert_eq!(log(&front), [WRITE, Flush, WRITE]);
    front.disk.complete_one();
    assert_eq!(log(&front), [WRITE, Flush, WRITE, Flush]);
    assert_eq!(front.responses(), []);
    front.disk.complete_one();
    assert_eq!(front.responses(), [(2, 2, 0)]);
    assert_eq!(front.disk.durable.lock()[7 * 512], 0xa2);
    assert_eq!(log(&front), [WRITE, Flush, WRITE, Flush, WRITE]);
    front.disk.complete_one();
    assert_eq!(front.responses(), [(3, 1, 0)]);
    assert_eq!(front.disk.data.lock()[7 * 512], 0xa3);
    // Without data it is a flush.
    assert_eq!(front.ask(2, 0, &[]), 0);
    assert_eq!(front.disk.durable.lock()[7 * 512], 0xa3);
    front.disk.log.lock().clear();
    assert_eq!(front.ask(3, 7, &[(DATA, 0, 0)]), 0);
    assert_eq!(log(&front), [Flush, WRITE]);
}

#[test]
fn a_request_ends_on_the_medium_that_it_began_with() {
    const WRITE: Op = Op::WRITE;
    use Op::Flush;
    let mut front = with_data(TestDisk::new(64, true), 1);
    front.guest.fill(DATA, 0, &[0xa5; 512]);
    let entry = front.entry_of(3, 1, 60, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    let smaller = Arc::new(TestDisk::new(8, true));
    front.vbd.change_medium(&mut front.store, Some(smaller.clone()), "smaller").unwrap();
    front.disk.complete_all();
    assert_eq!(front.responses(), [(1, 3, 0)]);
    assert_eq!(front.disk.log.lock().iter().map(|it| it.0).collect::<Vec<_>>(), [Flush, WRITE]);
    assert_eq!(front.disk.data.lock()[60 * 512], 0xa5);
    assert!(smaller.log.lock().is_empty());
}

#[test]
fn requests_that_are_wrong_fail_alone() {
    let mut front = with_data(TestDisk::new(64, false), 11);
    front.guest.grant(5, true);
    let eleven: Vec<_> = (0..11).map(|page| (DATA + page, 0, 0)).collect();
    let twelve = [&eleven[..], &[(DATA, 0, 0)]].concat();
    let page = [(DATA, 0, 7)];
    type Case<'a> = (u8, u64, &'a [(u32, u8, u8)], i16);
    let cases: [Case; 19] = [
        (0, 0, &eleven, 0),
        (0, 0, &[], -1),
        (1, 0, &[], -1),
        (0, 0, &twelve, -1),
        (0, 0, &[(DATA, 3, 2)], -1),
        (0, 0, &[(DATA, 0, 8)], -1),
        (0, 0, &[(DATA, 255, 255)], -1),
        (0, 56, &page, 0),
        (0, 57, &page, -1),
        (1, 64, &[(DATA, 0, 0)], -1),
        (0, u64::MAX, &page, -1),
        (0, u64::MAX / 512, &page, -1),
        (0, 1 << 55, &page, -1),
        (0, 0, &[(77, 0, 0)], -1),
        (0, 0, &[(5, 0, 0)], -1),
        (1, 0, &[(5, 0, 0)], 0),
        (4, 0, &page, -2),
        (5, 0, &[], -2),
        (255, 0, &page, -2),
    ];
    for (op, sector, segments, status) in cases {
        let mut entry = front.entry_of(op, 1, sector, segments);
        entry.truncate(front.protocol.stride_bytes());
        front.put(&entry);
        front.push();
        assert_eq!(front.responses(), [(1, op, status)], "{op} {sector} {segments:?}");
        assert_eq!(front.guest.held(), [RING]);
    }
}

#[test]
fn what_the_medium_refuses_fails() {
    for is_slow in [false, true] {
        let mut front = with_data(TestDisk::new(64, is_slow), 1);
        *front.disk.failure.lock() = Some(Error::Io);
        for (op, segments) in [(0, &[(DATA, 0, 0)][..]), (1, &[(DATA, 0, 0)]), (2, &[]), (3, &[])] {
            assert_eq!(front.ask(op, 0, segments), -1);
        }
        assert_eq!(front.guest.bytes(DATA), [0; 4096]);
        *front.disk.failure.lock() = Some(Error::NotSupported);
        assert_eq!(front.ask(3, 0, &[]), -2, "a flush");
        *front.disk.failure.lock() = None;
        assert_eq!(front.ask(0, 3, &[(DATA, 0, 0)]), 0);
    }
    let disk = TestDisk { is_read_only: true, ..TestDisk::new(64, false) };
    let mut front = with_data(disk, 1);
    assert_eq!(front.ask(1, 0, &[(DATA, 0, 0)]), -1);
    assert_eq!(front.ask(2, 0, &[(DATA, 0, 0)]), -1);
    assert_eq!(front.ask(3, 0, &[]), 0);
    assert!(!front.disk.log.lock().iter().any(|it| it.0 == Op::WRITE));
}

#[test]
fn disks_with_large_sectors_take_whole_ones() {
    let disk = TestDisk { sector_bytes: 4096, ..TestDisk::new(64, false) };
    let mut front = Front::new(SETTINGS, disk);
    front.connect(Protocol::X86_64, 1);
    front.guest.grant(DATA, false);
    assert_eq!(front.ask(0, 8, &[(DATA, 0, 7)]), 0);
    assert_eq!(front.guest.bytes(DATA)[0], 8);
    assert_eq!(front.ask(0, 8, &[(DATA, 0, 3)]), -1);
    assert_eq!(front.ask(0, 4, &[(DATA, 0, 7)]), -1);
}

#[test]
fn discards_of_media_that_have_them() {
    for protocol in [Protocol::X86_32, Protocol::X86_64] {
        for is_slow in [false, true] {
            let disk = TestDisk { has_discard: true, ..TestDisk::new(64, is_slow) };
            let mut front = Front::new(SETTINGS, disk);
            assert_eq!(front.back_node("feature-discard").unwrap(), "1");
            front.connect(protocol, 1);
            assert_eq!(front.ask_discard(0, 3, 2), 0);
            assert_eq!(*front.disk.log.lock(), [(Op::Discard, 3 * 512, 1024)]);
            let bytes = [3, 4, 5].map(|sector| front.disk.data.lock()[sector * 512]);
            assert_eq!(bytes, [0, 0, 5]);
            // All of it; behind the end; of more than there can be; for good (secure).
            assert_eq!(front.ask_discard(0, 0, 64), 0);
            assert_eq!(front.ask_discard(0, 63, 2), -1);
            assert_eq!(front.ask_discard(0, 1, u64::MAX / 512), -1);
            assert_eq!(front.ask_discard(0, 1, u64::MAX), -1);
            assert_eq!(front.ask_discard(1, 3, 2), -2);
        }
    }
    for disk in [
        TestDisk::new(64, false),
        TestDisk { has_discard: true, is_read_only: true, ..TestDisk::new(64, false) },
    ] {
        let mut front = Front::connected(disk);
        assert_eq!(front.back_node("feature-discard").unwrap(), "0");
        assert_eq!(front.ask_discard(0, 3, 2), -2);
    }
}

#[test]
fn indirect_requests_in_both_widths() {
    for protocol in [Protocol::X86_32, Protocol::X86_64] {
        let mut front = Front::new(SETTINGS, TestDisk::new(4096, false));
        front.connect(protocol, 1);
        (0..256).for_each(|page| front.guest.grant(DATA + page, false));
        front.guest.grant(50, true);
        let segments: Vec<_> = (0..256).map(|page| (DATA + page, 0, 7)).collect();
        front.guest.fill(50, 0, &segment_bytes(&segments));
        assert_eq!(front.ask_indirect(0, 16, 256, &[50]), 0);
        for page in [0, 1, 100, 255] {
            let first = 16 + page * 8;
            assert_eq!(front.guest.bytes(DATA + page)[0], first as u8, "{page}");
            assert_eq!(front.guest.bytes(DATA + page)[4095], (first + 7) as u8);
        }
        (0..256).for_each(|page| front.guest.fill(DATA + page, 0, &[0x5a; 4096]));
        assert_eq!(front.ask_indirect(1, 0, 256, &[50]), 0);
        let data = front.disk.data.lock()[..256 * 4096].to_vec();
        assert!(data.iter().all(|&byte| byte == 0x5a));
        front.guest.fill(50, 0, &segment_bytes(&[segments.clone(), segments].concat()));
        // Too many, none, no such operation, no such page; a list that is not granted.
        assert_eq!(front.ask_indirect(0, 0, 257, &[50]), -1);
        assert_eq!(front.ask_indirect(0, 0, u16::MAX, &[50; 8]), -1);
        assert_eq!(front.ask_indirect(0, 0, 0, &[50]), -1);
        for op in [2, 3, 5, 6, 255] {
            assert_eq!(front.ask_indirect(op, 0, 1, &[50]), -1);
        }
        assert_eq!(front.ask_indirect(0, 0, 1, &[51]), -1);
        front.guest.fill(50, 4, &[7, 8]);
        assert_eq!(front.ask_indirect(0, 0, 1, &[50]), -1);
        assert_eq!(front.guest.held(), [RING]);
    }
}

#[test]
fn a_batch_is_one_signal_each_way() {
    let mut front = with_data(TestDisk::new(64, false), 1);
    for id in 0..32 {
        let entry = front.entry_of(0, id, id, &[(DATA, 0, 0)]);
        front.put(&entry);
    }
    assert!(front.push());
    assert_eq!(front.guest.signals.lock()[&49], 1);
    let expected: Vec<_> = (0..32).map(|id| (id, 0, 0)).collect();
    assert_eq!(front.responses(), expected);
    // A front end that asks for none is not told of any.
    front.set_index(12, 32);
    let entry = front.entry_of(0, 0, 0, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    assert_eq!(front.guest.signals.lock()[&49], 1);
    front.responses();
    // A front end that wants to hear of the last response only is left alone until then.
    front.set_index(12, 37);
    for id in 0..4 {
        let entry = front.entry_of(0, id, id, &[(DATA, 0, 0)]);
        front.put(&entry);
        front.push();
        let signals = if id < 3 { 1 } else { 2 };
        assert_eq!(front.guest.signals.lock()[&49], signals);
    }
}

#[test]
fn while_the_disk_works_further_requests_are_taken() {
    let mut front = with_data(TestDisk::new(64, true), 8);
    for id in 0..8 {
        let entry = front.entry_of(0, id, id, &[(DATA + id as u32, 0, 0)]);
        front.put(&entry);
        assert!(front.push());
    }
    assert_eq!(front.disk.queue.lock().len(), 8);
    // They may complete in any order.
    front.disk.queue.lock().make_contiguous().reverse();
    front.disk.complete_all();
    let expected: Vec<_> = (0..8).rev().map(|id| (id, 0, 0)).collect();
    assert_eq!(front.responses(), expected);
    for id in 0..8 {
        assert_eq!(front.guest.bytes(DATA + id)[0], id as u8);
    }
}
