//! The hard disks of the guests that need some, in `build/conformance`.

use std::path::PathBuf;

use anyhow::Result;

use crate::{files, paths};

/// The topics whose guests have hard disks, and how many.
const TOPICS: [(&str, usize); 3] = [("ata", 1), ("xen_hostile", 1), ("xen_unplug", 3)];

/// 17 cylinders of 16 heads and 63 sectors. `tests/guests/src/bin/ata/disk.rs` knows these and what
/// the sectors hold.
const SECTORS: u32 = 17 * 16 * 63;
const SECTOR_WORDS: u32 = 512 / 4;

/// Makes the raw images of a topic's hard disks.
///
/// # Errors
/// If one cannot be written.
pub fn make(topic: &str) -> Result<Vec<PathBuf>> {
    let count = TOPICS.iter().find(|(name, _)| *name == topic).map_or(0, |&(_, count)| count);
    (0..count)
        .map(|number| {
            let image = paths::build(&format!("conformance/{topic}-{number}.img"));
            files::write(&image, &contents())?;
            Ok(image)
        })
        .collect()
}

/// Every double word says where it is: the number of its sector, and its own in the sector.
fn contents() -> Vec<u8> {
    let sector =
        |sector: u32| (0..SECTOR_WORDS).flat_map(move |word| (sector << 16 | word).to_le_bytes());
    (0..SECTORS).flat_map(sector).collect()
}
