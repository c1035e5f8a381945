//! A controller and its disks as a driver has found them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use block::Geometry;

use super::{Controller, Pages};
use crate::hardware::Bell;

/// Numbers from 0 for names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Of a controller among those of its kind.
    pub controller: usize,
    /// Of its first disk among theirs.
    pub disk: usize,
}

/// A controller that works, with its disks.
pub struct Found {
    /// Its driver.
    pub controller: Box<dyn Controller>,
    /// Its name in the log.
    pub name: String,
    /// Its disks, by their numbers.
    pub disks: Vec<FoundDisk>,
    /// Memory for data.
    pub pages: Pages,
    /// The bell that its interrupt rings.
    pub bell: Arc<Bell>,
}

/// A disk, with all that [`HostDisk`](block::HostDisk) says of it.
pub struct FoundDisk {
    pub name: String,
    pub ids: Vec<String>,
    pub model: String,
    pub serial: String,
    pub geometry: Geometry,
}

impl fmt::Display for FoundDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { size_bytes, sector_bytes, is_read_only, .. } = self.geometry;
        write!(f, "{}: {} MiB in blocks of {sector_bytes}", self.name, size_bytes >> 20)?;
        if is_read_only {
            f.write_str(", read-only")?;
        }
        for (word, text) in [("model", &self.model), ("serial", &self.serial)] {
            if !text.is_empty() {
                write!(f, ", {word} {text}")?;
            }
        }
        Ok(())
    }
}
