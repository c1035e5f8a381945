//! The listing, as users of Xen know it.

use super::*;
use crate::store::listing::{ListingOptions, list, printable, value};

fn listing(store: &Store, path: &str, options: ListingOptions) -> Vec<String> {
    let mut lines = vec![];
    list(store, path, options, |line| lines.push(line.to_string())).unwrap();
    lines
}

fn store() -> Store {
    let mut store = two_guests();
    store.write("/local/domain/1/name", b"guest").unwrap();
    store.write("/local/domain/1/data/long", &[b'x'; 100]).unwrap();
    store.write("/local/domain/1/data/odd", b"a\n\x01\xff").unwrap();
    store
}

#[test]
fn names_are_indented() {
    let lines = listing(&store(), "/", ListingOptions::default());
    let long = "x".repeat(64);
    assert_eq!(
        lines,
        [
            "tool = \"\"",
            " xenstored = \"\"",
            "local = \"\"",
            " domain = \"\"",
            "  1 = \"\"",
            "   data = \"\"",
            &format!("    long = \"{long}\\...\""),
            "    odd = \"a\\n\\001\\xff\"",
            "   name = \"guest\"",
            "  2 = \"\"",
            "   data = \"\"",
        ]
    );
    // With the line's end, as wide as the terminal less two.
    assert!(lines.iter().all(|line| line.len() <= 84));
    assert_eq!(list(&store(), "/none", ListingOptions::default(), |_| {}), Err(Error::NotFound));
}

#[test]
fn permissions_stand_in_a_column() {
    let options = ListingOptions { has_permissions: true, ..Default::default() };
    let lines = listing(&store(), "/local/domain/1", options);
    let dots = ". ".repeat(22);
    assert_eq!(lines[3], format!("name = \"guest\" {dots}.  (n0,r1)"));
    assert_eq!(lines[0].find('('), Some(62));
    assert_eq!(lines[0].split_once('(').unwrap().1, "n1)");
}

#[test]
fn paths_and_values_can_be_whole() {
    let options = ListingOptions { has_paths: true, has_permissions: true };
    let lines = listing(&store(), "/local/domain/1", options);
    assert_eq!(lines[0], "/local/domain/1/data = \"\"   (n1)");
    assert!(lines[1].contains(&"x".repeat(100)));
}

#[test]
fn printed_values_are_read_back() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(value(&printable(&all)), Some(all));
    assert_eq!(value("a\\101\\x41"), Some(b"aAA".to_vec()));
    for wrong in ["\\", "\\q", "\\x", "\\x4", "\\xg0", "\\400", "\\01", "\\x+1", "\\ä"] {
        assert_eq!(value(wrong), None, "{wrong}");
    }
}
