//! Bochs: Intel VT-x.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Emulator, Spec, Wiring};

/// Bulkhead in Bochs.
pub struct Bochs;

impl Emulator for Bochs {
    fn command(&self, _: &Spec, _: &Path, _: Wiring, _: bool) -> Result<Command> {
        bail!("the VT-x backend is not built yet: use --backend svm");
    }

    fn has_management_port(&self) -> bool {
        true
    }

    fn has_monitor(&self) -> bool {
        false
    }
}
