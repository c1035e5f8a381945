//! The ring: messages in pieces, around its end, and longer than it.

use conformance::report::{check, equal};
use conformance::xen::store::{RING_BYTES, Store, field, kind::*};

use crate::operations::{OK, read, remove, write};

pub fn run(store: Store) {
    pieces(store);
    at_once(store);
    around_the_end(store);
    longer_than_the_ring(store);
    // It ends the connection.
    too_long(store);
}

/// Byte by byte, each of which is told.
fn pieces(store: Store) {
    let request = b"\x02\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0name\0";
    let mut early = false;
    for (index, byte) in request.iter().enumerate() {
        store.put(&[*byte]);
        store.notify();
        early |= index + 1 < request.len() && store.has_bytes();
    }
    check("pieces-are-awaited", !early);
    let reply = store.receive().map(|reply| (reply.kind, reply.request, reply.payload()));
    equal("pieces", reply, Some((READ, 9, &b"xen_store"[..])));
}

/// Several requests that are told once are answered in their order.
fn at_once(store: Store) {
    for mark in 1..=10 {
        store.request(READ, mark, 0, &[b"name\0"]);
    }
    store.notify();
    let marks = [(); 10].map(|()| store.receive().map_or(0, |reply| reply.request));
    equal("ten-at-once", marks, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

/// Every place in the ring is once the begin of a message.
fn around_the_end(store: Store) {
    let mut wrong = 0;
    let before = store.get(field::REQ_PROD);
    let mut rounds = 0;
    while store.get(field::REQ_PROD).wrapping_sub(before) < 3 * RING_BYTES {
        let value = &b"0123456789abcdef"[..rounds % 17];
        wrong += u32::from(write(store, "data/r", value) != OK);
        wrong += u32::from(read(store, "data/r") != Ok(value));
        rounds += 1;
    }
    equal("around-the-end", wrong, 0);
    equal("all-is-taken", store.get(field::REQ_CONS), store.get(field::REQ_PROD));
    equal("all-is-fetched", store.get(field::RSP_CONS), store.get(field::RSP_PROD));
}

fn longer_than_the_ring(store: Store) {
    let value: [u8; 1900] = core::array::from_fn(|index| index as u8);
    equal("long-value", write(store, "data/r", &value), OK);
    check("long-value-comes-back", read(store, "data/r") == Ok(&value[..]));
    // The longest message: too much for a node.
    let longest = [b'x'; 4096 - 7];
    equal("longest-message", write(store, "data/r", &longest), Err("ENOSPC"));
    check("long-value-is-kept", read(store, "data/r") == Ok(&value[..]));
    // A reply of which a part waits for room.
    store.request(READ, 5, 0, &[b"data/r\0"]);
    store.request(READ, 6, 0, &[b"name\0"]);
    store.notify();
    equal(
        "ring-is-full",
        store.get(field::RSP_PROD).wrapping_sub(store.get(field::RSP_CONS)),
        RING_BYTES,
    );
    check("first-of-two", store.receive().is_some_and(|reply| reply.payload() == value));
    let second = store.receive().map(|reply| (reply.request, reply.payload()));
    equal("second-of-two", second, Some((6, &b"xen_store"[..])));
    equal("long-value-goes", remove(store, "data/r"), OK);
}

fn too_long(store: Store) {
    const PROTOCOL: u32 = 3;
    let before = store.get(field::RSP_PROD);
    for word in [WRITE, 1, 0, 4097] {
        store.put(&word.to_le_bytes());
    }
    store.notify();
    equal("too-long", store.get(field::ERROR), PROTOCOL);
    equal("too-long-has-no-reply", store.get(field::RSP_PROD), before);
    store.request(READ, 2, 0, &[b"name\0"]);
    store.notify();
    equal("too-long-ends-it", store.get(field::RSP_PROD), before);
}
