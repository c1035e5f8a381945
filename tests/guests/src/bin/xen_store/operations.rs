//! Each operation, with right and wrong requests.

use conformance::report::{check, equal};
use conformance::xen::store::{Store, field, kind::*};
use conformance::{name, xen};

type Reply = Result<&'static [u8], &'static str>;

pub const OK: Reply = Ok(b"OK\0");

pub fn read(store: Store, path: &str) -> Reply {
    store.ask(READ, 0, &[path.as_bytes(), b"\0"])
}

pub fn write(store: Store, path: &str, value: &[u8]) -> Reply {
    store.ask(WRITE, 0, &[path.as_bytes(), b"\0", value])
}

pub fn remove(store: Store, path: &str) -> Reply {
    store.ask(RM, 0, &[path.as_bytes(), b"\0"])
}

pub fn run(store: Store) {
    equal("connected", store.get(field::CONNECTION), 0);
    check("tells-of-errors", store.get(field::SERVER_FEATURES) & 2 != 0);
    equal("no-error", store.get(field::ERROR), 0);
    let path = |kind, path: &str| store.ask(kind, 0, &[path.as_bytes(), b"\0"]);
    let home = name!("/local/domain/{}", xen::domain());

    equal("read-its-name", read(store, "name"), Ok(&b"xen_store"[..]));
    equal("read-by-the-whole-path", read(store, &name!("{}/name", &*home)), Ok(b"xen_store"));
    equal("read-of-nothing", read(store, "data/nothing"), Err("ENOENT"));
    for (case, wrong) in [
        ("empty", ""),
        ("double-slash", "data//a"),
        ("slash-at-the-end", "data/"),
        ("other-character", "data/a b"),
        ("dot", "data/a.b"),
    ] {
        equal(&name!("read-{case}"), read(store, wrong), Err("EINVAL"));
    }
    equal("read-without-end", store.ask(READ, 0, &[b"name"]), Err("EINVAL"));
    equal("read-without-path", store.ask(READ, 0, &[]), Err("EINVAL"));
    equal("read-of-domain-0", read(store, "/local/domain/0/name"), Err("EACCES"));

    equal("write", write(store, "data/a", b"one"), OK);
    equal("write-and-read", read(store, "data/a"), Ok(b"one"));
    equal("write-bytes", write(store, "data/a", b"\0\xff\n\0"), OK);
    equal("read-bytes", read(store, "data/a"), Ok(b"\0\xff\n\0"));
    equal("write-nothing", (write(store, "data/a", b""), read(store, "data/a")), (OK, Ok(b"")));
    equal("write-deep", write(store, "data/deep/er/still", b"x"), OK);
    equal("write-makes-parents", read(store, "data/deep/er"), Ok(b""));
    equal("write-without-end", store.ask(WRITE, 0, &[b"data/a"]), Err("EINVAL"));
    equal("write-to-domain-0s", write(store, "name", b"another"), Err("EACCES"));
    equal("write-below-domain-0s", write(store, "name/below", b"x"), Err("EACCES"));
    equal("write-to-domain-0", write(store, "/local/domain/0/x", b"x"), Err("EACCES"));
    equal("write-too-much", write(store, "data/a", &[b'x'; 2048]), Err("ENOSPC"));
    equal("write-too-much-changes-nothing", read(store, "data/a"), Ok(b""));

    equal("mkdir", path(MKDIR, "data/m/n"), OK);
    equal("mkdir-again", path(MKDIR, "data/m/n"), OK);
    equal("mkdir-elsewhere", path(MKDIR, "/tool/x"), Err("EACCES"));
    equal("directory", path(DIRECTORY, "data/m"), Ok(b"n\0"));
    equal("directory-of-none", path(DIRECTORY, "data/m/n"), Ok(b""));
    equal("directory-of-nothing", path(DIRECTORY, "data/q"), Err("ENOENT"));
    let part = store.ask(DIRECTORY_PART, 0, &[b"data/m\0", b"0\0"]);
    check("directory-part", part.is_ok_and(|part| part.ends_with(b"\0n\0\0")));
    equal(
        "directory-part-of-nothing",
        store.ask(DIRECTORY_PART, 0, &[b"data/q\0", b"0\0"]),
        Err("ENOENT"),
    );
    equal("directory-part-without-offset", path(DIRECTORY_PART, "data/m"), Err("EINVAL"));

    equal("rm", remove(store, "data/m"), OK);
    equal("rm-and-all-below", path(DIRECTORY, "data/m/n"), Err("ENOENT"));
    equal("rm-again", remove(store, "data/m"), OK);
    equal("rm-below-nothing", remove(store, "data/m/n"), Err("ENOENT"));
    equal("rm-of-domain-0s", remove(store, "name"), Err("EACCES"));
    equal("rm-of-the-root", remove(store, "/"), Err("EACCES"));

    permissions(store);
    equal("domain-path", store.ask(GET_DOMAIN_PATH, 0, &[b"7\0"]), Ok(b"/local/domain/7\0"));
    equal("domain-path-of-nothing", store.ask(GET_DOMAIN_PATH, 0, &[]), Err("EINVAL"));
    for (case, kind) in
        [("control", 0), ("introduce", 8), ("release", 9), ("resume", 18), ("set-target", 19)]
    {
        equal(
            &name!("{case}-is-domain-0s"),
            store.ask(kind, 0, &[b"1\0", b"1\0", b"1\0"]),
            Err("EACCES"),
        );
    }
    for kind in [20, 23, 99, u32::MAX] {
        equal(&name!("operation-{kind}"), store.ask(kind, 0, &[b"x\0"]), Err("ENOSYS"));
    }
    let _ = (remove(store, "data/deep"), remove(store, "data/a"));
}

fn permissions(store: Store) {
    let domain = xen::domain();
    let own = name!("n{domain}");
    let get = |path: &str| store.ask(GET_PERMS, 0, &[path.as_bytes(), b"\0"]);
    let set = |path: &str, entries: &[&str]| {
        let mut parts = [&b""[..]; 16];
        parts[0] = path.as_bytes();
        parts[1] = b"\0";
        for (index, entry) in entries.iter().enumerate() {
            parts[2 + 2 * index] = entry.as_bytes();
            parts[3 + 2 * index] = b"\0";
        }
        store.ask(SET_PERMS, 0, &parts)
    };
    equal("perms-made", write(store, "data/p", b"x"), OK);
    equal("perms", get("data/p"), Ok(name!("n{domain}\0").as_bytes()));
    equal("perms-set", set("data/p", &[&own, "r0", "b7"]), OK);
    equal("perms-after", get("data/p"), Ok(name!("n{domain}\0r0\0b7\0").as_bytes()));
    equal("perms-inherited-made", write(store, "data/p/below", b""), OK);
    equal("perms-inherited", get("data/p/below"), Ok(name!("n{domain}\0r0\0b7\0").as_bytes()));
    equal("perms-of-another-owner", set("data/p", &["n0"]), Err("EPERM"));
    equal("perms-of-domain-0s", set("name", &[&own]), Err("EACCES"));
    equal("perms-of-nothing", set("data/q", &[&own]), Err("ENOENT"));
    equal("perms-without-any", set("data/p", &[]), Err("EINVAL"));
    equal("perms-wrong", set("data/p", &["x1"]), Err("EINVAL"));
    let many = set("data/p", &[&own, "r1", "r2", "r3", "r4", "r5"]);
    equal("perms-too-many", many, Err("ENOSPC"));
    equal("perms-read-of-nothing", get("data/q"), Err("ENOENT"));
    equal("perms-gone", remove(store, "data/p"), OK);
}
