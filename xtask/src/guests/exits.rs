//! A guest that measures what single exits cost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::cached;
use crate::{paths, progress};

const SOURCE: &str = include_str!("exits.asm");

/// The boot image's size in the 512-byte sectors of El Torito.
const SECTORS: &str = "16";

/// The ISO.
///
/// # Errors
/// If a tool fails.
pub fn iso(name: &str) -> Result<PathBuf> {
    cached(name, SOURCE, |iso: &Path| {
        let tree = paths::empty_build_folder("guests/tree")?;
        let source = paths::build("guests/exits.asm");
        std::fs::write(&source, SOURCE)?;
        let mut nasm = Command::new("nasm");
        nasm.args(["-f", "bin", "-o"]).args([&tree.join("boot.bin"), &source]);
        ensure!(nasm.stdin(Stdio::null()).status()?.success(), "nasm failed");
        let mut command = Command::new("xorriso");
        command
            .args(["-as", "mkisofs", "-V", "EXITS", "-b", "boot.bin", "-no-emul-boot"])
            .args(["-boot-load-size", SECTORS, "-o"])
            .args([iso, &tree]);
        progress::run_logged(&format!("Making {name}.iso"), "guests-xorriso", &mut command)
    })
}
