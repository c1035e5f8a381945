//! `cargo xtask`: everything that is done with Bulkhead on the development host.

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use xtask::guests::Guest;
use xtask::machine::Failure;
use xtask::{build, run};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs, tests and measures Bulkhead")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the image: build/bulkhead
    Build,
    Run(Box<run::RunArgs>),
    /// Makes the ISO of a guest from Debian packages and prints its path; without a name, all of them
    Guest {
        /// Which
        #[arg(value_enum)]
        guest: Option<Guest>,
    },
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match perform(cli.task, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(match error.downcast_ref::<Failure>() {
                Some(Failure::TimedOut(_)) => 3,
                Some(Failure::Ended(_)) => 4,
                None => 1,
            })
        }
    }
}

fn perform(task: Task, matches: &ArgMatches) -> Result<()> {
    match task {
        Task::Build => {
            let image = build::image()?;
            println!("{}: {} bytes", image.display(), std::fs::metadata(&image)?.len());
            Ok(())
        }
        Task::Guest { guest } => {
            for guest in guest.as_ref().map_or(Guest::value_variants(), std::slice::from_ref) {
                println!("{}", guest.iso()?.display());
            }
            Ok(())
        }
        Task::Run(arguments) => arguments.run(matches.subcommand_matches("run").unwrap_or(matches)),
    }
}
