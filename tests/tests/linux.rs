//! Linux as a guest: to a shell, at its devices, and out again.

use anyhow::{Context, ensure};
use serde_json::json;
use tests::{
    Backend, Guest, LINUX_MARKER, Result, Spec, linux, on_both_backends, shell, spec, start,
};

/// Its shell answers, and `poweroff` ends the machine.
fn reaches_a_shell_and_powers_off(spec: &Spec, machine_name: &str) -> Result<()> {
    let mut machine = linux(spec)?;
    assert_eq!(shell(&mut machine, "echo $((6 * 7))")?, "42");
    assert_eq!(shell(&mut machine, "uname -m")?, machine_name);
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_end()
}

on_both_backends! {
    amd64_reaches_a_shell_and_powers_off,
    i686_with_pae_reaches_a_shell_and_powers_off,
    i686_with_two_level_paging_reaches_a_shell_and_powers_off,
    reboot_starts_the_guest_again,
    triggers_reach_the_kernel_and_the_power_button_turns_off,
}

fn amd64_reaches_a_shell_and_powers_off(backend: Backend) -> Result<()> {
    reaches_a_shell_and_powers_off(&Spec { backend, ..spec(Guest::LinuxAmd64)? }, "x86_64")
}

fn i686_with_pae_reaches_a_shell_and_powers_off(backend: Backend) -> Result<()> {
    reaches_a_shell_and_powers_off(&Spec { backend, ..spec(Guest::Linux686Pae)? }, "i686")
}

fn i686_with_two_level_paging_reaches_a_shell_and_powers_off(backend: Backend) -> Result<()> {
    reaches_a_shell_and_powers_off(&Spec { backend, ..spec(Guest::Linux686)? }, "i686")
}

fn reboot_starts_the_guest_again(backend: Backend) -> Result<()> {
    let mut machine = linux(&Spec { backend, ..spec(Guest::LinuxAmd64Quiet)? })?;
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial(LINUX_MARKER)
}

/// The kernel hears of an NMI on the virtual CPU that was chosen, and of its power button.
fn triggers_reach_the_kernel_and_the_power_button_turns_off(backend: Backend) -> Result<()> {
    let mut machine = linux(&Spec { backend, vcpus: 2, ..spec(Guest::LinuxAmd64Buttons)? })?;
    let nmis = "awk '$1 == \"NMI:\" { print $2, $3 }' /proc/interrupts";
    ensure!(shell(&mut machine, nmis)? == "0 0");
    machine.call("guest.trigger", json!({ "trigger": "nmi", "vcpu": 1 }))?;
    // It comes before the virtual CPU runs an instruction of this.
    ensure!(shell(&mut machine, &format!("taskset -c 1 true; {nmis}"))? == "0 1");
    let listen = "load-modules; cd /sys/class/input; \
                  button=$(dirname $(dirname $(grep -l 'Power Button' event*/device/name))); \
                  { head -c 1 /dev/input/$button >/dev/null && poweroff -f; } & \
                  until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/input/$button; \
                  do sleep 0.1; done";
    shell(&mut machine, listen)?;
    machine.call("guest.button_press", json!({ "button": "power" }))?;
    machine.expect_serial("powered off: Destroy")
}

#[test]
fn amd64_reaches_a_shell_and_powers_off_on_epyc() -> Result<()> {
    reaches_a_shell_and_powers_off(
        &Spec { cpu: Some("EPYC".into()), ..spec(Guest::LinuxAmd64)? },
        "x86_64",
    )
}

#[test]
fn i686_with_two_level_paging_reaches_a_shell_and_powers_off_on_epyc() -> Result<()> {
    reaches_a_shell_and_powers_off(
        &Spec { cpu: Some("EPYC".into()), ..spec(Guest::Linux686)? },
        "i686",
    )
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
fn the_cdrom_reads_whole_by_its_driver_and_is_changed() -> Result<()> {
    let other = Guest::Linux686.iso()?;
    let target = other.file_name().and_then(|name| name.to_str()).context("no name")?;
    let spec = Spec { disks: vec![other.clone()], ..spec(Guest::LinuxAmd64Cdrom)? };
    let iso = spec.iso.clone().context("no ISO")?;
    let mut machine = linux(&spec)?;
    shell(&mut machine, "load-modules; until [ -e /dev/sr0 ]; do sleep 1; done")?;
    // The drive may report two sectors more than the image has, as a CD-R does; the image's bytes
    // are compared.
    let size = std::fs::metadata(&iso)?.len();
    let command = format!("head -c {size} /dev/sr0 | md5sum | cut -c 1-32");
    let sum = std::process::Command::new("md5sum").arg(&iso).output()?.stdout;
    assert_eq!(shell(&mut machine, &command)?.as_bytes(), &sum[..32]);
    let listing = shell(&mut machine, "mount -r -t iso9660 /dev/sr0 /mnt; ls /mnt")?;
    ensure!(listing.contains("isolinux"), "the CD-ROM has\n{listing}");
    // A disc that is mounted stays in, as Linux has locked the door.
    let insert = json!({ "vdev": "hdc", "target": target });
    let refusal = machine.call("guest.insert_cd", insert.clone()).unwrap_err();
    ensure!(refusal.to_string().contains("is locked"), "{refusal}");
    ensure!(shell(&mut machine, "ls /mnt; umount /mnt")? == listing);
    machine.call("guest.insert_cd", insert)?;
    // The drive is without a medium first, as QEMU's is: the kernel is to see the change.
    let ready = "until head -c 1 /dev/sr0 > /dev/null 2>&1; do sleep 0.1; done; echo ready";
    ensure!(shell(&mut machine, ready)? == "ready");
    let sectors = std::fs::metadata(&other)?.len() / 512;
    ensure!(shell(&mut machine, "cat /sys/block/sr0/size")? == sectors.to_string());
    let listing = "mount -r -t iso9660 /dev/sr0 /mnt; ls /mnt; umount /mnt";
    ensure!(shell(&mut machine, listing)?.contains("isolinux"));
    let sum = std::process::Command::new("md5sum").arg(&other).output()?.stdout;
    let read = "md5sum < /dev/sr0 | cut -c 1-32";
    ensure!(shell(&mut machine, read)?.as_bytes() == &sum[..32]);
    machine.call("guest.eject_cd", json!({ "vdev": "hdc" }))?;
    ensure!(shell(&mut machine, "cat /dev/sr0 2>&1 | tail -n 1")?.contains("No medium found"));
    Ok(())
}

/// Words with digits (addresses, counts, sizes) are not the same in every boot.
fn without_numbers(message: &str) -> String {
    let parts =
        message.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()).map(|part| {
            let word = part.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            if word.contains(|letter: char| letter.is_ascii_digit()) {
                part.replacen(word, "#", 1)
            } else {
                part.to_owned()
            }
        });
    parts.collect()
}

#[test]
fn complaints_are_compared_without_their_numbers() {
    let of_one_boot =
        "WARNING: CPU: 0 PID: 17 at kernel/f.c:101 ffffffff921b9530+0x44/0x5c, took 12ms";
    assert_eq!(
        without_numbers(of_one_boot),
        "WARNING: CPU: # PID: # at kernel/f.c:# #+#/#, took #"
    );
}

/// The guest makes its kernel complain about this.
const CAUSED_COMPLAINT: &str = "oom_adj is deprecated";

/// The kernel's messages that the guest prints.
///
/// Time is the count of instructions: the kernel measures its clocks against each other, and finds
/// fault with those that stood still while the host was busy. Nothing can be typed then: a guest
/// that sleeps is always busy, and QEMU hardly comes to pass it on.
fn kernel_complaints(spec: &Spec) -> Result<Vec<String>> {
    let mut machine = start(&Spec { count_instructions: true, ..spec.clone() })?;
    machine.expect_serial("END-COMPLAINTS\n")?;
    let text = machine.serial().text();
    let (_, report) = text.split_once("BEGIN-COMPLAINTS\n").context("they have no beginning")?;
    let messages = report.lines().filter_map(|line| line.split_once("] "));
    let messages: Vec<_> = messages.map(|(_, message)| without_numbers(message)).collect();
    ensure!(
        messages.iter().any(|message| message.contains(CAUSED_COMPLAINT)),
        "the report lacks what the guest made the kernel complain about:\n{report}"
    );
    Ok(messages)
}

/// No complaint, but printed at that level by every kernel that finds Xen.
const OF_ANY_XEN: &str = "Grant table initialized";

/// The kernel complains about nothing that it accepts in plain QEMU.
fn complains_about_nothing(spec: &Spec) -> Result<()> {
    let known = kernel_complaints(&Spec { direct: true, ..spec.clone() })?;
    let mut complaints = kernel_complaints(spec)?;
    complaints.retain(|complaint| !known.contains(complaint) && complaint != OF_ANY_XEN);
    ensure!(complaints.is_empty(), "the kernel complains:\n{}", complaints.join("\n"));
    Ok(())
}

#[test]
fn amd64_complains_about_nothing() -> Result<()> {
    complains_about_nothing(&spec(Guest::LinuxAmd64Complaints)?)
}

#[test]
fn amd64_complains_about_nothing_on_epyc() -> Result<()> {
    complains_about_nothing(&Spec {
        cpu: Some("EPYC".into()),
        ..spec(Guest::LinuxAmd64Complaints)?
    })
}

#[test]
fn i686_with_pae_complains_about_nothing() -> Result<()> {
    complains_about_nothing(&spec(Guest::Linux686PaeComplaints)?)
}

#[test]
fn a_kernel_panic_resets_the_guest() -> Result<()> {
    let mut machine = linux(&spec(Guest::LinuxAmd64)?)?;
    machine.serial().write(b"echo 1 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger\n")?;
    machine.expect_serial("Kernel panic")?;
    machine.expect_serial(LINUX_MARKER)
}
