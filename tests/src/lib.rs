//! Whole-system tests: the image booted in emulators with real ISOs. The tests are in `tests/`;
//! here is what they share.

#![forbid(unsafe_code)]

pub mod glyphs;

use std::sync::OnceLock;
use std::time::Duration;

pub use anyhow::Result;
use xtask::check::CPU_VARIABLE;
pub use xtask::emulator::{Backend, EmulatorKind, Spec};
pub use xtask::guests::{Guest, LINUX_MARKER, LINUX_PROMPT};
pub use xtask::machine::{Failure, Machine};
use xtask::picture::{ALIKE, Picture};
use xtask::retry;

/// A machine's time unless a test says otherwise: many times what a guest takes when the host is
/// idle.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The same for Bochs, which is a few times slower than QEMU, and whose BIOS reads the guest's
/// image word by word.
pub const BOCHS_PATIENCE: Duration = Duration::from_secs(900);

/// Makes a test of each named function for each backend: `svm::NAME` and `vmx::NAME`. The functions
/// take a [`Backend`] and return a [`Result`].
#[macro_export]
macro_rules! on_both_backends {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod svm {
            $(#[test] $(#[$attribute])* fn $test() -> $crate::Result<()> {
                super::$test($crate::Backend::Svm)
            })+
        }
        $crate::on_vmx! { $($(#[$attribute])* $test),+ }
    };
}

/// Like [`on_both_backends`], but on VT-x only.
#[macro_export]
macro_rules! on_vmx {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod vmx {
            $(#[test] $(#[$attribute])* fn $test() -> $crate::Result<()> {
                $crate::unless_stalled(concat!("vmx::", stringify!($test)), || super::$test($crate::Backend::Vmx))
            })+
        }
    };
}

/// Runs a test, and again while the emulator stalls.
///
/// # Errors
/// The test's.
pub fn unless_stalled(name: &str, test: impl FnMut() -> Result<()>) -> Result<()> {
    retry::when_stalled(name, test)
}

/// Whether to check the tests themselves, in plain QEMU.
fn directly() -> bool {
    std::env::var_os("BULKHEAD_TESTS_DIRECT").is_some()
}

/// A machine with `guest` in its drive.
///
/// # Errors
/// If the guest cannot be made.
pub fn spec(guest: Guest) -> Result<Spec> {
    let direct = directly();
    Ok(Spec {
        iso: Some(guest.iso()?),
        direct,
        emulator: direct.then_some(EmulatorKind::Qemu),
        ..Spec::default()
    })
}

/// Builds the image once and starts `spec`.
///
/// # Errors
/// If the image does not build or the emulator does not start.
pub fn start(spec: &Spec) -> Result<Machine> {
    start_for(spec, patience(spec))
}

fn patience(spec: &Spec) -> Duration {
    match spec.emulator_kind() {
        EmulatorKind::Qemu => PATIENCE,
        EmulatorKind::Bochs => BOCHS_PATIENCE,
    }
}

/// Like [`start`], for a test that takes its time.
///
/// # Errors
/// As [`start`].
pub fn start_for(spec: &Spec, patience: Duration) -> Result<Machine> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built =
        BUILT.get_or_init(|| xtask::build::image().map(drop).map_err(|error| format!("{error:#}")));
    match built {
        Err(error) if !spec.direct => anyhow::bail!("{error}"),
        _ => {}
    }
    let cpu =
        std::env::var(CPU_VARIABLE).ok().filter(|_| spec.emulator_kind() == EmulatorKind::Qemu);
    let spec = Spec { cpu: spec.cpu.clone().or(cpu), ..spec.clone() };
    Machine::start(&spec, false, patience, Vec::new())
}

/// Boots a Linux guest up to its shell.
///
/// # Errors
/// If it does not get there.
pub fn linux(spec: &Spec) -> Result<Machine> {
    linux_for(spec, patience(spec))
}

/// Like [`linux`], for a test that takes its time.
///
/// # Errors
/// As [`linux`].
pub fn linux_for(spec: &Spec, patience: Duration) -> Result<Machine> {
    let mut machine = start_for(spec, patience)?;
    machine.expect_serial(LINUX_MARKER)?;
    machine.expect_serial(LINUX_PROMPT)?;
    // Kernel messages would stand between a command's output.
    machine.serial().write(b"dmesg -n 1\n")?;
    machine.expect_serial(LINUX_PROMPT)?;
    Ok(machine)
}

/// Runs a command in a Linux guest's shell and returns what it printed.
///
/// # Errors
/// If the shell's next prompt does not come.
pub fn shell(machine: &mut Machine, command: &str) -> Result<String> {
    // The shell echoes the command with the quotes, prints the marks without them.
    let (begin, end) = ("BEGIN-OUTPUT\n", "END-OUTPUT");
    let line = format!("echo BEGIN'-'OUTPUT; {command}; echo END'-'OUTPUT\n");
    machine.serial().write(line.as_bytes())?;
    machine.expect_serial(begin)?;
    let from = machine.serial().text().rfind(begin).map_or(0, |at| at + begin.len());
    machine.expect_serial(end)?;
    machine.expect_serial(LINUX_PROMPT)?;
    let text = machine.serial().text();
    let output = text.get(from..).unwrap_or_default();
    Ok(output.split(end).next().unwrap_or_default().trim_end().to_owned())
}

/// Waits for `text` behind `from` in what the serial port has said; returns where it ends.
fn find(machine: &mut Machine, text: &str, from: usize) -> Result<usize> {
    loop {
        if let Some(end) = machine.serial().find(text, from) {
            return Ok(end);
        }
        anyhow::ensure!(!machine.time_left().is_zero(), "{text:?} is not said");
        machine.serial().wait_for_change(Duration::from_millis(200));
    }
}

/// Moves the console's input to the guest called `name`, by Ctrl-A three times and again.
///
/// # Errors
/// If it does not come there.
pub fn focus(machine: &mut Machine, name: &str) -> Result<()> {
    const SAYS: &str = "*** Serial input to ";
    const ENDS: &str = " (type";
    // The prompt, the guests, and one more.
    for _ in 0..4 {
        let from = machine.serial().text().len();
        machine.serial().write(b"\x01\x01\x01")?;
        let begin = find(machine, SAYS, from)?;
        let end = find(machine, ENDS, begin)?;
        machine.expect_serial("times to switch input)")?;
        if machine.serial().text()[begin..end].strip_suffix(ENDS) == Some(name) {
            return Ok(());
        }
    }
    anyhow::bail!("the input does not come to {name}\n{}", machine.report())
}

/// Waits until two machines' screens look alike.
///
/// # Errors
/// If they do not within the first one's time.
pub fn await_same_picture(machine: &mut Machine, reference: &mut Machine) -> Result<()> {
    let picture = |machine: &mut Machine| Picture::from_png(&machine.control().screen_png()?);
    let mut similarity = 0.0;
    while !machine.time_left().is_zero() {
        machine.pause(Duration::from_secs(3));
        similarity = picture(machine)?.similarity(&picture(reference)?);
        if similarity > ALIKE {
            return Ok(());
        }
    }
    anyhow::bail!(
        "the screens do not look alike (similarity {similarity:.2})\n{}",
        machine.report()
    )
}
