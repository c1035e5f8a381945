//! Bochs 3.0: Debian 13 and later have it; elsewhere the packages of Debian 13 are unpacked under
//! `build`, with the libraries that they need and without touching the system.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::debian::Source;
use crate::paths;

const PACKAGES: [&str; 3] = ["bochs", "bochs-term", "vgabios"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A Bochs that can be started.
pub struct Installation {
    /// The program and the arguments before its own.
    pub program: Vec<OsString>,
    /// The environment variables that it needs.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The machine's BIOS.
    pub bios: PathBuf,
    /// Its VGA BIOS.
    pub vga_bios: PathBuf,
}

impl Installation {
    /// The system's own Bochs if it is new enough, otherwise one under `build`, which is made if
    /// there is none.
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
        let root = Source::Release("trixie").installed(&PACKAGES)?;
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

/// Whether the system's package is of version 3: 2.7 starts in its debugger and is slow. The
/// program itself does not tell its version.
fn is_new_enough() -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "bochs"]).output();
    let version = output.map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= 3)
}
