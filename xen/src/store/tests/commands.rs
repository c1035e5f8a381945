//! Xen's commands for the store.

use super::*;
use crate::store::commands::run;

fn command(store: &mut Store, line: &str) -> Result<Vec<String>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut lines = vec![];
    run(store, words[0], &words[1..], |line| lines.push(line.to_string()))?;
    Ok(lines)
}

#[test]
fn values_are_written_and_read() {
    let mut store = two_guests();
    let none: Vec<String> = vec![];
    assert_eq!(command(&mut store, "write /a/b one /a/c t\\two"), Ok(none.clone()));
    assert_eq!(command(&mut store, "read /a/b /a/c"), Ok(vec!["one".into(), "t\\two".into()]));
    assert_eq!(store.read("/a/c").unwrap(), b"t\two");
    assert_eq!(command(&mut store, "read -p /a/b"), Ok(vec!["/a/b: one".into()]));
    assert_eq!(command(&mut store, "list /a"), Ok(vec!["b".into(), "c".into()]));
    assert_eq!(command(&mut store, "list -p /a"), Ok(vec!["/a/b".into(), "/a/c".into()]));
    assert_eq!(command(&mut store, "exists /a/b /a"), Ok(none));
    assert_eq!(command(&mut store, "exists /a/b /none"), Err(String::new()));
    let listing = command(&mut store, "ls /a").unwrap();
    assert_eq!(listing, ["b = \"one\"", "c = \"t\\two\""]);
    assert_eq!(command(&mut store, "ls -fp /a").unwrap()[0], "/a/b = \"one\"   (n0)");
    assert_eq!(command(&mut store, "ls").unwrap()[0], "tool = \"\"");
}

#[test]
fn failures_change_nothing_and_have_xens_words() {
    let mut store = two_guests();
    for (line, error) in [
        ("read /none", "xenstore-read: couldn't read path /none"),
        ("read /tool /none", "xenstore-read: couldn't read path /none"),
        ("list /none", "xenstore-list: could not list path /none"),
        ("write /x 1 /y/ 2", "xenstore-write: could not write path /y/"),
        ("write /x \\q", "xenstore-write: could not write path /x"),
        ("rm /none/none", "xenstore-rm: could not remove path /none/none"),
        ("rm /", "xenstore-rm: could not remove path /"),
        ("ls /none", "xenstore-ls: xs_directory (/none): No such file or directory"),
        ("chmod /tool x1", "xenstore-chmod: Invalid permission specification: x1"),
        (
            "chmod /none n1",
            "xenstore-chmod: Error occurred setting permissions on '/none': No such file or \
             directory",
        ),
        ("read", "Usage: xenstore-read [-p] key [...]"),
        ("read -x /tool", "Usage: xenstore-read [-p] key [...]"),
        ("write /x", "Usage: xenstore-write key value [...]"),
        ("chmod /tool", "Usage: xenstore-chmod [-u] [-r] key <mode [modes...]>"),
        ("frob /tool", "xenstore-frob: unknown command"),
    ] {
        assert_eq!(command(&mut store, line), Err(error.into()), "{line}");
    }
    assert_eq!(store.read("/x"), Err(Error::NotFound));
}

#[test]
fn removal_can_tidy_up() {
    let mut store = two_guests();
    for line in ["write /a/b/c v /a/b/d v", "rm -t /a/b/c"] {
        command(&mut store, line).unwrap();
    }
    assert_eq!(command(&mut store, "list /a/b"), Ok(vec!["d".into()]));
    command(&mut store, "rm -t /a/b/d").unwrap();
    assert_eq!(store.read("/a"), Err(Error::NotFound));
    // A value keeps a node.
    command(&mut store, "write /a v /a/b v").unwrap();
    command(&mut store, "rm -t /a/b").unwrap();
    assert_eq!(store.read("/a").unwrap(), b"v");
}

#[test]
fn permissions_are_changed_up_and_down() {
    let mut store = two_guests();
    command(&mut store, "write /a/b/c v").unwrap();
    let of = |store: &Store, key: &str| {
        let entries: Vec<_> =
            store.permissions(key).unwrap().entries().map(|entry| entry.to_string()).collect();
        entries.join(",")
    };
    command(&mut store, "chmod /a/b r0 b1").unwrap();
    assert_eq!([of(&store, "/a"), of(&store, "/a/b"), of(&store, "/a/b/c")], ["n0", "r0,b1", "n0"]);
    command(&mut store, "chmod -u /a/b n1").unwrap();
    assert_eq!([of(&store, "/a"), of(&store, "/a/b"), of(&store, "/a/b/c")], ["n1", "n1", "n0"]);
    assert_eq!(of(&store, "/"), "n0");
    command(&mut store, "chmod -r /a n2").unwrap();
    assert_eq!([of(&store, "/a"), of(&store, "/a/b"), of(&store, "/a/b/c")], ["n2", "n2", "n2"]);
}
