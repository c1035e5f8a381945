//! The arrows between a crate's modules, read from its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, UseTree};

/// Which rooms each room uses, of the crate whose root is `root`.
///
/// # Errors
/// If a file cannot be read or is no Rust.
pub fn arrows(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let folder = root.parent().context("a crate's root is in a folder")?;
    let mut reader = Reader::default();
    reader.file(root, folder, &[])?;
    let rooms = reader.rooms;
    for to in reader.arrows.values_mut() {
        to.retain(|name| rooms.contains(name));
    }
    for room in rooms {
        reader.arrows.entry(room).or_default();
    }
    Ok(reader.arrows)
}

#[derive(Default)]
struct Reader {
    rooms: BTreeSet<String>,
    arrows: BTreeMap<String, BTreeSet<String>>,
}

impl Reader {
    /// Reads the module at `path`, whose own modules are files below `folder`.
    fn file(&mut self, file: &Path, folder: &Path, path: &[String]) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        if parsed.attrs.iter().any(is_for_tests) {
            return Ok(());
        }
        self.items(&parsed.items, folder, path)
    }

    fn items(&mut self, items: &[Item], folder: &Path, path: &[String]) -> Result<()> {
        let mut names = Names { path, rooms: BTreeSet::new() };
        for item in items {
            let Item::Mod(module) = item else {
                names.visit_item(item);
                continue;
            };
            if module.attrs.iter().any(is_for_tests) {
                continue;
            }
            let name = module.ident.to_string();
            if path.is_empty() {
                self.rooms.insert(name.clone());
            }
            let below = folder.join(&name);
            let path = [path, &[name]].concat();
            match &module.content {
                Some((_, items)) => self.items(items, &below, &path)?,
                None => self.file(&module_file(&below), &below, &path)?,
            }
        }
        if let Some(room) = path.first() {
            self.arrows.entry(room.clone()).or_default().extend(names.rooms);
        }
        Ok(())
    }
}

/// `NAME.rs` or `NAME/mod.rs`.
fn module_file(below: &Path) -> PathBuf {
    let beside = below.with_extension("rs");
    if beside.is_file() { beside } else { below.join("mod.rs") }
}

/// `#[test]`, or a `#[cfg]` that names tests or the machine for them.
fn is_for_tests(attribute: &Attribute) -> bool {
    let is_test = |meta: &str| meta.contains("test") && !meta.contains("not");
    attribute.path().is_ident("test")
        || attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| is_test(&list.tokens.to_string()))
}

/// Collects the rooms that code in the module at `path` names.
struct Names<'a> {
    path: &'a [String],
    rooms: BTreeSet<String>,
}

impl Names<'_> {
    /// Notes what a path names, if it begins at the crate or climbs out of its room.
    fn note(&mut self, names: &[String]) {
        let ups = names.iter().take_while(|name| *name == "super").count();
        let room = match names.first().map(String::as_str) {
            Some("crate") => names.get(1),
            Some("super") if ups == self.path.len() => names.get(ups),
            _ => None,
        };
        self.rooms.extend(room.cloned());
    }

    fn tree(&mut self, tree: &UseTree, names: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                names.push(path.ident.to_string());
                self.tree(&path.tree, names);
                names.pop();
            }
            UseTree::Name(name) => self.end(&name.ident, names),
            UseTree::Rename(rename) => self.end(&rename.ident, names),
            UseTree::Glob(_) => self.note(names),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, names)),
        }
    }

    fn end(&mut self, name: &syn::Ident, names: &mut Vec<String>) {
        names.push(name.to_string());
        self.note(names);
        names.pop();
    }

    /// Paths in a macro's arguments, which are no syntax yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {}
                TokenTree::Ident(name)
                    if name == "crate" || name == "super" && names.is_empty() =>
                {
                    self.note(&std::mem::replace(&mut names, vec![name.to_string()]));
                }
                TokenTree::Ident(name) if !names.is_empty() => names.push(name.to_string()),
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => self.note(&std::mem::take(&mut names)),
            }
        }
        self.note(&names);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &vec![],
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !item.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// Modules inside functions are not followed.
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(called.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(path: &[&str], code: &str) -> Vec<String> {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let mut names = Names { path: &path, rooms: BTreeSet::new() };
        let file = syn::parse_file(code).unwrap();
        file.items.iter().for_each(|item| names.visit_item(item));
        names.rooms.into_iter().collect()
    }

    #[test]
    fn imports_paths_and_macros_are_arrows() {
        let code = "use crate::{a, b::{self, c}, d as e}; use std::f;
            fn g(h: crate::i::J) -> Vec<crate::k::L> {
                assert!(crate::m::n() == super::super::o::P);
            }";
        assert_eq!(rooms(&["vcpu", "events"], code), ["a", "b", "d", "i", "k", "m", "o"]);
    }

    #[test]
    fn a_room_does_not_leave_itself_by_super() {
        assert_eq!(rooms(&["vcpu", "events"], "use super::timers; use self::x::Y;"), [""; 0]);
        assert_eq!(rooms(&["vcpu"], "use super::timers;"), ["timers"]);
    }

    #[test]
    fn test_code_does_not_count() {
        let code = "#[cfg(test)] use crate::a;
            #[cfg(any(test, feature = \"test-platform\"))] fn f() { crate::b::c(); }
            #[cfg(not(test))] use crate::d; impl S { #[cfg(test)] fn g() { crate::e::h(); } }";
        assert_eq!(rooms(&["vcpu"], code), ["d"]);
    }
}
