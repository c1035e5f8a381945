//! Front ends that are broken, or mean it.

use super::test_front::{DATA, RING, SETTINGS, segment_bytes};
use super::*;
use crate::blkback::spec::Protocol;
use crate::store::xenbus::State;
use std::sync::atomic::Ordering;

#[test]
fn an_index_out_of_the_ring_ends_the_connection() {
    for produced in [33, 1000, u32::MAX, 1 << 31] {
        let mut front = Front::connected(TestDisk::new(64, false));
        front.set_index(0, produced);
        front.vbd.serve();
        assert_eq!(front.guest.calls.load(Ordering::Relaxed), 1);
        assert_eq!(front.disk.log.lock().len(), 0);
        front.vbd.attend(&mut front.store).unwrap();
        assert_eq!((front.back(), front.guest.held()), (State::Closing, vec![]));
        front.vbd.serve();
        // The next kernel finds a disk.
        front.set("state", "6");
        front.set("state", "1");
        front.connect(Protocol::X86_64, 1);
        front.guest.grant(DATA, false);
        assert_eq!(front.ask(0, 9, &[(DATA, 0, 0)]), 0);
    }
}

#[test]
fn an_index_that_goes_back_ends_the_connection() {
    let mut front = Front::connected(TestDisk::new(64, true));
    front.guest.grant(DATA, false);
    for id in 0..3 {
        let entry = front.entry_of(0, id, id, &[(DATA, 0, 0)]);
        front.put(&entry);
    }
    front.push();
    front.set_index(0, 1);
    front.vbd.serve();
    assert_eq!(front.disk.log.lock().len(), 3);
    assert_eq!(front.guest.calls.load(Ordering::Relaxed), 1);
    front.vbd.attend(&mut front.store).unwrap();
    assert_eq!((front.back(), front.guest.held()), (State::Closing, vec![DATA]));
    front.disk.complete_all();
    assert_eq!(front.guest.held(), [0; 0]);
}

#[test]
fn a_front_end_that_breaks_its_ring_and_closes_at_once_is_let_go() {
    let mut front = Front::connected(TestDisk::new(64, false));
    front.set_index(0, 1000);
    front.vbd.serve();
    front.set("state", "6");
    assert_eq!((front.back(), front.guest.held()), (State::Closed, vec![]));
}

#[test]
fn a_ring_that_vanishes_ends_the_connection() {
    for pages in [1, 2] {
        let mut front = Front::new(SETTINGS, TestDisk::new(64, true));
        front.connect(Protocol::X86_64, pages);
        front.guest.grant(DATA, false);
        for id in 0..40 {
            let entry = front.entry_of(0, id, id, &[(DATA, 0, 0)]);
            front.put(&entry);
        }
        if pages == 2 {
            front.push();
        }
        front.guest.revoke(RING + pages as u32 - 1);
        front.vbd.serve();
        front.disk.complete_all();
        front.vbd.attend(&mut front.store).unwrap();
        assert_eq!(front.back(), State::Closing);
    }
}

#[test]
fn grants_that_vanish_while_the_disk_works_fail_the_request() {
    let mut front = Front::connected(TestDisk::new(64, true));
    for page in [DATA, DATA + 1] {
        front.guest.grant(page, false);
        let entry = front.entry_of(0, page.into(), 1, &[(page, 0, 0)]);
        front.put(&entry);
    }
    front.push();
    front.guest.revoke(DATA);
    front.disk.complete_all();
    assert_eq!(front.responses(), [(DATA.into(), 0, -1), (u64::from(DATA) + 1, 0, 0)]);
}

#[test]
fn no_more_is_on_its_way_than_is_allowed() {
    let mut front = Front::new(SETTINGS, TestDisk::new(4096, true));
    front.connect(Protocol::X86_64, 1);
    front.guest.grant(DATA, false);
    front.guest.grant(50, true);
    front.guest.fill(50, 0, &segment_bytes(&[(DATA, 0, 7); 256]));
    // The last does not fit behind the four before it, nor the barriers, which wait, behind others.
    for id in 0..32 {
        match id % 8 {
            7 => {
                let entry = front.entry_of(2, id, 0, &[(DATA, 0, 7); 11]);
                front.put(&entry);
            }
            5 => front.put_indirect(0, id, 0, 256, &[50]),
            _ => front.put_indirect(0, id, 0, 255, &[50]),
        }
    }
    front.push();
    let (mut answered, mut most_bytes) = (0, 0);
    for _ in 0..200 {
        let bytes: usize =
            front.disk.queue.lock().iter().map(|(_, it)| it.data.length_bytes() as usize).sum();
        most_bytes = most_bytes.max(bytes);
        assert!(bytes <= MAX_BYTES_IN_FLIGHT);
        // The owner's part: it comes back when it was asked to.
        if front.guest.calls.swap(0, Ordering::Relaxed) > 0 {
            front.vbd.serve();
        }
        front.disk.complete_one();
        answered += front.responses().len();
    }
    assert_eq!((answered, most_bytes / MAX_BYTES_A_REQUEST), (32, 3));
}

#[test]
fn much_data_is_served_in_turns() {
    let mut front = Front::connected(TestDisk::new(4096, false));
    front.guest.grant(DATA, false);
    front.guest.grant(50, true);
    front.guest.fill(50, 0, &segment_bytes(&[(DATA, 0, 7); 256]));
    for id in 0..3 {
        front.put_indirect(0, id, 0, 256, &[50]);
    }
    assert!(front.push());
    for turn in 1..4 {
        assert_eq!(front.disk.log.lock().len(), turn as usize);
        assert_eq!(front.responses(), [(turn - 1, 0, 0)]);
        let calls = front.guest.calls.swap(0, Ordering::Relaxed);
        assert_eq!(calls, u32::from(turn < 3));
        front.vbd.serve();
    }
    assert_eq!(front.index(4), 4);
}
