//! Guests with much RAM: they find all of it, and use what is at its ends.

use anyhow::{Context, ensure};
use tests::{Backend, Guest, Result, Spec, linux, on_both_backends, shell, spec, start};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

on_both_backends! {
    ram_that_ends_below_the_split,
    ram_that_is_split,
    four_gib_are_told_of_and_hold,
    six_gib_are_told_of_and_hold,
    linux_uses_six_gib,
}

fn linux_uses_six_gib(backend: Backend) -> Result<()> {
    linux_uses_it_to_the_end(backend, 6144)
}

fn ram_that_ends_below_the_split(backend: Backend) -> Result<()> {
    the_bios_tells_of_it_and_it_holds(backend, 3481)
}

fn ram_that_is_split(backend: Backend) -> Result<()> {
    the_bios_tells_of_it_and_it_holds(backend, 3584)
}

fn four_gib_are_told_of_and_hold(backend: Backend) -> Result<()> {
    the_bios_tells_of_it_and_it_holds(backend, 4096)
}

fn six_gib_are_told_of_and_hold(backend: Backend) -> Result<()> {
    the_bios_tells_of_it_and_it_holds(backend, 6144)
}

/// Where RAM ends below 4 GiB and above.
fn ends(ram_mib: u32) -> (u64, u64) {
    let bytes = u64::from(ram_mib) * MIB;
    if ram_mib < 3584 { (bytes, 4 * GIB) } else { (3 * GIB, bytes + GIB) }
}

/// A guest of our own sees the RAM in the BIOS's map and in CMOS as the PC has it, and gets back
/// what it writes along all of it, the ends among it.
fn the_bios_tells_of_it_and_it_holds(backend: Backend, ram_mib: u32) -> Result<()> {
    let mut machine = start(&Spec { backend, memory_mib: ram_mib, ..spec(Guest::Ram)? })?;
    machine.expect_serial("RAM cmos ")?;
    machine.expect_serial("RAM right")?;
    let log = machine.serial().text();
    let (low_end, high_end) = ends(ram_mib);
    let mut found = Vec::new();
    for line in log.lines().filter_map(|line| line.strip_prefix("RAM map ")) {
        let fields: Vec<_> =
            line.split_whitespace().map(|field| u64::from_str_radix(field, 16)).collect();
        let [Ok(base), Ok(length), Ok(1)] = fields[..] else { continue };
        found.push((base, base + length));
    }
    let [(0, conventional), (MIB, low), high @ ..] = &found[..] else {
        anyhow::bail!("RAM in {found:x?}:\n{log}")
    };
    ensure!((639 * KIB..=640 * KIB).contains(conventional), "{found:x?}");
    // SeaBIOS keeps its tables at the end.
    ensure!((low_end - 256 * KIB..=low_end).contains(low), "{found:x?}");
    let expected = (high_end != 4 * GIB).then_some((4 * GIB, high_end));
    ensure!(high == expected.as_slice(), "{found:x?}");
    let [low_1, low_2, ..] = ((low_end - 16 * MIB) / (64 * KIB)).to_le_bytes();
    let [high_1, high_2, high_3, ..] = ((high_end - 4 * GIB) / (64 * KIB)).to_le_bytes();
    let cmos = format!("RAM cmos {low_1:02x}{low_2:02x}{high_1:02x}{high_2:02x}{high_3:02x}");
    ensure!(log.contains(&cmos), "not {cmos:?}:\n{log}");
    Ok(())
}

/// First and last address of a range that the kernel printed.
fn range(line: &str) -> Option<(u64, u64)> {
    let (_, range) = line.split_once("[mem 0x")?;
    let (first, last) = range.split_once(']')?.0.split_once("-0x")?;
    Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?))
}

/// Linux sees the RAM as the PC has it, and has data of its own at the end: while it boots it puts
/// what it allocates as high as it can, the description of the memory first.
fn linux_uses_it_to_the_end(backend: Backend, ram_mib: u32) -> Result<()> {
    /// From 640 KiB to 1 MiB there is no RAM, and SeaBIOS keeps its tables at the end of what is
    /// below 4 GiB.
    const KEPT_BYTES: u64 = 385 * KIB + 256 * KIB;
    let mut machine = linux(&Spec { backend, memory_mib: ram_mib, ..spec(Guest::LinuxAmd64)? })?;
    let log = shell(&mut machine, "dmesg | grep -e 'BIOS-e820.*usable' -e 'NODE_DATA(0)'")?;
    let ram_bytes = u64::from(ram_mib) * MIB;
    let usable: Vec<_> =
        log.lines().filter(|line| line.trim_end().ends_with(" usable")).filter_map(range).collect();
    let bytes: u64 = usable.iter().map(|(first, last)| last + 1 - first).sum();
    ensure!(
        (ram_bytes - KEPT_BYTES..ram_bytes).contains(&bytes),
        "{bytes} bytes of {ram_bytes}:\n{log}"
    );
    let end = match ends(ram_mib) {
        (low_end, high_end) if high_end == 4 * GIB => low_end,
        (_, high_end) => high_end,
    };
    let last = usable.last().context("no RAM")?.1;
    ensure!(
        (end - KEPT_BYTES..end).contains(&last),
        "RAM ends at {last:#x}, not at {end:#x}:\n{log}"
    );
    let node = log
        .lines()
        .find(|line| line.contains("NODE_DATA"))
        .and_then(range)
        .context("no NODE_DATA")?;
    ensure!(last - node.1 < MIB, "the end of the RAM is not used:\n{log}");
    let total = shell(&mut machine, "awk '/MemTotal/ {print $2}' /proc/meminfo")?;
    ensure!(
        total.trim().parse::<u64>()? * KIB > ram_bytes / 16 * 15,
        "Linux has {total} KiB for itself"
    );
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
fn twenty_gib() -> Result<()> {
    linux_uses_it_to_the_end(Backend::Svm, 20_480)
}
