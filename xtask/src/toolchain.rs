//! Which Rust builds the image: one that has the bare-metal target, or one that has the standard
//! library's source.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{paths, progress, setup};

/// The target that the image is built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// Debian's Rust.
const DEBIAN_RUST: &[&str] =
    &["cargo-web", "rustc-web", "rust-web-src", "rust-web-clippy", "rustfmt-web", "lld"];

/// A Rust that can build the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `cargo` and `rustc` in `PATH`, with the target's prebuilt `core` and `alloc`.
    Prebuilt,
    /// The `cargo` and `rustc` of this folder, which build `core` and `alloc` from source.
    FromSource(PathBuf),
}

impl Toolchain {
    /// Finds one, makes one by installing what lacks, or says what to install. That the target has
    /// to be built from source is remembered in `build/toolchain`, so that a download that
    /// failed is not tried each time.
    ///
    /// # Errors
    /// If there is none and none can be installed.
    pub fn find() -> Result<Self> {
        if has_target() {
            return Ok(Self::Prebuilt);
        }
        let record = paths::build("toolchain");
        let remembered = PathBuf::from(std::fs::read_to_string(&record).unwrap_or_default());
        if has_source(&remembered) {
            return Ok(Self::FromSource(remembered));
        }
        if add_target_by_rustup() && has_target() {
            return Ok(Self::Prebuilt);
        }
        let bin = match find_source() {
            Some(bin) => bin,
            None => {
                setup::install(DEBIAN_RUST)?;
                find_source().with_context(|| {
                    format!("no Rust found that can build for {TARGET}: see docs/running.md")
                })?
            }
        };
        std::fs::write(record, bin.as_os_str().as_encoded_bytes())?;
        Ok(Self::FromSource(bin))
    }

    /// A `cargo` command for the bare-metal target: `cargo SUBCOMMAND --target ... ARGS`.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match self {
            Self::Prebuilt => Command::new("cargo"),
            Self::FromSource(bin) => Command::new(bin.join("cargo")),
        };
        // Variables that an outer cargo or rustup proxy set would pin the outer toolchain.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR"] {
            command.env_remove(name);
        }
        command.current_dir(paths::root()).arg(subcommand).args(["--target", TARGET]);
        command.env("CARGO_TARGET_DIR", paths::target().join("image"));
        if let Self::FromSource(bin) = self {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
            if let Ok(joined) = std::env::join_paths(folders) {
                command.env("PATH", joined);
            }
            // Building core and alloc is still an unstable option of cargo; the image's own code is
            // stable Rust.
            command.env("RUSTC_BOOTSTRAP", "1").args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
            // Debian's Rust has no linker of its own.
            command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        }
        command
    }
}

/// The folder of a `cargo` and `rustc` that can build from source.
fn find_source() -> Option<PathBuf> {
    let first = paths::program("rustc").and_then(|rustc| rustc.parent().map(Path::to_path_buf));
    [Some(PathBuf::from("/usr/bin")), first].into_iter().flatten().find(|bin| has_source(bin))
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn has_target() -> bool {
    sysroot(Path::new("rustc"))
        .is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn has_source(bin: &Path) -> bool {
    bin.join("cargo").is_file()
        && paths::program("ld.lld").is_some()
        && sysroot(&bin.join("rustc"))
            .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir())
}

fn add_target_by_rustup() -> bool {
    if paths::program("rustup").is_none() {
        return false;
    }
    // Where the download is blocked it may hang rather than fail.
    let mut command = Command::new("timeout");
    command.args(["120", "rustup", "target", "add", TARGET]);
    progress::run_logged("Fetching Rust's bare-metal target", "rustup", &mut command).is_ok()
}
