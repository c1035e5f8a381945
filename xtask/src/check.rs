//! `cargo xtask test`: everything that must hold before a change goes in.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::guests::Guest;
use crate::{arrows, build, licences, paths, progress, retry, setup, times};

/// Emulators that run at the same time.
const PARALLEL_MACHINES: &str = "2";

/// The table of instruction forms, built for the host: it is in the workspace of the conformance
/// guests.
const FORMS: [&str; 6] = [
    "--package",
    "forms",
    "--manifest-path",
    build::GUESTS_MANIFEST,
    "--target-dir",
    "target/forms",
];

/// The models of what is lock-free, with loom's atomics in place of the processor's.
const MODELS: [&str; 9] = [
    "--package",
    "control",
    "--package",
    "devices",
    "--package",
    "vmm-core",
    "--features=control/loom,devices/loom,vmm-core/loom",
    "--lib",
    "model::",
];

/// The tests that run under Miri: guests' memory by address, its log, second-level tables in
/// frames; blocks of zeroes as VMCBs.
const MIRI_TESTS: [&[&str]; 2] = [
    &[
        "--package",
        "vmm-core",
        "--target-dir",
        "target/miri",
        "--lib",
        "--",
        "vm::memory::raw",
        "vm::memory::page_log",
        "vm::memory::tests",
    ],
    &[
        "--package",
        "svm",
        "--target-dir",
        "target/miri",
        "--lib",
        "--",
        "--skip",
        "random",
        "--skip",
        "fuzzing",
    ],
];
/// A test's machine is leaked on purpose.
const MIRI_FLAGS: &str =
    "-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
const MIRI_SECONDS: &str = "3600";

/// The program that finds misspelt words, configured by `typos.toml`.
const SPELLING: &str = "typos";

/// Names the CPU model to the whole-system tests.
pub const CPU_VARIABLE: &str = "BULKHEAD_TESTS_CPU";

/// Checks formatting and lints, runs the unit tests and the whole-system tests
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Run the slow whole-system tests too
    #[arg(long)]
    full: bool,

    /// Only the whole-system tests whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// The CPU model, such as EPYC, of machines in QEMU whose test does not choose one
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
}

impl TestArgs {
    /// Runs everything.
    ///
    /// # Errors
    /// At the first check that fails.
    pub fn run(&self) -> Result<()> {
        let started = Instant::now();
        times::forget()?;
        setup::require(&[setup::BUILD, setup::QEMU, setup::GUESTS, setup::IMAGE, setup::TESTS])?;
        ensure!(
            !self.full || paths::program(SPELLING).is_some(),
            "{SPELLING} is missing: cargo install typos-cli"
        );
        if self.only.is_none() {
            lint()?;
            unit_tests()?;
            if self.full {
                miri()?;
            }
        }
        build::image()?;
        for guest in Guest::value_variants() {
            guest.iso()?;
        }
        retry::forget()?;
        let outcome = self.boot_guests();
        retry::summarize()?;
        times::summarize()?;
        outcome?;
        println!("Everything passed in {:.0} s.", started.elapsed().as_secs_f32());
        if self.full { Ok(()) } else { times::check_in_ci(started.elapsed()) }
    }

    fn boot_guests(&self) -> Result<()> {
        if let Some(text) = &self.only {
            let mut list = cargo();
            list.args(["test", "--quiet", "--package", "tests", "--", "--list", text]);
            // Tests that do not compile are shown by the run below.
            let listed = list.output().context("cannot start cargo")?;
            ensure!(
                !listed.status.success() || names_a_test(&String::from_utf8_lossy(&listed.stdout)),
                "no whole-system test has {text:?} in its name"
            );
        }
        let mut command = cargo();
        command.args([
            "test",
            "--package",
            "tests",
            "--no-fail-fast",
            "--",
            "--test-threads",
            PARALLEL_MACHINES,
        ]);
        if self.full {
            command.arg("--include-ignored");
        }
        command.args(&self.only);
        if let Some(cpu) = &self.cpu {
            command.env(CPU_VARIABLE, cpu);
        }
        println!("Running the whole-system tests ...");
        ensure!(
            command.status().context("cannot start cargo")?.success(),
            "whole-system tests failed"
        );
        Ok(())
    }
}

/// Whether the test harness lists a test.
fn names_a_test(list: &str) -> bool {
    list.lines().any(|line| line.ends_with(": test"))
}

/// Checks the formatting, the lints on the host and on the bare machine, the documentation, and how
/// the modules stand.
///
/// # Errors
/// At the first warning.
pub fn lint() -> Result<()> {
    for manifest in ["Cargo.toml", build::GUESTS_MANIFEST] {
        let mut format = cargo();
        format.args(["fmt", "--all", "--check", "--manifest-path", manifest]);
        progress::run_logged("Checking the formatting", "fmt", &mut format)?;
    }
    for packages in [&["--workspace"][..], &FORMS] {
        let mut clippy = cargo();
        clippy.arg("clippy").args(packages).args(["--all-targets", "--", "-D", "warnings"]);
        progress::run_logged("Linting", "clippy", &mut clippy)?;
    }
    build::clippy()?;
    let mut document = cargo();
    document.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    document.env("RUSTDOCFLAGS", "-D warnings");
    progress::run_logged("Checking the documentation", "doc", &mut document)?;
    arrows::check(false)?;
    licences::check()?;
    spelling()
}

/// Checks words, where the program is installed: what it takes to build is more than it is worth on
/// each fresh machine.
fn spelling() -> Result<()> {
    let Some(program) = paths::program(SPELLING) else { return Ok(()) };
    let mut command = Command::new(program);
    command.current_dir(paths::root()).args(["--format", "brief"]);
    progress::run_logged("Checking the spelling", "spelling", &mut command)
}

fn unit_tests() -> Result<()> {
    for packages in [&["--workspace", "--exclude", "tests"][..], &FORMS, &MODELS] {
        let mut test = cargo();
        test.arg("test").args(packages);
        progress::run_logged("Running the unit tests", "unit-tests", &mut test)?;
    }
    Ok(())
}

/// Runs under Miri the tests of what is `unsafe` and needs no processor of its own, where rustup
/// can fetch it.
fn miri() -> Result<()> {
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        // Where the download is blocked it may hang rather than fail.
        command.arg(MIRI_SECONDS).arg("rustup").args(arguments).current_dir(paths::root());
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command
    };
    let mut fetch = rustup(&["toolchain", "install", "nightly", "--profile", "minimal"]);
    fetch.args(["--component", "miri", "--component", "rust-src"]);
    if progress::run_logged("Fetching Miri", "miri-fetch", &mut fetch).is_err() {
        println!("Left out: Miri, which rustup cannot fetch here.");
        return Ok(());
    }
    for tests in MIRI_TESTS {
        let mut test = rustup(&["run", "nightly", "cargo", "miri", "test"]);
        test.args(tests).env("MIRIFLAGS", MIRI_FLAGS);
        progress::run_logged("Running unsafe code under Miri", "miri", &mut test)?;
    }
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(paths::root());
    command
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_without_a_test() {
        assert!(super::names_a_test("svm::boots: test\n\n1 test, 0 benchmarks\n"));
        assert!(!super::names_a_test("0 tests, 0 benchmarks\n\n0 tests, 0 benchmarks\n"));
    }
}
