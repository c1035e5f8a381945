//! Runs that are repeated because the emulator stalled: few, and all of them on record.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::machine::Failure;
use crate::paths;

/// So often a run is repeated.
const RETRIES: u32 = 2;

/// Runs `attempt`, and again while it fails because the emulator stalled. Any other failure is
/// final.
///
/// # Errors
/// That of the last attempt, or if the record cannot be written.
pub fn when_stalled<T>(name: &str, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    retry(attempt, |error| record(name, error))
}

fn retry<T>(
    mut attempt: impl FnMut() -> Result<T>,
    mut note: impl FnMut(&anyhow::Error) -> Result<()>,
) -> Result<T> {
    for _ in 0..RETRIES {
        match attempt() {
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Stalled(_))) => {
                note(&error)?
            }
            outcome => return outcome,
        }
    }
    attempt()
}

/// The names of the runs that were repeated since [`forget`], as often as they were.
///
/// # Errors
/// If the record cannot be read.
pub fn recorded() -> Result<Vec<String>> {
    let text = match std::fs::read_to_string(file()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.context("cannot read the record of stalls")?,
    };
    let name =
        |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["name"].as_str()?.to_owned());
    Ok(text.lines().filter_map(name).collect())
}

/// Prints how many runs were repeated since [`forget`].
///
/// # Errors
/// If the record cannot be read.
pub fn summarize() -> Result<()> {
    let names = recorded()?;
    if names.is_empty() {
        println!("No emulator stalled.");
    } else {
        println!("Repeated because the emulator stalled: {} ({})", names.len(), names.join(", "));
        println!("What was seen: {}", file().display());
    }
    Ok(())
}

/// Begins a new record.
///
/// # Errors
/// If the old one cannot be removed.
pub fn forget() -> Result<()> {
    match std::fs::remove_file(file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// One JSON object a line, appended by whichever process runs the machine.
fn file() -> PathBuf {
    paths::build("stalls.jsonl")
}

fn record(name: &str, error: &anyhow::Error) -> Result<()> {
    // Not by the macro, whose output the test harness swallows.
    writeln!(std::io::stderr(), "{name}: the emulator stalled; once more")?;
    let line = json!({"name": name, "report": format!("{error:#}")});
    let mut file = OpenOptions::new().create(true).append(true).open(file())?;
    file.write_all(format!("{line}\n").as_bytes()).context("cannot write the record of stalls")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a run that fails by `failure` is tried and recorded.
    fn tries(failure: fn() -> anyhow::Error) -> (u32, u32) {
        let (mut tried, mut noted) = (0, 0);
        let attempt = || -> Result<()> {
            tried += 1;
            Err(failure())
        };
        let outcome = retry(attempt, |_| {
            noted += 1;
            Ok(())
        });
        assert!(outcome.is_err());
        (tried, noted)
    }

    #[test]
    fn only_a_stalled_emulator_is_tried_again() {
        assert_eq!(tries(|| Failure::Stalled(String::new()).into()), (1 + RETRIES, RETRIES));
        assert_eq!(tries(|| Failure::TimedOut(String::new()).into()), (1, 0));
        assert_eq!(tries(|| Failure::Ended(String::new()).into()), (1, 0));
        assert_eq!(tries(|| anyhow::anyhow!("any other")), (1, 0));
    }

    #[test]
    fn success_ends_it() {
        let mut outcomes = [Err(Failure::Stalled(String::new()).into()), Ok(7)].into_iter();
        let mut noted = 0;
        let result = retry(
            || outcomes.next().expect("a third attempt"),
            |_| {
                noted += 1;
                Ok(())
            },
        );
        assert_eq!((result.unwrap(), noted), (7, 1));
    }
}
