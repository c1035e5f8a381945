//! The boot ROM: what it saves, and that guests boot without it.

use anyhow::{Context, ensure};
use tests::{Guest, Machine, Result, Spec, linux, spec};
use xtask::emulator::host_disk::{Bus, HostDisk};
use xtask::paths;

/// A whole boot of Linux from its CD took 55,000 exits before there was the boot ROM.
const EXITS_OF_A_BOOT: u64 = 25_000;
/// Of these, string accesses to the CD-ROM drive's data port: one or more for each 2 KiB.
const STRING_EXITS_BY_PIO: u64 = 5_000;
/// SeaBIOS's own reads: drive identification, boot catalogue, boot loader.
const STRING_EXITS_BY_ROM: u64 = 200;

/// Exits of a boot up to the shell that do not depend on how long it takes, and the string accesses
/// to ports among them.
fn exits_of_a_boot(cmdline: &str) -> Result<(u64, u64)> {
    let guest = spec(Guest::LinuxAmd64Quiet)?;
    exits(linux(&Spec { cmdline: cmdline.into(), direct: false, ..guest })?)
}

fn exits(mut machine: Machine) -> Result<(u64, u64)> {
    let stats = machine.stats()?;
    let count =
        |name: &str| stats["exits"][name].as_u64().with_context(|| format!("no {name} in {stats}"));
    let total = stats["total_exits"].as_u64().context("no total")?;
    let timed = count("host interrupt")? + count("interrupt window")?;
    Ok((total - timed, count("port string")?))
}

#[test]
fn a_boot_from_the_cd_takes_few_exits() -> Result<()> {
    let (total, strings) = exits_of_a_boot("")?;
    ensure!(total < EXITS_OF_A_BOOT, "{total} exits");
    ensure!(strings < STRING_EXITS_BY_ROM, "{strings} string accesses to ports");
    Ok(())
}

#[test]
fn without_the_boot_rom_the_bios_reads_by_itself() -> Result<()> {
    let (_, strings) = exits_of_a_boot("bootrom=off")?;
    ensure!(strings > STRING_EXITS_BY_PIO, "{strings} string accesses to ports");
    Ok(())
}

/// A disc on a disk of the machine's own has never answered when the ROM has asked.
#[test]
fn the_boot_rom_waits_for_a_disc_on_a_disk_of_the_machines() -> Result<()> {
    let folder = paths::empty_build_folder("tests/boot-rom-waits")?;
    let (config, file) = (folder.join("disc.cfg"), folder.join("disc.iso"));
    let text = "type='hvm'\nname='disc'\nmemory=128\nboot='d'\ndisk=['phy:/dev/vda,hdc:cdrom,r']\n";
    std::fs::write(&config, text)?;
    std::fs::copy(Guest::LinuxAmd64Quiet.iso()?, &file)?;
    let disc = HostDisk { file, bus: Bus::Virtio };
    let (_, strings) = exits(linux(&Spec {
        config: Some(config),
        host_disks: vec![disc],
        memory_mib: 256,
        ..Spec::default()
    })?)?;
    ensure!(strings < STRING_EXITS_BY_ROM, "{strings} string accesses to ports");
    Ok(())
}
