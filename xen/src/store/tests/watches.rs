//! Watches and their events.

use super::*;

#[test]
fn a_watch_begins_with_an_event_after_its_answer() {
    let mut store = two_guests();
    let payload = b"data/none\0token\0";
    store.request(1, &header(Kind::Watch as u32, 5, 0, payload.len()), payload);
    let reply = store.next_message(1).unwrap();
    assert_eq!((reply.header.kind.get(), text(&reply.payload)), (4, "OK\0".into()));
    assert_eq!(events(&mut store, 1), ["data/none\0token\0"]);
}

#[test]
fn events_have_the_path_as_it_was_watched() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Watch, b"data\0relative\0").ok();
    ask(&mut store, 1, Kind::Watch, b"/local/domain/1/data\0absolute\0").ok();
    let answer = ask(&mut store, 1, Kind::Write, b"data/a/b\0v");
    assert_eq!(answer.events, ["data/a/b\0relative\0", "/local/domain/1/data/a/b\0absolute\0"]);
    // Its own directory by its whole path gives whole paths.
    ask(&mut store, 1, Kind::Watch, b"/local/domain/1\0home\0").ok();
    let answer = ask(&mut store, 1, Kind::Write, b"data/a\0v");
    assert_eq!(answer.events.last().unwrap(), "/local/domain/1/data/a\0home\0");
}

#[test]
fn only_what_is_at_or_below_the_path_is_told() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Watch, b"data/a\0t\0").ok();
    for path in [&b"data/ab\0"[..], b"data/a-b\0", b"data/b\0"] {
        assert_eq!(ask(&mut store, 1, Kind::Mkdir, path).events, Vec::<String>::new());
    }
    assert_eq!(ask(&mut store, 1, Kind::Mkdir, b"data/a\0").events, ["data/a\0t\0"]);
    // No change, no event.
    assert_eq!(ask(&mut store, 1, Kind::Mkdir, b"data/a\0").events, Vec::<String>::new());
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").events, Vec::<String>::new());
    assert_eq!(ask(&mut store, 1, Kind::Write, b"data/a/b\0").events, ["data/a/b\0t\0"]);
    assert_eq!(ask(&mut store, 1, Kind::SetPerms, b"data/a/b\0r1\0").events, ["data/a/b\0t\0"]);
}

#[test]
fn removal_is_told_once_by_the_watched_path_if_that_was_below() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a/b/c\0v").ok();
    ask(&mut store, 1, Kind::Watch, b"data\0above\0").ok();
    ask(&mut store, 1, Kind::Watch, b"data/a\0same\0").ok();
    ask(&mut store, 1, Kind::Watch, b"data/a/b\0below\0").ok();
    ask(&mut store, 1, Kind::Watch, b"data/a/none\0none\0").ok();
    let events = ask(&mut store, 1, Kind::Rm, b"data/a\0").events;
    // Nodes below are told first, then the node itself, to each in its turn.
    assert_eq!(events, ["data/a/b\0below\0", "data/a\0above\0", "data/a\0same\0"]);
}

#[test]
fn events_come_only_for_what_is_readable() {
    let mut store = two_guests();
    ask(&mut store, 2, Kind::Watch, b"/local/domain/1\0t\0").ok();
    events(&mut store, 2);
    ask(&mut store, 1, Kind::Write, b"data/a\0secret").ok();
    assert_eq!(events(&mut store, 2), Vec::<String>::new());
    // The domain that loses a node hears of it, as the one that gets it does.
    ask(&mut store, 1, Kind::SetPerms, b"data/a\0n1\0r2\0").ok();
    assert_eq!(events(&mut store, 2), ["/local/domain/1/data/a\0t\0"]);
    ask(&mut store, 1, Kind::Write, b"data/a\0shown").ok();
    assert_eq!(events(&mut store, 2), ["/local/domain/1/data/a\0t\0"]);
    ask(&mut store, 1, Kind::SetPerms, b"data/a\0n1\0").ok();
    assert_eq!(events(&mut store, 2), ["/local/domain/1/data/a\0t\0"]);
    ask(&mut store, 1, Kind::Rm, b"data/a\0").ok();
    assert_eq!(events(&mut store, 2), Vec::<String>::new());
}

#[test]
fn a_readable_parent_is_enough() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Mkdir, b"data/a\0").ok();
    ask(&mut store, 1, Kind::SetPerms, b"data\0n1\0r2\0").ok();
    ask(&mut store, 2, Kind::Watch, b"/local/domain/1/data\0t\0").ok();
    events(&mut store, 2);
    ask(&mut store, 1, Kind::Write, b"data/a\0secret").ok();
    assert_eq!(events(&mut store, 2), ["/local/domain/1/data/a\0t\0"]);
    assert_eq!(ask(&mut store, 1, Kind::TransactionStart, b"\0").ok(), "1\0");
    ask_in(&mut store, 1, 1, Kind::Write, b"data/a\0secret").ok();
    ask_in(&mut store, 1, 1, Kind::TransactionEnd, b"T\0").ok();
    assert_eq!(events(&mut store, 2), ["/local/domain/1/data/a\0t\0"]);
}

#[test]
fn a_watch_is_there_once() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Watch, b"data\0t\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Watch, b"data\0t\0").error(), "EEXIST");
    assert_eq!(ask(&mut store, 1, Kind::Watch, b"/local/domain/1/data\0t\0").error(), "EEXIST");
    assert_eq!(ask(&mut store, 1, Kind::Unwatch, b"data\0other\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 2, Kind::Unwatch, b"/local/domain/1/data\0t\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 1, Kind::Unwatch, b"data\0t\0").ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Unwatch, b"data\0t\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 1, Kind::Write, b"data/a\0v").events, Vec::<String>::new());
}

#[test]
fn equal_events_wait_once_and_those_of_a_dropped_watch_not_at_all() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Watch, b"data\0t\0").ok();
    for value in 0..1000 {
        store.write("/local/domain/1/data/a", value.to_string().as_bytes()).unwrap();
    }
    assert_eq!(events(&mut store, 1), ["data/a\0t\0"]);
    store.write("/local/domain/1/data/a", b"v").unwrap();
    store.request(1, &header(Kind::Unwatch as u32, 1, 0, 7), b"data\0t\0");
    let reply = store.next_message(1).unwrap();
    assert_eq!(reply.header.kind.get(), Kind::Unwatch as u32);
    assert_eq!(store.next_message(1), None);
}

#[test]
fn reset_drops_watches_and_transactions() {
    let mut store = two_guests();
    let before = store.usage(1);
    ask(&mut store, 1, Kind::Watch, b"data\0t\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::TransactionStart, b"\0").ok(), "1\0");
    ask_in(&mut store, 1, 1, Kind::Write, b"data/a\0v").ok();
    assert_eq!(ask(&mut store, 1, Kind::ResetWatches, b"\0").ok(), "OK\0");
    assert_eq!(ask_in(&mut store, 1, 1, Kind::TransactionEnd, b"T\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 1, Kind::Write, b"data\0v").events, Vec::<String>::new());
    ask(&mut store, 1, Kind::Write, b"data\0").ok();
    assert_eq!(store.usage(1), before);
}

#[test]
fn only_the_hypervisor_hears_of_domains() {
    let mut store = two_guests();
    let me = store.open();
    store.watch(me, "@introduceDomain", b"in").unwrap();
    store.watch(me, "@releaseDomain", b"out").unwrap();
    assert_eq!(ask(&mut store, 1, Kind::Watch, b"@releaseDomain\0t\0").ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Watch, b"@any\0t\0").ok(), "OK\0");
    while store.next_event(me).is_some() {}
    events(&mut store, 1);
    store.introduce(3);
    store.release(3);
    let tokens: Vec<_> = core::iter::from_fn(|| store.next_event(me)).collect();
    let event = |path: &str, token: &[u8]| WatchEvent { path: path.into(), token: token.into() };
    assert_eq!(tokens, [event("@introduceDomain", b"in"), event("@releaseDomain", b"out")]);
    assert_eq!(events(&mut store, 1), Vec::<String>::new());
}

#[test]
fn each_part_of_the_hypervisor_has_its_own_watches() {
    let mut store = two_guests();
    let (first, second) = (store.open(), store.open());
    store.watch(first, "/local/domain/1/data", b"t").unwrap();
    store.watch(second, "/local/domain/1/data/a", b"t").unwrap();
    assert_eq!(store.watch(second, "/local/domain/1/data/a", b"t"), Err(Error::Exists));
    while store.take_ready().is_some() {}
    while store.next_event(first).is_some() || store.next_event(second).is_some() {}
    ask(&mut store, 1, Kind::Write, b"data/b\0v").ok();
    assert_eq!(store.take_ready(), Some(Peer::Local(first)));
    assert_eq!(store.take_ready(), None);
    assert_eq!(store.next_event(first).unwrap().path, "/local/domain/1/data/b");
    assert_eq!(store.next_event(first), None);
    assert_eq!(store.next_event(second), None);
    store.close(first);
    store.write("/local/domain/1/data/a", b"v").unwrap();
    assert_eq!(store.take_ready(), Some(Peer::Local(second)));
    assert_eq!(store.take_ready(), None);
    store.unwatch(second, "/local/domain/1/data/a", b"t").unwrap();
    assert_eq!(store.next_event(second), None);
}
