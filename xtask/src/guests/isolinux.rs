//! A CD-ROM that boots a Linux kernel by ISOLINUX.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, progress};

/// Writes `iso`: `kernel` with `initrd` and `cmdline`.
///
/// # Errors
/// If a file is missing or xorriso fails.
pub fn make(iso: &Path, kernel: &Path, initrd: &Path, cmdline: &str) -> Result<()> {
    let tree = paths::empty_build_folder("guests/tree")?;
    std::fs::create_dir_all(tree.join("isolinux"))?;
    let files = [
        (Path::new("/usr/lib/ISOLINUX/isolinux.bin"), "isolinux/isolinux.bin"),
        (Path::new("/usr/lib/syslinux/modules/bios/ldlinux.c32"), "isolinux/ldlinux.c32"),
        (kernel, "linux"),
        (initrd, "initrd.gz"),
    ];
    for (source, name) in files {
        std::fs::copy(source, tree.join(name))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    let menu = format!(
        "DEFAULT linux\nPROMPT 0\nLABEL linux\n  KERNEL /linux\n  INITRD /initrd.gz\n  APPEND {cmdline}\n"
    );
    std::fs::write(tree.join("isolinux/isolinux.cfg"), menu)?;
    let mut command = Command::new("xorriso");
    command
        .args(["-as", "mkisofs", "-J", "-r", "-V", "BULKHEAD_GUEST"])
        .args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"])
        .args([iso, &tree]);
    let name = iso.file_name().unwrap_or_default().to_string_lossy().into_owned();
    progress::run_logged(&format!("Making {name}"), "guests-xorriso", &mut command)
}
