//! A guest gets all interrupts of an interval timer that is faster than the host's timers may be.

use tests::{Backend, Guest, Result, Spec, spec, start};

/// In real time QEMU takes longer than such a period for the exits of one interrupt: time is the
/// count of instructions.
#[test]
fn an_interval_timer_of_22_khz_loses_nothing() -> Result<()> {
    let guest = spec(Guest::Rates)?;
    let backend = Backend::Svm;
    let mut machine =
        start(&Spec { backend, direct: false, count_instructions: true, memory_mib: 64, ..guest })?;
    machine.expect_serial("RATES KEPT")?;
    Ok(())
}
