//! Steps that take a while: a spinner on a terminal, a plain line elsewhere, and the output in a
//! log file.

use std::fs::File;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{paths, times};

/// A step being shown to the user.
pub struct Step {
    bar: ProgressBar,
    text: String,
    started: Instant,
}

impl Step {
    /// Shows `text` as being under way.
    pub fn begin(text: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_message(text.to_owned());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            eprintln!("{text} ...");
            ProgressBar::hidden()
        };
        Self { bar, text: text.to_owned(), started: Instant::now() }
    }

    /// Shows the step as done.
    pub fn done(self) {
        self.bar.finish_and_clear();
        times::record(&self.text, self.started.elapsed());
        if std::io::stderr().is_terminal() {
            eprintln!("✓ {} ({:.0} s)", self.text, self.started.elapsed().as_secs_f32());
        }
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
