//! Watches, and the events that they give.

use conformance::report::{check, equal};
use conformance::xen::store::{Store, kind::*};
use conformance::xen::{self, event};
use conformance::{clock, name};

use crate::operations::{OK, read, remove, write};

type Reply = Result<&'static [u8], &'static str>;

/// The next message, which has to be an event: path and token.
fn event_of(store: Store) -> Option<&'static [u8]> {
    let message = store.receive()?;
    let is_event = message.kind == WATCH_EVENT && (message.request, message.transaction) == (0, 0);
    is_event.then(|| message.payload())
}

/// Makes a request, and returns how many replies it has, and its events: theirs may come first.
fn events_of<const COUNT: usize>(
    store: Store,
    kind: u32,
    transaction: u32,
    payload: &[u8],
) -> (usize, [Option<&'static [u8]>; COUNT]) {
    store.request(kind, 1, transaction, &[payload]);
    store.notify();
    let (mut replies, mut events, mut count) = (0, [None; COUNT], 0);
    for _ in 0..=COUNT {
        match store.receive() {
            Some(message) if message.kind == kind && message.payload() == b"OK\0" => replies += 1,
            Some(message) if message.kind == WATCH_EVENT && count < COUNT => {
                events[count] = Some(message.payload());
                count += 1;
            }
            _ => {}
        }
    }
    (replies, events)
}

fn is_silent(store: Store) -> bool {
    clock::wait(clock::HZ / 100);
    !store.has_bytes()
}

fn watch(store: Store, path: &str, token: &str) -> Reply {
    store.ask(WATCH, 0, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])
}

fn unwatch(store: Store, path: &str, token: &str) -> Reply {
    store.ask(UNWATCH, 0, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])
}

pub fn run(store: Store) {
    // Whether the node is there or not, one event comes at once.
    equal("watch", watch(store, "data/w", "a token"), OK);
    equal("watch-tells-at-once", event_of(store), Some(&b"data/w\0a token\0"[..]));
    equal("watch-again", watch(store, "data/w", "a token"), Err("EEXIST"));
    event::take_pending(store.port());
    let told = events_of(store, WRITE, 0, b"data/w\x001");
    equal("watch-tells", told, (1, [Some(&b"data/w\0a token\0"[..])]));
    check("port-tells", event::is_pending(store.port()));
    let told = events_of(store, WRITE, 0, b"data/w/below/it\x001");
    equal("below-is-told", told, (1, [Some(&b"data/w/below/it\0a token\0"[..])]));
    check("and-no-more", is_silent(store));

    // By the whole path, with another token.
    let home = name!("/local/domain/{}/data/w", xen::domain());
    equal("watch-whole", watch(store, &home, "2"), OK);
    let told = name!("{}\0{}\0", &*home, 2);
    equal("watch-whole-tells", event_of(store), Some(told.as_bytes()));
    let (replies, events) = events_of::<2>(store, RM, 0, b"data/w\0");
    let mut lengths = events.map(|event| event.map(<[u8]>::len));
    lengths.sort_unstable();
    let expected = [Some(b"data/w\0a token\0".len()), Some(told.len())];
    equal("rm-tells-both", (replies, lengths), (1, expected));
    equal("unwatch", unwatch(store, "data/w", "a token"), OK);
    equal("unwatch-again", unwatch(store, "data/w", "a token"), Err("ENOENT"));
    equal("unwatch-another-token", unwatch(store, &home, "3"), Err("ENOENT"));
    equal("unwatch-whole", unwatch(store, &home, "2"), OK);
    equal("unwatched", write(store, "data/w", b"2"), OK);
    check("unwatched-is-silent", is_silent(store));
    equal("watch-wrong", watch(store, "data//w", "t"), Err("EINVAL"));
    equal("watch-without-token", store.ask(WATCH, 0, &[b"data/w\0"]), Err("EINVAL"));

    // In a transaction, events wait for its end.
    equal("watch-transaction", watch(store, "data", "t"), OK);
    equal("watch-transaction-tells", event_of(store), Some(b"data\0t\0"));
    let id = store.ask(TRANSACTION_START, 0, &[b"\0"]).unwrap_or(b"");
    let digits = core::str::from_utf8(id).unwrap_or("").trim_end_matches('\0');
    let id = digits.parse().unwrap_or(0);
    equal("transaction-writes-it", store.ask(WRITE, id, &[b"data/v\0", b"x"]), OK);
    check("transaction-is-silent", is_silent(store));
    let told = events_of(store, TRANSACTION_END, id, b"T\0");
    equal("transaction-is-told", told, (1, [Some(&b"data/v\0t\0"[..])]));
    equal("reset", store.ask(RESET_WATCHES, 0, &[b"\0"]), OK);
    equal("reset-is-done", write(store, "data/v", b"y"), OK);
    check("reset-is-silent", is_silent(store));
    many(store);
    let _ = (remove(store, "data/w"), remove(store, "data/v"));
}

/// As many as xenstored grants: one more than 128. Their events are taken on the way.
fn many(store: Store) {
    let mut count = 0;
    let failure = loop {
        match watch(store, "data/many", &name!("{count}")) {
            OK => count += 1,
            failure => break failure,
        }
    };
    equal("many-watches", (count, failure), (129, Err("E2BIG")));
    equal("many-and-others-work", read(store, "name"), Ok(b"xen_store"));
    equal("many-reset", store.ask(RESET_WATCHES, 0, &[b"\0"]), OK);
    // Events that waited are gone with their watches, or come now.
    while store.has_bytes() {
        store.receive();
    }
}
