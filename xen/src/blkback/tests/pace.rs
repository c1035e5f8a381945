//! How often a front end has to tell of its requests.

use super::test_front::DATA;
use super::*;
use std::sync::atomic::Ordering;

/// Reads of which the back end is told one by one, before it looks by itself.
const PATIENCE: u32 = 32;
/// Looks by the clock, after which it is decided anew.
const LOOKS: u32 = 4;
/// Three quarters of a ring of one page.
const TOLD_OF_AT_ONCE: u32 = 24;

/// Makes a read; true if the back end wanted to be told of it.
fn read(front: &mut Front) -> bool {
    let entry = front.entry_of(0, 1, 0, &[(DATA, 0, 7)]);
    front.put(&entry);
    front.push()
}

fn busy(is_slow: bool) -> Front {
    let mut front = Front::connected(TestDisk::new(64, is_slow));
    front.guest.grant(DATA, false);
    for _ in 0..PATIENCE {
        assert!(read(&mut front));
        front.disk.complete_all();
        assert_eq!(front.responses().len(), 1);
    }
    front
}

fn looks(front: &Front) -> u32 {
    front.guest.looks.load(Ordering::Relaxed)
}

#[test]
fn a_busy_front_end_tells_of_most_of_a_ring_at_once() {
    for is_slow in [false, true] {
        let mut front = busy(is_slow);
        for _ in 0..3 {
            for told in 1..=TOLD_OF_AT_ONCE {
                assert_eq!(read(&mut front), told == TOLD_OF_AT_ONCE, "{told}");
            }
            front.disk.complete_all();
            assert_eq!(front.responses().len(), TOLD_OF_AT_ONCE as usize);
        }
        // It looks once, whatever was done before that, and then again.
        assert_eq!(looks(&front), 1);
        front.vbd.look();
        assert_eq!(looks(&front), 2);
        assert!(!read(&mut front));
    }
}

#[test]
fn a_guest_that_idles_is_answered_at_once() {
    let mut front = busy(false);
    assert!(!read(&mut front));
    assert!(front.responses().is_empty());
    front.vbd.serve();
    assert_eq!(front.responses().len(), 1);
    assert!(!read(&mut front));
}

#[test]
fn a_front_end_with_few_requests_tells_of_each() {
    let mut front = busy(false);
    for _ in 0..LOOKS {
        // It awaits each answer, and its CPU is busy meanwhile.
        assert!(!read(&mut front));
        front.vbd.look();
        assert_eq!(front.responses().len(), 1);
    }
    let looks_before = looks(&front);
    for _ in 0..3 {
        assert!(read(&mut front));
        assert_eq!(front.responses().len(), 1);
    }
    assert_eq!(looks(&front), looks_before, "nothing looks by the clock");
    // Longer than the first time.
    for told in 4..=2 * PATIENCE + 1 {
        assert_eq!(read(&mut front), told <= 2 * PATIENCE, "{told}");
        front.responses();
    }
}

#[test]
fn a_request_that_comes_while_the_pace_changes_is_not_lost() {
    let mut front = busy(false);
    (1..LOOKS).for_each(|_| front.vbd.look());
    assert!(!read(&mut front));
    front.vbd.look();
    assert_eq!(front.responses().len(), 1);
    assert!(read(&mut front));
    assert_eq!(front.responses().len(), 1);
}
