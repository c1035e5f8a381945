//! Debian's installer, as a netboot kernel and initramfs on a CD-ROM.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{cached, isolinux};
use crate::debian::Source;

/// The installer with more kernel arguments.
///
/// # Errors
/// If the package cannot be had.
pub fn iso(name: &str, arguments: &str) -> Result<PathBuf> {
    let release = release()?;
    let package = Source::System.unpacked(&format!("debian-installer-{release}-netboot-amd64"))?;
    let folder = package.join(format!(
        "usr/lib/debian-installer/images/{release}/amd64/text/debian-installer/amd64"
    ));
    let cmdline = format!("{arguments} ---");
    cached(name, &cmdline, |iso: &Path| {
        isolinux::make(iso, &folder.join("linux"), &folder.join("initrd.gz"), &cmdline)
    })
}

/// The number of the Debian release that runs here.
fn release() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("no /etc/os-release")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    Ok(line.context("this Debian has no release number")?.trim_matches('"').to_owned())
}
