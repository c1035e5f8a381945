//! Several guests at once, each with several virtual CPUs.

use anyhow::{Context, ensure};
use serde_json::json;
use tests::{
    Backend, Guest, LINUX_PROMPT, Machine, PATIENCE, Result, Spec, focus, on_both_backends, shell,
    start, start_for,
};
use xtask::paths;

on_both_backends! { two_guests_run_beside_each_other }

fn config(name: &str) -> String {
    let iso = Guest::LinuxAmd64Quiet.name();
    format!(
        "type = 'hvm'\nname = '{name}'\nmemory = 96\nvcpus = 2\ndisk = [ '{iso}.iso,raw,hdc,ro,cdrom' ]\n"
    )
}

/// Moves the input to the guest called `name`, and waits for its shell.
fn look_at(machine: &mut Machine, name: &str) -> Result<()> {
    focus(machine, name)?;
    machine.serial().write(b"\n")?;
    machine.expect_serial(LINUX_PROMPT)
}

/// The guest's work for a while on both its virtual CPUs, and that the result is right.
fn compute(machine: &mut Machine) -> Result<()> {
    let line = "for cpu in 0 1; do taskset -c $cpu sh -c \
                'n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; echo -n $n.' & done; wait";
    let sums = shell(machine, line)?;
    ensure!(sums.matches("20000.").count() == 2, "{sums}");
    Ok(())
}

/// Two guests with two virtual CPUs each on two CPUs: each has what it was given and computes while
/// the other does; one restarts and one ends without the other's noticing.
fn two_guests_run_beside_each_other(backend: Backend) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/guests-{backend:?}"))?;
    let [alpha, beta] = ["alpha", "beta"].map(|name| folder.join(format!("{name}.cfg")));
    std::fs::write(&alpha, config("alpha"))?;
    std::fs::write(&beta, config("beta"))?;
    let spec = Spec {
        backend,
        smp: 2,
        iso: Some(Guest::LinuxAmd64Quiet.iso()?),
        config: Some(alpha),
        disks: vec![beta],
        ..Spec::default()
    };
    let mut machine = start(&spec)?;
    machine.expect_serial(LINUX_PROMPT)?;
    for name in ["beta", "alpha"] {
        look_at(&mut machine, name)?;
        shell(&mut machine, &format!("dmesg -n 1; hostname {name}"))?;
    }
    for name in ["beta", "alpha"] {
        look_at(&mut machine, name)?;
        ensure!(shell(&mut machine, "nproc; hostname")? == format!("2\n{name}"));
        compute(&mut machine)?;
    }
    // In Bochs one more boot takes a minute.
    if backend == Backend::Svm {
        restart_beta(&mut machine)?;
    }
    look_at(&mut machine, "alpha")?;
    ensure!(shell(&mut machine, "hostname")? == "alpha", "it has started anew");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("alpha: powered off: Destroy")?;
    machine.expect_serial("*** Serial input to Bulkhead (type 'CTRL-a' three times")?;
    look_at(&mut machine, "beta")?;
    ensure!(shell(&mut machine, "nproc")? == "2");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("beta: powered off: Destroy")
}

/// One computes while the other is busy on all its virtual CPUs, and restarts.
fn restart_beta(machine: &mut Machine) -> Result<()> {
    let busy = "for cpu in 0 1; do taskset -c $cpu sh -c 'while :; do :; done' & done";
    shell(machine, busy)?;
    look_at(machine, "beta")?;
    compute(machine)?;
    look_at(machine, "alpha")?;
    ensure!(shell(machine, "jobs | grep -c Running; kill %1 %2")? == "2");
    look_at(machine, "beta")?;
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial("beta: reset: Restart")?;
    machine.expect_serial(LINUX_PROMPT)?;
    ensure!(shell(machine, "dmesg -n 1; hostname")? != "beta", "it has not started anew");
    Ok(())
}

/// Rounds of a guest that comes and goes, beside one that works.
const ROUNDS: u32 = 20;
const MANY_ROUNDS: u32 = 1000;

#[test]
fn guests_come_and_go_beside_one_that_works() -> Result<()> {
    come_and_go(ROUNDS)
}

#[test]
#[ignore = "slow: a thousand guests"]
fn a_thousand_guests_come_and_go_beside_one_that_works() -> Result<()> {
    come_and_go(MANY_ROUNDS)
}

/// A guest is made of a boot module at run time and destroyed, time and again, while another one
/// computes: all memory comes back, and the other one notices nothing.
fn come_and_go(rounds: u32) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/come-and-go-{rounds}"))?;
    let [alpha, beta] = ["alpha", "beta"].map(|name| folder.join(format!("{name}.cfg")));
    std::fs::write(&alpha, config("alpha"))?;
    std::fs::write(&beta, config("beta") + "autostart = 0\n")?;
    let spec = Spec {
        smp: 2,
        iso: Some(Guest::LinuxAmd64Quiet.iso()?),
        config: Some(alpha),
        disks: vec![beta],
        ..Spec::default()
    };
    let mut machine = start_for(&spec, PATIENCE * rounds.div_ceil(ROUNDS))?;
    machine.expect_serial(LINUX_PROMPT)?;
    shell(&mut machine, "dmesg -n 1; { while :; do :; done & }")?;
    let free_bytes = |machine: &mut Machine| {
        let stats = machine.call("guest.stats", json!({ "guest": "alpha" }))?;
        stats["host_free_bytes"].as_u64().context("no host_free_bytes")
    };
    let mut before = None;
    for round in 0..rounds {
        let made = machine.call("guest.create", json!({ "config": "beta.cfg" }))?;
        let number = made["number"].clone();
        machine.expect_serial("beta: first instruction")?;
        machine.call("guest.destroy", json!({ "guest": number }))?;
        machine.expect_serial("beta: destroyed: Destroy")?;
        let free = free_bytes(&mut machine)?;
        // The first one may make the heap grow, which keeps what it took.
        let before = *before.get_or_insert(free);
        ensure!(free == before, "round {round}: {free} bytes are free, {before} at first");
    }
    ensure!(shell(&mut machine, "jobs | grep -c Running")? == "1");
    Ok(())
}
