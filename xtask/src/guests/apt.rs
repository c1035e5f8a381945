//! Debian packages, downloaded and unpacked under `build/guests` without installing anything or touching the system's own
//! apt, so that root is not needed and packages of the i386 architecture are within reach.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;

use anyhow::{Context, Result, bail, ensure};

use crate::{paths, progress};

/// The folder with the files of `package` (`NAME` or `NAME:ARCHITECTURE`).
///
/// # Errors
/// If it cannot be downloaded.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let folder = paths::build_folder("guests/packages").join(package.replace(':', "_"));
    if folder.is_dir() {
        return Ok(folder);
    }
    update();
    let download = paths::empty_build_folder("guests/download")?;
    let mut command = apt("apt-get");
    command.args(["download", package]).current_dir(&download);
    progress::run_logged(&format!("Downloading {package}"), "guests-download", &mut command)?;
    let file = std::fs::read_dir(&download)?.next().context("apt-get downloaded nothing")??.path();
    // Renamed when complete, so that half a package is never taken for a whole one.
    let partial = folder.with_extension("partial");
    let status = Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial).status()?;
    ensure!(status.success(), "cannot unpack {}", file.display());
    std::fs::rename(partial, &folder)?;
    std::fs::remove_file(file)?;
    Ok(folder)
}

/// The package that the meta package `package` stands for: its first dependency whose name begins with `prefix`.
///
/// # Errors
/// If apt knows none.
pub fn dependency(package: &str, prefix: &str) -> Result<String> {
    let record = paths::build(&format!("guests/packages/{}.dependency", package.replace(':', "_")));
    if let Ok(known) = std::fs::read_to_string(&record) {
        return Ok(known);
    }
    update();
    let output = apt("apt-cache").args(["depends", "--no-recommends", "--no-suggests", package]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let Some(found) = names.find(|name| name.starts_with(prefix)) else {
        bail!("apt knows no package {package}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let architecture = package.split_once(':').map(|(_, architecture)| architecture);
    let found = match architecture {
        Some(architecture) if !found.contains(':') => format!("{found}:{architecture}"),
        _ => found.to_owned(),
    };
    std::fs::write(record, &found)?;
    Ok(found)
}

/// Fetches the package lists into a state of our own, once per process. A failure is only noted: a source without
/// i386 or a mirror between two states may have nothing to do with what is wanted.
fn update() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let mut command = apt("apt-get");
        command.arg("update");
        if progress::run_logged("Fetching Debian's package lists", "guests-apt", &mut command).is_err() {
            eprintln!(
                "Some package lists could not be fetched (build/guests-apt.log); going on with the others."
            );
        }
    });
}

fn apt(program: &str) -> Command {
    let state = paths::build_folder("guests/apt");
    let mut command = Command::new(program);
    // The native architecture is named first.
    let settings = [
        "APT::Architecture=amd64".to_owned(),
        "APT::Architectures::=amd64".to_owned(),
        "APT::Architectures::=i386".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        "APT::Get::List-Cleanup=0".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Debug::NoLocking=1".to_owned(),
        format!("Dir::State={}", state.join("state").display()),
        format!("Dir::State::status={}", state.join("status").display()),
        format!("Dir::Cache={}", state.join("cache").display()),
    ];
    for setting in settings {
        command.args(["-o", &setting]);
    }
    // Failures show when apt runs.
    let _ = std::fs::create_dir_all(state.join("state/lists/partial"));
    let _ = std::fs::create_dir_all(state.join("cache/archives/partial"));
    let _ = std::fs::OpenOptions::new().create(true).append(true).open(state.join("status"));
    command
}
