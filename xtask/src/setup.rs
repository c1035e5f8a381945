//! Programs and files that Debian's packages provide: what is missing is installed, or listed for
//! the user.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{paths, progress};

/// Something that a command needs, and the Debian package that has it.
pub enum Need {
    /// A program in `PATH`.
    Program(&'static str, &'static str),
    /// A file at an absolute path.
    File(&'static str, &'static str),
}

use Need::{File, Program};

/// To build the image.
pub const BUILD: &[Need] = &[
    File("/usr/share/seabios/bios-256k.bin", "seabios"),
    File("/usr/share/seabios/vgabios-stdvga.bin", "seabios"),
    Program("strip", "binutils"),
];

/// To run it on emulated AMD-V.
pub const QEMU: &[Need] = &[Program("qemu-system-x86_64", "qemu-system-x86")];

/// To make guests' ISO images.
pub const GUESTS: &[Need] = &[
    Program("xorriso", "xorriso"),
    Program("cpio", "cpio"),
    Program("gzip", "gzip"),
    Program("dpkg-deb", "dpkg"),
    Program("nasm", "nasm"),
    File("/usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
    File("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
];

/// To make a bootable ISO of Bulkhead.
pub const IMAGE: &[Need] = &[
    Program("grub-mkrescue", "grub-common"),
    Program("xorriso", "xorriso"),
    Program("mformat", "mtools"),
    File("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
    File("/usr/lib/grub/x86_64-efi/multiboot2.mod", "grub-efi-amd64-bin"),
];

/// The needs of some tests only.
pub const TESTS: &[Need] = &[
    File("/usr/share/ovmf/OVMF.fd", "ovmf"),
    Program("iasl", "acpica-tools"),
    File("/usr/sbin/sgdisk", "gdisk"),
    File("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    File("/usr/sbin/mkfs.vfat", "dosfstools"),
];

/// To fuzz: libFuzzer is C++.
pub const FUZZ: &[Need] = &[Program("c++", "g++")];

/// The needs of everything but fuzzing.
const ALL: &[&[Need]] = &[BUILD, QEMU, GUESTS, IMAGE, TESTS];

impl Need {
    fn package(&self) -> &'static str {
        match self {
            Program(_, package) | File(_, package) => package,
        }
    }

    fn is_missing(&self) -> bool {
        match self {
            Program(name, _) => paths::program(name).is_none(),
            File(path, _) => !Path::new(path).exists(),
        }
    }
}

/// The packages of what is missing.
fn missing(needs: &[&[Need]]) -> BTreeSet<&'static str> {
    needs.iter().copied().flatten().filter(|need| need.is_missing()).map(Need::package).collect()
}

/// Installs the packages of what is missing, if anything is.
///
/// # Errors
/// If something is missing and cannot be installed; the message is the list of what to install.
pub fn require(needs: &[&[Need]]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing.into_iter().collect::<Vec<_>>())
}

/// Installs Debian packages, as root or by sudo.
///
/// # Errors
/// If that is not possible; the message is the list of what to install, also for what may be asked
/// for next.
pub fn install(packages: &[&'static str]) -> Result<()> {
    let Some(prefix) = privilege().filter(|_| paths::program("apt-get").is_some()) else {
        let mut all = missing(ALL);
        all.extend(packages);
        let list = all.into_iter().collect::<Vec<_>>().join(" ");
        bail!("these Debian packages are missing; as root:\n    apt-get install {list}");
    };
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg("apt-get").args(arguments);
        command
    };
    // The lists may be absent (containers) or old: a second try with fresh ones settles it.
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    let title = format!("Installing {}", packages.join(" "));
    if progress::run_logged(&title, "apt-install", &mut apt(&arguments)).is_ok() {
        return Ok(());
    }
    progress::run_logged("Updating the package lists", "apt-update", &mut apt(&["update"]))?;
    progress::run_logged(&title, "apt-install", &mut apt(&arguments))
}

/// How to become root: a command prefix, or `None` where there is no way.
fn privilege() -> Option<&'static [&'static str]> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&["env", "DEBIAN_FRONTEND=noninteractive"]);
    }
    // With no terminal there is nobody to type a password.
    let asks = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let quiet = Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if quiet.is_ok_and(|status| status.success()) {
        return Some(&["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]);
    }
    let unlocked =
        asks && Command::new("sudo").arg("-v").status().is_ok_and(|status| status.success());
    unlocked.then_some(&["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_for_those_who_cannot_install_is_complete() {
        let script = include_str!("../bootstrap.sh");
        let (_, rest) = script.split_once("\nREST=\"").unwrap();
        let listed: BTreeSet<&str> = rest.split('"').next().unwrap().split_whitespace().collect();
        let needed: BTreeSet<&str> = ALL.iter().copied().flatten().map(Need::package).collect();
        assert_eq!(listed, needed);
    }
}
