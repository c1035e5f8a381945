//! Each operation, with right and wrong requests.

use super::*;

#[test]
fn the_tree_begins_as_xenstored_has_it() {
    let store = Store::default();
    assert_eq!(store.list("/").unwrap(), ["tool"]);
    assert_eq!(store.list("/tool").unwrap(), ["xenstored"]);
    let root = store.permissions("/").unwrap();
    assert_eq!(root, Permissions::new(Permission::none(0), &[]));
}

#[test]
fn what_was_written_is_read() {
    let mut store = two_guests();
    assert_eq!(ask(&mut store, 1, Kind::Write, b"data/a\0value").ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").ok(), "value");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"/local/domain/1/data/a\0").ok(), "value");
    assert_eq!(store.read("/local/domain/1/data/a").unwrap(), b"value");
    // A value is any bytes, NULs too, or none.
    ask(&mut store, 1, Kind::Write, b"data/a\0x\0y\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").ok(), "x\0y\0");
    ask(&mut store, 1, Kind::Write, b"data/a\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").ok(), "");
}

#[test]
fn parents_are_created_where_the_guest_may_write() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a/b/c\0v").ok();
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "a\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a/b\0").ok(), "");
    assert_eq!(ask(&mut store, 1, Kind::GetPerms, b"data/a/b/c\0").ok(), "n1\0");
    assert_eq!(ask(&mut store, 1, Kind::Write, b"mine\0v").error(), "EACCES");
    assert_eq!(ask(&mut store, 1, Kind::Write, b"/mine\0v").error(), "EACCES");
    assert_eq!(ask(&mut store, 1, Kind::Mkdir, b"mine\0").error(), "EACCES");
}

#[test]
fn directories_list_names_in_the_order_of_creation() {
    let mut store = two_guests();
    for path in [&b"data/z\0"[..], b"data/a\0", b"data/m\0", b"data/a\0"] {
        assert_eq!(ask(&mut store, 1, Kind::Mkdir, path).ok(), "OK\0");
    }
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "z\0a\0m\0");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data/z\0").ok(), "");
    ask(&mut store, 1, Kind::Rm, b"data/a\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "z\0m\0");
    // MKDIR of what is there changes nothing.
    ask(&mut store, 1, Kind::Write, b"data/z\0kept").ok();
    ask(&mut store, 1, Kind::Mkdir, b"data/z\0").ok();
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/z\0").ok(), "kept");
}

#[test]
fn removal_takes_all_below() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a/b/c\0v").ok();
    ask(&mut store, 1, Kind::Write, b"data/a-b\0v").ok();
    ask(&mut store, 1, Kind::Write, b"data/a0\0v").ok();
    assert_eq!(ask(&mut store, 1, Kind::Rm, b"data/a\0").ok(), "OK\0");
    for gone in [&b"data/a\0"[..], b"data/a/b\0", b"data/a/b/c\0"] {
        assert_eq!(ask(&mut store, 1, Kind::Read, gone).error(), "ENOENT");
    }
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "a-b\0a0\0");
    // A missing node counts as removed, if its parent is there.
    assert_eq!(ask(&mut store, 1, Kind::Rm, b"data/a\0").ok(), "OK\0");
    assert_eq!(ask(&mut store, 1, Kind::Rm, b"data/a/b\0").error(), "ENOENT");
    assert_eq!(ask(&mut store, 1, Kind::Rm, b"/\0").error(), "EACCES");
    assert_eq!(store.rm("/"), Err(Error::Invalid));
    assert_eq!(ask(&mut store, 1, Kind::Rm, b"/local/domain/1\0").error(), "EACCES");
}

#[test]
fn others_see_what_the_permissions_let_them() {
    let mut store = two_guests();
    let path = b"/local/domain/1/data/a\0";
    ask(&mut store, 1, Kind::Write, b"data/a\0v").ok();
    assert_eq!(ask(&mut store, 2, Kind::Read, path).error(), "EACCES");
    // Nor do they learn that something is not there.
    let missing = b"/local/domain/1/data/none\0";
    assert_eq!(ask(&mut store, 2, Kind::Read, missing).error(), "EACCES");
    assert_eq!(ask(&mut store, 1, Kind::Read, missing).error(), "ENOENT");
    for (permissions, reads, writes) in [
        (&b"data/a\0n1\0r2\0"[..], Ok("v"), Err("EACCES")),
        (b"data/a\0n1\0w2\0", Err("EACCES"), Ok("OK\0")),
        (b"data/a\0n1\0b2\0", Ok("v"), Ok("OK\0")),
        (b"data/a\0r1\0", Ok("v"), Err("EACCES")),
        (b"data/a\0b1\0n2\0", Err("EACCES"), Err("EACCES")),
        (b"data/a\0b1\0n3\0", Ok("v"), Ok("OK\0")),
    ] {
        assert_eq!(ask(&mut store, 1, Kind::SetPerms, permissions).ok(), "OK\0");
        let strings = |it: Result<&str, &str>| it.map(String::from).map_err(String::from);
        assert_eq!(ask(&mut store, 2, Kind::Read, path).result, strings(reads));
        let write = b"/local/domain/1/data/a\0v";
        assert_eq!(ask(&mut store, 2, Kind::Write, write).result, strings(writes));
    }
    assert_eq!(ask(&mut store, 1, Kind::GetPerms, b"data/a\0").ok(), "b1\0n3\0");
}

#[test]
fn permissions_are_the_owners_and_stay_his() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a\0v").ok();
    ask(&mut store, 1, Kind::SetPerms, b"data/a\0b1\0").ok();
    let path = b"/local/domain/1/data/a\0b2\0";
    assert_eq!(ask(&mut store, 2, Kind::SetPerms, path).error(), "EACCES");
    assert_eq!(ask(&mut store, 1, Kind::SetPerms, b"data/a\0b2\0").error(), "EPERM");
    assert_eq!(ask(&mut store, 1, Kind::SetPerms, b"@releaseDomain\0r1\0").error(), "EACCES");
    for wrong in [
        &b"data/a\0"[..],
        b"data/a",
        b"",
        b"data/a\0x1\0",
        b"data/a\0r\0",
        b"data/a\0r-1\0",
        b"data/a\0r+1\0",
        b"data/a\0r65536\0",
        b"data/a\0n1\0\0",
        b"@other\0n1\0",
    ] {
        assert_eq!(ask(&mut store, 1, Kind::SetPerms, wrong).error(), "EINVAL", "{wrong:?}");
    }
    // Domain 0 may give it away; then it is counted for the other.
    let (first, second) = (store.usage(1).nodes, store.usage(2).nodes);
    let given = Permissions::new(Permission::none(2), &[]);
    store.set_permissions("/local/domain/1/data/a", given).unwrap();
    assert_eq!((store.usage(1).nodes, store.usage(2).nodes), (first - 1, second + 1));
}

#[test]
fn what_domain_0_creates_belongs_to_the_owner_of_the_parent() {
    let mut store = two_guests();
    store.write("/local/domain/1/data/from/above", b"v").unwrap();
    assert_eq!(ask(&mut store, 1, Kind::GetPerms, b"data/from/above\0").ok(), "n1\0");
    ask(&mut store, 1, Kind::Rm, b"data/from\0").ok();
}

#[test]
fn malformed_requests_are_invalid() {
    let mut store = two_guests();
    let long = [&[b'a'; path::MAX_RELATIVE_BYTES + 1][..], b"\0"].concat();
    let paths = [
        &b""[..],
        b"\0",
        b"data",
        b"data\0data\0",
        b"data/\0",
        b"data//a\0",
        b"data/a b\0",
        b"data/\xff\0",
        b"data/\xc3\xa4\0",
        b"@introduceDomain\0",
        &long,
    ];
    for path in paths {
        for kind in [Kind::Read, Kind::Directory, Kind::GetPerms, Kind::Mkdir, Kind::Rm] {
            assert_eq!(ask(&mut store, 1, kind, path).error(), "EINVAL", "{kind:?} {path:?}");
        }
    }
    for payload in [&b""[..], b"data", b"\0v", b"data/\0v", b"data/a.b\0v"] {
        assert_eq!(ask(&mut store, 1, Kind::Write, payload).error(), "EINVAL", "{payload:?}");
    }
    for payload in [&b""[..], b"data\0", b"data\0t", b"data\0t\0x\0", b"da ta\0t\0"] {
        assert_eq!(ask(&mut store, 1, Kind::Watch, payload).error(), "EINVAL", "{payload:?}");
    }
    for payload in [&b""[..], b"data\0", b"data\0t\0x\0"] {
        assert_eq!(ask(&mut store, 1, Kind::Unwatch, payload).error(), "EINVAL", "{payload:?}");
    }
    for payload in [&b""[..], b"data\0", b"data\x000", b"data\x000\x000\0"] {
        let answer = ask(&mut store, 1, Kind::DirectoryPart, payload);
        assert_eq!(answer.error(), "EINVAL", "{payload:?}");
    }
    for payload in [&b""[..], b"1", b"1\x002\0"] {
        let answer = ask(&mut store, 1, Kind::GetDomainPath, payload);
        assert_eq!(answer.error(), "EINVAL", "{payload:?}");
    }
}

#[test]
fn paths_of_guests_may_be_as_long_as_below_a_directory_of_a_domain() {
    let name = "a".repeat(path::MAX_RELATIVE_BYTES);
    assert_eq!(path::check(1, &format!("/local/domain/1/{name}")), Ok(()));
    assert_eq!(path::check(1, &format!("/local/domain/65535/{name}")), Ok(()));
    assert_eq!(path::check(1, &format!("/local/domain/1/{name}a")), Err(Error::Invalid));
    assert_eq!(path::check(1, &format!("/local/domain/x/{name}")), Err(Error::Invalid));
    assert_eq!(path::check(1, &format!("/{name}")), Err(Error::Invalid));
    assert_eq!(path::check(1, &format!("/{}", &name[1..])), Ok(()));
    let longest = "a".repeat(path::MAX_ABSOLUTE_BYTES - 1);
    assert_eq!(path::check(0, &format!("/{longest}")), Ok(()));
    assert_eq!(path::check(0, &format!("/{longest}a")), Err(Error::Invalid));
}

#[test]
fn operations_of_domain_0_and_unknown_ones_are_refused() {
    let mut store = two_guests();
    for kind in [0, 8, 9, 17, 18, 19] {
        assert_eq!(ask_number(&mut store, 1, 0, kind, b"1\0").error(), "EACCES", "{kind}");
    }
    for kind in [15, 16, 20, 23, 24, 255, u32::MAX] {
        assert_eq!(ask_number(&mut store, 1, 0, kind, b"1\0").error(), "ENOSYS", "{kind}");
    }
}

#[test]
fn a_domain_is_told_its_path() {
    let mut store = two_guests();
    let mut path = |payload: &[u8]| ask(&mut store, 1, Kind::GetDomainPath, payload).ok();
    assert_eq!(path(b"1\0"), "/local/domain/1\0");
    assert_eq!(path(b"0\0"), "/local/domain/0\0");
    assert_eq!(path(b"none\0"), "/local/domain/0\0");
}

#[test]
fn long_lists_come_in_parts() {
    let mut store = two_guests();
    let names: Vec<_> = (0..500).map(|number| format!("name-{number}")).collect();
    for name in &names {
        store.mkdir(&format!("/local/domain/1/data/{name}")).unwrap();
    }
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").error(), "E2BIG");
    let mut list = String::new();
    let mut generation = None;
    loop {
        let payload = format!("data\0{}\0", list.len());
        let part = ask(&mut store, 1, Kind::DirectoryPart, payload.as_bytes()).ok();
        assert!(part.len() <= MAX_PAYLOAD_BYTES);
        let (count, names) = part.split_once('\0').unwrap();
        assert_eq!(generation.get_or_insert(count.to_string()), count);
        if let Some(last) = names.strip_suffix("\0\0") {
            list.push_str(last);
            break;
        }
        list.push_str(names);
    }
    assert_eq!(list.split('\0').collect::<Vec<_>>(), names);
    // Behind the end there is an empty name.
    let end = ask(&mut store, 1, Kind::DirectoryPart, b"data\x009999999999\0").ok();
    assert_eq!(end.split_once('\0').unwrap().1, "\0");
    store.mkdir("/local/domain/1/data/new").unwrap();
    let part = ask(&mut store, 1, Kind::DirectoryPart, b"data\x000\0").ok();
    assert_ne!(part.split_once('\0').unwrap().0, generation.unwrap());
}

#[test]
fn parts_of_a_list_are_never_too_long() {
    for last in 1..110 {
        let mut store = two_guests();
        for number in 0..40 {
            store.mkdir(&format!("/local/domain/1/data/{number:0100}")).unwrap();
        }
        store.mkdir(&format!("/local/domain/1/data/{}", "x".repeat(last))).unwrap();
        let first = ask(&mut store, 1, Kind::DirectoryPart, b"data\x000\0").ok();
        let names = first.split_once('\0').unwrap().1;
        let length = names.strip_suffix("\0\0").map_or(names.len(), |names| names.len() + 1);
        let payload = format!("data\0{length}\0");
        let second = ask(&mut store, 1, Kind::DirectoryPart, payload.as_bytes()).ok();
        assert!(second.ends_with("\0\0"), "{last}");
        assert!(first.ends_with("\0\0") == second.ends_with("\0\0") || length == 40 * 101);
    }
}

#[test]
fn a_guest_owns_what_it_creates_in_anothers_directory() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::SetPerms, b"data\0n1\0b2\0").ok();
    let before = (store.usage(1).nodes, store.usage(2).nodes);
    ask(&mut store, 2, Kind::Write, b"/local/domain/1/data/a\0v").ok();
    assert_eq!((store.usage(1).nodes, store.usage(2).nodes), (before.0, before.1 + 1));
    assert_eq!(ask(&mut store, 2, Kind::GetPerms, b"/local/domain/1/data/a\0").ok(), "n2\0b2\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, b"data/a\0").error(), "EACCES");
    store.release(2);
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"data\0").ok(), "");
}

#[test]
fn a_released_domain_leaves_nothing() {
    let mut store = two_guests();
    ask(&mut store, 1, Kind::Write, b"data/a/b\0v").ok();
    ask(&mut store, 1, Kind::Watch, b"data\0t\0").ok();
    let transaction = ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
    let id = transaction.trim_end_matches('\0').parse().unwrap();
    ask_in(&mut store, 1, id, Kind::Write, b"data/c\0v").ok();
    ask(&mut store, 2, Kind::SetPerms, b"/local/domain/2/data\0n2\0r1\0").ok();
    store.release(1);
    assert_eq!(store.usage(1), Usage::default());
    assert!(!store.is_introduced(1));
    // The directory itself is domain 0's, which takes it away.
    assert_eq!(store.list("/local/domain/1").unwrap(), Vec::<String>::new());
    let permissions = store.permissions("/local/domain/2/data").unwrap();
    assert_eq!(permissions, Permissions::new(Permission::none(2), &[]));
    // Nothing is answered, and nothing waits.
    store.request(1, &header(Kind::Read as u32, 1, 0, 5), b"data\0");
    assert_eq!(store.next_message(1), None);
}
