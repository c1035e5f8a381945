//! Builds what runs on the bare machine: the image, and the conformance guests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use crate::toolchain::{TARGET, Toolchain};
use crate::{paths, progress, setup};

/// The most that the image may take on disk and, so, in memory when loaded.
pub const IMAGE_SIZE_LIMIT_BYTES: u64 = 3 << 20;

/// The workspace of the conformance guests.
pub const GUESTS_MANIFEST: &str = "tests/guests/Cargo.toml";

/// The feature of the checked image.
const OWNER_MAP: [&str; 2] = ["--features", "owner-map"];

/// The image is linked to a fixed address, and keeps frame pointers for backtraces.
const RUSTFLAGS: &str = "-C relocation-model=static -C force-frame-pointers=yes";

/// Images are built one after the other: cargo puts each in the same place.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds `build/bulkhead` (stripped) and `build/bulkhead.debug`.
///
/// # Errors
/// If something to build with is missing, the code does not compile, or the image is too large.
pub fn image() -> Result<PathBuf> {
    setup::require(&[setup::BUILD])?;
    let _building = BUILDING.lock();
    let mut command = cargo("build")?;
    progress::run_logged("Building the image", "image-build", &mut command)?;
    let built = built_image();
    std::fs::copy(&built, paths::debug_image())
        .with_context(|| format!("cannot copy {}", built.display()))?;
    let image = strip(&built, paths::image())?;
    let size = std::fs::metadata(&image)?.len();
    if size > IMAGE_SIZE_LIMIT_BYTES {
        bail!("the image has {size} bytes, more than the limit of {IMAGE_SIZE_LIMIT_BYTES}");
    }
    Ok(image)
}

/// Builds `build/bulkhead.checked`, which watches the owners of memory while it runs, and stops at
/// the first step that does not fit to them.
///
/// # Errors
/// If something to build with is missing, or the code does not compile.
pub fn checked_image() -> Result<PathBuf> {
    setup::require(&[setup::BUILD])?;
    let _building = BUILDING.lock();
    let mut command = cargo("build")?;
    command.args(OWNER_MAP);
    progress::run_logged("Building the checked image", "checked-image-build", &mut command)?;
    strip(&built_image(), paths::checked_image())
}

/// Where cargo leaves the image.
fn built_image() -> PathBuf {
    paths::target().join("image").join(TARGET).join("image/boot")
}

fn strip(built: &Path, image: PathBuf) -> Result<PathBuf> {
    let mut strip = Command::new("strip");
    strip.args(["--strip-all", "-o"]).arg(&image).arg(built);
    ensure!(strip.status()?.success(), "strip failed");
    Ok(image)
}

/// Builds the conformance guests called `only`, or all, if that is empty, and returns the folder of
/// their ELF files, one a topic.
///
/// # Errors
/// If something to build with is missing, or the code does not compile.
pub fn conformance_guests(only: &[String]) -> Result<PathBuf> {
    setup::require(&[setup::BUILD])?;
    let mut command = guests_cargo("build")?;
    command.args(only.iter().flat_map(|name| ["--bin", name]));
    progress::run_logged("Building the conformance guests", "conformance-build", &mut command)?;
    Ok(paths::target().join("image").join(TARGET).join("release"))
}

/// Lints what is built for the bare-metal target: the image and the conformance guests.
///
/// # Errors
/// If there is any warning.
pub fn clippy() -> Result<()> {
    setup::require(&[setup::BUILD])?;
    let mut checked = cargo("clippy")?;
    checked.args(OWNER_MAP);
    let commands = [
        ("image", cargo("clippy")?),
        ("checked image", checked),
        ("conformance guests", guests_cargo("clippy")?),
    ];
    for (what, mut command) in commands {
        command.args(["--", "-D", "warnings"]);
        progress::run_logged(&format!("Linting the {what}"), "bare-metal-clippy", &mut command)?;
    }
    Ok(())
}

/// `cargo SUBCOMMAND` for the crate `boot`, with everything that its build takes from outside.
fn cargo(subcommand: &str) -> Result<Command> {
    let mut command = Toolchain::find()?.cargo(subcommand);
    command
        .args(["--package", "boot", "--profile", "image"])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("BULKHEAD_BIOS", "/usr/share/seabios/bios-256k.bin")
        .env("BULKHEAD_VGABIOS", "/usr/share/seabios/vgabios-stdvga.bin");
    Ok(command)
}

/// `cargo SUBCOMMAND` for the conformance guests.
fn guests_cargo(subcommand: &str) -> Result<Command> {
    let mut command = Toolchain::find()?.cargo(subcommand);
    command.args(["--release", "--manifest-path", GUESTS_MANIFEST]).env("RUSTFLAGS", RUSTFLAGS);
    Ok(command)
}
