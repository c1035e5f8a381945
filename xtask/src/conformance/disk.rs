//! The hard disk of the guests that need one, in `build/conformance`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::environment::MEMORY_MIB;
use crate::paths;

/// The topics whose guests have a hard disk.
const TOPICS: [&str; 1] = ["ata"];

/// 17 cylinders of 16 heads and 63 sectors. `tests/guests/src/bin/ata/disk.rs` knows these and what
/// the sectors hold.
const SECTORS: u32 = 17 * 16 * 63;
const SECTOR_WORDS: u32 = 512 / 4;

/// A hard disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its raw image.
    pub image: PathBuf,
    /// The xl.cfg of the guest that has it, for the hypervisor.
    pub config: PathBuf,
}

impl Disk {
    /// Makes the disk of a guest that boots `iso`, if its topic needs one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make(topic: &str, iso: &Path) -> Result<Option<Self>> {
        if !TOPICS.contains(&topic) {
            return Ok(None);
        }
        let file = |extension: &str| paths::build(&format!("conformance/{topic}.{extension}"));
        let disk = Self { image: file("img"), config: file("cfg") };
        std::fs::write(&disk.image, contents())?;
        std::fs::write(&disk.config, config(topic, &disk.image, iso))?;
        Ok(Some(disk))
    }
}

/// Every double word says where it is: the number of its sector, and its own in the sector.
fn contents() -> Vec<u8> {
    let sector =
        |sector: u32| (0..SECTOR_WORDS).flat_map(move |word| (sector << 16 | word).to_le_bytes());
    (0..SECTORS).flat_map(sector).collect()
}

fn config(topic: &str, image: &Path, iso: &Path) -> String {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!(
        "type = \"hvm\"\nname = \"{topic}\"\nmemory = {MEMORY_MIB}\nboot = \"d\"\n\
         disk = [ '{},raw,hda,rw', '{},raw,hdc,ro,cdrom' ]\n",
        name(image),
        name(iso)
    )
}
