//! Machines with several CPUs, and guests with several virtual CPUs.

use anyhow::ensure;
use tests::{
    Backend, Guest, LINUX_PROMPT, Machine, Result, Spec, linux, shell, spec, unless_stalled,
};

/// The guest's CPUs as it counts them, and whether each of them works and can be turned off and on.
fn check_cpus(machine: &mut Machine, vcpus: u32) -> Result<()> {
    ensure!(shell(machine, "nproc")? == vcpus.to_string());
    for cpu in 0..vcpus {
        let line = format!("taskset -c {cpu} sh -c 'echo on $(( 6 * 7 ))'");
        ensure!(shell(machine, &line)? == "on 42", "CPU {cpu} does not work");
    }
    let switch = |to| format!("echo {to} > /sys/devices/system/cpu/cpu1/online; nproc");
    ensure!(shell(machine, &switch(0))? == (vcpus - 1).to_string(), "it is not off");
    ensure!(shell(machine, &switch(1))? == vcpus.to_string(), "it is not on again");
    // The TSCs are in step, and INIT leaves the MTRRs alone.
    let complaints = shell(machine, "dmesg | grep -iE 'unsync|unstable|mtrr:|firmware bug'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    Ok(())
}

#[test]
fn a_guest_with_more_virtual_cpus_than_there_are_cpus_runs_and_restarts() -> Result<()> {
    const VCPUS: u32 = 3;
    let mut machine = linux(&Spec { smp: 2, vcpus: VCPUS, ..spec(Guest::LinuxAmd64)? })?;
    let said = machine.serial().text();
    ensure!(said.contains("1 more CPUs with AMD-V"), "the other is not started:\n{said}");
    check_cpus(&mut machine, VCPUS)?;
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial("reset: Restart")?;
    machine.expect_serial(LINUX_PROMPT)?;
    ensure!(shell(&mut machine, "nproc")? == VCPUS.to_string());
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}

#[test]
fn a_guest_has_a_virtual_cpu_on_each_of_two_cpus_with_vtx() -> Result<()> {
    unless_stalled("a_guest_has_a_virtual_cpu_on_each_of_two_cpus_with_vtx", || {
        let spec = spec(Guest::LinuxAmd64Quiet)?;
        let (direct, emulator) = (false, None);
        let spec = Spec { backend: Backend::Vmx, emulator, direct, smp: 2, vcpus: 2, ..spec };
        let mut machine = linux(&spec)?;
        check_cpus(&mut machine, 2)?;
        machine.serial().write(b"poweroff -f\n")?;
        machine.expect_serial("powered off: Destroy")
    })
}

#[test]
fn a_guest_with_one_virtual_cpu_runs_on_a_machine_with_four() -> Result<()> {
    let mut machine = linux(&Spec { smp: 4, ..spec(Guest::LinuxAmd64)? })?;
    let said = machine.serial().text();
    ensure!(said.contains("3 more CPUs with AMD-V"), "the others are not started:\n{said}");
    ensure!(shell(&mut machine, "nproc")? == "1", "the guest has one");
    Ok(())
}
