//! The conformance guests' ISO images, in `build/conformance`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSegment};

use super::{config, disk};
use crate::{build, files, paths, progress, setup};

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

/// Guests are made one after the other.
static MAKING: Mutex<()> = Mutex::new(());

/// Builds the guests of these topics, or of all, if `only` is empty: there is one for each file of
/// `tests/guests/src/bin`.
///
/// # Errors
/// If there is no such topic, one does not compile, or a tool fails.
pub fn make(only: &[String]) -> Result<Vec<Guest>> {
    setup::require(&[setup::GUESTS])?;
    let all = topics()?;
    for topic in only {
        ensure!(all.contains(topic), "there is no topic {topic}");
    }
    let _making = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let built = build::conformance_guests(only)?;
    let wanted = all.into_iter().filter(|topic| only.is_empty() || only.contains(topic));
    wanted
        .map(|topic| {
            let iso = iso(&topic, &built.join(&topic))?;
            let hard_disks = disk::make(&topic)?;
            let config = config::make(&topic, &iso, &hard_disks)?;
            Ok(Guest { topic, iso, hard_disks, config })
        })
        .collect()
}

/// All topics, in the order of their names.
fn topics() -> Result<Vec<String>> {
    let sources = paths::root().join("tests/guests/src/bin");
    let entries =
        std::fs::read_dir(&sources).with_context(|| format!("no folder {}", sources.display()))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| -> Result<String> {
        let source = entry?.path();
        Ok(source.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    };
    let mut topics = entries.map(name).collect::<Result<Vec<_>>>()?;
    topics.sort();
    Ok(topics)
}

/// Makes the ISO of an ELF file, unless it is there already.
fn iso(topic: &str, program: &Path) -> Result<PathBuf> {
    let image = flat_image(program)?;
    let tree = paths::build_folder(&format!("conformance/{topic}"));
    // Written last: what the ISO was made of.
    let record = paths::build(&format!("conformance/{topic}.bin"));
    let iso = paths::build(&format!("conformance/{topic}.iso"));
    if iso.is_file() && std::fs::read(&record).is_ok_and(|before| before == image) {
        return Ok(iso);
    }
    files::write(&tree.join("boot.bin"), &image)?;
    files::replace(&iso, |iso| {
        let mut command = Command::new("xorriso");
        command
            .args(["-as", "mkisofs", "-V", "CONFORMANCE", "-b", "boot.bin", "-no-emul-boot"])
            .args(["-boot-load-size", LOADED_SECTORS, "-boot-info-table", "-o"])
            .args([iso, &tree]);
        progress::run_logged(&format!("Making {topic}.iso"), "conformance-xorriso", &mut command)
    })?;
    files::write(&record, &image)?;
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
