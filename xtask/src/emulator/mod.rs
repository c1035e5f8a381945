//! The emulators that stand in for machines, and what they run.

pub mod bochs;
mod bochs_setup;
pub mod host_disk;
mod keys;
pub mod monitor;
pub mod no_control;
pub mod qemu;
pub mod rpc_control;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use host_disk::HostDisk;
use serde_json::Value;

use crate::paths;
use crate::screen::TextScreen;

/// Whose processor the machine has, and so what the hypervisor runs guests by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// AMD-V, by default in QEMU
    #[default]
    Svm,
    /// Intel VT-x, in Bochs
    Vmx,
}

impl Backend {
    /// The emulator that is used if no other is asked for.
    pub fn usual_emulator(self) -> EmulatorKind {
        match self {
            Self::Svm => EmulatorKind::Qemu,
            Self::Vmx => EmulatorKind::Bochs,
        }
    }
}

/// A program that stands in for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmulatorKind {
    /// Fast; has AMD-V only, unless the machine's own processor is lent by KVM
    Qemu,
    /// Exact; has AMD-V and Intel VT-x
    Bochs,
}

/// How a whole machine is given the boot medium that `cargo xtask image` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Medium {
    /// A CD-ROM
    #[default]
    Cdrom,
    /// A hard disk
    Disk,
    /// A USB stick
    Usb,
    /// A TFTP server, for PXE: the medium is a folder
    Network,
}

/// A machine to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which hardware virtualisation the hypervisor uses.
    pub backend: Backend,
    /// The emulator that runs the machine; `None` is the backend's usual one.
    pub emulator: Option<EmulatorKind>,
    /// The guest runs on the emulator itself, without the hypervisor.
    pub direct: bool,
    /// The hypervisor's image.
    pub image: PathBuf,
    /// The guest's CD-ROM.
    pub iso: Option<PathBuf>,
    /// The guest's xl.cfg.
    pub config: Option<PathBuf>,
    /// More files that the configuration names.
    pub disks: Vec<PathBuf>,
    /// The guest's first IDE drive: a raw image of whole cylinders, of 16 heads and 63 sectors. It
    /// keeps what it holds, whatever the guest writes. Under the hypervisor the configuration
    /// has to name it.
    pub hard_disk: Option<PathBuf>,
    /// The machine's own disks, for the hypervisor to drive; in QEMU only.
    pub host_disks: Vec<HostDisk>,
    /// The medium that the whole machine boots (made by `cargo xtask image`) instead of being given
    /// `image` and its modules.
    pub host_image: Option<PathBuf>,
    /// Where the machine has `host_image`.
    pub medium: Medium,
    /// The machine's firmware is UEFI.
    pub uefi: bool,
    /// The emulator's CPU model; `None` is its best.
    pub cpu: Option<String>,
    /// The machine's CPUs.
    pub smp: u32,
    /// The guest's memory, MiB.
    pub memory_mib: u32,
    /// The guest's virtual CPUs.
    pub vcpus: u32,
    /// More of the hypervisor's command line.
    pub cmdline: String,
    /// The emulated CPU's clock counts instructions, so that runs repeat exactly. In Bochs it
    /// always does.
    pub count_instructions: bool,
    /// In Bochs, of a guest without the hypervisor: MSRs that the CPU has and the emulator lacks
    /// read 0. Linux needs it: it reads MISC_ENABLE before it can take the #GP.
    pub lenient_msrs: bool,
    /// In Bochs: how many times faster than usual the CPU is, against every clock.
    pub speed: u64,
    /// Uses the machine's own hardware virtualisation (nested) instead of translating code.
    pub kvm: bool,
    /// More arguments for the emulator.
    pub arguments: Vec<String>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            backend: Backend::Svm,
            emulator: None,
            direct: false,
            image: crate::paths::image(),
            iso: None,
            config: None,
            disks: Vec::new(),
            hard_disk: None,
            host_disks: Vec::new(),
            host_image: None,
            medium: Medium::Cdrom,
            uefi: false,
            cpu: None,
            smp: 1,
            memory_mib: 512,
            vcpus: 1,
            cmdline: String::new(),
            count_instructions: false,
            lenient_msrs: false,
            speed: 1,
            kvm: false,
            arguments: Vec::new(),
        }
    }
}

/// The hypervisor takes this much beside the guest's memory and the modules: its image, heap, page
/// tables, VGA memory, XenStore and disks of a few guests.
const OVERHEAD_MIB: u64 = 224;

impl Spec {
    /// The emulator that runs the machine.
    pub fn emulator_kind(&self) -> EmulatorKind {
        let usual = if self.kvm { EmulatorKind::Qemu } else { self.backend.usual_emulator() };
        self.emulator.unwrap_or(usual)
    }

    /// The files that are loaded beside the hypervisor's image.
    fn modules(&self) -> impl Iterator<Item = &PathBuf> {
        self.iso.iter().chain(&self.config).chain(&self.disks).chain(&self.hard_disk)
    }

    /// The hypervisor's command line.
    fn hypervisor_cmdline(&self) -> String {
        let mut words = vec!["console=com1 rpc=com2".to_owned()];
        if self.emulator_kind() == EmulatorKind::Bochs && self.backend == Backend::Vmx {
            // Bochs 3.0 delivers virtual interrupts to a guest that has them off: docs/vmx.md.
            words.push("apicv=off".to_owned());
        }
        if self.config.is_none() {
            words.push(format!("guest_memory={} guest_vcpus={}", self.memory_mib, self.vcpus));
        }
        if !self.cmdline.is_empty() {
            words.push(self.cmdline.clone());
        }
        words.join(" ")
    }

    /// The guest's memory: as its configuration says, if it has one.
    fn guest_memory_mib(&self) -> u64 {
        let text = self
            .config
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_default();
        let setting = |line: &str| {
            line.trim().strip_prefix("memory")?.trim().strip_prefix('=')?.trim().parse().ok()
        };
        text.lines().find_map(setting).unwrap_or(u64::from(self.memory_mib))
    }

    /// The machine's memory for the hypervisor, its modules and the guest.
    fn machine_memory_mib(&self) -> Result<u64> {
        let mut mib = self.guest_memory_mib() + OVERHEAD_MIB;
        for file in self.host_image.iter().chain(self.modules()) {
            let bytes =
                size_bytes(file).with_context(|| format!("cannot read {}", file.display()))?;
            mib += bytes.div_ceil(1 << 20);
        }
        Ok(mib)
    }
}

/// The size of a file, or of all that is in a folder.
fn size_bytes(path: &Path) -> std::io::Result<u64> {
    if !path.is_dir() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| size_bytes(&entry?.path())).sum()
}

/// The name of a module, by which configurations refer to it. It becomes the module's command line,
/// in which a blank ends the file name and a comma the module: neither is kept.
///
/// # Errors
/// If the path has no file name.
pub fn module_name(file: &Path) -> Result<String> {
    let name = file
        .file_name()
        .with_context(|| format!("{} is no file", file.display()))?
        .to_string_lossy();
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || "._-+".contains(letter) { letter } else { '_' }
    };
    Ok(name.chars().map(plain).collect())
}

/// A command that ends when the harness is killed.
fn mortal(program: impl AsRef<OsStr>) -> Command {
    if paths::program("setpriv").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// The other end of the machine's serial port and monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The harness, by the sockets `com1.sock`, `com2.sock` and `monitor.sock` in the machine's
    /// folder, on which it listens before the emulator starts.
    Harness,
    /// The user, on the terminal.
    Terminal,
}

/// An emulator program.
pub trait Emulator {
    /// The command that runs `spec`. Its working folder is `folder`, where it may put files.
    ///
    /// # Errors
    /// If the emulator cannot run such a machine.
    fn command(&self, spec: &Spec, folder: &Path, wiring: Wiring, window: bool) -> Result<Command>;

    /// Whether COM2 is the hypervisor's management port, so that `com2.sock` is connected.
    fn has_management_port(&self) -> bool;

    /// Whether `monitor.sock` is connected (QEMU's QMP).
    fn has_monitor(&self) -> bool;

    /// Whether it may stop making progress for no fault of what it runs.
    fn may_stall(&self) -> bool {
        false
    }

    /// How a user on the terminal ends it.
    fn how_to_end(&self) -> &'static str {
        "Ctrl-] x ends the emulator."
    }

    /// Whether a machine that powered itself off ends with this status.
    fn is_success(&self, status: ExitStatus) -> bool {
        status.success()
    }
}

/// The emulator that runs `spec`.
pub fn emulator(spec: &Spec) -> Box<dyn Emulator> {
    match (spec.emulator_kind(), spec.direct) {
        (EmulatorKind::Qemu, true) => Box::new(qemu::Direct),
        (EmulatorKind::Qemu, false) => Box::new(qemu::Bulkhead),
        (EmulatorKind::Bochs, true) => Box::new(bochs::Direct),
        (EmulatorKind::Bochs, false) => Box::new(bochs::Bulkhead),
    }
}

/// The guest's screen, keyboard and mouse, wherever they are reached.
pub trait Control: Send {
    /// The guest's screen as text; `None` while it shows graphics.
    ///
    /// # Errors
    /// If it cannot be had.
    fn screen_text(&mut self) -> Result<Option<TextScreen>>;

    /// The guest's screen as a PNG file.
    ///
    /// # Errors
    /// If it cannot be had.
    fn screen_png(&mut self) -> Result<Vec<u8>>;

    /// Types ASCII text on the guest's keyboard.
    ///
    /// # Errors
    /// If it cannot be typed.
    fn type_text(&mut self, text: &str) -> Result<()>;

    /// Presses and releases a key: a scan code of set 1, `extended` if E0 comes before it.
    ///
    /// # Errors
    /// If it cannot be typed.
    fn press_key(&mut self, code: u8, extended: bool) -> Result<()>;

    /// Calls a method of the port behind it, which answers within `patience`.
    ///
    /// # Errors
    /// If it fails or is not answered in time.
    fn call(&mut self, method: &str, params: Value, patience: Duration) -> Result<Value>;
}
