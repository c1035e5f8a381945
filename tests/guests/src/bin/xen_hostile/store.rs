//! A store that is filled up, and a ring full of anything.

use conformance::name;
use conformance::report::{check, equal};
use conformance::xen::store::{RING_BYTES, Store, field, kind::*};

use crate::{below, random, survived};

pub fn run(store: Store) {
    nodes(store);
    watches(store);
    transactions(store);
    garbage(store);
}

/// Nodes until there are too many, each as large as may be.
fn nodes(store: Store) {
    let value = [b'v'; 1000];
    let mut count = 0;
    let failure = loop {
        let path = name!("data/n{}/{count}", count / 16);
        match store.ask(WRITE, 0, &[path.as_bytes(), b"\0", &value]) {
            Ok(_) if count < 3000 => count += 1,
            Ok(_) => break "no end",
            Err(failure) => break failure,
        }
    };
    check("nodes-end", matches!(failure, "ENOSPC" | "ENOMEM"));
    equal("nodes-full-and-read", store.ask(READ, 0, &[b"name\0"]), Ok(&b"xen_hostile"[..]));
    for directory in 0..=count / 16 {
        let _ = store.ask(RM, 0, &[name!("data/n{directory}").as_bytes(), b"\0"]);
    }
    equal("nodes-again", store.ask(WRITE, 0, &[b"data/again\0", b"x"]), Ok(b"OK\0"));
    survived("nodes");
}

/// Watches until there are too many, all on one node, which changes; no event is fetched.
fn watches(store: Store) {
    let mut tokens = [b't'; 200];
    let mut sent = 0;
    for count in 0..300 {
        tokens[..4].copy_from_slice(name!("{count:04}").as_bytes());
        match store.ask(WATCH, 0, &[b"data\0", &tokens, b"\0"]) {
            Ok(_) => sent += 1,
            failure => {
                equal("watches-are-too-many", failure, Err("E2BIG"));
                break;
            }
        }
    }
    equal("watches-end", sent, 129);
    // Each write is told a hundred times.
    for count in 0..40u32 {
        store.request(WRITE, count, 0, &[b"data/again\0", &count.to_le_bytes()]);
        store.notify();
    }
    survived("watches");
    while store.has_bytes() {
        store.receive();
    }
    equal("watches-reset", store.ask(RESET_WATCHES, 0, &[b"\0"]), Ok(b"OK\0"));
    equal("watches-and-read", store.ask(READ, 0, &[b"name\0"]), Ok(&b"xen_hostile"[..]));
}

/// Transactions that are never ended, each with many nodes.
fn transactions(store: Store) {
    for _ in 0..12 {
        let Some(id) = store.begin() else { break };
        for node in 0..60 {
            let path = name!("data/t{}", node * 7 + below(7));
            let _ = store.ask(WRITE, id, &[path.as_bytes(), b"\0", &[b'x'; 500]]);
        }
    }
    equal("transactions-reset", store.ask(RESET_WATCHES, 0, &[b"\0"]), Ok(b"OK\0"));
    equal("transactions-and-read", store.ask(READ, 0, &[b"name\0"]), Ok(&b"xen_hostile"[..]));
    survived("transactions");
}

/// Messages of anything, then indices that are anywhere: the connection ends, and nothing else.
fn garbage(store: Store) {
    for _ in 0..100 {
        let length = below(60) as usize;
        let bytes: [u8; 64] = core::array::from_fn(|_| random() as u8);
        store.request(below(30) as u32, random() as u32, below(3) as u32, &[&bytes[..length]]);
        store.notify();
        while store.has_bytes() {
            store.receive();
        }
    }
    survived("garbage");
    for field in
        [field::REQ_PROD, field::REQ_CONS, field::RSP_CONS, field::RSP_PROD, field::CONNECTION]
    {
        store.set(field, random() as u32 | RING_BYTES << 4);
        store.notify();
    }
    check("indices-end-the-connection", store.get(field::ERROR) != 0);
    survived("indices");
}
