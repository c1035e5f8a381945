//! The hypervisor's words before it stops: on the screen of a machine without a serial port, and
//! after a crash.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::{Guest, Result, Spec, glyphs, spec, start_for};
use xtask::image::{Contents, Loader};
use xtask::symbolize::symbolize;
use xtask::{build, paths};

const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_reason_is_drawn_on_the_framebuffer_of_a_uefi_machine() -> Result<()> {
    let contents = Contents {
        image: &build::image()?,
        cmdline: "console=none",
        modules: &[],
        loader: Loader::Multiboot2,
    };
    let iso = paths::build("without-guest.iso");
    contents.write_iso(&paths::empty_build_folder("without-guest")?, &iso)?;
    let mut machine =
        start_for(&Spec { host_image: Some(iso), uefi: true, ..Spec::default() }, PATIENCE)?;
    let picture = paths::build("last-words.png");
    while !machine.time_left().is_zero() {
        machine.pause(Duration::from_secs(1));
        machine.host_screenshot(&picture)?;
        let picture = std::fs::read(&picture)?;
        if glyphs::shows(&picture, "no module to boot")? {
            assert!(glyphs::shows(&picture, "Bulkhead cannot start; the machine has stopped")?);
            return Ok(());
        }
    }
    anyhow::bail!("the screen does not say it: see {}", picture.display())
}

#[test]
fn a_crash_prints_a_backtrace_that_gets_names_and_the_running_guest() -> Result<()> {
    let mut machine = start_for(&Spec { smp: 3, ..spec(Guest::Ipxe)? }, PATIENCE)?;
    machine.expect_serial("type 'CTRL-a' three times")?;
    machine.serial().write(b"\x01\x01\x01")?;
    machine.expect_serial("bulkhead> ")?;
    machine.serial().write(b"host crash\r")?;
    machine.expect_serial("PANIC at console/src/command.rs:")?;
    machine.expect_serial("exit code")?;
    machine.expect_serial("Bulkhead has crashed; ")?;
    let report = symbolize(&machine.serial().text())?;
    for caller in ["at begin (", "at take_commands (", "at run_guests ("] {
        ensure!(report.contains(caller), "not {caller:?} in\n{report}");
    }
    // This processor has SMEP and SMAP.
    const SMEP_AND_SMAP: u64 = 0b11 << 20;
    let cr4 = report.split_once(" cr4 ").and_then(|(_, text)| text.get(..8)).unwrap_or_default();
    ensure!(u64::from_str_radix(cr4, 16)? & SMEP_AND_SMAP == SMEP_AND_SMAP, "cr4 {cr4}");
    let lines: Vec<&str> = report.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with('#')) {
        ensure!(pair[1].contains(" at "), "no name for {}", pair[0]);
    }
    Ok(())
}

#[test]
fn a_cpu_that_hangs_is_found_by_another_which_prints_where_each_is() -> Result<()> {
    let mut machine = start_for(&Spec { smp: 3, ..spec(Guest::Ipxe)? }, PATIENCE)?;
    machine.expect_serial("type 'CTRL-a' three times")?;
    // The machine stands still for longer than a loop may: that is none of the loop's doing.
    machine.host_control().call("stop", json!({}), PATIENCE)?;
    machine.pause(Duration::from_secs(7));
    machine.host_control().call("cont", json!({}), PATIENCE)?;
    machine.serial().write(b"\x01\x01\x01")?;
    machine.expect_serial("bulkhead> ")?;
    machine.serial().write(b"host hang\r")?;
    machine.expect_serial("PANIC: CPU 0 hangs in the hypervisor (watchdog)")?;
    machine.expect_serial("Bulkhead has crashed; ")?;
    let report = symbolize(&machine.serial().text())?;
    let (_, report) = report.split_once("PANIC: ").unwrap_or_default();
    for cpu in ["CPU 0:", "CPU 1", "CPU 2"] {
        ensure!(report.contains(cpu), "no {cpu:?} in\n{report}");
    }
    ensure!(!report.contains("takes no NMI"), "{report}");
    let first = report.split("CPU ").find(|part| part.starts_with("0:")).unwrap_or_default();
    for caller in ["at begin (", "at take_commands (", "at run_guests ("] {
        ensure!(first.contains(caller), "not {caller:?} in\n{report}");
    }
    Ok(())
}
