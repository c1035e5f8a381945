//! `cargo xtask test-guests`: every ISO of a folder, run until it shows what the folder's manifest says.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::emulator::{Backend, EmulatorKind, Spec};
use crate::machine::Machine;
use crate::picture::{ALIKE, Picture};
use crate::{build, paths, retry};

/// Pictures cost more than text.
const PICTURE_INTERVAL: Duration = Duration::from_secs(5);
const TEXT_INTERVAL: Duration = Duration::from_millis(500);

/// Runs every ISO of a folder until it reaches its end state
///
/// The folder has a manifest: a Markdown file (guests.md) with a table whose first column is an ISO's file name and whose last
/// column has, in quotes, the text that the guest shows in the end. Where FILE.png stands beside FILE.iso, a screen that looks
/// like it counts too.
#[derive(Args, Debug)]
pub struct FolderArgs {
    /// The folder
    folder: PathBuf,

    /// Only guests whose file name contains TEXT
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Hardware virtualisation to run on
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// How long a guest may take; by default 240, and 1200 in Bochs
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Guests that run at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,

    /// The emulator's CPU model, such as max or EPYC
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,

    /// Run the guests in plain QEMU, without the hypervisor
    #[arg(long, conflicts_with = "backend")]
    direct: bool,
}

/// A line of the manifest.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    file: String,
    texts: Vec<String>,
}

impl FolderArgs {
    /// Runs them all; screens at the end are left in `build/test-guests`.
    ///
    /// # Errors
    /// If a guest does not reach its end state.
    pub fn run(&self) -> Result<()> {
        let manifest = self.folder.join("guests.md");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("no manifest {}", manifest.display()))?;
        let mut entries = parse(&text);
        entries.retain(|entry| entry.file.contains(&self.only) && self.folder.join(&entry.file).is_file());
        ensure!(!entries.is_empty(), "{} names no ISO that is in the folder", manifest.display());
        if !self.direct {
            build::image()?;
        }
        retry::forget()?;
        let count = entries.len();
        let queue = Mutex::new(entries.into_iter());
        let failed = Mutex::new(Vec::new());
        let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(entry) = next() {
                        let started = Instant::now();
                        let outcome = retry::when_stalled(&entry.file, || self.run_one(&entry));
                        let seconds = started.elapsed().as_secs();
                        match outcome {
                            Ok(how) => println!("ok    {:32} {seconds:4} s  {how}", entry.file),
                            Err(error) => {
                                println!("FAIL  {:32} {seconds:4} s  {error:#}", entry.file);
                                failed
                                    .lock()
                                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                                    .push(entry.file);
                            }
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        retry::summarize()?;
        ensure!(failed.is_empty(), "{} of {count} guests failed: {}", failed.len(), failed.join(", "));
        Ok(())
    }

    fn run_one(&self, entry: &Entry) -> Result<String> {
        let iso = self.folder.join(&entry.file).canonicalize()?;
        let reference = match std::fs::read(iso.with_extension("png")) {
            Ok(bytes) => Some(Picture::from_png(&bytes)?),
            Err(_) => None,
        };
        let spec = Spec {
            backend: self.backend,
            iso: Some(iso),
            direct: self.direct,
            cpu: self.cpu.clone(),
            ..Spec::default()
        };
        let mut machine = Machine::start(&spec, false, self.patience(&spec), Vec::new())?;
        let outcome = await_end_state(&mut machine, &entry.texts, reference.as_ref());
        let picture = paths::build(&format!("test-guests/{}", entry.file)).with_extension("png");
        match machine.screenshot(&picture) {
            Ok(()) => {}
            Err(error) if outcome.is_ok() => return Err(error),
            Err(_) => {}
        }
        outcome
    }

    fn patience(&self, spec: &Spec) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(match spec.emulator_kind() {
            EmulatorKind::Qemu => 240,
            EmulatorKind::Bochs => 1200,
        }))
    }
}

fn await_end_state(machine: &mut Machine, texts: &[String], reference: Option<&Picture>) -> Result<String> {
    let mut next_picture = Instant::now() + PICTURE_INTERVAL;
    let mut best = 0.0_f64;
    while !machine.time_left().is_zero() && !machine.has_ended()? {
        if let Ok(Some(screen)) = machine.control().screen_text()
            && !texts.is_empty()
            && texts.iter().all(|text| screen.contains(text))
        {
            return Ok(format!("text {}", texts.join(", ")));
        }
        if let Some(reference) = reference.filter(|_| Instant::now() >= next_picture) {
            if let Ok(png) = machine.control().screen_png() {
                let similarity = Picture::from_png(&png)?.similarity(reference);
                if similarity >= ALIKE {
                    return Ok(format!("picture, similarity {similarity:.2}"));
                }
                best = best.max(similarity);
            }
            next_picture = Instant::now() + PICTURE_INTERVAL;
        }
        machine.check_progress()?;
        machine.pause(TEXT_INTERVAL);
    }
    bail!("not reached: {} (best similarity {best:.2})\n{}", texts.join(", "), machine.report())
}

/// The table rows that name an ISO.
fn parse(manifest: &str) -> Vec<Entry> {
    let row = |line: &str| {
        let cells: Vec<&str> =
            line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let file = Path::new(cells.first()?).file_name()?.to_str()?.trim_matches('`');
        let is_iso = file.ends_with(".iso") && !file.contains(' ');
        is_iso.then(|| Entry { file: file.to_owned(), texts: quoted(cells.last().unwrap_or(&"")) })
    };
    manifest.lines().filter_map(row).collect()
}

/// The texts in double quotes or backticks.
fn quoted(cell: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = cell;
    while let Some(start) = rest.find(['"', '`']) {
        let quote = &rest[start..=start];
        let Some(length) = rest[start + 1..].find(quote) else { break };
        texts.push(rest[start + 1..start + 1 + length].to_owned());
        rest = &rest[start + length + 2..];
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_a_table() {
        let manifest = "# Guests\n| ISO | what | end state |\n|---|---|---|\n\
            | dos.iso | real mode | menu: \"1 - English\" and `A:\\]` |\n| two words.iso | x | y |\ntext\n";
        let texts = vec!["1 - English".to_owned(), "A:\\]".to_owned()];
        assert_eq!(parse(manifest), [Entry { file: "dos.iso".into(), texts }]);
    }
}
