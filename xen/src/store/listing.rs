//! The store as `xenstore-ls` and `xenstore-read` of Xen 4.17 show it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use super::path::join;
use super::{Error, Store};

/// The widest line.
const MAX_WIDTH: usize = 80;
/// The column at which permissions begin, if the value is not longer.
const PERMISSIONS_COLUMN: usize = 60;
/// Length of ` = "..."`, for which there is room at the end of each line.
const TAG_BYTES: usize = 8;

/// The choices of a listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListingOptions {
    /// Whole paths instead of indented names, and whole values (`-f`).
    pub has_paths: bool,
    /// Permissions (`-p`).
    pub has_permissions: bool,
}

/// All nodes below `path` with their values, a line each, which is given to `print` without its
/// end.
///
/// # Errors
/// [`Error::Invalid`], [`Error::NotFound`].
pub fn list(
    store: &Store,
    path: &str,
    options: ListingOptions,
    mut print: impl FnMut(&str),
) -> Result<(), Error> {
    // The names that are left to show, of each node on the way.
    let mut levels = vec![(String::from(path), store.list(path)?.into_iter())];
    while let Some((parent, names)) = levels.last_mut() {
        let Some(name) = names.next() else {
            levels.pop();
            continue;
        };
        let path = join(parent, &name);
        let depth = levels.len() - 1;
        print(&line(store, &path, &name, depth, options)?);
        let names = store.list(&path)?.into_iter();
        levels.push((path, names));
    }
    Ok(())
}

/// A value in printable characters: others are as in C, `\n`, `\001` and `\x1b`.
pub fn printable(value: &[u8]) -> String {
    let mut text = String::new();
    for &byte in value {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(byte.into()),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            0..=7 => {
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// The value that is written so, as `xenstore-write` takes it; none after a backslash that begins
/// nothing.
pub fn value(text: &str) -> Option<Vec<u8>> {
    let mut value = vec![];
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        value.extend_from_slice(plain.as_bytes());
        let digits = |from: usize, radix: u32| {
            let digits = escape.get(from..3)?;
            u8::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
        };
        let (byte, length) = match escape.bytes().next()? {
            b'\\' => (b'\\', 1),
            b't' => (b'\t', 1),
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b'x' => (digits(1, 16)?, 3),
            _ => (digits(0, 8)?, 3),
        };
        value.push(byte);
        rest = escape.get(length..)?;
    }
    value.extend_from_slice(rest.as_bytes());
    Some(value)
}

fn line(
    store: &Store,
    path: &str,
    name: &str,
    depth: usize,
    options: ListingOptions,
) -> Result<String, Error> {
    let value = store.read(path)?;
    let mut line = if options.has_paths {
        String::from(path)
    } else {
        let indent = depth.min(MAX_WIDTH - TAG_BYTES);
        let room = MAX_WIDTH - TAG_BYTES - indent;
        format!("{:indent$}{}", "", name.get(..room).unwrap_or(name))
    };
    let mut text = printable(&value);
    if !options.has_paths && line.len() + value.len() + TAG_BYTES > MAX_WIDTH {
        text.truncate(MAX_WIDTH - TAG_BYTES - line.len());
        let _ = write!(line, " = \"{text}\\...\"");
    } else {
        let _ = write!(line, " = \"{text}\"");
        if options.has_permissions {
            line.push(' ');
            while !options.has_paths && line.len() < PERMISSIONS_COLUMN {
                line.push(if line.len() % 2 == 1 { '.' } else { ' ' });
            }
        }
    }
    if options.has_permissions {
        for (index, entry) in store.permissions(path)?.entries().enumerate() {
            let before = if index == 0 { "  (" } else { "," };
            let _ = write!(line, "{before}{entry}");
        }
        line.push(')');
    }
    Ok(line)
}
