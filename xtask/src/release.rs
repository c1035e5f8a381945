//! `cargo xtask check-release`: the README's two commands on a fresh system of another Debian
//! release.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::setup::{self, Need};
use crate::{debian, paths, progress};

/// To make a system of another release.
const NEEDS: &[Need] =
    &[Need::Program("debootstrap", "debootstrap"), Need::Program("unshare", "util-linux")];
/// The packages that a clone's user has besides the release's minimum.
const INSTALLED_BEFORE: &str = "--include=ca-certificates,make";
/// Where the clone is, below the new system's root.
const CLONE: &str = "root/bulkhead";

/// The README's first command, without anybody at a terminal: to the shell, a command answered,
/// power-off.
const RUN: &str = r#"make run ARGS="--headless --expect 'guest#' --type-serial 'echo it answers | tr a-z A-Z\n' \
    --expect 'IT ANSWERS' --type-serial 'poweroff -f\n' --expect-end""#;
/// The README's second command.
const TEST: &str = "make test";

/// Runs the README's two commands in a clean clone on a fresh Debian of another release, below a
/// folder of its own (as root)
#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// The release's code name, such as trixie
    release: String,

    /// Only `make run`, without `make test`
    #[arg(long)]
    run_only: bool,

    /// Leave the system there, in build/releases/RELEASE, and go on with it the next time, on what
    /// is committed then
    #[arg(long)]
    keep: bool,
}

impl ReleaseArgs {
    /// Runs both.
    ///
    /// # Errors
    /// If the system cannot be made, or a command fails.
    pub fn run(&self) -> Result<()> {
        setup::require(&[NEEDS])?;
        let root = paths::build_folder("releases").join(&self.release);
        if !self.keep {
            remove(&root)?;
        }
        let clone = root.join(CLONE);
        if !clone.is_dir() {
            self.make(&root)?;
        }
        clone_head(&clone)?;
        let commands: &[&str] = if self.run_only { &[RUN] } else { &[RUN, TEST] };
        let outcome = commands.iter().try_for_each(|command| in_system(&root, command));
        if !self.keep {
            remove(&root)?;
        }
        outcome
    }

    /// Makes a minimal system.
    fn make(&self, root: &Path) -> Result<()> {
        let mirror = debian::mirror()?;
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args(["--variant=minbase", INSTALLED_BEFORE, &self.release])
            .arg(root)
            .arg(&mirror);
        progress::run_logged(
            &format!("Installing Debian ({}) below {}", self.release, root.display()),
            "debootstrap",
            &mut debootstrap,
        )?;
        let mut sources = format!("deb {mirror} {} main\n", self.release);
        if let Some(security) = debian::security_mirror() {
            sources += &format!("deb {security} {}-security main\n", self.release);
        }
        std::fs::write(root.join("etc/apt/sources.list"), sources)?;
        // It reaches the network as this system does.
        for file in ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"] {
            let here = Path::new("/").join(file);
            std::fs::copy(&here, root.join(file)).with_context(|| here.display().to_string())?;
        }
        Ok(())
    }
}

/// Makes `clone` a clone of this repository's HEAD, or renews one that is there.
fn clone_head(clone: &Path) -> Result<()> {
    std::fs::create_dir_all(clone)?;
    let repository = paths::root();
    let commands: [&[&OsStr]; 3] = [
        &["init".as_ref(), "--quiet".as_ref()],
        &["fetch".as_ref(), "--quiet".as_ref(), repository.as_ref(), "HEAD".as_ref()],
        &["checkout".as_ref(), "--quiet".as_ref(), "--force".as_ref(), "FETCH_HEAD".as_ref()],
    ];
    for arguments in commands {
        let status = Command::new("git").arg("-C").arg(clone).args(arguments).status();
        ensure!(status.context("git")?.success(), "cannot clone the repository");
    }
    Ok(())
}

/// Runs a command in the clone, in a system that sees its own processes only and whose mounts end
/// with it.
fn in_system(root: &Path, command: &str) -> Result<()> {
    println!("On the fresh system: {command}");
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .arg(format!("--mount-proc={}", root.join("proc").display()))
        .arg("chroot")
        .arg(root)
        .args(["/bin/sh", "-ec", &format!("cd /{CLONE}; {command}")])
        // A new user's environment: no Rust, no settings of cargo.
        .env_clear()
        .envs([("HOME", "/root"), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")])
        .stdin(Stdio::null())
        .status()
        .context("unshare")?;
    ensure!(status.success(), "{command}: failed");
    Ok(())
}

/// Removes a system. Nothing is mounted in it when no command runs there.
fn remove(root: &PathBuf) -> Result<()> {
    if root.exists() {
        std::fs::remove_dir_all(root)
            .with_context(|| format!("cannot remove {}", root.display()))?;
    }
    Ok(())
}
