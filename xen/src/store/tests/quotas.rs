//! Quotas: each is reached, and nothing beyond.

use super::*;

fn filled(store: &mut Store, count: usize) {
    for number in 0..count {
        let payload = format!("data/{}/{number}\0", number % 10);
        ask(store, 1, Kind::Write, payload.as_bytes()).ok();
    }
}

#[test]
fn nodes() {
    let mut store = two_guests();
    // `data` itself, ten directories, and what is in them.
    filled(&mut store, 1000 - 11 - 1);
    assert_eq!(store.usage(1).nodes, 999);
    // Two would be needed.
    assert_eq!(ask(&mut store, 1, Kind::Write, b"data/x/y\0").error(), "ENOSPC");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/x\0").error(), "ENOENT");
    ask(&mut store, 1, Kind::Write, b"data/x\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Mkdir, b"data/y\0").error(), "ENOSPC");
    ask(&mut store, 1, Kind::Write, b"data/x\0still").ok();
    // Domain 0 has no quota, and the other guest its own.
    store.write("/local/domain/1/data/y", b"").unwrap();
    ask(&mut store, 2, Kind::Write, b"data/x\0").ok();
    ask(&mut store, 1, Kind::Rm, b"data/0\0").ok();
    ask(&mut store, 1, Kind::Write, b"data/z\0").ok();
}

#[test]
fn nodes_in_transactions() {
    let mut store = two_guests();
    filled(&mut store, 1000 - 11 - 1);
    let ids = [1, 2];
    for id in ids {
        ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
        let payload = format!("data/{id}/of-{id}\0");
        ask_in(&mut store, 1, id, Kind::Write, payload.as_bytes()).ok();
        assert_eq!(ask_in(&mut store, 1, id, Kind::Write, b"data/0/x\0").error(), "ENOSPC");
    }
    assert_eq!(ask_in(&mut store, 1, 1, Kind::TransactionEnd, b"T\0").ok(), "OK\0");
    assert_eq!(ask_in(&mut store, 1, 2, Kind::TransactionEnd, b"T\0").error(), "ENOSPC");
    assert_eq!(store.usage(1).nodes, 1000);
}

#[test]
fn size_of_a_node() {
    let mut store = two_guests();
    let mut write = |length: usize| {
        let payload = [b"data/a\0".to_vec(), vec![b'x'; length]].concat();
        ask(&mut store, 1, Kind::Write, &payload).result
    };
    // 24 bytes of its record, and 8 for its one permission.
    assert_eq!(write(2048 - 32 - 1), Ok("OK\0".into()));
    assert_eq!(write(2048 - 32), Err("ENOSPC".into()));
    assert_eq!(ask(&mut store, 1, Kind::SetPerms, b"data/a\0n1\0r2\0").error(), "ENOSPC");
    let long = "x".repeat(1000);
    for name in ["a", "b"] {
        let payload = format!("data/dir/{name}{long}\0");
        ask(&mut store, 1, Kind::Mkdir, payload.as_bytes()).ok();
    }
    let payload = format!("data/dir/c{long}\0");
    assert_eq!(ask(&mut store, 1, Kind::Mkdir, payload.as_bytes()).error(), "ENOSPC");
    store.write("/local/domain/1/data/a", &[b'x'; 4096]).unwrap();
}

#[test]
fn permissions() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::SetPerms, b"data\0n1\0r2\0r3\0r4\0r5\0").ok();
    let six = b"data\0n1\0r2\0r3\0r4\0r5\0r6\0";
    assert_eq!(ask(&mut store, 1, Kind::SetPerms, six).error(), "ENOSPC");
}

#[test]
fn watches() {
    let mut store = two_guests();
    for number in 0..129 {
        ask(&mut store, 1, Kind::Watch, format!("data\0{number}\0").as_bytes()).ok();
    }
    assert_eq!(ask(&mut store, 1, Kind::Watch, b"data\0x\0").error(), "E2BIG");
    ask(&mut store, 1, Kind::Unwatch, b"data\x000\0").ok();
    ask(&mut store, 1, Kind::Watch, b"data\0x\0").ok();
}

#[test]
fn transactions() {
    let mut store = two_guests();
    for _ in 0..11 {
        ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
    }
    assert_eq!(ask(&mut store, 1, Kind::TransactionStart, b"\0").error(), "ENOSPC");
    ask_in(&mut store, 1, 5, Kind::TransactionEnd, b"F\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::TransactionStart, b"\0").ok(), "12\0");
}

#[test]
fn nodes_of_a_transaction() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
    // One that is not there touches its parent too.
    for number in 0..1023 {
        let payload = format!("data/{number}\0");
        let answer = ask_in(&mut store, 1, 1, Kind::Read, payload.as_bytes());
        assert_eq!(answer.error(), "ENOENT");
    }
    assert_eq!(ask_in(&mut store, 1, 1, Kind::Read, b"data/x\0").error(), "ENOSPC");
    assert_eq!(ask_in(&mut store, 1, 1, Kind::TransactionEnd, b"T\0").error(), "ENOMEM");
}

#[test]
fn memory() {
    let mut store = two_guests_with(Quotas { memory_bytes: 100_000, ..Quotas::default() });
    let before = store.usage(1);
    let value = "x".repeat(1000);
    let write = |store: &mut Store, id: u32, path: &str| {
        let payload = format!("{path}\0{value}");
        ask_in(store, 1, id, Kind::Write, payload.as_bytes()).result
    };
    let mut count = 0;
    while write(&mut store, 0, &format!("data/{count}")).is_ok() {
        count += 1;
    }
    assert!((80..90).contains(&count), "{count}");
    assert_eq!(write(&mut store, 0, "data/x"), Err("ENOMEM".into()));
    assert!(store.usage(1).memory_bytes <= 100_000);
    assert_eq!(write(&mut store, 0, "data/0/x/y"), Err("ENOMEM".into()));
    for number in 0..20 {
        ask(&mut store, 1, Kind::Write, format!("data/{number}\0").as_bytes()).ok();
        ask(&mut store, 1, Kind::Mkdir, format!("data/e{number}\0").as_bytes()).ok();
    }
    let mut growing = (0..20).map(|number| write(&mut store, 0, &format!("data/e{number}")));
    assert_eq!(growing.find_map(Result::err), Some("ENOMEM".into()));
    for number in 0..20 {
        ask(&mut store, 1, Kind::Rm, format!("data/e{number}\0").as_bytes()).ok();
    }
    for number in 0..20 {
        write(&mut store, 0, &format!("data/{number}")).unwrap();
    }
    // The same for watches, their events and transactions: each leaves nothing behind.
    ask(&mut store, 1, Kind::Rm, b"data/0\0").ok();
    let token = "t".repeat(3000);
    let answer = ask(&mut store, 1, Kind::Watch, format!("data\0{token}\0").as_bytes());
    assert_eq!(answer.error(), "ENOMEM");
    ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
    let mut results = (1..5).map(|number| write(&mut store, 1, &format!("data/{number}")));
    assert_eq!(results.find_map(Result::err), Some("ENOMEM".into()));
    assert_eq!(ask_in(&mut store, 1, 1, Kind::TransactionEnd, b"T\0").error(), "ENOMEM");
    for number in 1..count {
        ask(&mut store, 1, Kind::Rm, format!("data/{number}\0").as_bytes()).ok();
    }
    assert_eq!(store.usage(1), before);
}

#[test]
fn memory_is_the_owners_whoever_writes() {
    let mut store = two_guests_with(Quotas { memory_bytes: 20_000, ..Quotas::default() });
    for number in 0..20 {
        ask(&mut store, 2, Kind::Write, format!("data/{number}\0").as_bytes()).ok();
        let open = format!("data/{number}\0b2\0");
        ask(&mut store, 2, Kind::SetPerms, open.as_bytes()).ok();
    }
    let value = "x".repeat(1000);
    let write = |store: &mut Store, id, number| {
        let payload = format!("/local/domain/2/data/{number}\0{value}");
        ask_in(store, 1, id, Kind::Write, payload.as_bytes()).result
    };
    // Each transaction stays within the memory of its own domain, and both pass the owner's.
    for (id, numbers) in [(1, 0..9), (2, 9..18)] {
        ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
        numbers.for_each(|number| assert_eq!(write(&mut store, id, number), Ok("OK\0".into())));
        let end = ask_in(&mut store, 1, id, Kind::TransactionEnd, b"T\0").result;
        assert_eq!(end, if id == 1 { Ok("OK\0".into()) } else { Err("ENOMEM".into()) });
    }
    let failed = (9..20).find_map(|number| write(&mut store, 0, number).err());
    assert_eq!(failed, Some("ENOMEM".into()));
    assert!((18_000..=20_000).contains(&store.usage(2).memory_bytes));
    // The owner finds its memory used up, and has the right to empty its nodes.
    let payload = format!("data/x\0{}", "x".repeat(1500));
    assert_eq!(ask(&mut store, 2, Kind::Write, payload.as_bytes()).error(), "ENOMEM");
    ask(&mut store, 2, Kind::Write, b"data/0\0").ok();
}

#[test]
fn events_that_are_not_fetched_stop_at_the_memory_quota() {
    let mut store = two_guests_with(Quotas { memory_bytes: 20_000, ..Quotas::default() });
    ask(&mut store, 1, Kind::Watch, b"/local/domain/2/data\0t\0").ok();
    let readable = Permissions::new(Permission::read(2), &[]);
    store.set_permissions("/local/domain/2/data", readable).unwrap();
    for number in 0..1000 {
        store.write(&format!("/local/domain/2/data/{number}"), b"").unwrap();
        assert!(store.usage(1).memory_bytes <= 20_000);
    }
    let waiting = events(&mut store, 1).len();
    assert!((50..200).contains(&waiting), "{waiting}");
    ask(&mut store, 1, Kind::Unwatch, b"/local/domain/2/data\0t\0").ok();
    assert_eq!(store.usage(1), two_guests().usage(1));
}
