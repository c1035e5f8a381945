//! Attacks on a PV disk's back end (io/blkif.h).

use conformance::clock;
use conformance::cpu::poke;
use conformance::report::check;
use conformance::xen::event::{alloc_unbound, close, send};
use conformance::xen::shared::{
    GRANTS, SPACE_GRANT_TABLE, add_to_physmap, clear_page, remove_from_physmap,
};
use conformance::xen::store::{Store, kind::*};
use conformance::{name, smp};

use crate::{any_page, below, random, survived};

/// The guest's first disk.
const DEVICE: &str = "device/vbd/768";
const RING: u64 = 0x40_0000;
const RING_REFERENCE: u64 = 8;
/// The grants of data.
const DATA_REFERENCES: core::ops::Range<u64> = 9..40;
const DATA: u64 = 0x41_0000;

const REQ_PROD: u64 = 0;
const REQ_EVENT: u64 = 4;
const RSP_PROD: u64 = 8;
const RSP_EVENT: u64 = 12;
const FIRST_ENTRY: u64 = 64;
/// Bytes of an entry of 64-bit code, and entries of the ring.
const ENTRY_BYTES: u64 = 112;
const ENTRIES: u32 = 32;

const ROUNDS: u32 = 6;

fn grant(reference: u64, flags: u16, page: u32) {
    let entry = u64::from(page) << 32 | u64::from(flags);
    poke(GRANTS + reference * 8, entry);
}

fn write(store: Store, node: &str, value: &str) {
    let _ =
        store.ask(WRITE, 0, &[DEVICE.as_bytes(), b"/", node.as_bytes(), b"\0", value.as_bytes()]);
}

/// Waits until the back end is in one of `states`.
fn await_back_end(store: Store, states: &[&[u8]]) -> bool {
    let Ok(path) = store.ask(READ, 0, &[DEVICE.as_bytes(), b"/backend\0"]) else { return false };
    let mut copy = [0; 64];
    let length = path.len().min(copy.len());
    copy[..length].copy_from_slice(&path[..length]);
    clock::until(|| {
        let state = store.ask(READ, 0, &[&copy[..length], b"/state\0"]);
        state.is_ok_and(|state| states.contains(&state))
    })
}

/// Connects, as an honest front end does; returns the port.
fn connect(store: Store) -> Option<u32> {
    clear_page(RING);
    poke(RING + REQ_EVENT, 1u32);
    poke(RING + RSP_EVENT, 1u32);
    grant(RING_REFERENCE, 1, (RING / 4096) as u32);
    for reference in DATA_REFERENCES {
        grant(reference, 1, (DATA / 4096 + reference) as u32);
    }
    write(store, "state", "1");
    if !await_back_end(store, &[b"2"]) {
        return None;
    }
    let port = alloc_unbound(0).ok()?;
    write(store, "ring-ref", &name!("{RING_REFERENCE}"));
    write(store, "event-channel", &name!("{port}"));
    write(store, "protocol", "x86_64-abi");
    write(store, "state", "3");
    await_back_end(store, &[b"4"]).then(|| {
        write(store, "state", "4");
        port
    })
}

/// Leaves, whatever the back end thinks of it.
fn disconnect(store: Store, port: u32) -> bool {
    write(store, "state", "5");
    write(store, "state", "6");
    let left = await_back_end(store, &[b"6", b"2"]);
    close(port);
    left
}

/// An entry of the ring: anything, or a request that is nearly right.
fn put_request(index: u32) {
    let at = RING + FIRST_ENTRY + u64::from(index % ENTRIES) * ENTRY_BYTES;
    for word in 0..ENTRY_BYTES / 8 {
        poke(at + word * 8, random());
    }
    if below(4) == 0 {
        return;
    }
    // Operation, number of segments, and where on the disk.
    poke(at, below(8) as u8);
    poke(at + 1, below(14) as u8);
    poke(at + 2, 0u16);
    poke(at + 16, below(0x5000));
    for segment in 0..11 {
        let place = at + 24 + segment * 8;
        poke(place, (below(48)) as u32);
        poke(place + 4, below(9) as u8);
        poke(place + 5, below(9) as u8);
    }
}

pub fn run(store: Store) {
    let honest = connect(store);
    check("disk-connects", honest.is_some());
    let Some(port) = honest else { return };
    check("disk-disconnects", disconnect(store, port));
    for (name, attack) in [
        ("disk-requests", requests as fn(u32)),
        ("disk-indices", indices),
        ("disk-grants-vanish", grants_vanish),
        ("disk-ring-vanishes", ring_vanishes),
        ("disk-two-at-once", two_at_once),
    ] {
        for _ in 0..ROUNDS {
            if let Some(port) = connect(store) {
                attack(port);
                disconnect(store, port);
            }
        }
        // The table may have been taken away.
        add_to_physmap(SPACE_GRANT_TABLE, 0, GRANTS);
        let again = connect(store);
        check(&name!("{name}-and-it-connects-again"), again.is_some());
        if let Some(port) = again {
            disconnect(store, port);
        }
        survived(name);
    }
    keys(store);
}

fn requests(port: u32) {
    let mut producer = 0;
    for _ in 0..20 {
        for reference in DATA_REFERENCES {
            if below(3) == 0 {
                grant(reference, random() as u16 & 0xff, any_page());
            }
        }
        for _ in 0..below(u64::from(ENTRIES)) {
            put_request(producer);
            producer = producer.wrapping_add(1);
        }
        poke(RING + REQ_PROD, producer);
        send(port);
    }
}

fn indices(port: u32) {
    for index in 0..ENTRIES {
        put_request(index);
    }
    for value in [ENTRIES, 0, 1, ENTRIES + 1, u32::MAX, random() as u32] {
        poke(RING + REQ_PROD, value);
        poke(RING + RSP_PROD, random() as u32);
        poke(RING + RSP_EVENT, random() as u32);
        send(port);
    }
}

fn grants_vanish(port: u32) {
    for round in 0..10u32 {
        for index in 0..8 {
            put_request(round * 8 + index);
        }
        poke(RING + REQ_PROD, (round + 1) * 8);
        send(port);
        for reference in DATA_REFERENCES {
            poke(GRANTS + reference * 8, 0u64);
        }
        send(port);
        for reference in DATA_REFERENCES {
            grant(reference, 1, any_page());
        }
    }
}

fn ring_vanishes(port: u32) {
    for index in 0..8 {
        put_request(index);
    }
    poke(RING + REQ_PROD, 8u32);
    send(port);
    grant(RING_REFERENCE, 0, 0);
    send(port);
    grant(RING_REFERENCE, 1, any_page());
    remove_from_physmap(GRANTS);
    send(port);
    add_to_physmap(SPACE_GRANT_TABLE, 1, GRANTS);
    send(port);
}

/// The second virtual CPU sends while the first changes all.
fn two_at_once(port: u32) {
    let send_many = |port: u64| (0..200).map(|_| send(port as u32) as u64).sum();
    smp::begin(1, send_many, port.into());
    requests(port);
    grants_vanish(port);
    close(port);
    let ended = smp::finish(1).is_some();
    assert!(ended, "the second virtual CPU");
}

/// Keys that make no sense.
fn keys(store: Store) {
    const VALUES: [&str; 8] =
        ["", "x", "-1", "99999999999999999999", "0", "4294967295", "7\n", "1 2"];
    for key in [
        "ring-ref",
        "event-channel",
        "protocol",
        "ring-page-order",
        "multi-queue-num-queues",
        "num-ring-pages",
        "state",
    ] {
        for value in VALUES {
            write(store, "state", "1");
            write(store, "ring-ref", "8");
            write(store, "event-channel", "3");
            write(store, key, value);
            if key != "state" {
                write(store, "state", "3");
            }
        }
        let node = [DEVICE.as_bytes(), b"/", key.as_bytes(), b"\0"];
        let _ = store.ask(RM, 0, &node);
    }
    write(store, "state", "6");
    let again = connect(store);
    check("disk-keys-and-it-connects-again", again.is_some());
    if let Some(port) = again {
        disconnect(store, port);
    }
    survived("disk-keys");
}
