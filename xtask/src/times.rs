//! The record of what took the time of a whole run: steps, and the machines of each test.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::paths;

/// The longest that a whole run may take in CI.
const LIMIT_IN_CI: Duration = Duration::from_secs(40 * 60);

/// Steps that took less are printed as a sum.
const LEAST: Duration = Duration::from_secs(2);

/// Adds to the record. A time that cannot be written is missing from the summary, and nothing fails
/// for it.
pub fn record(name: &str, taken: Duration) {
    let line = json!({"name": name, "milliseconds": taken.as_millis() as u64});
    let file = OpenOptions::new().create(true).append(true).open(file());
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
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

/// Prints what took the time since [`forget`], longest first.
///
/// # Errors
/// If the record cannot be read.
pub fn summarize() -> Result<()> {
    let text = match std::fs::read_to_string(file()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.context("cannot read the record of times")?,
    };
    println!("What took the time, in seconds (two machines run at a time):");
    summary(&text).iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Checks how long a whole run took, in CI (the variable `CI` is set).
///
/// # Errors
/// If that was too long.
pub fn check_in_ci(taken: Duration) -> Result<()> {
    let is_ci = std::env::var_os("CI").is_some();
    ensure!(
        !is_ci || taken <= LIMIT_IN_CI,
        "the whole run took {} s, more than the {} s that it may take in CI",
        taken.as_secs(),
        LIMIT_IN_CI.as_secs()
    );
    Ok(())
}

fn summary(record: &str) -> Vec<String> {
    let mut times = BTreeMap::<String, Duration>::new();
    for line in record.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(name), Some(taken)) = (line["name"].as_str(), line["milliseconds"].as_u64()) {
            *times.entry(name.to_owned()).or_default() += Duration::from_millis(taken);
        }
    }
    let (mut long, short): (Vec<_>, Vec<_>) =
        times.into_iter().partition(|(_, taken)| *taken >= LEAST);
    long.sort_by_key(|(_, taken)| std::cmp::Reverse(*taken));
    let row = |taken: Duration, name: &str| format!("{:>7.0}  {name}", taken.as_secs_f32());
    let mut rows: Vec<String> = long.iter().map(|(name, taken)| row(*taken, name)).collect();
    if !short.is_empty() {
        let sum = short.iter().map(|(_, taken)| *taken).sum();
        rows.push(row(sum, &format!("{} others", short.len())));
    }
    rows
}

/// One JSON object a line, appended by whichever process it concerns.
fn file() -> PathBuf {
    paths::build("times.jsonl")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_longest_is_first_and_what_has_one_name_is_one() {
        let record = "{\"name\":\"lint\",\"milliseconds\":3000}\n\
            {\"name\":\"linux\",\"milliseconds\":5000}\n\
            {\"name\":\"lint\",\"milliseconds\":4000}\nnot a line\n\
            {\"name\":\"a\",\"milliseconds\":500}\n{\"name\":\"b\",\"milliseconds\":500}\n";
        assert_eq!(
            super::summary(record),
            ["      7  lint", "      5  linux", "      1  2 others"]
        );
    }
}
