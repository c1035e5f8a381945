//! `cargo xtask bench`: the same guests without a hypervisor and under Bulkhead, in one run.

mod guests;
mod pv;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::emulator::{Backend, EmulatorKind, Spec};
use crate::guests::{Guest, LINUX_MARKER};
use crate::machine::Machine;
use crate::progress::Step;
use crate::{build, paths};

const PATIENCE: Duration = Duration::from_secs(600);

/// Measures boots and exits without a hypervisor and under Bulkhead; writes the backend's part of
/// docs/performance.md
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Hardware virtualisation to run on
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// In QEMU: pairs of runs for the CPU time, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    pairs: usize,

    /// Only print, leave docs/performance.md as it is
    #[arg(long)]
    print_only: bool,

    /// Measure only the PV-on-HVM platform in QEMU, and print that
    #[arg(long)]
    pv: bool,
}

/// A boot to userspace.
struct Boot {
    /// Instructions from the virtual machine's start.
    instructions: u64,
    /// None without a hypervisor.
    exits: Exits,
    /// From the image's entry to the guest's first instruction, by the machine's own clock.
    first_entry_ms: Option<f64>,
}

/// Exits by reason.
type Exits = BTreeMap<String, u64>;

/// A boot in real time.
struct TimedBoot {
    /// CPU time of the emulator.
    cpu_seconds: f64,
    /// From the image's entry to the guest's first instruction.
    first_entry_ms: Option<f64>,
    /// Empty without a hypervisor.
    exits: Exits,
}

/// The cost of exits: instructions for one, by the instruction that exits.
type ExitCosts = Vec<(String, f64)>;

/// The exit by which the cost of defences is measured: the shortest that all machines have.
const DEFENDED_EXIT: &str = "cpuid";

/// Everything is measured without defences against speculative execution.
const WITHOUT_DEFENCES: &str = "spec-ctrl=no";

/// The world switch that has defences, with none but that it clears registers.
const CLEARED: &str = "spec-ctrl=no-ibrs,no-ibpb,no-ibpb-entry,no-rsb,no-verw,no-l1d-flush";

/// Defences that are instructions of the hypervisor's, and how one alone is switched on. All others
/// are done by the processor: by registers that stay set, and on VT-x by its lists of MSRs.
const DEFENCES: [(&str, &str); 2] =
    [("return stack filled", "spec-ctrl=no,rsb"), ("VERW", "spec-ctrl=no,verw")];

/// The model of Bochs's that has all of Intel's defences.
const DEFENDED_INTEL_CPU: &str = "sapphire_rapids";

/// Everything measured.
struct Measured {
    backend: Backend,
    image_bytes: u64,
    direct: Boot,
    bulkhead: Boot,
    /// Pairs: without a hypervisor, under Bulkhead. None in Bochs.
    timed: Vec<(TimedBoot, TimedBoot)>,
    direct_exits: ExitCosts,
    bulkhead_exits: ExitCosts,
    /// Of VT-x: the same on AMD-V in the same emulator.
    amd_exits: ExitCosts,
    /// The instructions that defences add to an exit.
    defences: ExitCosts,
    /// Of the guest itself. None in Bochs.
    guest: Option<guests::GuestCosts>,
    /// Of the PV-on-HVM platform. None in Bochs.
    pv: Option<pv::Figures>,
}

impl BenchArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If a guest does not reach its end state.
    pub fn run(&self) -> Result<()> {
        let image = build::image()?;
        let iso = Guest::LinuxAmd64Quiet.iso()?;
        let backend = self.backend;
        let spec = |direct| Spec {
            backend,
            iso: Some(iso.clone()),
            direct,
            cmdline: WITHOUT_DEFENCES.to_owned(),
            lenient_msrs: true,
            ..Spec::default()
        };
        let counted = |spec: Spec| Spec { count_instructions: true, ..spec };
        if self.pv {
            ensure!(spec(false).emulator_kind() == EmulatorKind::Qemu, "it is measured in QEMU");
            println!("{}", pv::tables(&pv::figures(&counted(spec(false)))?));
            return Ok(());
        }
        // Bochs's CPU time tells nothing: most of it is GRUB reading the ISO.
        let pairs = if spec(false).emulator_kind() == EmulatorKind::Bochs { 0 } else { self.pairs };
        let step = Step::begin("Counting the instructions of a boot without a hypervisor");
        let direct = boot(&counted(spec(true)))?;
        step.done();
        let step = Step::begin("Counting the instructions of a boot under Bulkhead");
        let bulkhead = boot(&counted(spec(false)))?;
        step.done();
        let step = Step::begin("Measuring CPU time and exits of boots");
        let pair = || Ok((timed_boot(&spec(true))?, timed_boot(&spec(false))?));
        let timed = (0..pairs).map(|_| pair()).collect::<Result<_>>()?;
        step.done();
        let step = Step::begin("Measuring the cost of exits");
        let exits_iso = Guest::Exits.iso()?;
        let exits_spec = |direct| counted(Spec { iso: Some(exits_iso.clone()), ..spec(direct) });
        let (direct_exits, bulkhead_exits) =
            (exit_costs(&exits_spec(true))?, exit_costs(&exits_spec(false))?);
        let on_amd = Spec {
            backend: Backend::Svm,
            emulator: Some(backend.usual_emulator()),
            ..exits_spec(false)
        };
        let amd_exits =
            if backend == Backend::Vmx { exit_costs(&on_amd)? } else { ExitCosts::new() };
        step.done();
        let step = Step::begin("Measuring the cost of defences");
        let defences = defences(&exits_spec(false))?;
        step.done();
        let step = Step::begin("Measuring the cost of a guest");
        let guest_spec = counted(spec(false));
        let guest = match guest_spec.emulator_kind() {
            EmulatorKind::Qemu => Some(guests::guest_costs(&guest_spec)?),
            EmulatorKind::Bochs => None,
        };
        step.done();
        let step = Step::begin("Measuring the PV-on-HVM platform");
        let pv = match guest_spec.emulator_kind() {
            EmulatorKind::Qemu => Some(pv::figures(&guest_spec)?),
            EmulatorKind::Bochs => None,
        };
        step.done();
        let image_bytes = std::fs::metadata(image)?.len();
        let measured = Measured {
            backend,
            image_bytes,
            direct,
            bulkhead,
            timed,
            direct_exits,
            bulkhead_exits,
            amd_exits,
            defences,
            guest,
            pv,
        };
        let table = report::table(&measured);
        println!("{table}");
        if !self.print_only {
            let path = paths::root().join("docs/performance.md");
            let old = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, report::page(&old, backend, &table))?;
        }
        Ok(())
    }
}

/// Counts a boot's instructions.
///
/// In QEMU the machine's clock waits for nobody. In Bochs a CPU that waits for a time, asleep or in
/// a loop, moves its counter on: on a machine of twice the speed it counts twice as much of that,
/// and the same of all else.
fn boot(spec: &Spec) -> Result<Boot> {
    let boot = boot_at_speed(spec)?;
    if spec.emulator_kind() == EmulatorKind::Qemu {
        return Ok(boot);
    }
    let faster = boot_at_speed(&Spec { speed: 2 * spec.speed, ..spec.clone() })?;
    Ok(Boot { instructions: (2 * boot.instructions).saturating_sub(faster.instructions), ..boot })
}

/// The guest's time-stamp counter starts at zero with the virtual machine and counts an instruction
/// a tick.
fn boot_at_speed(spec: &Spec) -> Result<Boot> {
    let mut machine = Machine::start(spec, false, PATIENCE, Vec::new())?;
    machine.expect_serial(&format!("{LINUX_MARKER} tsc="))?;
    machine.expect_serial("\n")?;
    let log = machine.serial().text();
    let tsc = log
        .split("tsc=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("no time stamp")?;
    let instructions = u64::from_str_radix(tsc, 16)?;
    let first_entry_ms = first_entry_ms(&log);
    Ok(Boot { instructions, exits: exits(&mut machine, spec)?, first_entry_ms })
}

fn exits(machine: &mut Machine, spec: &Spec) -> Result<Exits> {
    if spec.direct {
        return Ok(Exits::new());
    }
    let stats = machine.stats()?;
    let counters = stats["exits"].as_object().context("no exits in guest.stats")?;
    let counter = |(name, count): (&String, &Value)| {
        let count = count.as_u64().with_context(|| format!("the counter {name} is no number"))?;
        Ok((name.clone(), count))
    };
    counters.iter().map(counter).collect()
}

/// From the hypervisor's log line "...: first instruction N us after the image was entered".
fn first_entry_ms(log: &str) -> Option<f64> {
    let (_, rest) = log.split_once("first instruction ")?;
    let (microseconds, _) = rest.split_once(" us after the image was entered")?;
    Some(microseconds.parse::<f64>().ok()? / 1000.0)
}

fn timed_boot(spec: &Spec) -> Result<TimedBoot> {
    let mut machine = Machine::start(spec, false, PATIENCE, Vec::new())?;
    machine.expect_serial(LINUX_MARKER)?;
    let cpu_time = machine.cpu_time().context("the emulator's CPU time cannot be read")?;
    Ok(TimedBoot {
        cpu_seconds: cpu_time.as_secs_f64(),
        first_entry_ms: first_entry_ms(&machine.serial().text()),
        exits: exits(&mut machine, spec)?,
    })
}

fn exit_costs(spec: &Spec) -> Result<ExitCosts> {
    let mut machine = Machine::start(spec, false, PATIENCE, Vec::new())?;
    machine.expect_serial("exits done")?;
    let costs: ExitCosts = machine.serial().text().lines().filter_map(exit_cost).collect();
    ensure!(!costs.is_empty(), "the guest has measured nothing");
    Ok(costs)
}

/// The instructions that each defence adds to an exit.
fn defences(spec: &Spec) -> Result<ExitCosts> {
    let cpu = match spec.backend {
        Backend::Svm => None,
        Backend::Vmx => Some(DEFENDED_INTEL_CPU.to_owned()),
    };
    let cost = |cmdline: &str| {
        let defended = Spec { cpu: cpu.clone(), cmdline: cmdline.to_owned(), ..spec.clone() };
        let costs = exit_costs(&defended)?;
        let cost = costs.iter().find(|(name, _)| name == DEFENDED_EXIT).map(|(_, cost)| *cost);
        cost.with_context(|| format!("no cost of {DEFENDED_EXIT}"))
    };
    let (without, cleared) = (cost(WITHOUT_DEFENCES)?, cost(CLEARED)?);
    let mut added = vec![(
        "registers cleared, and what else the defended world switch takes".to_owned(),
        cleared - without,
    )];
    for (name, cmdline) in DEFENCES {
        let more = cost(cmdline)? - cleared;
        // The processor lacks it.
        if more > 0.0 {
            added.push((name.to_owned(), more));
        }
    }
    Ok(added)
}

/// From a line `exit NAME COUNT TSC`.
fn exit_cost(line: &str) -> Option<(String, f64)> {
    let mut words = line.strip_prefix("exit ")?.rsplitn(3, ' ');
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    let (tsc, count) = (number()?, number()?);
    Some((words.next()?.to_owned(), tsc as f64 / count.max(1) as f64))
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_of_the_exit_guest() {
        let line = "exit in 21h (PIC) 00000fa0 00000000000fa000";
        assert_eq!(super::exit_cost(line), Some(("in 21h (PIC)".to_owned(), 256.0)));
        assert_eq!(super::exit_cost("exits done"), None);
    }

    #[test]
    fn the_log_line_of_the_first_entry() {
        assert_eq!(
            super::first_entry_ms(
                "[ 0.1] linux: first instruction 45200 us after the image was entered\n"
            ),
            Some(45.2)
        );
    }
}
