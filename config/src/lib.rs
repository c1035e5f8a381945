//! The user's wishes: the guests' xl.cfg files, and the hypervisor's own command line.
//!
//! A file is read by [`GuestConfig::parse`], which takes any bytes: what it cannot take is a
//! [`Diagnostic`] that names the file, the line and the key. `docs/guest-config.md` and
//! `docs/command-line.md` have what is understood.
//!
//! ```
//! let text = b"name = 'small'\ntype = 'hvm'\nmemory = 64\n\
//!     disk = ['file:guest.iso,hdc:cdrom,r']\n";
//! let (guest, warnings) = config::GuestConfig::parse("guest.cfg", text);
//! let guest = guest.expect("a guest");
//! assert_eq!((guest.name.as_str(), guest.memory_mib, guest.disks.len()), ("small", 64, 1));
//! assert!(warnings.is_empty(), "{}", warnings[0]);
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command_line;
pub mod cpus;
mod disk;
pub mod guest;
mod guest_type;
mod keys;
mod machine;
pub mod modules;
mod text;
mod vif;
pub mod xl_cfg;

pub use command_line::CommandLine;
pub use disk::{Disk, DiskKind, VirtualDevice, parse as parse_disk};
pub use guest::GuestConfig;
pub use vif::{Vif, VifNetwork, VifRate, parse as parse_vif};

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt::{self, Write};

/// Characters of a message that are shown: files may hold anything.
const MAX_SHOWN: usize = 400;

/// Something to tell the user about a configuration file: where, about what, and what.
///
/// ```
/// let (guest, _) = config::GuestConfig::parse("guest.cfg", b"name = 'a'\nmemory = 'much'\n");
/// let error = guest.expect_err("a diagnostic");
/// assert_eq!((error.line, error.key.as_str()), (2, "memory"));
/// assert!(error.to_string().starts_with("guest.cfg:2:"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name, as the boot module is called.
    pub file: String,
    /// The line, from 1; 0 if it concerns the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 if it concerns the setting as a whole.
    pub column: u32,
    /// The key that it is about; empty if it is none.
    pub key: String,
    /// The fault, and what to do.
    pub message: String,
}

impl Diagnostic {
    /// About a place in a file.
    fn at(file: &str, line: u32, column: u32, message: String) -> Self {
        Self { file: file.to_owned(), line, column, key: String::new(), message }
    }

    /// The same, about a key.
    fn of(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }
}

impl fmt::Display for Diagnostic {
    /// One line, without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.file)?;
        f.write_char(':')?;
        for number in [self.line, self.column].into_iter().take_while(|number| *number != 0) {
            write!(f, "{number}:")?;
        }
        if !self.key.is_empty() {
            f.write_char(' ')?;
            show(f, &self.key)?;
            f.write_char(':')?;
        }
        f.write_char(' ')?;
        show(f, &self.message)
    }
}

/// Writes the beginning of a text, with control characters escaped.
fn show(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == MAX_SHOWN => return f.write_str("..."),
            character if character.is_control() => write!(f, "{}", character.escape_default())?,
            character => f.write_char(character)?,
        }
    }
    Ok(())
}
