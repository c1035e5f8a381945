//! `cargo xtask test-guests`: every ISO of a folder, run until it shows what the folder's manifest
//! says.

mod manifest;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::emulator::{Backend, EmulatorKind, Spec};
use crate::machine::Machine;
use crate::picture::{ALIKE, Picture, SAME};
use crate::{build, paths, retry};
use manifest::{Entry, Stage};

/// Pictures cost more than text.
const PICTURE_INTERVAL: Duration = Duration::from_secs(5);
const TEXT_INTERVAL: Duration = Duration::from_millis(500);

/// A screen that does not change for so long stands still: the guest waits for a key. On a host
/// with other work a start has stood still for 35 s, and a system may be deaf to all keys after one
/// that came too early (Visopsys 0.92, in plain QEMU too).
const STILL: Duration = Duration::from_secs(60);

/// Runs every ISO of a folder until it reaches its end state
///
/// The folder has a manifest: a Markdown file (guests.md) with a table whose first column is an
/// ISO's file name and whose last column has, in quotes, the text that the guest shows in the end.
/// Where FILE.png stands beside FILE.iso, a screen that looks like it counts too. "then" and "after
/// KEY" lead to further screens: docs/testing.md.
#[derive(Args, Debug)]
pub struct FolderArgs {
    /// The folder
    folder: PathBuf,

    /// The manifest, if it is not the folder's own
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

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

impl FolderArgs {
    /// Runs them all; screens at the end are left in `build/test-guests`.
    ///
    /// # Errors
    /// If a guest does not reach its end state.
    pub fn run(&self) -> Result<()> {
        let manifest = self.manifest.clone().unwrap_or_else(|| self.folder.join("guests.md"));
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("no manifest {}", manifest.display()))?;
        let mut entries = manifest::parse(&text);
        entries.retain(|entry| {
            entry.file.contains(&self.only) && self.folder.join(&entry.file).is_file()
        });
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
        ensure!(
            failed.is_empty(),
            "{} of {count} guests failed: {}",
            failed.len(),
            failed.join(", ")
        );
        Ok(())
    }

    fn run_one(&self, entry: &Entry) -> Result<String> {
        let iso = self.folder.join(&entry.file).canonicalize()?;
        let reference = match std::fs::read(iso.with_extension("png")) {
            Ok(bytes) => Some(Picture::from_png(&bytes)?),
            Err(_) => None,
        };
        let is_told = reference.is_some() || entry.stages.last().is_some_and(Stage::is_described);
        ensure!(
            is_told,
            "the manifest has no text in quotes for its end state, and there is no picture"
        );
        let spec = Spec {
            backend: self.backend,
            iso: Some(iso),
            direct: self.direct,
            cpu: self.cpu.clone(),
            ..Spec::default()
        };
        let mut machine = Machine::start(&spec, false, self.patience(&spec), Vec::new())?;
        let outcome = await_end_state(&mut machine, &entry.stages, reference.as_ref());
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

/// Goes through the stages; the picture is that of the last.
fn await_end_state(
    machine: &mut Machine,
    stages: &[Stage],
    reference: Option<&Picture>,
) -> Result<String> {
    let mut how = String::new();
    for (index, stage) in stages.iter().enumerate() {
        let is_last = index + 1 == stages.len();
        how = await_stage(machine, stage, reference.filter(|_| is_last))?;
    }
    Ok(how)
}

fn await_stage(
    machine: &mut Machine,
    stage: &Stage,
    reference: Option<&Picture>,
) -> Result<String> {
    let mut screen = StillScreen::new();
    let mut next_picture = Instant::now() + PICTURE_INTERVAL;
    let mut best = 0.0_f64;
    while !machine.time_left().is_zero() && !machine.has_ended()? {
        if stage.is_described() && is_reached(machine, stage) {
            return Ok(format!("text {stage}"));
        }
        let looks_at_pictures = reference.is_some() || stage.key.is_some();
        if looks_at_pictures && Instant::now() >= next_picture {
            if let Ok(png) = machine.control().screen_png() {
                let picture = Picture::from_png(&png)?;
                let similarity = reference.map_or(0.0, |reference| picture.similarity(reference));
                if similarity >= ALIKE {
                    return Ok(format!("picture, similarity {similarity:.2}"));
                }
                best = best.max(similarity);
                if screen.stands_still(picture)
                    && let Some(key) = stage.key
                {
                    machine.control().type_text(key.text)?;
                }
            }
            next_picture = Instant::now() + PICTURE_INTERVAL;
        }
        machine.check_progress()?;
        machine.pause(TEXT_INTERVAL);
    }
    bail!("not reached: {stage} (best similarity {best:.2})\n{}", machine.report())
}

/// Whether the screen shows what the manifest says. One that cannot be had now is looked at again.
fn is_reached(machine: &mut Machine, stage: &Stage) -> bool {
    match machine.control().screen_text() {
        Ok(Some(screen)) => !stage.graphics && stage.texts.iter().all(|text| screen.contains(text)),
        Ok(None) => stage.graphics && stage.texts.is_empty(),
        Err(_) => false,
    }
}

/// Tells of a screen that does not change.
struct StillScreen {
    last: Option<(Picture, Instant)>,
}

impl StillScreen {
    fn new() -> Self {
        Self { last: None }
    }

    /// Takes the picture that the screen shows now. True once for each time that it has shown the
    /// same for long.
    fn stands_still(&mut self, picture: Picture) -> bool {
        let now = Instant::now();
        let since = match &self.last {
            Some((last, since)) if picture.similarity(last) >= SAME => *since,
            _ => now,
        };
        let is_still = now.saturating_duration_since(since) >= STILL;
        self.last = Some((picture, if is_still { now } else { since }));
        is_still
    }
}
