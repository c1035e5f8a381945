//! Where there is a second CPU and the first one has posted interrupts, a guest's timers reach it
//! without exits.

use anyhow::{Context, ensure};
use tests::{Backend, Guest, Machine, Result, Spec, spec, start, unless_stalled};

/// The guest's ticks, each of which the host's timer causes an exit for if nobody posts it.
const TICKS: u64 = 4000;

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

/// Exits for host interrupts while the guest counts its ticks, on a machine with so many CPUs.
fn exits_of_ticks(smp: u32) -> Result<u64> {
    let mut machine = start(&Spec {
        backend: Backend::Vmx,
        emulator: None,
        direct: false,
        cpu: Some("corei7_skylake_x".to_owned()),
        smp,
        cmdline: "apicv=on".to_owned(),
        memory_mib: 64,
        ..spec(Guest::Ticks)?
    })?;
    machine.expect_serial("TICKING")?;
    let before = host_interrupts(&mut machine)?;
    machine.expect_serial("TICKED")?;
    Ok(host_interrupts(&mut machine)? - before)
}

fn host_interrupts(machine: &mut Machine) -> Result<u64> {
    let stats = machine.stats()?;
    stats["exits"]["host interrupt"]
        .as_u64()
        .with_context(|| format!("no host interrupts in {stats}"))
}
