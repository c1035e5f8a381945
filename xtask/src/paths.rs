//! Where things are: the repository and what is made under its `build` folder.

use std::path::PathBuf;

/// The repository's top folder.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// A path under the `build` folder, which holds everything made that is not Cargo's own. The folder
/// is created.
pub fn build(name: &str) -> PathBuf {
    let path = root().join("build").join(name);
    if let Some(parent) = path.parent() {
        // A failure shows, with its reason, where the file itself is written.
        let _ = std::fs::create_dir_all(parent);
    }
    path
}

/// A folder under `build`. It is created.
pub fn build_folder(name: &str) -> PathBuf {
    let folder = root().join("build").join(name);
    let _ = std::fs::create_dir_all(&folder);
    folder
}

/// An empty folder under `build`: what was in it is removed.
///
/// # Errors
/// If it cannot be emptied.
pub fn empty_build_folder(name: &str) -> std::io::Result<PathBuf> {
    let folder = build_folder(name);
    std::fs::remove_dir_all(&folder)?;
    Ok(build_folder(name))
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The image that boot loaders start: stripped, ready for `qemu -kernel` and GRUB.
pub fn image() -> PathBuf {
    build("bulkhead")
}

/// The image that watches the owners of memory while it runs, for tests.
pub fn checked_image() -> PathBuf {
    build("bulkhead.checked")
}

/// The image of [`image`] with its line tables, for `symbolize` and debuggers.
pub fn debug_image() -> PathBuf {
    build("bulkhead.debug")
}

/// The first file called `name` in the folders of `PATH` and the system's own binary folders.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
