//! A machine with several CPUs: all of them are started, with virtualisation on.

use anyhow::ensure;
use tests::{Guest, LINUX_PROMPT, Result, Spec, linux, shell, spec};

#[test]
fn a_guest_runs_and_restarts_on_a_machine_with_four_cpus() -> Result<()> {
    let mut machine = linux(&Spec { smp: 4, ..spec(Guest::LinuxAmd64)? })?;
    let said = machine.serial().text();
    ensure!(said.contains("3 more CPUs with AMD-V"), "the others are not started:\n{said}");
    ensure!(shell(&mut machine, "nproc")? == "1", "the guest has one");
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial("reset: Restart")?;
    machine.expect_serial(LINUX_PROMPT)
}
