//! Guests of our own in assembly language, which the BIOS boots from a CD-ROM as an El Torito image
//! without emulation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cached;
use crate::{paths, progress};

/// The unit in which El Torito counts what the BIOS loads.
const SECTOR_BYTES: u64 = 512;

/// The ISO of a guest whose boot image NASM makes of `sources`, names and texts: the first of them,
/// which includes the others.
///
/// # Errors
/// If a tool fails.
pub fn iso(name: &str, sources: &[(&str, &str)]) -> Result<PathBuf> {
    let recipe: String = sources.iter().map(|&(_, text)| text).collect();
    cached(name, &recipe, |iso: &Path| {
        let tree = paths::empty_build_folder("guests/tree")?;
        let folder = paths::empty_build_folder("guests/sources")?;
        for (file, text) in sources {
            std::fs::write(folder.join(file), text)?;
        }
        let (main, _) = sources.first().context("a guest without sources")?;
        let boot = tree.join("boot.bin");
        let mut nasm = Command::new("nasm");
        nasm.current_dir(&folder).args(["-f", "bin", "-o"]).arg(&boot).arg(main);
        ensure!(nasm.stdin(Stdio::null()).status()?.success(), "nasm failed");
        let sectors = std::fs::metadata(&boot)?.len().div_ceil(SECTOR_BYTES);
        let mut command = Command::new("xorriso");
        command
            .args([
                "-as",
                "mkisofs",
                "-V",
                "GUEST",
                "-b",
                "boot.bin",
                "-no-emul-boot",
                "-boot-load-size",
            ])
            .args([&sectors.to_string(), "-o"])
            .args([iso, &tree]);
        progress::run_logged(&format!("Making {name}.iso"), "guests-xorriso", &mut command)
    })
}
