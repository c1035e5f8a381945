//! Machines with several CPUs, and guests with several virtual CPUs.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{
    Backend, Guest, LINUX_PROMPT, Machine, PATIENCE, Result, Spec, linux, linux_for,
    on_both_backends, shell, spec, unless_stalled,
};
use xtask::paths;

on_both_backends! { virtual_cpus_come_and_go }

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

/// The virtual CPUs, all of them busy, move to the CPU that they are pinned to, and are seen there.
fn check_pins(machine: &mut Machine, vcpus: u32) -> Result<()> {
    let busy = format!(
        "for cpu in $(seq 0 {}); do taskset -c $cpu sh -c 'while :; do :; done' & done",
        vcpus - 1
    );
    shell(machine, &busy)?;
    for cpu in ["1", "0", "all"] {
        machine.call("guest.pin", json!({ "hard": cpu }))?;
        loop {
            let vcpus = machine.call("guest.vcpus", json!({}))?;
            let vcpus = vcpus.as_array().context("no list")?;
            let are_there = |vcpu: &Value| cpu == "all" || vcpu["cpu"].as_u64() == cpu.parse().ok();
            let running = vcpus.iter().filter(|vcpu| vcpu["state"] == "running").count();
            let is_busy = vcpus.iter().all(|vcpu| vcpu["state"] != "blocked");
            if vcpus.iter().all(are_there) && is_busy && (cpu != "all" || running == 2) {
                break;
            }
            ensure!(!machine.time_left().is_zero(), "they are not on CPU {cpu}: {vcpus:?}");
            machine.pause(Duration::from_millis(100));
        }
    }
    shell(machine, "kill $(jobs -p)")?;
    Ok(())
}

#[test]
fn a_guest_with_more_virtual_cpus_than_there_are_cpus_runs_and_restarts() -> Result<()> {
    const VCPUS: u32 = 3;
    let mut machine = linux(&Spec { smp: 2, vcpus: VCPUS, ..spec(Guest::LinuxAmd64)? })?;
    let said = machine.serial().text();
    ensure!(said.contains("1 more CPUs with AMD-V"), "the other is not started:\n{said}");
    check_cpus(&mut machine, VCPUS)?;
    check_pins(&mut machine, VCPUS)?;
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

/// Has a guest have so many virtual CPUs, and waits until the last one is there, or gone; takes
/// those that are new into use.
fn set_vcpus(machine: &mut Machine, count: u32, last: u32, is_there: bool) -> Result<()> {
    machine.call("guest.set_vcpus", json!({ "count": count }))?;
    let (cpus, not) = ("/sys/devices/system/cpu", if is_there { "" } else { "! " });
    let wait = format!("until [ {not}-e {cpus}/cpu{last} ]; do sleep 1; done");
    shell(machine, &wait)?;
    let take = format!("for cpu in {cpus}/cpu[1-9]/online; do echo 1 >$cpu; done 2>/dev/null");
    shell(machine, &take)?;
    ensure!(shell(machine, "nproc")? == count.to_string());
    for cpu in 0..count {
        let line = format!("taskset -c {cpu} sh -c 'echo on $(( 6 * 7 ))'");
        ensure!(shell(machine, &line)? == "on 42", "CPU {cpu} does not work");
    }
    let listed = machine.call("guest.list", json!({}))?;
    ensure!(listed[0]["vcpus"] == count, "{listed}");
    Ok(())
}

/// Linux starts with the first of three virtual CPUs, gets the others, and gives one back.
fn virtual_cpus_come_and_go(backend: Backend) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/come-and-go-{backend:?}"))?;
    let config = folder.join("linux.cfg");
    let iso = Guest::LinuxAmd64Quiet.name();
    let text = format!(
        "type = 'hvm'\nname = 'linux'\nmemory = 96\nvcpus = 1\nmaxvcpus = 3\n\
         disk = [ '{iso}.iso,raw,hdc,ro,cdrom' ]\n"
    );
    std::fs::write(&config, text)?;
    let config = Some(config);
    let mut machine = linux(&Spec { backend, config, ..spec(Guest::LinuxAmd64Quiet)? })?;
    ensure!(shell(&mut machine, "nproc; cat /sys/devices/system/cpu/possible")? == "1\n0-2");
    set_vcpus(&mut machine, 2, 1, true)?;
    set_vcpus(&mut machine, 1, 1, false)?;
    set_vcpus(&mut machine, 3, 2, true)?;
    let complaints =
        shell(&mut machine, "dmesg | grep -iE 'unsync|unstable|mtrr:|firmware bug|acpi error'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    if backend == Backend::Svm {
        machine.serial().write(b"reboot -f\n")?;
        machine.expect_serial("reset: Restart")?;
        machine.expect_serial(LINUX_PROMPT)?;
        ensure!(shell(&mut machine, "dmesg -n 1; nproc")? == "3", "they do not stay");
    }
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}

/// Linux on a machine with two CPUs has as many virtual CPUs as it was given, all of them work, go
/// and come, and it restarts with them.
#[test]
#[ignore = "slow: six boots of guests with up to eight virtual CPUs"]
fn linux_has_up_to_eight_virtual_cpus_on_two_cpus() -> Result<()> {
    for (guest, vcpus) in
        [(Guest::LinuxAmd64Quiet, 8), (Guest::Linux686Pae, 2), (Guest::Linux686Pae, 4)]
    {
        let mut machine = linux_for(&Spec { smp: 2, vcpus, ..spec(guest)? }, PATIENCE * 2)?;
        ensure!(shell(&mut machine, "nproc")? == vcpus.to_string());
        let last = vcpus - 1;
        let load = format!(
            "for cpu in $(seq 0 {last}); do taskset -c $cpu sh -c \
             'n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; echo -n $n.' & done; wait"
        );
        let sums = shell(&mut machine, &load)?;
        ensure!(sums.matches("20000.").count() as u32 == vcpus, "{sums}");
        let switch = |to| {
            let online = "/sys/devices/system/cpu/cpu$cpu/online";
            format!("for cpu in $(seq 1 {last}); do echo {to} > {online}; done; nproc")
        };
        ensure!(shell(&mut machine, &switch(0))? == "1", "they are not off");
        ensure!(shell(&mut machine, &switch(1))? == vcpus.to_string(), "they are not on again");
        // A host that is busy makes clocks complain.
        let complaints = shell(&mut machine, "dmesg | grep -iE 'mtrr:|firmware bug|cut here'")?;
        ensure!(complaints.is_empty(), "{complaints}");
        machine.serial().write(b"reboot -f\n")?;
        machine.expect_serial("reset: Restart")?;
        machine.expect_serial(LINUX_PROMPT)?;
        ensure!(shell(&mut machine, "dmesg -n 1; nproc")?.ends_with(&vcpus.to_string()));
        machine.serial().write(b"poweroff -f\n")?;
        machine.expect_serial("powered off: Destroy")?;
    }
    Ok(())
}
