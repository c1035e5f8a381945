//! Paths of nodes: `/local/domain/1/device/vbd/51712/state`.

use alloc::format;
use alloc::string::String;

use super::{DomId, Error};

/// The longest path (xs_wire.h, `XENSTORE_ABS_PATH_MAX`).
pub const MAX_ABSOLUTE_BYTES: usize = 3072;
/// The longest path of a guest below its own directory (`XENSTORE_REL_PATH_MAX`), and the longest
/// elsewhere.
pub const MAX_RELATIVE_BYTES: usize = 2048;

/// A domain's own directory, where its relative paths begin.
pub fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// The path of a node below `parent`.
pub fn join(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

/// The path of the node that lists `path`; none for the root.
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// The name of a node in its parent.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// True for what is watched but is no node: `@introduceDomain`, `@releaseDomain`.
pub(super) fn is_special(path: &str) -> bool {
    path.starts_with('@')
}

/// A path as a request has it, relative or not, made absolute and found valid.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn absolute(domain: DomId, path: &[u8]) -> Result<String, Error> {
    let path = complete(domain, path)?;
    check(domain, &path)?;
    Ok(path)
}

/// A path made absolute. Special ones stay as they are.
///
/// # Errors
/// [`Error::Invalid`] if it is no text.
pub(super) fn complete(domain: DomId, path: &[u8]) -> Result<String, Error> {
    let path = core::str::from_utf8(path).map_err(|_| Error::Invalid)?;
    let is_absolute = path.starts_with('/') || is_special(path);
    Ok(if is_absolute { path.into() } else { format!("{}/{path}", home(domain)) })
}

/// Checks an absolute path.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn check(domain: DomId, path: &str) -> Result<(), Error> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    let is_valid = path.starts_with('/')
        && (path == "/" || !path.ends_with('/'))
        && !path.contains("//")
        && path.len() <= MAX_ABSOLUTE_BYTES
        && (domain == 0 || path.len() - own_prefix_bytes(path) <= MAX_RELATIVE_BYTES)
        && path.bytes().all(is_allowed);
    if is_valid { Ok(()) } else { Err(Error::Invalid) }
}

/// Length of `/local/domain/N/` at the begin of a path.
fn own_prefix_bytes(path: &str) -> usize {
    let Some(rest) = path.strip_prefix("/local/domain/") else { return 0 };
    match rest.find('/') {
        Some(digits @ 1..=5) if rest[..digits].bytes().all(|byte| byte.is_ascii_digit()) => {
            path.len() - rest.len() + digits + 1
        }
        _ => 0,
    }
}
