//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, by cargo-fuzz and libFuzzer.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{paths, progress, setup};

/// Longest input, in bytes: a few hundred steps of a guest.
const MAX_INPUT_BYTES: u32 = 2048;
/// An input that takes longer is a finding.
const MAX_INPUT_SECONDS: u32 = 20;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// A whole PC through its guest's exits: ports, memory, MSRs, DMA, time
    Devices,
    /// The instruction emulator
    Emulator,
    /// The walk of the guest's page tables
    Paging,
    /// Guests' configurations
    #[value(name = "xl_cfg")]
    XlCfg,
    /// The hypervisor's command line
    #[value(name = "command_line")]
    CommandLine,
    /// The management port
    Rpc,
    /// The hypervisor's prompt, and what the guest writes beside it
    Prompt,
}

/// Looks for inputs that make Bulkhead panic, one target after the other
#[derive(Args, Debug)]
pub struct FuzzArgs {
    /// Only this target
    #[arg(long, value_enum)]
    target: Option<Target>,

    /// Time for each target
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
}

impl FuzzArgs {
    /// Runs the targets. What they have learnt is kept in `build/fuzz/corpus`.
    ///
    /// # Errors
    /// If one finds an input that makes it panic, which is then in `build/fuzz/found`, or if it cannot be run.
    pub fn run(&self) -> Result<()> {
        let cargo_fuzz = cargo_fuzz()?;
        for target in self.target.as_ref().map_or(Target::value_variants(), std::slice::from_ref) {
            let name = target.to_possible_value().context("a target without a name")?.get_name().to_owned();
            println!("Fuzzing {name} for {} s ...", self.seconds);
            let status = self.fuzz(&cargo_fuzz, &name).status().context("cannot start cargo-fuzz")?;
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
        command.args(["fuzz", "run", "--fuzz-dir"]).arg(folder()).args(["--sanitizer", "none", name]);
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

/// The inputs that a target begins with, if it has some.
fn seeds(name: &str) -> Option<PathBuf> {
    let own = folder().join("corpus").join(name);
    let seeds = if name == "xl_cfg" { paths::root().join("tests/configs") } else { own };
    seeds.is_dir().then_some(seeds)
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
        command.args(["install", "--locked", "--root"]).arg(&root).arg("cargo-fuzz").stdin(Stdio::null());
        progress::run_logged("Installing cargo-fuzz", "cargo-fuzz", &mut command)?;
    }
    Ok(program)
}
