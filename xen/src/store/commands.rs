//! Xen's commands for the store: `xenstore-ls`, `-list`, `-read`, `-write`, `-rm`, `-exists` and
//! `-chmod`, with the options, output and messages that they have in Xen 4.17.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::listing::{self, ListingOptions};
use super::{Error, Permission, Permissions, Store, path};

/// A command's usage, without its name.
const USAGES: [(&str, &str); 7] = [
    ("ls", "[-f] [-p] [path]"),
    ("list", "[-p] key [...]"),
    ("read", "[-p] key [...]"),
    ("write", "key value [...]"),
    ("rm", "[-t] key [...]"),
    ("exists", "key [...]"),
    ("chmod", "[-u] [-r] key <mode [modes...]>"),
];

/// Carries out a command: `name` is what follows `xenstore-`. Its output goes to `print` line by
/// line.
///
/// # Errors
/// The line that the command ends with: its usage, or what it could not do. `xenstore-exists` says
/// nothing.
pub fn run(
    store: &mut Store,
    name: &str,
    words: &[&str],
    mut print: impl FnMut(&str),
) -> Result<(), String> {
    let Some((_, usage)) = USAGES.iter().find(|(known, _)| *known == name) else {
        return Err(format!("xenstore-{name}: unknown command"));
    };
    let usage = || format!("Usage: xenstore-{name} {usage}");
    let count = words.iter().take_while(|word| word.starts_with('-') && word.len() > 1).count();
    let (options, keys) = words.split_at(count);
    let allowed = match name {
        "ls" => "fp",
        "list" | "read" => "p",
        "rm" => "t",
        "chmod" => "ur",
        _ => "",
    };
    let given: String = options.iter().map(|word| &word[1..]).collect();
    if given.contains(|option| !allowed.contains(option)) || (keys.is_empty() && name != "ls") {
        return Err(usage());
    }
    let has = |option: char| given.contains(option);
    let failed = |what: &str, key: &str| format!("xenstore-{name}: {what} {key}");
    match name {
        "ls" => {
            let options = ListingOptions { has_paths: has('f'), has_permissions: has('p') };
            for key in if keys.is_empty() { &["/"] } else { keys } {
                listing::list(store, key, options, &mut print).map_err(|error| {
                    format!("xenstore-ls: xs_directory ({key}): {}", words_of(error))
                })?;
            }
        }
        "list" => {
            for key in keys {
                let names = store.list(key).map_err(|_| failed("could not list path", key))?;
                for child in names {
                    print(&if has('p') { path::join(key, &child) } else { child });
                }
            }
        }
        "read" => {
            let values: Result<Vec<_>, _> = keys
                .iter()
                .map(|key| store.read(key).map_err(|_| failed("couldn't read path", key)))
                .collect();
            for (key, value) in keys.iter().zip(values?) {
                let value = listing::printable(&value);
                print(&if has('p') { format!("{key}: {value}") } else { value });
            }
        }
        "write" => {
            let (pairs, rest) = keys.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(usage());
            }
            let mut written = vec![];
            for [key, value] in pairs {
                let value = listing::value(value).filter(|_| path::check(0, key).is_ok());
                written.push((key, value.ok_or_else(|| failed("could not write path", key))?));
            }
            for (key, value) in written {
                store.write(key, &value).map_err(|_| failed("could not write path", key))?;
            }
        }
        "rm" => {
            for key in keys {
                store.rm(key).map_err(|_| failed("could not remove path", key))?;
                if has('t') {
                    tidy(store, key);
                }
            }
        }
        "exists" => {
            if keys.iter().any(|key| store.read(key).is_err()) {
                return Err(String::new());
            }
        }
        _ => {
            let (key, modes) = (keys[0], &keys[1..]);
            let permissions = permissions(modes).map_err(|mode| match mode {
                Some(mode) => failed("Invalid permission specification:", mode),
                None => usage(),
            })?;
            let failed = |error: Error| {
                let error = words_of(error);
                format!("xenstore-chmod: Error occurred setting permissions on '{key}': {error}")
            };
            change(store, key, &permissions, has('u'), has('r')).map_err(failed)?;
        }
    }
    Ok(())
}

/// An error as C's `strerror` has it, as far as domain 0 meets it.
const fn words_of(error: Error) -> &'static str {
    match error {
        Error::NotFound => "No such file or directory",
        Error::Invalid => "Invalid argument",
        other => other.name(),
    }
}

/// Removes the nodes above one that was removed, as long as they have neither value nor nodes
/// below.
fn tidy(store: &mut Store, key: &str) {
    let mut above = path::parent(key).map(ToString::to_string);
    while let Some(key) = above {
        let is_empty = store.read(&key).is_ok_and(|value| value.is_empty())
            && store.list(&key).is_ok_and(|names| names.is_empty());
        if !is_empty || store.rm(&key).is_err() {
            break;
        }
        above = path::parent(&key).map(ToString::to_string);
    }
}

/// Reads the permissions that `xenstore-chmod` is given; else the one that is none, if there are
/// some.
fn permissions<'a>(modes: &[&'a str]) -> Result<Permissions, Option<&'a str>> {
    let mut entries = vec![];
    for mode in modes {
        entries.push(Permission::parse(mode.as_bytes()).ok_or(Some(*mode))?);
    }
    let (&owner, others) = entries.split_first().ok_or(None)?;
    Ok(Permissions::new(owner, others))
}

/// Sets permissions; also of the nodes above, but for the root, or of all below.
fn change(
    store: &mut Store,
    key: &str,
    permissions: &Permissions,
    is_upwards: bool,
    is_recursive: bool,
) -> Result<(), Error> {
    store.set_permissions(key, permissions.clone())?;
    let mut above = path::parent(key).filter(|_| is_upwards);
    while let Some(key) = above.filter(|key| *key != "/") {
        store.set_permissions(key, permissions.clone())?;
        above = path::parent(key);
    }
    let mut below = if is_recursive { vec![key.to_string()] } else { vec![] };
    while let Some(key) = below.pop() {
        for name in store.list(&key)? {
            let child = path::join(&key, &name);
            store.set_permissions(&child, permissions.clone())?;
            below.push(child);
        }
    }
    Ok(())
}
