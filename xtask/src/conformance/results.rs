//! A guest's lines about its cases. The lines' format stands in `tests/guests/src/report.rs`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Ok,
    /// It does not; why.
    Failed(String),
    /// A fact.
    Value(String),
    /// The processor lacks what it is about.
    Skipped(String),
}

/// The cases of a topic by name, in one environment.
pub type Results = BTreeMap<String, Outcome>;

/// Stands for all cases of a guest that an emulator does not run to its end, or whose processor
/// lacks what it is about.
pub const WHOLE_TOPIC: &str = "*";

/// The text that a guest's results end with.
pub fn end_mark(topic: &str) -> String {
    format!("conf {topic} done ")
}

/// Reads the results of `topic` out of what came over the serial port.
///
/// # Errors
/// If there is no last line, a line is broken, or a name stands twice.
pub fn parse(topic: &str, serial: &str) -> Result<Results> {
    let prefix = format!("conf {topic} ");
    let mut results = Results::new();
    for line in serial.lines() {
        let Some(line) = line.strip_prefix(&prefix) else { continue };
        let (case, rest) =
            line.split_once(' ').with_context(|| format!("no result in {line:?}"))?;
        if case == "done" {
            return Ok(results);
        }
        let (word, detail) = rest.split_once(' ').unwrap_or((rest, ""));
        let detail = detail.trim_end().to_owned();
        let outcome = match word {
            "ok" => Outcome::Ok,
            "FAIL" => Outcome::Failed(detail),
            "=" => Outcome::Value(detail),
            "skip" => Outcome::Skipped(detail),
            _ => bail!("{line:?} is no result"),
        };
        ensure!(results.insert(case.to_owned(), outcome).is_none(), "the case {case} stands twice");
    }
    bail!("the results have no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind() {
        let text = "noise\nconf a one ok\nconf a two FAIL got 1, want 2\nconf b one ok\nconf a three = x y\nconf a four skip no SMEP\nconf a done 1 passed, 1 failed\nconf a late ok\n";
        let results = parse("a", text).unwrap();
        let expected = [
            ("four", Outcome::Skipped("no SMEP".into())),
            ("one", Outcome::Ok),
            ("three", Outcome::Value("x y".into())),
            ("two", Outcome::Failed("got 1, want 2".into())),
        ];
        assert_eq!(results, expected.map(|(case, outcome)| (case.to_owned(), outcome)).into());
    }

    #[test]
    fn what_is_broken() {
        assert!(parse("a", "conf a one ok\n").is_err());
        assert!(parse("a", "conf a one perhaps\nconf a done 0 passed, 0 failed\n").is_err());
        assert!(
            parse("a", "conf a one ok\nconf a one ok\nconf a done 2 passed, 0 failed\n").is_err()
        );
    }
}
