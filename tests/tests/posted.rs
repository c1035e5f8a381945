//! Interrupts that another CPU posts reach a guest that runs without exits: its timers' where there
//! is a second CPU, and those that its virtual CPUs send each other.

use anyhow::{Context, ensure};
use tests::{Backend, Guest, Machine, Result, Spec, spec, start, unless_stalled};

/// The guest's ticks, each of which the host's timer causes an exit for if no CPU posts it.
const TICKS: u64 = 4000;

/// The interrupts that the guest's second virtual CPU sends to the first.
const IPIS: u64 = 2000;

#[test]
fn posted_ticks_cause_no_exits() -> Result<()> {
    unless_stalled("posted_ticks_cause_no_exits", || {
        // Left are the longest run that a guest is given, and the consoles.
        let exits = exits_of_ticks(2)?;
        ensure!(exits < TICKS / 4, "{exits} exits");
        Ok(())
    })
}

#[test]
fn ticks_that_nobody_posts_cause_exits() -> Result<()> {
    unless_stalled("ticks_that_nobody_posts_cause_exits", || {
        let exits = exits_of_ticks(1)?;
        ensure!(exits > TICKS / 2, "{exits} exits");
        Ok(())
    })
}

#[test]
fn posted_interrupts_between_virtual_cpus_cause_no_exits() -> Result<()> {
    unless_stalled("posted_interrupts_between_virtual_cpus_cause_no_exits", || {
        let exits = exits_of_ipis("apicv=on")?;
        ensure!(exits < IPIS / 4, "{exits} exits");
        Ok(())
    })
}

#[test]
fn interrupts_between_virtual_cpus_that_are_not_posted_cause_exits() -> Result<()> {
    unless_stalled("interrupts_between_virtual_cpus_that_are_not_posted_cause_exits", || {
        let exits = exits_of_ipis("apicv=off")?;
        ensure!(exits > IPIS / 2, "{exits} exits");
        Ok(())
    })
}

/// Exits for host interrupts while the guest counts its ticks, on a machine with so many CPUs.
fn exits_of_ticks(smp: u32) -> Result<u64> {
    exits_between("TICKING", "TICKED", &Spec { smp, ..skylake(Guest::Ticks, "apicv=on")? })
}

/// Those of the first virtual CPU while the second, on another CPU, sends it interrupts.
fn exits_of_ipis(apicv: &str) -> Result<u64> {
    exits_between("SENDING", "SENT", &Spec { smp: 2, vcpus: 2, ..skylake(Guest::Ipis, apicv)? })
}

/// A machine whose processors have posted interrupts.
fn skylake(guest: Guest, apicv: &str) -> Result<Spec> {
    Ok(Spec {
        backend: Backend::Vmx,
        emulator: None,
        direct: false,
        cpu: Some("corei7_skylake_x".to_owned()),
        cmdline: apicv.to_owned(),
        memory_mib: 64,
        ..spec(guest)?
    })
}

/// Exits of the first virtual CPU for host interrupts while the guest works.
fn exits_between(begin: &str, end: &str, spec: &Spec) -> Result<u64> {
    let mut machine = start(spec)?;
    machine.expect_serial(begin)?;
    let before = host_interrupts(&mut machine)?;
    machine.expect_serial(end)?;
    Ok(host_interrupts(&mut machine)? - before)
}

fn host_interrupts(machine: &mut Machine) -> Result<u64> {
    let stats = machine.stats()?;
    stats["exits"]["host interrupt"]
        .as_u64()
        .with_context(|| format!("no host interrupts in {stats}"))
}
