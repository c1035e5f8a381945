//! `docs/conformance.md`.

use std::fmt::Write;

use clap::ValueEnum;

use super::environment::Environment;
use super::results::{Outcome, Results, WHOLE_TOPIC};
use super::verdict::Runs;

const HEAD: &str = "# Conformance

Written by `cargo xtask conformance`. Small guests of our own, one a topic (`tests/guests/src/bin`),
test from inside what the virtual CPU and PC promise. Each runs without a hypervisor in QEMU
(`-cpu max`) and Bochs (Haswell), under Bulkhead on AMD-V in QEMU and Bochs (Ryzen), and under
Bulkhead on VT-x in Bochs (Haswell); what concerns them once more with the local APIC in hardware
(Skylake-X), and with a second CPU that posts the timers' interrupts. `device_code` stays in QEMU:
Bochs stops in it with some builds. Topics that begin with `xen_` are about the PV-on-HVM platform,
which no emulator has by itself: they run on each backend, and await what Xen and its public headers
say ([xen.md](xen.md)). Every case must hold as the manuals say, and every fact that a guest reports
must be the same on all machines, but for the emulators' own bugs that are listed below.
[testing.md](testing.md) says how to add a topic.

A cell has the cases that hold and facts that agree; behind it, cases that do not because of a
listed bug, and those that the processor or the machine has nothing for.
";

/// The page.
pub fn page(runs: &Runs, bugs: &str) -> String {
    let mut page = HEAD.to_owned() + "\n| topic |";
    for environment in Environment::value_variants() {
        _ = write!(page, " {} |", environment.name());
    }
    page += "\n|---|";
    page += &"---|".repeat(Environment::value_variants().len());
    page.push('\n');
    for (topic, environments) in runs {
        _ = write!(page, "| {topic} |");
        for environment in Environment::value_variants() {
            let cell = environments.get(environment).map(cell).unwrap_or_default();
            _ = write!(page, " {cell} |");
        }
        page.push('\n');
    }
    page + "\n" + bugs
}

fn cell(results: &Results) -> String {
    match results.get(WHOLE_TOPIC) {
        None => {}
        Some(Outcome::Skipped(_)) => return "skipped".to_owned(),
        Some(_) => return "does not run".to_owned(),
    }
    let count =
        |wanted: fn(&Outcome) -> bool| results.values().filter(|outcome| wanted(outcome)).count();
    let mut cell = count(|outcome| matches!(outcome, Outcome::Ok | Outcome::Value(_))).to_string();
    for (number, word) in [
        (count(|outcome| matches!(outcome, Outcome::Failed(_))), "not"),
        (count(|outcome| matches!(outcome, Outcome::Skipped(_))), "skipped"),
    ] {
        if number > 0 {
            _ = write!(cell, ", {number} {word}");
        }
    }
    cell
}
