//! Debian's installer, driven by keystrokes.

use std::time::Duration;

use anyhow::ensure;
use tests::{Backend, Guest, Machine, Result, Spec, on_both_backends, spec, start_for};
use xtask::picture::{Picture, SAME};

const PATIENCE: Duration = Duration::from_secs(400);
/// In Bochs.
const LONG_PATIENCE: Duration = Duration::from_secs(1800);

/// With less, the installer goes into its low memory mode and does not ask for the language.
const MEMORY_MIB: u32 = 1024;

fn installer(guest: Guest) -> Result<Spec> {
    Ok(Spec { memory_mib: MEMORY_MIB, ..spec(guest)? })
}

on_both_backends! { the_installer_goes_through_the_language_choice_on_the_serial_port }

fn the_installer_goes_through_the_language_choice_on_the_serial_port(
    backend: Backend,
) -> Result<()> {
    let patience = match backend {
        Backend::Svm => PATIENCE,
        Backend::Vmx => LONG_PATIENCE,
    };
    let mut machine = start_for(&Spec { backend, ..installer(Guest::InstallerSerial)? }, patience)?;
    machine.expect_serial("Select a language")?;
    machine.serial().write(b"\r")?;
    machine.expect_serial("Select your location")?;
    machine.serial().write(b"\r")?;
    machine.expect_serial("Configure the keyboard")
}

/// The mode that the monitor's EDID prefers, and the kernel's driver therefore sets.
const PREFERRED_MODE: (usize, usize) = (1280, 800);

/// Waits until the screen is in that mode: what comes before is text of the boot loader and the
/// kernel, which is alike on all machines.
fn await_preferred_mode(machine: &mut Machine) -> Result<()> {
    let mut size = (0, 0);
    while size != PREFERRED_MODE {
        ensure!(!machine.time_left().is_zero(), "the screen is {size:?}\n{}", machine.report());
        machine.pause(Duration::from_secs(3));
        size = Picture::from_png(&machine.control().screen_png()?)?.size();
    }
    Ok(())
}

/// Waits until the screen shows something else than `before`.
fn await_change(machine: &mut Machine, before: &Picture) -> Result<()> {
    while Picture::from_png(&machine.control().screen_png()?)?.similarity(before) >= SAME {
        ensure!(!machine.time_left().is_zero(), "the screen stays as it is\n{}", machine.report());
        machine.pause(Duration::from_secs(3));
    }
    Ok(())
}

#[test]
#[ignore = "slow: graphics"]
fn the_installer_draws_its_first_dialogue_on_the_screen() -> Result<()> {
    let mut machine = start_for(&installer(Guest::InstallerScreen)?, PATIENCE)?;
    let mut reference =
        start_for(&Spec { direct: true, ..installer(Guest::InstallerScreen)? }, PATIENCE)?;
    for machine in [&mut machine, &mut reference] {
        await_preferred_mode(machine)?;
    }
    tests::await_same_picture(&mut machine, &mut reference)?;
    // The second dialogue proves that the guest saw the key.
    for machine in [&mut machine, &mut reference] {
        let first = Picture::from_png(&machine.control().screen_png()?)?;
        machine.control().type_text("\n")?;
        await_change(machine, &first)?;
    }
    tests::await_same_picture(&mut machine, &mut reference)
}
