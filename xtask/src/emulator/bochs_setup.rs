//! Bochs 3.0: Debian 13 and later have it; elsewhere the packages of Debian 13 are unpacked under `build/bochs`, with the
//! libraries that they need and without touching the system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{paths, progress};

/// The release of Debian whose Bochs is used where the system has none.
const RELEASE: &str = "trixie";
const PACKAGES: [&str; 3] = ["bochs", "bochs-term", "vgabios"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A Bochs that can be started.
pub struct Installation {
    /// The program and the arguments before its own.
    pub program: Vec<OsString>,
    /// What it must find in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The machine's BIOS.
    pub bios: PathBuf,
    /// Its VGA BIOS.
    pub vga_bios: PathBuf,
}

impl Installation {
    /// The system's own Bochs if it is new enough, otherwise the one under `build/bochs`, which is made if there is none.
    ///
    /// # Errors
    /// If it cannot be downloaded.
    pub fn find() -> Result<Self> {
        if let Some(program) = paths::program("bochs").filter(|_| is_new_enough()) {
            return Ok(Self {
                program: vec![program.into()],
                environment: Vec::new(),
                bios: "/usr/share/bochs/BIOS-bochs-latest".into(),
                vga_bios: "/usr/share/vgabios/vgabios.bin".into(),
            });
        }
        let folder = paths::build_folder("bochs");
        let root = folder.join("root");
        if !root.is_dir() {
            unpack(&folder, &root)?;
        }
        let libraries = root.join(LIBRARIES);
        Ok(Self {
            program: vec![
                libraries.join("ld-linux-x86-64.so.2").into(),
                "--library-path".into(),
                libraries.clone().into(),
                root.join("usr/bin/bochs-bin").into(),
            ],
            environment: vec![
                ("LTDL_LIBRARY_PATH", libraries.join("bochs/plugins")),
                ("BXSHARE", root.join("usr/share/bochs")),
            ],
            bios: root.join("usr/share/bochs/BIOS-bochs-latest"),
            vga_bios: root.join("usr/share/vgabios/vgabios.bin"),
        })
    }
}

/// Whether the system's package is of version 3: 2.7 starts in its debugger and is slow. The program itself does not tell
/// its version.
fn is_new_enough() -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "bochs"]).output();
    let version = output.map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 3)
}

/// Downloads the packages and all that they depend on into `folder`, and unpacks them to `root`.
fn unpack(folder: &Path, root: &Path) -> Result<()> {
    let archives = folder.join("cache/archives");
    std::fs::create_dir_all(archives.join("partial"))?;
    std::fs::create_dir_all(folder.join("lists/partial"))?;
    std::fs::write(folder.join("status"), "")?;
    let source = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {RELEASE} main\n",
        mirror()?
    );
    std::fs::write(folder.join("sources.list"), source)?;
    progress::run_logged("Fetching the list of Bochs's packages", "bochs-apt", apt(folder).arg("update"))?;
    let mut command = apt(folder);
    command.args(["install", "--yes", "--no-install-recommends", "--download-only"]).args(PACKAGES);
    progress::run_logged("Downloading Bochs", "bochs-apt", &mut command)?;
    // Renamed when complete, so that half of it is never taken for the whole.
    let partial = folder.join("partial");
    for package in std::fs::read_dir(&archives)? {
        let package = package?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            let status = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&partial).status()?;
            ensure!(status.success(), "cannot unpack {}", package.display());
        }
    }
    std::fs::rename(partial, root)?;
    std::fs::remove_dir_all(folder.join("cache"))?;
    std::fs::remove_dir_all(folder.join("lists"))?;
    Ok(())
}

/// Where this system gets Debian's packages from.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(SUITE)", "Created-By: Packages"])
        .output()
        .context("Bochs 3.0 comes from Debian's packages, and there is no apt-get here")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Security updates are elsewhere.
    let main = |line: &&str| line.contains(" Debian ") && !line.contains("-security");
    let line = text.lines().find(main).or_else(|| text.lines().next());
    let uri = line.and_then(|line| line.split(' ').next());
    Ok(uri.context("apt knows no source of Debian packages: as root, apt-get update")?.to_owned())
}

/// apt-get with everything of its own in `folder`: it sees no package as installed, and needs no root.
fn apt(folder: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let settings = [
        "APT::Architecture=amd64".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        "APT::Get::List-Cleanup=0".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Debug::NoLocking=1".to_owned(),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::Etc::sourcelist={}", folder.join("sources.list").display()),
        format!("Dir::State={}", folder.display()),
        format!("Dir::State::status={}", folder.join("status").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
    ];
    for setting in settings {
        command.args(["-o", &setting]);
    }
    command
}
