//! What the user asks for: the guests' xl.cfg files, and the hypervisor's own command line.

pub mod command_line;
mod disk;
pub mod guest;
mod machine;
mod vif;
pub mod xl_cfg;

pub use command_line::CommandLine;
pub use disk::{Disk, DiskKind, VirtualDevice};
pub use guest::GuestConfig;
pub use vif::Vif;

use alloc::string::String;
use core::fmt;

/// Something to tell the user about a configuration file: where, about what, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name, as the boot module is called.
    pub file: String,
    /// The line, from 1; 0 if it concerns the file as a whole.
    pub line: u32,
    /// The key that it is about; empty if it is none.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line != 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}
