//! `cargo xtask run`: a guest in an emulator, for users and for scripts.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{ArgMatches, Args};

use crate::emulator::host_disk::HostDisk;
use crate::emulator::{Backend, EmulatorKind, Medium, Spec, Wiring, emulator, module_name};
use crate::guests::Guest;
use crate::machine::{Failure, Machine};
use crate::serial::{Serial, Tee};
use crate::setup::{self, Need};
use crate::{build, paths, rpc};

/// A timeout when none is given: a script must end some day.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(600);
const ENDLESS: Duration = Duration::from_secs(365 * 86400);

/// Runs a guest from its ISO under Bulkhead, in an emulator
///
/// Without --expect, --type, --type-serial, --pause and --screenshot, the terminal is the guest's
/// serial console (Ctrl-] x ends the emulator, Ctrl-] c is its monitor). With them, they are a
/// script: done one after the other, in the order of the command line. The exit code is 0 if all
/// were done, 3 if the time was up, 4 if the machine ended before, 5 if the emulator stalled, 1 for
/// any other error.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The guest's CD-ROM; without it, a small Linux made of Debian packages
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,

    /// Hardware virtualisation to run on
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// The emulator: by default qemu for svm, bochs for vmx
    #[arg(long, value_enum)]
    emulator: Option<EmulatorKind>,

    /// The emulator's CPU model, such as max or EPYC
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,

    /// The machine's number of CPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    smp: u32,

    /// The guest's memory; an xl.cfg given with --config overrides it
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,

    /// The guest's virtual CPUs; an xl.cfg given with --config overrides it
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,

    /// Open no window
    #[arg(long)]
    headless: bool,

    /// Where the machine's first serial port goes: stdio, a file, or unix:PATH (a socket to
    /// connect to)
    #[arg(long, value_name = "stdio|FILE|unix:PATH", default_value = "stdio")]
    serial: String,

    /// Wait until the guest's serial port or text screen shows TEXT
    #[arg(long, value_name = "TEXT")]
    expect: Vec<String>,

    /// Type TEXT on the guest's keyboard; \n is Enter, \t Tab, \e Escape
    #[arg(long = "type", value_name = "TEXT")]
    type_text: Vec<String>,

    /// Send TEXT to the guest's first serial port; escapes as with --type
    #[arg(long, value_name = "TEXT")]
    type_serial: Vec<String>,

    /// Wait
    #[arg(long, value_name = "SECONDS")]
    pause: Vec<f64>,

    /// After that, wait until the machine has powered off
    #[arg(long)]
    expect_end: bool,

    /// End everything after this time, with exit code 3
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,

    /// Write the guest's screen at the end
    #[arg(long, value_name = "PNG")]
    screenshot: Option<PathBuf>,

    /// Write the machine's own display at the end, on which Bulkhead shows the guest's
    #[arg(long, value_name = "PNG")]
    host_screenshot: Option<PathBuf>,

    /// Write the hypervisor's counters at the end
    #[arg(long, value_name = "JSON")]
    stats: Option<PathBuf>,

    /// More of the hypervisor's command line, such as "loglvl=all"
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,

    /// The guest's configuration
    #[arg(long, value_name = "XL.CFG")]
    config: Option<PathBuf>,

    /// One more file that the configuration names as a disk (repeatable)
    #[arg(long, value_name = "FILE", requires = "config")]
    disk: Vec<PathBuf>,

    /// A disk of the machine's own, on virtio (default), nvme or ahci. Without --config, the guest
    /// has the first one (repeatable)
    #[arg(long, value_name = "FILE[,BUS]", conflicts_with = "direct")]
    host_disk: Vec<HostDisk>,

    /// Run the ISO in the plain emulator, without the hypervisor, to compare
    #[arg(long)]
    direct: bool,

    /// Boot PATH, made by `cargo xtask image`, through GRUB
    #[arg(long, value_name = "PATH", conflicts_with_all = ["iso", "config", "direct"])]
    host_image: Option<PathBuf>,

    /// With --host-image: where the machine has it
    #[arg(long, value_enum, default_value_t, requires = "host_image")]
    medium: Medium,

    /// With --host-image: boot by UEFI
    #[arg(long, requires = "host_image")]
    uefi: bool,

    /// Use this machine's own processor, AMD's or Intel's, lent by KVM (nested)
    #[arg(long)]
    kvm: bool,

    /// Make time the count of instructions, so that runs repeat exactly
    #[arg(long)]
    icount: bool,

    /// Use the image as built before
    #[arg(long)]
    no_build: bool,

    /// One more argument for the emulator (repeatable)
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    emulator_arg: Vec<String>,
}

/// The size of the small Linux's disk.
const DISK_BYTES: u64 = 16 << 20;

/// The small Linux that runs if no other guest is named. Under the hypervisor it has a disk, which
/// its PV driver finds: the machine's first, or one that is empty at each start.
fn add_own_guest(spec: &mut Spec) -> Result<()> {
    if spec.direct || spec.config.is_some() {
        spec.iso = Some(Guest::LinuxAmd64.iso()?);
        return Ok(());
    }
    let iso = Guest::LinuxAmd64Xen.iso()?;
    if let Some(disk) = spec.host_disks.first() {
        spec.config = Some(config_with_disk("linux", spec, &iso, disk)?);
    } else {
        let disk = paths::empty_build_folder("run-linux")?.join("disk.img");
        File::create(&disk)?.set_len(DISK_BYTES)?;
        spec.config = Some(write_config("linux", spec, &iso, "disk.img,raw,xvda,rw")?);
        spec.disks = vec![disk];
    }
    spec.iso = Some(iso);
    Ok(())
}

/// A configuration of a guest that has this CD-ROM and the machine's disk.
fn config_with_disk(name: &str, spec: &Spec, iso: &Path, disk: &HostDisk) -> Result<PathBuf> {
    write_config(name, spec, iso, &format!("phy:/dev/{},xvda,w", disk.name()))
}

/// A configuration of a guest that has this CD-ROM and disk.
fn write_config(name: &str, spec: &Spec, iso: &Path, disk: &str) -> Result<PathBuf> {
    let file = paths::build_folder("run-guest").join(format!("{name}.cfg"));
    let cdrom = module_name(iso)?;
    let text = format!(
        "type='hvm'\nname='{name}'\nmemory={}\nvcpus={}\nboot='dc'\n\
         disk=['{cdrom},raw,hdc,ro,cdrom', '{disk}']\n",
        spec.memory_mib, spec.vcpus
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// One thing that a script does.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Expect(String),
    Type(String),
    TypeSerial(String),
    Pause(Duration),
}

impl RunArgs {
    /// Runs it; `matches` has the order of the steps.
    ///
    /// # Errors
    /// If something cannot be built or started, or a step fails.
    pub fn run(&self, matches: &ArgMatches) -> Result<()> {
        let mut spec = self.spec()?;
        // All at once, rather than one password after the other.
        setup::require(&self.needs(&spec))?;
        if spec.iso.is_none() && spec.host_image.is_none() {
            add_own_guest(&mut spec)?;
        } else if let ([disk, ..], None, Some(iso)) = (&*spec.host_disks, &spec.config, &spec.iso) {
            spec.config = Some(config_with_disk("guest", &spec, iso, disk)?);
        }
        if !self.direct && !self.no_build && self.host_image.is_none() {
            build::image()?;
        }
        let steps = self.steps(matches);
        let scripted = !steps.is_empty()
            || self.expect_end
            || self.screenshot.is_some()
            || self.host_screenshot.is_some()
            || self.stats.is_some();
        if !scripted && self.serial == "stdio" && std::io::stdin().is_terminal() {
            return self.run_on_terminal(&spec);
        }
        let timeout = match self.timeout {
            Some(seconds) => Duration::try_from_secs_f64(seconds).context("--timeout")?,
            None if scripted => SCRIPT_TIMEOUT,
            None => ENDLESS,
        };
        let mut machine = Machine::start(&spec, self.window(), timeout, self.tees()?)?;
        self.connect(machine.serial(), scripted)?;
        let played = self.play(&mut machine, &steps, scripted);
        // A machine that has ended shows nothing any more; one that failed says first why.
        let left = self.leave_files(&mut machine);
        played.and(left)?;
        if self.expect_end || !scripted { machine.expect_end() } else { Ok(()) }
    }

    fn spec(&self) -> Result<Spec> {
        Ok(Spec {
            backend: self.backend,
            emulator: self.emulator,
            direct: self.direct,
            image: paths::image(),
            iso: self.iso.as_deref().map(absolute).transpose()?,
            config: self.config.as_deref().map(absolute).transpose()?,
            disks: self.disk.iter().map(|file| absolute(file)).collect::<Result<_>>()?,
            hard_disk: None,
            host_disks: self.host_disks()?,
            host_image: self.host_image.as_deref().map(absolute).transpose()?,
            medium: self.medium,
            uefi: self.uefi,
            cpu: self.cpu.clone(),
            smp: self.smp,
            memory_mib: self.memory,
            vcpus: self.vcpus,
            cmdline: self.cmdline.clone(),
            count_instructions: self.icount,
            lenient_msrs: false,
            speed: 1,
            kvm: self.kvm,
            arguments: self.emulator_arg.clone(),
        })
    }

    fn host_disks(&self) -> Result<Vec<HostDisk>> {
        let disk = |disk: &HostDisk| Ok(HostDisk { file: absolute(&disk.file)?, ..*disk });
        self.host_disk.iter().map(disk).collect()
    }

    fn needs(&self, spec: &Spec) -> Vec<&'static [Need]> {
        let machine = match spec.emulator_kind() {
            EmulatorKind::Qemu => setup::QEMU,
            EmulatorKind::Bochs => setup::IMAGE,
        };
        let is_own_guest = spec.iso.is_none() && spec.host_image.is_none();
        [setup::BUILD, machine].into_iter().chain(is_own_guest.then_some(setup::GUESTS)).collect()
    }

    fn window(&self) -> bool {
        let display =
            ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| std::env::var_os(name).is_some());
        !self.headless && display
    }

    fn steps(&self, matches: &ArgMatches) -> Vec<Step> {
        let mut steps: Vec<(usize, Step)> = Vec::new();
        let mut add = |name: &str, made: Vec<Step>| {
            steps.extend(matches.indices_of(name).into_iter().flatten().zip(made));
        };
        add("expect", self.expect.iter().map(|text| Step::Expect(unescape(text))).collect());
        add("type_text", self.type_text.iter().map(|text| Step::Type(unescape(text))).collect());
        add(
            "type_serial",
            self.type_serial.iter().map(|text| Step::TypeSerial(unescape(text))).collect(),
        );
        let pause = |seconds: &f64| Duration::try_from_secs_f64(*seconds).unwrap_or_default();
        add("pause", self.pause.iter().map(|seconds| Step::Pause(pause(seconds))).collect());
        steps.sort_by_key(|(index, _)| *index);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    fn tees(&self) -> Result<Vec<Tee>> {
        Ok(match self.serial.as_str() {
            "stdio" => vec![Box::new(std::io::stdout())],
            path if path.starts_with("unix:") => vec![],
            path => {
                vec![Box::new(File::create(path).with_context(|| format!("cannot write {path}"))?)]
            }
        })
    }

    /// Joins the serial port to what sends to it: a socket's client, or standard input where no
    /// script types.
    fn connect(&self, serial: &Serial, scripted: bool) -> Result<()> {
        if let Some(path) = self.serial.strip_prefix("unix:") {
            // Left over from an earlier run.
            let _ = std::fs::remove_file(path);
            let listener =
                UnixListener::bind(path).with_context(|| format!("cannot listen on {path}"))?;
            let serial = serial.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if let Ok(tee) = stream.try_clone() {
                        serial.add_tee(Box::new(tee));
                    }
                    relay(stream, &serial);
                }
            });
        } else if self.serial == "stdio" && !scripted {
            let serial = serial.clone();
            std::thread::spawn(move || relay(std::io::stdin(), &serial));
        }
        Ok(())
    }

    fn play(&self, machine: &mut Machine, steps: &[Step], scripted: bool) -> Result<()> {
        for step in steps {
            match step {
                Step::Expect(text) => machine.expect(text)?,
                Step::Type(text) => machine.control().type_text(text)?,
                Step::TypeSerial(text) => machine.serial().write(text.as_bytes())?,
                Step::Pause(time) => machine.pause(*time),
            }
        }
        // Only pictures and counters are wanted: at the end of the time.
        if steps.is_empty() && scripted && !self.expect_end {
            machine.pause(machine.time_left());
        }
        Ok(())
    }

    fn leave_files(&self, machine: &mut Machine) -> Result<()> {
        if let Some(file) = &self.screenshot {
            machine.screenshot(file)?;
        }
        if let Some(file) = &self.host_screenshot {
            machine.host_screenshot(file)?;
        }
        if let Some(file) = &self.stats {
            std::fs::write(file, serde_json::to_string_pretty(&machine.stats()?)?)?;
        }
        Ok(())
    }

    /// The emulator has the terminal itself.
    fn run_on_terminal(&self, spec: &Spec) -> Result<()> {
        if !self.window() && !self.headless {
            eprintln!(
                "No graphical display here: the guest's serial port is on this terminal, its screen is not shown."
            );
        }
        let emulator = emulator(spec);
        eprintln!("{}\n", emulator.how_to_end());
        let folder = paths::build_folder(rpc::RUNNING);
        let mut command = emulator.command(spec, &folder, Wiring::Terminal, self.window())?;
        let mut child = command.spawn().context("cannot start the emulator")?;
        let deadline =
            self.timeout.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.max(0.0)));
        loop {
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(emulator.is_success(status), "the emulator failed ({status})");
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                child.kill()?;
                child.wait()?;
                // The emulator had no chance to put the terminal right.
                Command::new("stty").arg("sane").status()?;
                return Err(Failure::TimedOut("running on the terminal".into()).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("no file {}", path.display()))
}

fn relay(mut source: impl Read, serial: &Serial) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = source.read(&mut bytes) {
        if serial.write(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Replaces `\n`, `\r`, `\t`, `\e` and `\\`.
fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('e') => '\u{1b}',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[test]
    fn steps_keep_the_order_of_the_command_line() {
        let line = [
            "run",
            "--type",
            "a",
            "--expect",
            "b",
            "--type",
            "c",
            "--type-serial",
            "d\\n",
            "--expect",
            "e",
        ];
        let matches = RunArgs::augment_args(Command::new("run")).get_matches_from(line);
        let steps = RunArgs::from_arg_matches(&matches).unwrap().steps(&matches);
        let text = |text: &str| text.to_owned();
        let expected = [
            Step::Type(text("a")),
            Step::Expect(text("b")),
            Step::Type(text("c")),
            Step::TypeSerial(text("d\n")),
            Step::Expect(text("e")),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\n\e\\n\"), "a\n\u{1b}\\n\\");
    }
}
