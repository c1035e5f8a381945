//! A guest that spins lets the host work now and then, on processors that notice it. QEMU's does
//! not.

use anyhow::{Context, ensure};
use tests::{Backend, EmulatorKind, Guest, Result, Spec, spec, start, unless_stalled};

/// The guest's PAUSEs, with one exit in 10,000 at the most.
const MOST_EXITS: u64 = 1_000_000 / 10_000;

#[test]
fn a_guest_that_spins_exits_on_amd_v_in_bochs() -> Result<()> {
    unless_stalled("a_guest_that_spins_exits_on_amd_v_in_bochs", || {
        exits_now_and_then(Backend::Svm)
    })
}

#[test]
fn a_guest_that_spins_exits_on_vt_x() -> Result<()> {
    unless_stalled("a_guest_that_spins_exits_on_vt_x", || exits_now_and_then(Backend::Vmx))
}

fn exits_now_and_then(backend: Backend) -> Result<()> {
    let guest = spec(Guest::Spin)?;
    let emulator = Some(EmulatorKind::Bochs);
    let mut machine = start(&Spec { backend, emulator, direct: false, memory_mib: 64, ..guest })?;
    machine.expect_serial("SPINNING")?;
    machine.expect_serial("SPUN")?;
    let stats = machine.stats()?;
    let exits = stats["exits"]["pause"].as_u64().with_context(|| format!("no pause in {stats}"))?;
    ensure!((1..=MOST_EXITS).contains(&exits), "{exits} exits");
    Ok(())
}
