//! Guests with much RAM: Linux finds all of it, and uses what is at its end.

use anyhow::{Context, ensure};
use tests::{Backend, Guest, Result, Spec, linux, shell, spec};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// First and last address of a range that the kernel printed.
fn range(line: &str) -> Option<(u64, u64)> {
    let (_, range) = line.split_once("[mem 0x")?;
    let (first, last) = range.split_once(']')?.0.split_once("-0x")?;
    Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?))
}

/// Linux sees the RAM as the PC has it, and has data of its own at the end: while it boots it puts what it allocates
/// as high as it can, the description of the memory first.
fn linux_uses_it_to_the_end(backend: Backend, ram_mib: u32) -> Result<()> {
    /// From 640 KiB to 1 MiB there is no RAM, and SeaBIOS keeps its tables at the end of what is below 4 GiB.
    const KEPT_BYTES: u64 = 385 * KIB + 256 * KIB;
    let mut machine = linux(&Spec { backend, memory_mib: ram_mib, ..spec(Guest::LinuxAmd64)? })?;
    let log = shell(&mut machine, "dmesg | grep -e 'BIOS-e820.*usable' -e 'NODE_DATA(0)'")?;
    let ram_bytes = u64::from(ram_mib) * MIB;
    let usable: Vec<_> =
        log.lines().filter(|line| line.trim_end().ends_with(" usable")).filter_map(range).collect();
    let bytes: u64 = usable.iter().map(|(first, last)| last + 1 - first).sum();
    ensure!((ram_bytes - KEPT_BYTES..ram_bytes).contains(&bytes), "{bytes} bytes of {ram_bytes}:\n{log}");
    let end = if ram_mib < 3584 { ram_bytes } else { ram_bytes + GIB };
    let last = usable.last().context("no RAM")?.1;
    ensure!((end - KEPT_BYTES..end).contains(&last), "RAM ends at {last:#x}, not at {end:#x}:\n{log}");
    let node = log.lines().find(|line| line.contains("NODE_DATA")).and_then(range).context("no NODE_DATA")?;
    ensure!(last - node.1 < MIB, "the end of the RAM is not used:\n{log}");
    let total = shell(&mut machine, "awk '/MemTotal/ {print $2}' /proc/meminfo")?;
    ensure!(total.trim().parse::<u64>()? * KIB > ram_bytes / 16 * 15, "Linux has {total} KiB for itself");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_end()
}

#[test]
fn just_below_the_split() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 3481)
}

#[test]
fn at_the_split() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 3584)
}

#[test]
fn four_gib() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 4096)
}

#[test]
fn six_gib() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 6144)
}

#[test]
fn twenty_gib() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 20_480)
}
