//! The hypervisor's words before it stops: on the screen of a machine without a serial port, and
//! after a crash.

use std::time::Duration;

use anyhow::ensure;
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
