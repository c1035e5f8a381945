//! `cargo xtask conformance`: the conformance guests on every machine.

mod config;
mod disk;
mod environment;
mod guests;
mod page;
mod results;
mod verdict;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

pub use environment::Environment;

use crate::emulator::qemu;
use crate::machine::{Failure, Machine};
use crate::{build, paths, retry, times};
pub use guests::Guest;
use results::{Outcome, Results, WHOLE_TOPIC};
use verdict::{Bug, Runs};

/// A guest's time: more than the watchdog takes to find out that the emulator stalled.
const PATIENCE: Duration = Duration::from_secs(600);

/// The same in plain Bochs, where no watchdog can tell: many times what a guest takes when the host
/// is idle.
const PATIENCE_WITHOUT_WATCHDOG: Duration = Duration::from_secs(300);

const BUGS: &str = "tests/emulator-bugs.md";
const PAGE: &str = "docs/conformance.md";
/// The version of QEMU that the page is about: Debian 12's.
const PAGE_QEMU_MAJOR: u32 = 7;

/// Runs the conformance guests on every machine and compares the results; writes
/// docs/conformance.md
#[derive(Args, Debug, Default)]
pub struct ConformanceArgs {
    /// Only this topic (repeatable), and print its results
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,

    /// Only on this machine (repeatable)
    #[arg(long, value_enum)]
    environment: Vec<Environment>,

    /// Check docs/conformance.md instead of writing it
    #[arg(long)]
    check: bool,

    /// So many machines at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    machines: usize,
}

impl ConformanceArgs {
    /// Runs and compares. The page is for a run of everything with one version of QEMU only.
    ///
    /// # Errors
    /// If a guest does not come to its end, or there is a difference that is not listed.
    pub fn run(&self) -> Result<()> {
        retry::forget()?;
        let outcome = self.compare();
        retry::summarize()?;
        outcome
    }

    fn compare(&self) -> Result<()> {
        if self.environments().iter().any(|environment| !environment.is_direct()) {
            build::image()?;
        }
        let text = std::fs::read_to_string(paths::root().join(BUGS))
            .with_context(|| format!("no {BUGS}"))?;
        let qemu_major = qemu::major_version()?;
        let bugs = verdict::parse_bugs(&text, qemu_major)?;
        let runs = self.runs(&guests::make(&self.topic)?, &bugs)?;
        let problems = verdict::problems(&runs, &bugs);
        ensure!(problems.is_empty(), "the conformance guests found:\n{}", problems.join("\n"));
        let is_whole = self.topic.is_empty() && self.environment.is_empty();
        if is_whole && qemu_major == PAGE_QEMU_MAJOR {
            self.page(&page::page(&runs, &text))?;
        }
        Ok(())
    }

    fn environments(&self) -> &[Environment] {
        if self.environment.is_empty() { Environment::value_variants() } else { &self.environment }
    }

    fn runs(&self, guests: &[Guest], bugs: &[Bug]) -> Result<Runs> {
        let pairs = guests
            .iter()
            .flat_map(|guest| {
                self.environments().iter().map(move |environment| (guest, *environment))
            })
            .filter(|(guest, environment)| environment.has(&guest.topic));
        let (queue, runs) = (Mutex::new(pairs), Mutex::new(Ok(Runs::new())));
        // A call of its own: the queue is not to be locked while a pair of them is run.
        let next = || lock(&queue).next();
        std::thread::scope(|scope| {
            for _ in 0..self.machines.max(1) {
                scope.spawn(|| {
                    while let Some((guest, environment)) = next() {
                        let started = Instant::now();
                        let outcome = self.attempt(guest, environment, bugs);
                        let name = format!("conformance of {}", guest.topic);
                        times::record(&name, started.elapsed());
                        add(&mut lock(&runs), guest, environment, outcome);
                    }
                });
            }
        });
        runs.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn attempt(&self, guest: &Guest, environment: Environment, bugs: &[Bug]) -> Result<Results> {
        let name = format!("conformance {} on {}", guest.topic, environment.name());
        let outcome = retry::when_stalled(&name, || self.boot(guest, environment));
        let is_listed = verdict::is_listed(bugs, &guest.topic, WHOLE_TOPIC, environment);
        outcome.or_else(|error| match error.downcast_ref() {
            Some(Failure::Ended(_) | Failure::TimedOut(_)) if is_listed => {
                let failed = Outcome::Failed("does not run".to_owned());
                Ok(Results::from([(WHOLE_TOPIC.to_owned(), failed)]))
            }
            _ => Err(error),
        })
    }

    fn boot(&self, guest: &Guest, environment: Environment) -> Result<Results> {
        let has_watchdog = !matches!(environment, Environment::Bochs | Environment::BochsAvx512);
        let patience = if has_watchdog { PATIENCE } else { PATIENCE_WITHOUT_WATCHDOG };
        let mut machine = Machine::start(&environment.spec(guest), false, patience, Vec::new())?;
        let end = machine
            .expect_serial(&results::end_mark(&guest.topic))
            .and_then(|()| machine.expect_serial("\n"));
        // No hypervisor can be asked whether it is the guest that hangs. One that does so each
        // time fails all the same.
        end.map_err(|error| match error.downcast() {
            Ok(Failure::TimedOut(what)) if !has_watchdog => Failure::Stalled(what).into(),
            Ok(failure) => failure.into(),
            Err(error) => error,
        })?;
        let serial = machine.serial().text();
        if !self.topic.is_empty() {
            let lines: Vec<&str> =
                serial.lines().filter(|line| line.starts_with("conf ")).collect();
            println!("--- {} on {}\n{}", guest.topic, environment.name(), lines.join("\n"));
        }
        results::parse(&guest.topic, &serial)
    }

    fn page(&self, page: &str) -> Result<()> {
        let file = paths::root().join(PAGE);
        if self.check {
            let committed = std::fs::read_to_string(&file).unwrap_or_default();
            ensure!(
                committed == page,
                "{PAGE} is not what this run gives: cargo xtask conformance writes it"
            );
            return Ok(());
        }
        std::fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The guest of one topic, for a machine of another's making.
///
/// # Errors
/// If a guest cannot be made, or there is no such topic.
pub fn guest(topic: &str) -> Result<Guest> {
    let mut guests = guests::make(&[topic.to_owned()])?;
    guests.pop().with_context(|| format!("there is no topic {topic}"))
}

/// Runs everything and checks docs/conformance.md, as a part of `cargo xtask test`, which keeps the
/// record of stalls and has another machine run beside this one.
///
/// # Errors
/// As [`ConformanceArgs::run`], or if the page is not what the run gives.
pub fn check_everything() -> Result<()> {
    ConformanceArgs { check: true, machines: 1, ..ConformanceArgs::default() }.compare()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Adds a run's results; the first error stands in for all.
fn add(runs: &mut Result<Runs>, guest: &Guest, environment: Environment, outcome: Result<Results>) {
    match (outcome, &mut *runs) {
        (Ok(results), Ok(runs)) => {
            drop(runs.entry(guest.topic.clone()).or_default().insert(environment, results))
        }
        (Err(error), Ok(_)) => {
            *runs = Err(error.context(format!("{} on {}", guest.topic, environment.name())))
        }
        (_, Err(_)) => {}
    }
}
