//! `cargo xtask conformance`: the conformance guests on every machine.

mod environment;
mod guests;
mod page;
mod results;
mod verdict;

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

pub use environment::Environment;

use crate::machine::Machine;
use crate::{build, paths};
use guests::Guest;
use results::{Outcome, Results, WHOLE_TOPIC};
use verdict::{Bug, Runs};

/// Machines that run at the same time.
const PARALLEL_MACHINES: usize = 2;

/// A guest's time: many times what it takes when the host is idle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Emulators stall now and then; a guest that did not come to its end is started this often.
const ATTEMPTS: usize = 2;

const BUGS: &str = "tests/emulator-bugs.md";
const PAGE: &str = "docs/conformance.md";

/// Runs the conformance guests on every machine and compares the results; writes docs/conformance.md
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
}

impl ConformanceArgs {
    /// Everything, as `make test` wants it.
    pub fn all() -> Self {
        Self { check: true, ..Self::default() }
    }

    /// Runs and compares. The page is for a run of everything only.
    ///
    /// # Errors
    /// If a guest does not come to its end, or there is a difference that is not listed.
    pub fn run(&self) -> Result<()> {
        if self.environments().iter().any(|environment| !environment.is_direct()) {
            build::image()?;
        }
        let text = std::fs::read_to_string(paths::root().join(BUGS)).with_context(|| format!("no {BUGS}"))?;
        let bugs = verdict::parse_bugs(&text)?;
        let runs = self.runs(&self.guests()?, &bugs)?;
        let problems = verdict::problems(&runs, &bugs);
        ensure!(problems.is_empty(), "the conformance guests found:\n{}", problems.join("\n"));
        if self.topic.is_empty() && self.environment.is_empty() {
            self.page(&page::page(&runs, &text))?;
        }
        Ok(())
    }

    fn environments(&self) -> &[Environment] {
        if self.environment.is_empty() { Environment::value_variants() } else { &self.environment }
    }

    fn guests(&self) -> Result<Vec<Guest>> {
        let mut guests = guests::make()?;
        for topic in &self.topic {
            ensure!(guests.iter().any(|guest| guest.topic == *topic), "there is no topic {topic}");
        }
        guests.retain(|guest| self.topic.is_empty() || self.topic.contains(&guest.topic));
        Ok(guests)
    }

    fn runs(&self, guests: &[Guest], bugs: &[Bug]) -> Result<Runs> {
        let pairs = guests
            .iter()
            .flat_map(|guest| self.environments().iter().map(move |environment| (guest, *environment)))
            .filter(|(guest, environment)| environment.has(&guest.topic));
        let (queue, runs) = (Mutex::new(pairs), Mutex::new(Ok(Runs::new())));
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL_MACHINES {
                scope.spawn(|| {
                    while let Some((guest, environment)) = lock(&queue).next() {
                        let outcome = self.attempt(guest, environment, bugs);
                        add(&mut lock(&runs), guest, environment, outcome);
                    }
                });
            }
        });
        runs.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn attempt(&self, guest: &Guest, environment: Environment, bugs: &[Bug]) -> Result<Results> {
        let is_listed = verdict::is_listed(bugs, &guest.topic, WHOLE_TOPIC, environment);
        let mut attempt = 1;
        loop {
            match self.boot(guest, environment) {
                Err(_) if is_listed => {
                    let failed = Outcome::Failed("does not run".to_owned());
                    return Ok(Results::from([(WHOLE_TOPIC.to_owned(), failed)]));
                }
                Err(error) if attempt < ATTEMPTS => {
                    eprintln!("{} on {}, attempt {attempt}: {error:#}", guest.topic, environment.name());
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn boot(&self, guest: &Guest, environment: Environment) -> Result<Results> {
        let mut machine = Machine::start(&environment.spec(&guest.iso), false, PATIENCE, Vec::new())?;
        machine.expect_serial(&results::end_mark(&guest.topic))?;
        machine.expect_serial("\n")?;
        let serial = machine.serial().text();
        if !self.topic.is_empty() {
            let lines: Vec<&str> = serial.lines().filter(|line| line.starts_with("conf ")).collect();
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
