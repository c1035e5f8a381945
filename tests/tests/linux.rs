//! Linux as a guest: to a shell, at its devices, and out again.

use anyhow::{Context, ensure};
use tests::{Guest, LINUX_MARKER, Result, Spec, linux, shell, spec};

/// Its shell answers, and `poweroff` ends the machine.
fn reaches_a_shell_and_powers_off(spec: &Spec, machine_name: &str) -> Result<()> {
    let mut machine = linux(spec)?;
    assert_eq!(shell(&mut machine, "echo $((6 * 7))")?, "42");
    assert_eq!(shell(&mut machine, "uname -m")?, machine_name);
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_end()
}

#[test]
fn amd64_reaches_a_shell_and_powers_off() -> Result<()> {
    reaches_a_shell_and_powers_off(&spec(Guest::LinuxAmd64)?, "x86_64")
}

#[test]
fn amd64_reaches_a_shell_and_powers_off_on_epyc() -> Result<()> {
    reaches_a_shell_and_powers_off(&Spec { cpu: Some("EPYC".into()), ..spec(Guest::LinuxAmd64)? }, "x86_64")
}

#[test]
fn i686_with_pae_reaches_a_shell_and_powers_off() -> Result<()> {
    reaches_a_shell_and_powers_off(&spec(Guest::Linux686Pae)?, "i686")
}

#[test]
fn i686_with_two_level_paging_reaches_a_shell_and_powers_off() -> Result<()> {
    reaches_a_shell_and_powers_off(&spec(Guest::Linux686)?, "i686")
}

#[test]
fn i686_with_two_level_paging_reaches_a_shell_and_powers_off_on_epyc() -> Result<()> {
    reaches_a_shell_and_powers_off(&Spec { cpu: Some("EPYC".into()), ..spec(Guest::Linux686)? }, "i686")
}

#[test]
fn reboot_starts_the_guest_again() -> Result<()> {
    let mut machine = linux(&spec(Guest::LinuxAmd64Quiet)?)?;
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial(LINUX_MARKER)
}

#[test]
fn the_keyboard_types_on_the_first_virtual_terminal() -> Result<()> {
    let mut machine = linux(&spec(Guest::LinuxAmd64)?)?;
    machine.serial().write(b"echo read'y'; head -n 1 </dev/tty1 | sed s/^/got-/\n")?;
    machine.expect_serial("ready\n")?;
    machine.control().type_text("Hello, World_{42}!\n")?;
    machine.expect_serial("got-Hello, World_{42}!\n")
}

#[test]
fn the_screen_shows_the_console() -> Result<()> {
    let mut machine = linux(&spec(Guest::LinuxAmd64)?)?;
    shell(&mut machine, "echo 'written to the screen' >/dev/tty1")?;
    let screen = machine.control().screen_text()?.context("the screen is in a graphics mode")?;
    ensure!(screen.contains("written to the screen"), "the screen shows\n{screen}");
    Ok(())
}

#[test]
fn the_cdrom_reads_whole_by_its_driver() -> Result<()> {
    let spec = spec(Guest::LinuxAmd64Cdrom)?;
    let iso = spec.iso.clone().context("no ISO")?;
    let mut machine = linux(&spec)?;
    shell(&mut machine, "load-modules; for i in 1 2 3 4 5; do [ -e /dev/sr0 ] && break; sleep 1; done")?;
    // The drive may report two sectors more than the image has, as a CD-R does; the image's bytes are compared.
    let size = std::fs::metadata(&iso)?.len();
    let command = format!("head -c {size} /dev/sr0 | md5sum | cut -c 1-32");
    let sum = std::process::Command::new("md5sum").arg(&iso).output()?.stdout;
    assert_eq!(shell(&mut machine, &command)?.as_bytes(), &sum[..32]);
    let listing = shell(&mut machine, "mount -r -t iso9660 /dev/sr0 /mnt; ls /mnt")?;
    ensure!(listing.contains("isolinux"), "the CD-ROM has\n{listing}");
    Ok(())
}

/// Messages of level "error" and worse, without their time stamps.
fn kernel_errors(spec: &Spec) -> Result<Vec<String>> {
    let mut machine = linux(spec)?;
    let messages = shell(&mut machine, "dmesg -r | grep '^<[0-3]>'")?;
    Ok(messages.lines().filter_map(|line| line.split_once("] ")).map(|(_, text)| text.to_owned()).collect())
}

#[test]
fn the_kernel_complains_about_nothing_that_it_accepts_in_plain_qemu() -> Result<()> {
    let guest = spec(Guest::LinuxAmd64)?;
    let known = kernel_errors(&Spec { direct: true, ..guest.clone() })?;
    let mut errors = kernel_errors(&guest)?;
    errors.retain(|error| !known.contains(error));
    ensure!(errors.is_empty(), "the kernel complains:\n{}", errors.join("\n"));
    Ok(())
}

#[test]
fn a_kernel_panic_resets_the_guest() -> Result<()> {
    let mut machine = linux(&spec(Guest::LinuxAmd64)?)?;
    machine.serial().write(b"echo 1 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger\n")?;
    machine.expect_serial("Kernel panic")?;
    machine.expect_serial(LINUX_MARKER)
}
