//! Files that several processes may make at once, each of the same sources.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes a file unless it holds that already. A reader meanwhile finds all of the old or all of
/// the new.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    replace(path, |new| {
        std::fs::write(new, bytes).with_context(|| format!("cannot write {}", new.display()))
    })
}

/// Has a file made in another place, from which it takes its own when it is done.
///
/// # Errors
/// If `make` fails, which leaves the old one, or the new one cannot be moved.
pub fn replace(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = beside(path);
    let made = make(&new).and_then(|()| {
        std::fs::rename(&new, path).with_context(|| format!("cannot make {}", path.display()))
    });
    if made.is_err() {
        // It may not even be there.
        _ = std::fs::remove_file(&new);
    }
    made
}

/// A name that no other process uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_is_replaced_whole_and_only_by_another() {
        let folder = paths::empty_build_folder("test-files").unwrap();
        let path = folder.join("file");
        let inode = || std::fs::metadata(&path).unwrap().ino();
        write(&path, b"old").unwrap();
        let (mut reader, first) = (std::fs::File::open(&path).unwrap(), inode());
        write(&path, b"old").unwrap();
        assert_eq!(inode(), first, "it is left alone");
        write(&path, b"new").unwrap();
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "old");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let failed = replace(&path, |new| {
            std::fs::write(new, "half")?;
            anyhow::bail!("no room")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    }
}
