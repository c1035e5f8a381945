//! The store by the byte.

mod commands;
mod listing;
mod model;
mod operations;
mod quotas;
mod ring;
mod transactions;
mod tree;
mod watches;

use super::*;
use zerocopy::byteorder::little_endian::U32;

/// A store with guests 1 and 2, each with a directory of its own that it may only read, and one in
/// it, `data`, that it owns.
fn two_guests() -> Store {
    two_guests_with(Quotas::default())
}

fn two_guests_with(quotas: Quotas) -> Store {
    let mut store = Store::new(quotas);
    for domain in [1, 2] {
        let home = path::home(domain);
        let data = path::join(&home, "data");
        store.introduce(domain);
        store.mkdir(&data).unwrap();
        let readable = Permissions::new(Permission::none(0), &[Permission::read(domain)]);
        store.set_permissions(&home, readable).unwrap();
        let own = Permissions::new(Permission::none(domain), &[]);
        store.set_permissions(&data, own).unwrap();
    }
    store
}

fn header(kind: u32, request: u32, transaction: u32, length_bytes: usize) -> Header {
    let length_bytes = U32::new(u32::try_from(length_bytes).unwrap());
    let transaction = U32::new(transaction);
    Header { kind: U32::new(kind), request: U32::new(request), transaction, length_bytes }
}

/// A guest asks, and is answered: the payload, or the error's name. Events stay.
fn ask_in(
    store: &mut Store,
    domain: DomId,
    transaction: u32,
    kind: Kind,
    payload: &[u8],
) -> Answer {
    ask_number(store, domain, transaction, kind as u32, payload)
}

fn ask_number(
    store: &mut Store,
    domain: DomId,
    transaction: u32,
    kind: u32,
    payload: &[u8],
) -> Answer {
    let mut before = events(store, domain);
    store.request(domain, &header(kind, 77, transaction, payload.len()), payload);
    let mut messages = vec![];
    while let Some(message) = store.next_message(domain) {
        assert_eq!(message.header.length_bytes.get() as usize, message.payload.len());
        messages.push(message);
    }
    let is_reply = |message: &&Message| message.header.kind.get() != Kind::WatchEvent as u32;
    let replies: Vec<_> = messages.iter().filter(is_reply).collect();
    let [reply] = replies[..] else { panic!("one request, {} replies", replies.len()) };
    assert_eq!((reply.header.request.get(), reply.header.transaction.get()), (77, transaction));
    let result = if reply.header.kind.get() == Kind::Error as u32 {
        Err(text(&reply.payload).trim_end_matches('\0').to_string())
    } else {
        assert_eq!(reply.header.kind.get(), kind);
        Ok(text(&reply.payload))
    };
    let is_event = |message: &&Message| message.header.kind.get() == Kind::WatchEvent as u32;
    before.extend(messages.iter().filter(is_event).map(|message| text(&message.payload)));
    Answer { result, events: before }
}

/// An answer, and the events that have come.
#[derive(Debug, PartialEq)]
struct Answer {
    result: Result<String, String>,
    events: Vec<String>,
}

impl Answer {
    /// The payload of the reply.
    fn ok(self) -> String {
        self.result.unwrap()
    }

    /// The error.
    fn error(self) -> String {
        self.result.unwrap_err()
    }
}

fn ask(store: &mut Store, domain: DomId, kind: Kind, payload: &[u8]) -> Answer {
    ask_in(store, domain, 0, kind, payload)
}

/// The events that wait for a guest, for which no reply waits.
fn events(store: &mut Store, domain: DomId) -> Vec<String> {
    let messages = core::iter::from_fn(|| store.next_message(domain));
    messages
        .map(|message| {
            let header = message.header;
            assert_eq!(header.kind.get(), Kind::WatchEvent as u32);
            assert_eq!((header.request.get(), header.transaction.get()), (0, 0));
            text(&message.payload)
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
