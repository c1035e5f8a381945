//! A guest gets all interrupts of an interval timer that is faster than the host's timers may be.

use tests::{Backend, Guest, Result, Spec, on_both_backends, spec, start};

on_both_backends! { an_interval_timer_of_22_khz_loses_nothing }

/// In real time QEMU takes longer than such a period for the exits of one interrupt: time is the
/// count of instructions, as it always is in Bochs, which has 50 million of them in a second.
fn an_interval_timer_of_22_khz_loses_nothing(backend: Backend) -> Result<()> {
    let guest = spec(Guest::Rates)?;
    let count_instructions = backend == Backend::Svm;
    // Bochs has 2,272 instructions for a period and its three exits or four: the defences against
    // speculation take 63 more an exit, and 4 % of the interrupts come too late then.
    let cmdline = "spec-ctrl=no".into();
    let (direct, memory_mib) = (false, 64);
    let spec = Spec { backend, direct, count_instructions, memory_mib, cmdline, ..guest };
    let mut machine = start(&spec)?;
    machine.expect_serial("RATES KEPT")?;
    Ok(())
}
