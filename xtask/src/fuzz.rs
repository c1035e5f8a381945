//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, by cargo-fuzz and libFuzzer.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{paths, progress, setup};

/// Longest input, in bytes: a few hundred steps of a guest.
const MAX_INPUT_BYTES: u32 = 2048;
/// An input that takes longer is a finding.
const MAX_INPUT_SECONDS: u32 = 20;

/// Looks for inputs that make Bulkhead panic, one target after the other
#[derive(Args, Debug)]
pub struct FuzzArgs {
    /// Only this target: the name of a file in tests/fuzz/src/bin
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// Time for each target
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
}

impl FuzzArgs {
    /// Runs the targets. Inputs that they have found are kept in `build/fuzz/corpus`.
    ///
    /// # Errors
    /// If one finds an input that makes it panic, which is then in `build/fuzz/found`, or if it
    /// cannot be run.
    pub fn run(&self) -> Result<()> {
        let targets = targets()?;
        let is_wanted = |name: &&String| self.target.as_ref().is_none_or(|target| target == *name);
        let wanted: Vec<_> = targets.iter().filter(is_wanted).collect();
        ensure!(!wanted.is_empty(), "no such target; there are {}", targets.join(", "));
        let cargo_fuzz = cargo_fuzz()?;
        for name in wanted {
            println!("Fuzzing {name} for {} s ...", self.seconds);
            let status =
                self.fuzz(&cargo_fuzz, name).status().context("cannot start cargo-fuzz")?;
            ensure!(
                status.success(),
                "{name} panics: the input is in {}",
                paths::build("fuzz/found").display()
            );
        }
        Ok(())
    }

    fn fuzz(&self, cargo_fuzz: &PathBuf, name: &str) -> Command {
        let corpus = paths::build_folder(&format!("fuzz/corpus/{name}"));
        let found = paths::build_folder("fuzz/found");
        let mut command = Command::new(cargo_fuzz);
        // The code is safe Rust: it panics where it is wrong, and needs no sanitizer to be caught.
        command.args(["fuzz", "run", "--fuzz-dir"]).arg(folder()).args(["--sanitizer", "none"]);
        // Values that the code compares with are seldom what is hard to find here, and tracing them
        // doubles the time.
        command.args(["--no-trace-compares", name]);
        command.arg(corpus).args(seeds(name)).arg("--");
        command.arg(format!("-artifact_prefix={}/{name}-", found.display()));
        command.arg(format!("-max_total_time={}", self.seconds));
        command.arg(format!("-max_len={MAX_INPUT_BYTES}"));
        command.arg(format!("-timeout={MAX_INPUT_SECONDS}"));
        command.args(["-len_control=0", "-print_final_stats=1", "-verbosity=0"]);
        command.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target().join("fuzz"));
        // Coverage is still an unstable option of rustc; the code itself is stable Rust.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// The names of all targets: each is a program.
fn targets() -> Result<Vec<String>> {
    let programs = folder().join("src/bin");
    let files = std::fs::read_dir(&programs)
        .with_context(|| format!("cannot list {}", programs.display()))?;
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        Some(file.ok()?.path().file_stem()?.to_str()?.into())
    };
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Where the inputs are that a target begins with.
fn seeds(name: &str) -> Vec<PathBuf> {
    let own = folder().join("corpus").join(name);
    let published = paths::root().join("tests/configs");
    let is_configuration = matches!(name, "xl_cfg" | "pc_config");
    [own]
        .into_iter()
        .chain(is_configuration.then_some(published))
        .filter(|seeds| seeds.is_dir())
        .collect()
}

fn folder() -> PathBuf {
    paths::root().join("tests/fuzz")
}

/// The program, installed under `build` if it is not in `PATH`.
fn cargo_fuzz() -> Result<PathBuf> {
    setup::require(&[setup::FUZZ])?;
    if let Some(program) = paths::program("cargo-fuzz") {
        return Ok(program);
    }
    let root = paths::build_folder("tools");
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        let mut command = Command::new("cargo");
        command
            .args(["install", "--locked", "--root"])
            .arg(&root)
            .arg("cargo-fuzz")
            .stdin(Stdio::null());
        progress::run_logged("Installing cargo-fuzz", "cargo-fuzz", &mut command)?;
    }
    Ok(program)
}
