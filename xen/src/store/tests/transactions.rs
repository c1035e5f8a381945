//! Transactions, alone and against each other.

use super::*;

fn start(store: &mut Store, domain: DomId) -> u32 {
    let id = ask(store, domain, Kind::TransactionStart, b"\0").ok();
    id.trim_end_matches('\0').parse().unwrap()
}

fn commit(store: &mut Store, domain: DomId, id: u32) -> Answer {
    ask_in(store, domain, id, Kind::TransactionEnd, b"T\0")
}

#[test]
fn nothing_is_seen_before_the_end_and_all_after_it() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/old\0v").ok();
    let id = start(&mut store, 1);
    ask_in(&mut store, 1, id, Kind::Write, b"data/a/b\0new").ok();
    ask_in(&mut store, 1, id, Kind::Rm, b"data/old\0").ok();
    assert_eq!(ask_in(&mut store, 1, id, Kind::Read, b"data/a/b\0").ok(), "new");
    assert_eq!(ask_in(&mut store, 1, id, Kind::Directory, b"data\0").ok(), "a\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a/b\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "old\0");
    assert_eq!(commit(&mut store, 1, id).ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a/b\0").ok(), "new");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "a\0");
    assert_eq!(commit(&mut store, 1, id).error(), "ENOENT");
}

#[test]
fn an_abandoned_one_leaves_nothing() {
    let mut store = two_guests();
    let before = store.usage(1);
    let id = start(&mut store, 1);
    ask_in(&mut store, 1, id, Kind::Write, b"data/a/b\0new").ok();
    assert_ne!(store.usage(1), before);
    assert_eq!(ask_in(&mut store, 1, id, Kind::TransactionEnd, b"F\0").ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "");
    assert_eq!(store.usage(1), before);
}

#[test]
fn events_come_at_the_end() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/old/below\0v").ok();
    ask(&mut store, 1, Kind::Watch, b"data\0t\0").ok();
    ask(&mut store, 1, Kind::Watch, b"data/old/below\0t\0").ok();
    let id = start(&mut store, 1);
    events(&mut store, 1);
    assert_eq!(ask_in(&mut store, 1, id, Kind::Write, b"data/a\0v").events, [""; 0]);
    assert_eq!(ask_in(&mut store, 1, id, Kind::Rm, b"data/old\0").events, [""; 0]);
    assert_eq!(ask_in(&mut store, 1, id, Kind::Read, b"data\0").events, [""; 0]);
    let mut events = commit(&mut store, 1, id).events;
    events.sort();
    assert_eq!(events, ["data/a\0t\0", "data/old\0t\0", "data/old/below\0t\0"]);
}

#[test]
fn a_change_by_others_of_a_touched_node_is_a_conflict() {
    let change: [fn(&mut Store); 5] = [
        |store| store.write("/local/domain/1/data/a", b"v").unwrap(),
        |store| store.rm("/local/domain/1/data/a").unwrap(),
        |store| store.write("/local/domain/1/data/a/b", b"v").unwrap(),
        |store| {
            let permissions = Permissions::new(Permission::read(1), &[]);
            store.set_permissions("/local/domain/1/data/a", permissions).unwrap();
        },
        // Even if it is as it was.
        |store| {
            store.rm("/local/domain/1/data/a").unwrap();
            store.write("/local/domain/1/data/a", b"v").unwrap();
        },
    ];
    for change in change {
        let mut store = two_guests();
        ask(&mut store, 1, Kind::Write, b"data/a\0v").ok();
        let id = start(&mut store, 1);
        ask_in(&mut store, 1, id, Kind::Read, b"data/a\0").ok();
        ask_in(&mut store, 1, id, Kind::Write, b"data/result\0v").ok();
        change(&mut store);
        assert_eq!(commit(&mut store, 1, id).error(), "EAGAIN");
        assert_eq!(ask(&mut store, 1, Kind::Read, b"data/result\0").error(), "ENOENT");
        // It is over, all the same.
        assert_eq!(commit(&mut store, 1, id).error(), "ENOENT");
    }
}

#[test]
fn a_node_that_appears_where_one_was_missed_is_a_conflict() {
    let mut store = two_guests();
    let id = start(&mut store, 1);
    assert_eq!(ask_in(&mut store, 1, id, Kind::Read, b"data/a\0").error(), "ENOENT");
    ask(&mut store, 1, Kind::Write, b"data/a\0v").ok();
    assert_eq!(commit(&mut store, 1, id).error(), "EAGAIN");
}

#[test]
fn unrelated_changes_do_not_matter() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a\0v").ok();
    ask(&mut store, 1, Kind::Write, b"data/b\0v").ok();
    let id = start(&mut store, 1);
    ask_in(&mut store, 1, id, Kind::Write, b"data/a\0new").ok();
    ask(&mut store, 1, Kind::Write, b"data/b\0new").ok();
    store.write("/local/domain/0/name", b"Domain-0").unwrap();
    assert_eq!(commit(&mut store, 1, id).ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").ok(), "new");
}

#[test]
fn of_two_that_touch_a_node_the_second_fails() {
    let mut store = two_guests();
    let (first, second) = (start(&mut store, 1), start(&mut store, 1));
    ask_in(&mut store, 1, first, Kind::Write, b"data/a\0first").ok();
    ask_in(&mut store, 1, second, Kind::Write, b"data/a\0second").ok();
    assert_eq!(commit(&mut store, 1, second).ok(), "OK\0");
    assert_eq!(commit(&mut store, 1, first).error(), "EAGAIN");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").ok(), "second");
}

#[test]
fn ends_and_begins_are_checked() {
    let mut store = two_guests();
    let id = start(&mut store, 1);
    assert_eq!(ask_in(&mut store, 1, id, Kind::TransactionStart, b"\0").error(), "EBUSY");
    for wrong in [&b""[..], b"T", b"X\0", b"T\0\0"] {
        assert_eq!(ask_in(&mut store, 1, id, Kind::TransactionEnd, wrong).error(), "EINVAL");
    }
    assert_eq!(ask(&mut store, 1, Kind::TransactionEnd, b"T\0").error(), "ENOENT");
    assert_eq!(ask_in(&mut store, 2, id, Kind::TransactionEnd, b"T\0").error(), "ENOENT");
    assert_eq!(ask_in(&mut store, 1, id + 1, Kind::Read, b"data\0").error(), "ENOENT");
    // Watches are no part of a transaction: its number is not looked at.
    assert_eq!(ask_in(&mut store, 1, 999, Kind::Watch, b"data\0t\0").ok(), "OK\0");
    assert_eq!(ask_in(&mut store, 1, 999, Kind::Unwatch, b"data\0t\0").ok(), "OK\0");
    assert_eq!(commit(&mut store, 1, id).ok(), "OK\0");
}
