//! The guests' xl.cfg files, in `build/conformance`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::environment::{MEMORY_MIB, vcpus};
use crate::{files, paths};

/// The topics that begin so are about the PV-on-HVM platform, which their guests have. No emulator
/// has one by itself.
const PLATFORM_PREFIX: &str = "xen_";

/// Whether a topic's guest has the PV-on-HVM platform.
pub fn has_platform(topic: &str) -> bool {
    topic.starts_with(PLATFORM_PREFIX)
}

/// Makes the xl.cfg of a guest that boots `iso`.
///
/// # Errors
/// If it cannot be written.
pub fn make(topic: &str, iso: &Path, hard_disks: &[PathBuf]) -> Result<PathBuf> {
    let file = paths::build(&format!("conformance/{topic}.cfg"));
    files::write(&file, text(topic, iso, hard_disks).as_bytes())?;
    Ok(file)
}

fn text(topic: &str, iso: &Path, hard_disks: &[PathBuf]) -> String {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The third drive, unless it is a disk.
    let cdrom = if hard_disks.len() < 3 { "hdc" } else { "hdd" };
    let mut disks = format!("'{},raw,{cdrom},ro,cdrom'", name(iso));
    for (letter, disk) in ('a'..).zip(hard_disks) {
        _ = write!(disks, ", '{},raw,hd{letter},rw'", name(disk));
    }
    format!(
        "type = \"hvm\"\nname = \"{topic}\"\nmemory = {MEMORY_MIB}\nvcpus = {}\nboot = \"d\"\n\
         xen_platform_pci = {}\ndisk = [ {disks} ]\n",
        vcpus(topic),
        u8::from(has_platform(topic)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_the_platform_if_its_topic_is_about_it() {
        let text = |topic| text(topic, Path::new("a/b.iso"), &["c/d.img".into()]);
        assert!(text("xen_calls").contains("\nxen_platform_pci = 1\n"));
        let without = text("ata");
        assert!(without.contains("\nxen_platform_pci = 0\n"));
        assert!(without.ends_with("disk = [ 'b.iso,raw,hdc,ro,cdrom', 'd.img,raw,hda,rw' ]\n"));
    }
}
