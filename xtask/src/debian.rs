//! Debian packages, downloaded and unpacked under `build` without installing anything or touching
//! the system's own apt, so that root is not needed, and packages of the i386 architecture and of
//! other releases are within reach.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result, bail, ensure};

use crate::{paths, progress};

/// Where packages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The releases that the system itself is installed from.
    System,
    /// A release by its code name, from the system's mirror.
    Release(&'static str),
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Release(name) => name,
        }
    }

    /// The folder of apt's state, whose file `status` says that no package is installed.
    fn state(self) -> PathBuf {
        paths::build_folder(&format!("debian/{}", self.name()))
    }

    /// The folder with the files of `package` (`NAME` or `NAME:ARCHITECTURE`).
    ///
    /// # Errors
    /// If it cannot be downloaded.
    pub fn unpacked(self, package: &str) -> Result<PathBuf> {
        let folder = self.state().join("packages").join(package.replace(':', "_"));
        let _alone = alone();
        if folder.is_dir() {
            return Ok(folder);
        }
        self.update()?;
        let download = paths::empty_build_folder(&format!("debian/{}/download", self.name()))?;
        let mut command = self.apt("apt-get");
        command.args(["download", package]).current_dir(&download);
        progress::run_logged(&format!("Downloading {package}"), "debian-download", &mut command)?;
        unpack_all(&download, &folder)?;
        Ok(folder)
    }

    /// A folder with the files of `packages` and of all that they depend on, as if installed there.
    /// It is named after the first.
    ///
    /// # Errors
    /// If they cannot be downloaded.
    pub fn installed(self, packages: &[&str]) -> Result<PathBuf> {
        let name = packages.first().context("no package named")?;
        let folder = self.state().join("installed").join(name);
        let _alone = alone();
        if folder.is_dir() {
            return Ok(folder);
        }
        self.update()?;
        let archives = self.state().join("cache/archives");
        let _ = std::fs::remove_dir_all(&archives);
        std::fs::create_dir_all(archives.join("partial"))?;
        let mut command = self.apt("apt-get");
        command.args(["install", "--yes", "--no-install-recommends", "--download-only"]);
        command.args(packages);
        progress::run_logged(&format!("Downloading {name}"), "debian-download", &mut command)?;
        unpack_all(&archives, &folder)?;
        Ok(folder)
    }

    /// The package that the meta package `package` stands for: its first dependency whose name
    /// begins with `prefix`.
    ///
    /// # Errors
    /// If apt knows none.
    pub fn dependency(self, package: &str, prefix: &str) -> Result<String> {
        let record = self.state().join(format!("{}.dependency", package.replace(':', "_")));
        if let Ok(known) = std::fs::read_to_string(&record) {
            return Ok(known);
        }
        self.update()?;
        let mut command = self.apt("apt-cache");
        let output =
            command.args(["depends", "--no-recommends", "--no-suggests", package]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let Some(found) = names.find(|name| name.starts_with(prefix)) else {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("Debian ({}) has no package {package}: {why}", self.name());
        };
        let found = match package.split_once(':') {
            Some((_, architecture)) if !found.contains(':') => format!("{found}:{architecture}"),
            _ => found.to_owned(),
        };
        std::fs::write(record, &found)?;
        Ok(found)
    }

    /// Fetches the package lists, once per process. A failure is only noted: a source without i386
    /// or a mirror between two states may have nothing to do with what is wanted.
    fn update(self) -> Result<()> {
        static DONE: Mutex<Vec<Source>> = Mutex::new(Vec::new());
        let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if done.contains(&self) {
            return Ok(());
        }
        let state = self.state();
        std::fs::create_dir_all(state.join("lists/partial"))?;
        std::fs::create_dir_all(state.join("cache/archives/partial"))?;
        std::fs::write(state.join("status"), "")?;
        if let Self::Release(name) = self {
            let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
            let line = format!("deb [signed-by={keys}] {} {name} main\n", mirror()?);
            std::fs::write(state.join("sources.list"), line)?;
        }
        let title = format!("Fetching Debian's package lists ({})", self.name());
        if progress::run_logged(&title, "debian-update", self.apt("apt-get").arg("update")).is_err()
        {
            eprintln!(
                "Some lists could not be fetched (build/debian-update.log); going on with the others."
            );
        }
        done.push(self);
        Ok(())
    }

    /// apt with everything of its own in the state's folder.
    fn apt(self, program: &str) -> Command {
        let state = self.state();
        let mut command = Command::new(program);
        // The native architecture is named first.
        let mut settings = vec![
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures::=amd64".to_owned(),
            "APT::Architectures::=i386".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "APT::Get::List-Cleanup=0".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Debug::NoLocking=1".to_owned(),
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", state.join("status").display()),
            format!("Dir::Cache={}", state.join("cache").display()),
        ];
        if let Self::Release(_) = self {
            settings.push("Dir::Etc::sourceparts=-".to_owned());
            settings.push(format!("Dir::Etc::sourcelist={}", state.join("sources.list").display()));
        }
        for setting in settings {
            command.args(["-o", &setting]);
        }
        command
    }
}

/// Tests run side by side, and apt's folders are there once.
fn alone() -> MutexGuard<'static, ()> {
    static FETCHING: Mutex<()> = Mutex::new(());
    FETCHING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Unpacks every package file of `archives` to `folder`, and removes the files. The folder gets its
/// name when complete, so that half of it is never taken for the whole.
fn unpack_all(archives: &Path, folder: &Path) -> Result<()> {
    let partial = folder.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial)?;
    for file in std::fs::read_dir(archives)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let status = Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial).status()?;
            ensure!(status.success(), "cannot unpack {}", file.display());
            std::fs::remove_file(file)?;
        }
    }
    std::fs::rename(partial, folder)?;
    Ok(())
}

/// Where this system gets Debian's packages from.
///
/// # Errors
/// If apt knows no such place.
pub fn mirror() -> Result<String> {
    let places = places()?;
    let main = places.iter().find(|place| place.is_debian && !place.is_security);
    let place = main.or(places.first());
    Ok(place
        .context("apt knows no source of Debian packages: as root, apt-get update")?
        .uri
        .clone())
}

/// Where this system gets Debian's security updates from, if it does.
pub fn security_mirror() -> Option<String> {
    places().ok()?.into_iter().find(|place| place.is_security).map(|place| place.uri)
}

/// A place that apt fetches package lists from.
struct Place {
    uri: String,
    is_debian: bool,
    is_security: bool,
}

fn places() -> Result<Vec<Place>> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(ORIGIN) $(SUITE)",
            "Created-By: Packages",
        ])
        .output()
        .context("Debian's packages are needed, and there is no apt-get here")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let place = |line: &str| {
        let uri = line.split(' ').next()?.to_owned();
        let is_debian = line.contains(" Debian ");
        Some(Place { uri, is_debian, is_security: is_debian && line.ends_with("-security") })
    };
    Ok(text.lines().filter_map(place).collect())
}
