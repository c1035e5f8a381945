//! `cargo xtask`: everything that is done with Bulkhead on the development host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use xtask::guests::Guest;
use xtask::image::Form;
use xtask::machine::Failure;
use xtask::{
    arrows, bench, build, check, conformance, folder, fuzz, image, release, rpc, run, symbolize,
};

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
    /// Prints the floors, arrows up and circles of each crate's modules
    Arrows,
    /// Checks formatting, lints and documentation
    Lint,
    Test(check::TestArgs),
    TestGuests(folder::FolderArgs),
    Bench(bench::BenchArgs),
    Conformance(conformance::ConformanceArgs),
    Fuzz(fuzz::FuzzArgs),
    CheckRelease(release::ReleaseArgs),
    /// Makes build/bulkhead.iso: Bulkhead and a guest, for BIOS and UEFI machines to boot from CD,
    /// USB stick or disk
    Image {
        /// The guest's CD-ROM; without it, a small Linux made of Debian packages
        #[arg(long, value_name = "FILE")]
        iso: Option<PathBuf>,
        /// The guest's configuration
        #[arg(long, value_name = "XL.CFG")]
        config: Option<PathBuf>,
        /// The hypervisor's command line
        #[arg(long, value_name = "TEXT", default_value = "console=com1 rpc=com2")]
        cmdline: String,
        /// How GRUB starts it
        #[arg(long, value_enum, default_value_t)]
        loader: image::Loader,
        /// Make build/netboot instead, a folder for a TFTP server, to boot by PXE
        #[arg(long)]
        netboot: bool,
    },
    /// Calls a method of the hypervisor that `cargo xtask run` runs on a terminal, and prints the
    /// result
    Rpc {
        /// The method, such as guest.stats, screen.text, host.log
        method: String,
        /// Its parameters
        #[arg(value_name = "JSON", default_value = "{}")]
        params: String,
    },
    /// Prints a log with names for the addresses of its backtraces
    Symbolize {
        /// The hypervisor's output; - is standard input
        log: PathBuf,
    },
    /// Makes the ISO of a guest from Debian packages and prints its path; without a name, all of
    /// them
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
                Some(Failure::Stalled(_)) => 5,
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
        Task::Arrows => arrows::check(true),
        Task::Lint => check::lint(),
        Task::Test(arguments) => arguments.run(),
        Task::TestGuests(arguments) => arguments.run(),
        Task::Bench(arguments) => arguments.run(),
        Task::Conformance(arguments) => arguments.run(),
        Task::Fuzz(arguments) => arguments.run(),
        Task::CheckRelease(arguments) => arguments.run(),
        Task::Image { iso, config, cmdline, loader, netboot } => {
            let form = if netboot { Form::Netboot } else { Form::Iso };
            let made = image::make(form, iso.as_deref(), config.as_deref(), &cmdline, loader)?;
            println!("{}", made.display());
            Ok(())
        }
        Task::Rpc { method, params } => {
            let params = serde_json::from_str(&params).context("the parameters are no JSON")?;
            println!("{:#}", rpc::call_running(&method, params)?);
            Ok(())
        }
        Task::Symbolize { log } => {
            let file = if log == Path::new("-") { PathBuf::from("/dev/stdin") } else { log };
            let bytes =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            print!("{}", symbolize::symbolize(&String::from_utf8_lossy(&bytes))?);
            Ok(())
        }
        Task::Run(arguments) => arguments.run(matches.subcommand_matches("run").unwrap_or(matches)),
    }
}
