//! Debian's installer, driven by keystrokes.

use std::time::Duration;

use tests::{Backend, Guest, Result, Spec, on_both_backends, spec, start_for};

const PATIENCE: Duration = Duration::from_secs(400);
/// In Bochs.
const LONG_PATIENCE: Duration = Duration::from_secs(1800);

/// With less, the installer goes into its low memory mode and does not ask for the language.
const MEMORY_MIB: u32 = 1024;

fn installer(guest: Guest) -> Result<Spec> {
    Ok(Spec { memory_mib: MEMORY_MIB, ..spec(guest)? })
}

on_both_backends! { the_installer_goes_through_the_language_choice_on_the_serial_port }

fn the_installer_goes_through_the_language_choice_on_the_serial_port(backend: Backend) -> Result<()> {
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
