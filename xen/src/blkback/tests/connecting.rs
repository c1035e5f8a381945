//! States and keys, in the order in which front ends go through them.

use super::test_front::{DATA, RING, SETTINGS, segment_bytes};
use super::*;
use crate::blkback::spec::Protocol;
use crate::store::tree;
use crate::store::xenbus::State;
use block::Medium;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

#[test]
fn the_back_end_shows_what_the_disk_can_and_waits() {
    let front = Front::new(SETTINGS, TestDisk::new(64, false));
    assert_eq!(front.back(), State::InitWait);
    for (name, value) in [
        ("frontend", "/local/domain/1/device/vbd/51712"),
        ("frontend-id", "1"),
        ("online", "1"),
        ("max-ring-page-order", "4"),
        ("max-ring-pages", "16"),
        ("multi-queue-max-queues", "2"),
        ("feature-flush-cache", "1"),
        ("feature-barrier", "1"),
        ("feature-max-indirect-segments", "256"),
        ("sectors", "64"),
        ("sector-size", "512"),
        ("physical-sector-size", "512"),
        ("feature-discard", "0"),
        ("info", "0"),
    ] {
        assert_eq!(front.back_node(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn read_only_disks_cdroms_and_large_sectors_are_shown_as_such() {
    let disk = TestDisk { is_read_only: true, sector_bytes: 4096, ..TestDisk::new(65, false) };
    let front = Front::new(SETTINGS, disk);
    // `sectors` counts 512 bytes, whatever the sector's size.
    assert_eq!(front.back_node("sectors").unwrap(), "64");
    assert_eq!(front.back_node("sector-size").unwrap(), "4096");
    assert_eq!(front.back_node("physical-sector-size").unwrap(), "4096");
    assert_eq!(front.back_node("info").unwrap(), "4");
    let cdrom = Front::new(Settings { is_cdrom: true, ..SETTINGS }, TestDisk::new(64, false));
    assert_eq!(cdrom.back_node("info").unwrap(), "7");
}

#[test]
fn linux_connects_and_closes_and_connects_again() {
    let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
    for _ in 0..3 {
        front.connect(Protocol::X86_64, 1);
        assert_eq!(front.guest.held(), [RING]);
        assert_eq!(front.guest.bound.load(Ordering::Relaxed), 1);
        front.set("state", "5");
        assert_eq!(front.back(), State::Closing);
        front.set("state", "6");
        assert_eq!(front.back(), State::Closed);
        assert_eq!(front.guest.held(), [0; 0]);
        assert_eq!(front.guest.bound.load(Ordering::Relaxed), 0);
        assert!(!front.vbd.is_unplugged(&front.store));
        // A kernel that was started by kexec begins anew.
        front.set("state", "1");
        assert_eq!(front.back(), State::InitWait);
    }
}

#[test]
fn a_kernel_that_begins_without_a_close_gets_a_new_connection() {
    let mut front = Front::connected(TestDisk::new(64, false));
    front.set("state", "1");
    assert_eq!((front.back(), front.guest.held()), (State::InitWait, vec![]));
    front.connect(Protocol::X86_32, 1);
    front.guest.grant(DATA, false);
    assert_eq!(front.ask(0, 1, &[(DATA, 0, 0)]), 0);
}

#[test]
fn unplug_asks_the_front_end() {
    let mut front = Front::connected(TestDisk::new(64, false));
    front.vbd.unplug(&mut front.store).unwrap();
    assert_eq!((front.back(), front.back_node("online").unwrap()), (State::Closing, "0".into()));
    assert!(!front.vbd.is_unplugged(&front.store));
    front.set("state", "5");
    front.set("state", "6");
    assert_eq!(front.back(), State::Closed);
    assert!(front.vbd.is_unplugged(&front.store));
    // It does not come again.
    front.set("state", "1");
    assert_eq!(front.back(), State::Closed);
}

#[test]
fn unplug_without_a_front_end_is_done_at_once() {
    let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
    front.vbd.unplug(&mut front.store).unwrap();
    assert!(front.vbd.is_unplugged(&front.store));
    front.guest.grant(RING, false);
    front.set("ring-ref", "100");
    front.set("event-channel", "9");
    front.set("state", "3");
    assert_eq!(front.back(), State::Closed);
}

#[test]
fn requests_from_before_the_connection_are_served() {
    let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
    front.guest.grant(RING, false);
    front.guest.grant(DATA, false);
    let entry = front.entry_of(0, 1, 5, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    front.set("ring-ref", "100");
    front.set("event-channel", "9");
    front.set("state", "4");
    assert_eq!(front.responses(), [(1, 0, 0)]);
    assert_eq!(front.guest.bytes(DATA)[0], 5);
}

#[test]
fn a_front_end_that_is_removed_is_let_go() {
    let mut front = Front::connected(TestDisk::new(64, false));
    front.store.rm("/local/domain/1/device/vbd/51712").unwrap();
    front.vbd.attend(&mut front.store).unwrap();
    assert_eq!((front.back(), front.guest.held()), (State::Closed, vec![]));
}

#[test]
fn rings_of_several_pages_and_of_both_widths() {
    for protocol in [Protocol::X86_32, Protocol::X86_64] {
        for pages in [1, 2, 4, 8, 16] {
            let mut front = Front::new(SETTINGS, TestDisk::new(1024, false));
            front.connect(protocol, pages);
            front.guest.grant(DATA, false);
            // Round the ring once and a half, so that each entry is used.
            let entries = u64::from(protocol.entries(pages));
            for number in 0..entries * 3 / 2 {
                let sector = number % 1024;
                assert_eq!(front.ask(0, sector, &[(DATA, 2, 2)]), 0);
                assert_eq!(front.guest.bytes(DATA)[1024], sector as u8);
                // Each is told of: it decides so after as many looks.
                (0..4).for_each(|_| front.vbd.look());
            }
        }
    }
}

#[test]
fn a_front_end_that_names_no_protocol_has_the_guests_own() {
    let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
    front.guest.grant(RING, false);
    front.set("ring-ref", "100");
    front.set("event-channel", "9");
    front.set("state", "3");
    assert_eq!(front.back(), State::Connected);
    front.guest.grant(DATA, false);
    front.set_index(4, 1);
    assert_eq!(front.ask(0, 5, &[(DATA, 0, 0)]), 0);
}

#[test]
fn wrong_keys_close_the_device_with_a_reason() {
    let right = [("ring-ref", "100"), ("event-channel", "9"), ("protocol", "x86_64-abi")];
    for (name, value, reason) in [
        ("ring-ref", None, "ring-ref is missing"),
        ("ring-ref", Some("7"), "ring-ref cannot be mapped"),
        ("ring-ref", Some("none"), "ring-ref is missing"),
        ("ring-page-order", Some("5"), "ring-page-order is too large"),
        ("ring-page-order", Some("4294967295"), "ring-page-order is too large"),
        ("ring-page-order", Some("1"), "ring-ref is missing"),
        ("event-channel", None, "event-channel is missing"),
        ("event-channel", Some("8"), "event-channel cannot be bound"),
        ("protocol", Some("arm-abi"), "protocol is not known"),
        ("multi-queue-num-queues", Some("0"), "multi-queue-num-queues is out of range"),
        ("multi-queue-num-queues", Some("2"), "ring-ref is missing"),
        ("multi-queue-num-queues", Some("3"), "multi-queue-num-queues is out of range"),
    ] {
        let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
        front.guest.grant(RING, false);
        for (name, value) in right {
            front.set(name, value);
        }
        match value {
            Some(value) => front.set(name, value),
            None => front.remove(name),
        }
        front.set("state", "3");
        assert_eq!(front.back(), State::Closing, "{name} {value:?}");
        let error = front.store.read("/local/domain/0/error/backend/vbd/1/51712/error").unwrap();
        assert_eq!(String::from_utf8(error).unwrap(), reason);
        assert_eq!(front.guest.held(), [0; 0]);
        assert_eq!(front.guest.bound.load(Ordering::Relaxed), 0);
        // It may try again.
        front.set("state", "6");
        front.set("state", "1");
        assert_eq!(front.back(), State::InitWait);
    }
}

fn with_two_queues(disk: TestDisk) -> Front {
    let mut front = Front::new(SETTINGS, disk);
    front.set("multi-queue-num-queues", "2");
    for (queue, (ring, port)) in [(RING, 9), (RING + 1, 10)].into_iter().enumerate() {
        front.guest.grant(ring, false);
        front.guest.fill(ring, 4, &[1, 0, 0, 0]);
        front.guest.fill(ring, 12, &[1, 0, 0, 0]);
        front.set(&format!("queue-{queue}/ring-ref"), &ring.to_string());
        front.set(&format!("queue-{queue}/event-channel"), &port.to_string());
    }
    front.set("state", "3");
    assert_eq!((front.back(), front.guest.held()), (State::Connected, vec![RING, RING + 1]));
    front
}

#[test]
fn a_queue_that_is_full_does_not_hold_up_the_other() {
    let mut front = with_two_queues(TestDisk::new(4096, true));
    front.guest.grant(DATA, false);
    front.guest.grant(50, true);
    front.guest.fill(50, 0, &segment_bytes(&[(DATA, 0, 7); 256]));
    for id in 0..32 {
        front.put_indirect(0, id, 0, 256, &[50]);
    }
    front.push();
    (0..10).for_each(|_| front.vbd.serve());
    assert_eq!(front.disk.queue.lock().len(), 4);
    front.switch(&mut (RING + 1, 0, 0));
    let entry = front.entry_of(0, 1, 0, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    assert_eq!(front.disk.queue.lock().len(), 4);
    for _ in 0..10 {
        front.disk.complete_one();
    }
    assert_eq!(front.responses(), [(1, 0, 0)]);
}

#[test]
fn linux_with_two_queues() {
    let mut front = with_two_queues(TestDisk::new(64, true));
    assert_eq!(front.guest.bound.load(Ordering::Relaxed), 2);
    // The same request numbers come by both, and are answered where they came from.
    let mut other = (RING + 1, 0, 0);
    for round in 0..4 {
        for queue in 0..2 {
            let data = DATA + queue;
            front.guest.grant(data, false);
            let entry = front.entry_of(0, round, round + u64::from(queue), &[(data, 0, 0)]);
            front.put(&entry);
            assert!(front.push());
            front.switch(&mut other);
        }
        // The later one first.
        front.disk.queue.lock().make_contiguous().reverse();
        front.disk.complete_all();
        for queue in 0..2 {
            assert_eq!(front.responses(), [(round, 0, 0)]);
            assert_eq!(front.guest.bytes(DATA + queue)[0], (round + u64::from(queue)) as u8);
            front.switch(&mut other);
        }
    }
    assert_eq!(*front.guest.signals.lock(), BTreeMap::from([(49, 4), (50, 4)]));
    front.set("state", "6");
    assert_eq!((front.back(), front.guest.held()), (State::Closed, vec![]));
    assert_eq!(front.guest.bound.load(Ordering::Relaxed), 0);
}

#[test]
fn openbsd_counts_the_pages_of_a_ring() {
    let mut front = Front::new(SETTINGS, TestDisk::new(64, false));
    for page in 0..4 {
        front.guest.grant(RING + page, false);
        front.set(&format!("ring-ref{page}"), &(RING + page).to_string());
    }
    front.set("num-ring-pages", "4");
    front.set("event-channel", "9");
    front.set("state", "3");
    assert_eq!((front.back(), front.guest.held().len()), (State::Connected, 4));
}

#[test]
fn the_close_waits_for_requests_on_their_way() {
    let mut front = Front::connected(TestDisk::new(64, true));
    front.guest.grant(DATA, false);
    front.guest.fill(DATA, 0, &[0xee; 512]);
    let entry = front.entry_of(1, 1, 3, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    front.set("state", "6");
    assert_eq!((front.back(), front.guest.held()), (State::Connected, vec![DATA]));
    // Nor does a new connection begin before.
    front.set("state", "1");
    assert_eq!(front.back(), State::Connected);
    assert!(front.disk.complete_one());
    assert_eq!(front.guest.calls.load(Ordering::Relaxed), 1);
    front.vbd.attend(&mut front.store).unwrap();
    assert_eq!(front.back(), State::InitWait);
    assert_eq!(front.guest.held(), [0; 0]);
    // Its pages may be another kernel's by then: they are left alone.
    assert_eq!(front.disk.data.lock()[3 * 512], 3);
}

#[test]
fn the_end_of_a_guest_takes_everything_back() {
    let mut front = Front::connected(TestDisk::new(64, true));
    front.guest.grant(DATA, false);
    let entry = front.entry_of(0, 1, 3, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    assert!(!front.vbd.end(&mut front.store));
    assert_eq!(front.guest.held(), [DATA]);
    front.disk.complete_all();
    assert_eq!((front.guest.held(), front.guest.bytes(DATA)[0]), (vec![], 0));
    assert_eq!(front.guest.calls.load(Ordering::Relaxed), 1);
    assert!(front.vbd.end(&mut front.store));
}

#[test]
fn a_disk_that_has_ended_writes_nothing_more() {
    let mut front = Front::connected(TestDisk::new(64, false));
    assert!(front.vbd.end(&mut front.store));
    // Another has its place.
    let store = &mut front.store;
    let device = tree::Device { class: "vbd", id: SETTINGS.id, front: &[], back: &[] };
    tree::add_device(store, SETTINGS.domain, &device).unwrap();
    let before = store.list("/local/domain/0/backend/vbd/1/51712").unwrap();
    store.write("/local/domain/1/device/vbd/51712/state", b"5").unwrap();
    front.vbd.attend(store).unwrap();
    front.vbd.unplug(store).unwrap();
    front.vbd.change_medium(store, None, "other").unwrap();
    assert_eq!(store.list("/local/domain/0/backend/vbd/1/51712").unwrap(), before);
    assert_eq!((front.back(), front.guest.held()), (State::Initialising, vec![]));
    assert_eq!(front.back_node("online").as_deref(), Some("1"));
}

#[test]
fn discs_come_and_go_while_a_front_end_is_there() {
    const BACK: &str = "/local/domain/0/backend/vbd/1/51712";
    let settings = Settings { is_cdrom: true, ..SETTINGS };
    let mut front = Front::new(settings, TestDisk::new(64, true));
    let change = |front: &mut Front, disc: Option<&Arc<TestDisk>>, target: &str| {
        let disc = disc.map(|disc| Arc::clone(disc) as Arc<dyn Medium>);
        front.vbd.change_medium(&mut front.store, disc, target).unwrap();
    };
    // Without a disc nothing is offered.
    change(&mut front, None, "");
    assert_eq!(
        (front.back(), front.back_node("params").unwrap()),
        (State::Initialising, "".into())
    );
    assert_eq!(front.back_node("sectors").unwrap(), "0");
    front.set("state", "1");
    assert_eq!(front.back(), State::Initialising);
    let slow = Arc::clone(&front.disk);
    change(&mut front, Some(&slow), "a.iso");
    assert_eq!(front.back(), State::InitWait);
    assert_eq!(front.back_node("params").unwrap(), "a.iso");
    front.connect(Protocol::X86_64, 1);
    front.guest.grant(DATA, false);
    assert_eq!(
        (front.back(), front.back_node("sectors").unwrap()),
        (State::Connected, "64".into())
    );
    // A read that the disc before has begun is its own.
    let entry = front.entry_of(0, 1, 5, &[(DATA, 0, 0)]);
    front.put(&entry);
    front.push();
    front.vbd.serve();
    let watcher = front.store.open();
    front.store.watch(watcher, &format!("{BACK}/state"), b"").unwrap();
    front.store.next_event(watcher);
    let other = Arc::new(TestDisk::new(8, false));
    other.data.lock().fill(0xee);
    change(&mut front, Some(&other), "b.iso");
    assert!(front.store.next_event(watcher).is_some(), "the front end looks at the size");
    assert_eq!(front.back_node("sectors").unwrap(), "8");
    slow.complete_all();
    assert_eq!(front.responses(), [(1, 0, 0)]);
    assert_eq!(front.guest.bytes(DATA)[0], 5);
    assert_eq!(front.ask(0, 1, &[(DATA, 0, 0)]), 0);
    assert_eq!(front.guest.bytes(DATA)[0], 0xee);
    assert_eq!(front.ask(0, 8, &[(DATA, 0, 0)]), -1, "behind the end");
    change(&mut front, None, "");
    assert_eq!(front.back_node("sectors").unwrap(), "0");
    assert_eq!(front.ask(0, 1, &[(DATA, 0, 0)]), -1);
    assert_eq!(front.ask(3, 0, &[]), -1, "a flush");
}
