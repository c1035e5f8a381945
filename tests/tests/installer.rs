//! Debian's installer, driven by keystrokes.

use std::time::Duration;

use tests::{Guest, Result, Spec, spec, start_for};

const PATIENCE: Duration = Duration::from_secs(400);

/// With less, the installer goes into its low memory mode and does not ask for the language.
const MEMORY_MIB: u32 = 1024;

fn installer(guest: Guest) -> Result<Spec> {
    Ok(Spec { memory_mib: MEMORY_MIB, ..spec(guest)? })
}

#[test]
fn the_installer_goes_through_the_language_choice_on_the_serial_port() -> Result<()> {
    let mut machine = start_for(&installer(Guest::InstallerSerial)?, PATIENCE)?;
    machine.expect_serial("Select a language")?;
    machine.serial().write(b"\r")?;
    machine.expect_serial("Select your location")?;
    machine.serial().write(b"\r")?;
    machine.expect_serial("Configure the keyboard")
}

#[test]
#[ignore = "slow: graphics"]
fn the_installer_draws_its_first_dialogue_on_the_screen() -> Result<()> {
    let mut machine = start_for(&installer(Guest::InstallerScreen)?, PATIENCE)?;
    let mut reference = start_for(&Spec { direct: true, ..installer(Guest::InstallerScreen)? }, PATIENCE)?;
    tests::await_same_picture(&mut machine, &mut reference)?;
    // The second dialogue proves that the guest saw the key.
    for machine in [&mut machine, &mut reference] {
        machine.control().type_text("\n")?;
    }
    machine.pause(Duration::from_secs(10));
    tests::await_same_picture(&mut machine, &mut reference)
}
