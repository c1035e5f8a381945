//! Guests whose vCPUs all spin with interrupts off, patterns of their own in all their registers:
//! none sees another's, and the hypervisor answers all the while.

use anyhow::ensure;
use serde_json::json;
use tests::{Backend, Guest, Machine, Result, Spec, focus, on_both_backends, start};
use xtask::paths;

on_both_backends! { guests_that_share_a_cpu_keep_their_registers }

/// Reports of a guest that tell that nothing was lost, so many each time that it is looked at. They
/// are some shares of the CPU apart.
const REPORTS: u32 = 4;

/// A machine with `cpus` CPUs and guests of these names, each with a pattern of its own.
fn start_spinning(test: &str, backend: Backend, cpus: u32, names: &[&str]) -> Result<Machine> {
    let folder = paths::empty_build_folder(&format!("tests/{test}-{backend:?}"))?;
    let mut configs = Vec::new();
    for (memory_mib, name) in (16..).step_by(8).zip(names) {
        let config = folder.join(format!("{name}.cfg"));
        let iso = Guest::Patterns.name();
        let text = format!(
            "type = 'hvm'\nname = '{name}'\nmemory = {memory_mib}\n\
             disk = [ '{iso}.iso,raw,hdc,ro,cdrom' ]\n"
        );
        std::fs::write(&config, text)?;
        configs.push(config);
    }
    let first = configs.remove(0);
    start(&Spec {
        backend,
        smp: cpus,
        iso: Some(Guest::Patterns.iso()?),
        config: Some(first),
        disks: configs,
        ..Spec::default()
    })
}

fn guests_that_share_a_cpu_keep_their_registers(backend: Backend) -> Result<()> {
    let mut machine = start_spinning("keep-registers", backend, 1, &["alpha", "beta"])?;
    machine.expect_serial("KEPT")?;
    for name in ["beta", "alpha", "beta"] {
        focus(&mut machine, name)?;
        for _ in 0..REPORTS {
            machine.expect_serial("KEPT")?;
        }
    }
    let text = machine.serial().text();
    ensure!(!text.contains("LOST"), "{text}");
    Ok(())
}

/// More vCPUs than CPUs, and none ever lets go of its CPU by itself.
#[test]
fn prompt_and_port_answer_while_all_cpus_spin() -> Result<()> {
    let names = ["alpha", "beta", "gamma"];
    let mut machine = start_spinning("answers", Backend::Svm, 2, &names)?;
    for name in names {
        focus(&mut machine, name)?;
        machine.expect_serial("KEPT")?;
    }
    focus(&mut machine, "Bulkhead")?;
    machine.expect_serial("bulkhead> ")?;
    for name in names {
        machine.serial().write(format!("stats {name}\r").as_bytes())?;
        machine.expect_serial("port out")?;
        machine.expect_serial("bulkhead> ")?;
        let stats = machine.call("guest.stats", json!({ "guest": name }))?;
        ensure!(stats["state"] == "running", "{stats}");
    }
    machine.serial().write(b"pause beta\r")?;
    machine.expect_serial("bulkhead> ")?;
    let stats = machine.call("guest.stats", json!({ "guest": "beta" }))?;
    ensure!(stats["state"] == "paused", "{stats}");
    machine.call("guest.destroy", json!({ "guest": "gamma" }))?;
    machine.expect_serial("gamma: destroyed: Destroy")?;
    let text = machine.serial().text();
    ensure!(!text.contains("LOST"), "{text}");
    Ok(())
}
