//! The PV-on-HVM platform: its disks beside IDE's, its events, its console, and what a guest that
//! has none of it pays.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::report::{count, missed, total};
use super::{Boot, ExitCosts, Exits, PATIENCE, boot, exit_costs, exits};
use crate::emulator::Spec;
use crate::guests::{Guest, LINUX_MARKER, LINUX_PROMPT};
use crate::machine::Machine;
use crate::paths;

/// The disk, of a power of two.
const DISK_BYTES: u64 = 16 << 20;
const SECTOR_BYTES: usize = 512;

/// The reads that are compared.
#[derive(Clone, Copy)]
struct Reads {
    bytes: u64,
    depth: u64,
    count: u64,
    /// See `read_rate.asm`.
    multiplier: u64,
}

const RANDOM: Reads = Reads { bytes: 4096, depth: 32, count: 8192, multiplier: 1_664_525 };
const SEQUENTIAL: Reads = Reads { bytes: 1 << 20, depth: 1, count: 64, multiplier: 1 };

/// Written to the console.
const CONSOLE_BYTES: u64 = 64 << 10;

/// The figures.
pub(super) struct Figures {
    random: Comparison,
    sequential: Comparison,
    /// A copy of as many bytes as a sequential read has, in instructions.
    copy: f64,
    /// Bytes of the console's output for each exit of the guest's.
    console_bytes_an_exit: f64,
    events: ExitCosts,
    without: Boot,
    with: Boot,
    /// Of a guest without the platform, and of one that has it.
    exits: (ExitCosts, ExitCosts),
}

/// A kind of reads by IDE and by the PV driver.
struct Comparison {
    ide: Cost,
    pv: Cost,
}

/// The cost of one read.
struct Cost {
    instructions: f64,
    hypercalls: f64,
    exits: f64,
}

/// Measures all of it on the machine of `spec`, whose clock counts instructions.
pub(super) fn figures(spec: &Spec) -> Result<Figures> {
    let folder = paths::empty_build_folder("bench-pv")?;
    let on = |guest: Guest, has_platform: bool, more: &str| -> Result<Spec> {
        let iso = guest.iso()?;
        let name = iso.file_name().context("the guest's ISO has no name")?.display();
        let config = folder.join(format!("{}-{has_platform}.cfg", guest.name()));
        let memory_mib = spec.memory_mib;
        let platform = u8::from(has_platform);
        let text = format!(
            "type='hvm'\nname='pv'\nmemory={memory_mib}\nxen_platform_pci={platform}\n\
             disk=['file:/{name},hdc:cdrom,r'{more}\n"
        );
        std::fs::write(&config, text)?;
        Ok(Spec { iso: Some(iso), config: Some(config), ..spec.clone() })
    };
    let quiet = |has_platform| boot(&on(Guest::LinuxAmd64Quiet, has_platform, "]")?);
    let costs = |has_platform| exit_costs(&on(Guest::Exits, has_platform, "]")?);
    let events = Spec { smp: 2, ..on(Guest::Events, true, "]\nvcpus=2")? };
    let image = folder.join("disk.img");
    std::fs::write(&image, numbered_sectors())?;
    let disks = on(Guest::LinuxAmd64Disks, true, ",'file:/disk.img,xvda,w']")?;
    let mut machine =
        Machine::start(&Spec { disks: vec![image], ..disks }, false, PATIENCE, Vec::new())?;
    machine.expect_serial(LINUX_MARKER)?;
    machine.expect_serial(LINUX_PROMPT)?;
    let load = "dmesg -n 1; load-modules; \
                until [ -b /dev/sda ] && [ -b /dev/xvda ]; do sleep 0.1; done";
    run(&mut machine, load)?;
    let copies = SEQUENTIAL.count;
    let copy = ticks(&mut machine, &format!("read-rate - {} {copies}", SEQUENTIAL.bytes))?;
    let events = exit_costs(&events)?;
    Ok(Figures {
        random: compare(&mut machine, spec, RANDOM)?,
        sequential: compare(&mut machine, spec, SEQUENTIAL)?,
        copy: copy as f64 / copies as f64,
        console_bytes_an_exit: console(&mut machine, spec)?,
        events,
        without: quiet(false)?,
        with: quiet(true)?,
        exits: (costs(false)?, costs(true)?),
    })
}

/// Sectors that begin with their place in bytes, as `read_rate.asm` expects of blocks.
fn numbered_sectors() -> Vec<u8> {
    let places = (0..DISK_BYTES).step_by(SECTOR_BYTES);
    places
        .flat_map(|place| {
            let mut sector = [0; SECTOR_BYTES];
            sector[..8].copy_from_slice(&place.to_le_bytes());
            sector
        })
        .collect()
}

fn compare(machine: &mut Machine, spec: &Spec, reads: Reads) -> Result<Comparison> {
    Ok(Comparison {
        ide: read(machine, spec, Path::new("/dev/sda"), reads)?,
        pv: read(machine, spec, Path::new("/dev/xvda"), reads)?,
    })
}

fn read(machine: &mut Machine, spec: &Spec, disk: &Path, reads: Reads) -> Result<Cost> {
    let Reads { bytes, depth, count, multiplier } = reads;
    let command = format!("read-rate {} {bytes} {depth} {count} {multiplier}", disk.display());
    let before = exits(machine, spec)?;
    let instructions = ticks(machine, &command)?;
    let after = exits(machine, spec)?;
    let each = |number: u64| number as f64 / count as f64;
    Ok(Cost {
        instructions: each(instructions),
        hypercalls: each(hypercalls(&after)? - hypercalls(&before)?),
        exits: each(total(&after) - total(&before)),
    })
}

fn hypercalls(exits: &Exits) -> Result<u64> {
    exits.get("hypercall").copied().context("guest.stats has no counter of hypercalls")
}

/// A file to `hvc0`, as programs write that leave lines as they are.
fn console(machine: &mut Machine, spec: &Spec) -> Result<f64> {
    let kib = CONSOLE_BYTES >> 10;
    run(machine, &format!("stty -F /dev/hvc0 -opost; dd if=/dev/zero of=/z bs=1k count={kib}"))?;
    let before = exits(machine, spec)?;
    run(machine, "cat /z > /dev/hvc0; stty -F /dev/hvc0 opost")?;
    let after = exits(machine, spec)?;
    let hypercalls = hypercalls(&after)? - hypercalls(&before)?;
    ensure!(hypercalls > 0, "the guest has written to hvc0 without a hypercall");
    Ok(CONSOLE_BYTES as f64 / hypercalls as f64)
}

/// Runs a command in the shell, and waits for the next prompt.
fn run(machine: &mut Machine, command: &str) -> Result<()> {
    machine.serial().write(format!("{command}; echo do'ne'\n").as_bytes())?;
    machine.expect_serial("done\n")?;
    machine.expect_serial(LINUX_PROMPT)
}

/// Runs a command that prints "ticks HEX", and returns the number.
fn ticks(machine: &mut Machine, command: &str) -> Result<u64> {
    let from = machine.serial().text().len();
    run(machine, &format!("{command} || echo error $?"))?;
    let text = machine.serial().text();
    let said = text.get(from..).unwrap_or_default();
    let line = said.lines().find_map(|line| line.strip_prefix("ticks "));
    let line = line.with_context(|| format!("{command}: {said}"))?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

/// The goals.
const RANDOM_TIMES: f64 = 3.0;
const SEQUENTIAL_TIMES: f64 = 1.5;
const HYPERCALLS_A_READ: f64 = 1.0 / 16.0;
const OF_A_COPY: f64 = 0.6;
const SEND_INSTRUCTIONS: f64 = 700.0;
const CONSOLE_BYTES_AN_EXIT: f64 = 200.0;

/// The tables.
pub(super) fn tables(figures: &Figures) -> String {
    let mut text = "\nThe PV-on-HVM platform (docs/xen.md), counted by instructions as above. Linux
reads one medium by IDE's bus master and by the PV driver (`linux-amd64-disks`, past its page cache,
by AIO), a request's share of all that is executed from the first to the last; its exits with those
of the shell that starts the program.\n\n\
        | read | | IDE | PV | IDE to PV | at least |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, it, times) in [
        ("4 KiB at random, 32 at once", &figures.random, RANDOM_TIMES),
        ("1 MiB in order, one at once", &figures.sequential, SEQUENTIAL_TIMES),
    ] {
        let (ide, pv) = (it.ide.instructions, it.pv.instructions);
        let (more, target) = (ide / pv, format!("{times:.1} times"));
        _ = writeln!(
            text,
            "| {name} | instructions | {} | {} | {more:.2} | {target}{} |",
            count(ide as u64),
            count(pv as u64),
            missed(more >= times)
        );
        _ = writeln!(text, "| | exits | {:.2} | {:.2} | | |", it.ide.exits, it.pv.exits);
        _ = writeln!(text, "| | hypercalls | | {:.3} | | |", it.pv.hypercalls);
    }
    let random = figures.random.pv.hypercalls;
    let of_a_copy = figures.copy / figures.sequential.pv.instructions;
    let console = figures.console_bytes_an_exit;
    text += "\n| | measured | goal |\n|---|---|---|\n";
    _ = writeln!(
        text,
        "| hypercalls for a read of 4 KiB at random, 32 at once | {random:.3} | at most {:.3}{} |",
        HYPERCALLS_A_READ,
        missed(random <= HYPERCALLS_A_READ)
    );
    _ = writeln!(
        text,
        "| a read of 1 MiB, against a copy of as much by the guest ({} instructions) | {:.0} % | \
         at least {:.0} %{} |",
        count(figures.copy as u64),
        100.0 * of_a_copy,
        100.0 * OF_A_COPY,
        missed(of_a_copy >= OF_A_COPY)
    );
    _ = writeln!(
        text,
        "| bytes written to hvc0 for a hypercall, without `opost` | {console:.0} | \
         at least {:.0}{} |",
        CONSOLE_BYTES_AN_EXIT,
        missed(console >= CONSOLE_BYTES_AN_EXIT)
    );
    let sends = figures.events.len();
    for (index, (name, cost)) in figures.events.iter().enumerate() {
        // The last one is all of it.
        let goal = if index + 1 == sends {
            format!("at most {SEND_INSTRUCTIONS:.0}{}", missed(*cost <= SEND_INSTRUCTIONS))
        } else {
            String::new()
        };
        _ = writeln!(text, "| event: {name}, instructions | {cost:.0} | {goal} |");
    }
    text += "\nThe boot of `linux-amd64-quiet` to its userspace, with the platform and without.\n\n\
        | | `xen_platform_pci=0` | `xen_platform_pci=1` | goal |\n|---|---|---|---|\n";
    let (without, with) = (&figures.without, &figures.with);
    for (name, without, with) in [
        ("instructions", without.instructions, with.instructions),
        ("exits", total(&without.exits), total(&with.exits)),
    ] {
        let goal = missed(with < without);
        _ = writeln!(text, "| {name} | {} | {} | fewer{goal} |", count(without), count(with));
    }
    text += "\nAn exit of a guest without the platform, and of one that has it, in instructions.\n\n\
        | exit | `xen_platform_pci=0` | `xen_platform_pci=1` |\n|---|---|---|\n";
    for ((name, without), (_, with)) in figures.exits.0.iter().zip(&figures.exits.1) {
        _ = writeln!(text, "| {name} | {without:.0} | {with:.0} |");
    }
    text
}
