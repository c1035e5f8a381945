//! A guest that attacks the hypervisor from inside: it stays alive, loses no memory, and runs the
//! next guest. The image is the one that watches whose each frame of memory is, and stops at the
//! first that has two owners.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{Backend, Guest, LINUX_MARKER, Machine, Result, Spec, start_for};
use xtask::{build, paths};

/// The guest's line when it waits for a seed.
const READY: &str = "HOSTILE ready\n";
/// The guest's line when it has done all that the seed says.
const SURVIVED: &str = "HOSTILE survived";
/// Starts the next boot device instead.
const BOOT_NEXT: u32 = u32::MAX;

/// A guest that does nothing for this long of its own time hangs.
const HUNG_NS: u64 = 2_000_000_000;
/// A guest that has not ended by then never will.
const ENDLESS_NS: u64 = 20_000_000_000;

/// Each attack once, all modes in turn.
const ROUNDS: u32 = 16;
/// Each attack in each mode with and without garbage in the page tables, eight times.
const MANY_ROUNDS: u32 = 1024;

/// The guest is started again whatever ends it. It can write to a disk of its own, and has a
/// healthy guest in its second drive.
fn config(healthy: Guest) -> String {
    let (hostile, healthy) = (Guest::Hostile.name(), healthy.name());
    format!(
        r#"
type = "hvm"
name = "hostile"
memory = 128
disk = [ '{hostile}.iso,raw,hda,rw', '{hostile}.iso,raw,hdc,ro,cdrom', '{healthy}.iso,raw,hdd,ro,cdrom' ]
boot = "d"
on_poweroff = "restart"
on_reboot = "restart"
on_crash = "restart"
"#
    )
}

/// The seed of a round: the attack in bits 3:0, the mode in bits 5:4, garbage in page tables in bit
/// 6.
fn seed(round: u32) -> u32 {
    round ^ (round & 3) << 4
}

/// How far a guest has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    guest_time_ns: u64,
    /// Exits of its own making.
    exits: u64,
}

/// The hypervisor's answer, which shows that it is alive.
fn progress(machine: &mut Machine) -> Result<Progress> {
    let stats = machine.stats()?;
    let number = |value: &Value| value.as_u64().with_context(|| format!("not a number in {stats}"));
    let by_host = stats["exits"]["host interrupt"].as_u64().unwrap_or(0);
    Ok(Progress {
        guest_time_ns: number(&stats["guest_time_ns"])?,
        exits: number(&stats["total_exits"])? - by_host,
    })
}

fn free_bytes(machine: &mut Machine) -> Result<u64> {
    machine.stats()?["host_free_bytes"].as_u64().context("no host_free_bytes in guest.stats")
}

/// Waits until the guest asks for a seed behind `from` in the serial text; resets it if it hangs.
fn await_ready(machine: &mut Machine, from: usize) -> Result<usize> {
    let mut last = Progress::default();
    loop {
        if let Some(end) = machine.serial().find(READY, from) {
            return Ok(end);
        }
        ensure!(!machine.time_left().is_zero(), "timed out");
        machine.serial().wait_for_change(Duration::from_millis(200));
        let now = progress(machine)?;
        let is_hung = now.exits == last.exits
            && now.guest_time_ns > last.guest_time_ns.saturating_add(HUNG_NS);
        if is_hung || now.guest_time_ns > ENDLESS_NS {
            machine.call("guest.reboot", json!({}))?;
        }
        if now.exits != last.exits || now.guest_time_ns < last.guest_time_ns {
            last = now;
        }
    }
}

/// Runs `rounds` attacks, then a healthy guest up to `marker`.
fn attack(
    backend: Backend,
    rounds: u32,
    healthy: Guest,
    marker: &str,
    patience: Duration,
) -> Result<()> {
    let file = paths::build(&format!("tests/hostile-{backend:?}-{rounds}.cfg"));
    std::fs::write(&file, config(healthy))?;
    let spec = Spec {
        backend,
        image: build::checked_image()?,
        iso: Some(Guest::Hostile.iso()?),
        disks: vec![healthy.iso()?],
        config: Some(file),
        ..Spec::default()
    };
    let mut machine = start_for(&spec, patience)?;
    let played = play(&mut machine, rounds, marker);
    played.with_context(|| machine.report())
}

fn play(machine: &mut Machine, rounds: u32, marker: &str) -> Result<()> {
    // The management port is not heard before the guest runs.
    machine.expect_serial(READY)?;
    let mut at = await_ready(machine, 0)?;
    let mut free = Vec::new();
    for round in 0..rounds {
        let seed = seed(round);
        free.push(free_bytes(machine)?);
        at = attacked_with(machine, seed, at).with_context(|| format!("seed {seed:#x}"))?;
    }
    free.push(free_bytes(machine)?);
    println!(
        "{rounds} rounds, {} survived by the guest",
        machine.serial().text().matches(SURVIVED).count()
    );
    ensure!(free.iter().all(|bytes| *bytes == free[0]), "free memory before each round: {free:?}");
    ensure!(!machine.serial().text().contains("PANIC"), "the hypervisor panicked");
    send(machine, BOOT_NEXT)?;
    machine.expect(marker)
}

/// One round, up to the guest's next start.
fn attacked_with(machine: &mut Machine, seed: u32, from: usize) -> Result<usize> {
    send(machine, seed)?;
    await_ready(machine, from)
}

/// The guest reads the last digit first.
fn send(machine: &Machine, word: u32) -> Result<()> {
    let digits: String = format!("{word:08x}").chars().rev().collect();
    machine.serial().write(digits.as_bytes())
}

#[test]
fn a_hostile_guest_does_not_hurt_the_hypervisor() -> Result<()> {
    attack(Backend::Svm, ROUNDS, Guest::LinuxAmd64Quiet, LINUX_MARKER, Duration::from_secs(600))
}

#[test]
fn a_hostile_guest_does_not_hurt_the_hypervisor_on_vmx() -> Result<()> {
    attack(Backend::Vmx, ROUNDS, Guest::Ipxe, "No bootable device.", Duration::from_secs(1200))
}

#[test]
#[ignore = "slow: a thousand attacks"]
fn a_hostile_guest_does_not_hurt_the_hypervisor_in_a_thousand_rounds() -> Result<()> {
    attack(
        Backend::Svm,
        MANY_ROUNDS,
        Guest::LinuxAmd64Quiet,
        LINUX_MARKER,
        Duration::from_secs(7200),
    )
}
