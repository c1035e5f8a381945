//! The image as a user installs it: booted by GRUB, from an ISO.

use std::sync::OnceLock;
use std::time::Duration;

use tests::{LINUX_MARKER, Result, Spec, start_for};
use xtask::image::Loader;

const PATIENCE: Duration = Duration::from_secs(600);

fn boots(uefi: bool) -> Result<()> {
    static ISO: OnceLock<Result<std::path::PathBuf, String>> = OnceLock::new();
    let made = ISO.get_or_init(|| {
        xtask::image::make(None, None, "console=com1 rpc=com2", Loader::Multiboot2)
            .map_err(|error| format!("{error:#}"))
    });
    let iso = made.clone().map_err(anyhow::Error::msg)?;
    let mut machine = start_for(&Spec { host_iso: Some(iso), uefi, ..Spec::default() }, PATIENCE)?;
    machine.expect_serial(LINUX_MARKER)?;
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_end()
}

#[test]
fn a_guest_boots_from_the_iso_by_bios() -> Result<()> {
    boots(false)
}

#[test]
fn a_guest_boots_from_the_iso_by_uefi() -> Result<()> {
    boots(true)
}
