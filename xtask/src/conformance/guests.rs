//! The conformance guests' ISO images, in `build/conformance`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSegment};

use super::{config, disk};
use crate::{build, paths, progress, setup};

/// A block of a CD-ROM: what the BIOS loads; the guest reads the others.
const BLOCK_BYTES: usize = 2048;
/// The same in the sectors of El Torito.
const LOADED_SECTORS: &str = "4";

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The name of its binary.
    pub topic: String,
    /// Its CD-ROM.
    pub iso: PathBuf,
    /// Its hard disks, by letter.
    pub hard_disks: Vec<PathBuf>,
    /// Its xl.cfg for the hypervisor.
    pub config: PathBuf,
}

/// Builds the guests of all topics: one for each file of `tests/guests/src/bin`.
///
/// # Errors
/// If one does not compile, or a tool fails.
pub fn make() -> Result<Vec<Guest>> {
    setup::require(&[setup::GUESTS])?;
    let built = build::conformance_guests()?;
    let sources = paths::root().join("tests/guests/src/bin");
    let mut guests = Vec::new();
    for source in
        std::fs::read_dir(&sources).with_context(|| format!("no folder {}", sources.display()))?
    {
        let source = source?.path();
        let topic = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let iso = iso(&topic, &built.join(&topic))?;
        let hard_disks = disk::make(&topic)?;
        let config = config::make(&topic, &iso, &hard_disks)?;
        guests.push(Guest { topic, iso, hard_disks, config });
    }
    guests.sort_by(|one, other| one.topic.cmp(&other.topic));
    Ok(guests)
}

/// Makes the ISO of an ELF file, unless it is there already.
fn iso(topic: &str, program: &Path) -> Result<PathBuf> {
    let image = flat_image(program)?;
    let tree = paths::build_folder(&format!("conformance/{topic}"));
    let boot = tree.join("boot.bin");
    let iso = paths::build(&format!("conformance/{topic}.iso"));
    if iso.is_file() && std::fs::read(&boot).is_ok_and(|before| before == image) {
        return Ok(iso);
    }
    std::fs::write(&boot, &image)?;
    let mut command = Command::new("xorriso");
    command
        .args(["-as", "mkisofs", "-V", "CONFORMANCE", "-b", "boot.bin", "-no-emul-boot"])
        .args(["-boot-load-size", LOADED_SECTORS, "-boot-info-table", "-o"])
        .args([&iso, &tree]);
    progress::run_logged(&format!("Making {topic}.iso"), "conformance-xorriso", &mut command)?;
    Ok(iso)
}

/// The memory image of an ELF file's one segment, in whole blocks.
fn flat_image(program: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(program).with_context(|| format!("no file {}", program.display()))?;
    let file = object::File::parse(&*bytes)?;
    let segments: Vec<_> = file.segments().collect();
    ensure!(segments.len() == 1, "{} has {} segments, not one", program.display(), segments.len());
    let mut image = segments[0].data()?.to_vec();
    image.resize(image.len().next_multiple_of(BLOCK_BYTES), 0);
    Ok(image)
}
