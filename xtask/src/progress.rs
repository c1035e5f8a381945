//! Steps that take a while: a line at the beginning and one at the end, and the output in a log
//! file.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{paths, times};

/// A step being shown to the user.
pub struct Step {
    text: String,
    started: Instant,
}

impl Step {
    /// Shows `text` as being under way.
    pub fn begin(text: &str) -> Self {
        eprintln!("{text} ...");
        Self { text: text.to_owned(), started: Instant::now() }
    }

    /// Shows the step as done.
    pub fn done(self) {
        let taken = self.started.elapsed();
        times::record(&self.text, taken);
        eprintln!("✓ {} ({:.0} s)", self.text, taken.as_secs_f32());
    }
}

/// Runs `command` as a step called `text`, its output in `build/LOG.log`; on failure the log's tail
/// is in the error.
///
/// # Errors
/// If the program cannot be started or does not succeed.
pub fn run_logged(text: &str, log: &str, command: &mut Command) -> Result<()> {
    let path = paths::build(&format!("{log}.log"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let step = Step::begin(text);
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        bail!("{program} failed ({status}); the end of {}:\n{}", path.display(), tail(&text, 40));
    }
    step.done();
    Ok(())
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
