//! The image as a user installs it: booted by GRUB, from an ISO on whatever it was written to, and
//! over the network.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tests::{LINUX_MARKER, Result, Spec, start_for};
use xtask::emulator::Medium;
use xtask::image::{Form, Loader};

const PATIENCE: Duration = Duration::from_secs(600);

fn make(form: Form) -> Result<PathBuf, String> {
    xtask::image::make(form, None, None, "console=com1 rpc=com2", Loader::Multiboot2)
        .map_err(|error| format!("{error:#}"))
}

/// The images that the tests share, each made once.
fn image(medium: Medium) -> Result<PathBuf> {
    static ISO: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static NETBOOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = match medium {
        Medium::Network => NETBOOT.get_or_init(|| make(Form::Netboot)),
        _ => ISO.get_or_init(|| make(Form::Iso)),
    };
    made.clone().map_err(anyhow::Error::msg)
}

fn boots(medium: Medium, uefi: bool) -> Result<()> {
    let host_image = Some(image(medium)?);
    let mut machine =
        start_for(&Spec { host_image, medium, uefi, smp: 2, ..Spec::default() }, PATIENCE)?;
    machine.expect_serial("1 more CPUs with AMD-V")?;
    machine.expect_serial(LINUX_MARKER)?;
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_end()
}

#[test]
fn a_guest_boots_from_a_cd_by_bios() -> Result<()> {
    boots(Medium::Cdrom, false)
}

#[test]
fn a_guest_boots_from_a_cd_by_uefi() -> Result<()> {
    boots(Medium::Cdrom, true)
}

#[test]
fn a_guest_boots_from_a_disk_by_bios() -> Result<()> {
    boots(Medium::Disk, false)
}

#[test]
fn a_guest_boots_from_a_disk_by_uefi() -> Result<()> {
    boots(Medium::Disk, true)
}

#[test]
fn a_guest_boots_from_a_usb_stick_by_bios() -> Result<()> {
    boots(Medium::Usb, false)
}

#[test]
fn a_guest_boots_from_a_usb_stick_by_uefi() -> Result<()> {
    boots(Medium::Usb, true)
}

#[test]
fn a_guest_boots_over_the_network_by_bios() -> Result<()> {
    boots(Medium::Network, false)
}

#[test]
fn a_guest_boots_over_the_network_by_uefi() -> Result<()> {
    boots(Medium::Network, true)
}
