//! Guests that everybody can make: ISO images from Debian's packages, in `build/guests`.

mod assembled;
mod installer;
mod isolinux;
mod linux;

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::debian::Source;
use crate::{paths, setup};

/// The line that the Linux guests print when their userspace runs.
pub const LINUX_MARKER: &str = "BULKHEAD-GUEST userspace";

/// The text that the shells of the Linux guests print when they are ready for a command.
pub const LINUX_PROMPT: &str = "guest# ";

/// A guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guest {
    /// 64-bit Linux and a shell on the serial port and the screen
    LinuxAmd64,
    /// The same, which loads the driver of Xen's PV disks and shows what it has of Xen's
    LinuxAmd64Xen,
    /// The same with kernel messages off, as distributions boot
    LinuxAmd64Quiet,
    /// The same, which prints what its kernel complained about
    LinuxAmd64Complaints,
    /// The same with the drivers of the CD-ROM
    LinuxAmd64Cdrom,
    /// The same with the drivers of the power button
    LinuxAmd64Buttons,
    /// The same with the driver of Xen's PV disks
    LinuxAmd64Pv,
    /// The same, which is told of Xen's events by an interrupt line
    LinuxAmd64PvLine,
    /// The same, which starts another kernel by kexec
    LinuxAmd64PvKexec,
    /// The same with the drivers of IDE's and of Xen's PV disks at once, for `cargo xtask bench`
    LinuxAmd64Disks,
    /// The same with the drivers of IDE's disks, Xen's PV disks, and ext4
    LinuxAmd64Storage,
    /// 32-bit Linux with PAE and a shell
    #[value(name = "linux-686-pae")]
    Linux686Pae,
    /// The same, which prints what its kernel complained about
    #[value(name = "linux-686-pae-complaints")]
    Linux686PaeComplaints,
    /// 32-bit Linux with two-level paging and a shell
    #[value(name = "linux-686")]
    Linux686,
    /// Debian's installer on the serial port
    InstallerSerial,
    /// Debian's installer on the screen
    InstallerScreen,
    /// Memtest86+, 64-bit
    MemtestX64,
    /// Memtest86+, 32-bit
    MemtestIa32,
    /// iPXE
    Ipxe,
    /// GRUB's rescue CD
    GrubRescue,
    /// Measures what exits cost, for `cargo xtask bench`
    Exits,
    /// Measures what an event of Xen's costs, for `cargo xtask bench`
    Events,
    /// Attacks the hypervisor, as it is told on its serial port
    Hostile,
    /// Shuts its CPU down by a triple fault
    TripleFault,
    /// Says what its mouse does
    Mouse,
    /// Says what comes from its keyboard and on its serial port
    Input,
    /// Spins with PAUSE
    Spin,
    /// Waits to be stepped through
    Steps,
    /// Counts ticks of its timer
    Ticks,
    /// Has its second virtual CPU send interrupts to its first
    Ipis,
    /// Counts interrupts of its interval timer at high rates
    Rates,
    /// Loads and stores the registers of descriptors
    Descriptors,
    /// Says what its first hard disk begins with
    FirstDisk,
    /// Says where its RAM lies, and tries it
    Ram,
    /// Spins with patterns in all registers, and looks whether they stay
    Patterns,
}

/// The sources of the guests in assembly language.
const EXITS: &[(&str, &str)] = &[("exits.asm", include_str!("exits.asm")), ENTER];
const EVENTS: &[(&str, &str)] =
    &[("events.asm", include_str!("events.asm")), X2APIC, ENTER, SERIAL];
const HOSTILE: &[(&str, &str)] = &[
    ("boot.asm", include_str!("hostile/boot.asm")),
    ENTER,
    ("attacks.asm", include_str!("hostile/attacks.asm")),
    ("processor.asm", include_str!("hostile/processor.asm")),
    ("devices.asm", include_str!("hostile/devices.asm")),
    ("control_flow.asm", include_str!("hostile/control_flow.asm")),
    ("storms.asm", include_str!("hostile/storms.asm")),
    ("end.asm", include_str!("hostile/end.asm")),
    ("tables.asm", include_str!("hostile/tables.asm")),
];
const DESCRIPTORS: &[(&str, &str)] =
    &[("descriptors.asm", include_str!("descriptors.asm")), ENTER, SERIAL];
const FIRST_DISK: &[(&str, &str)] =
    &[("first_disk.asm", include_str!("first_disk.asm")), ENTER, SERIAL];
const INPUT: &[(&str, &str)] = &[("input.asm", include_str!("input.asm")), ENTER, SERIAL];
const MOUSE: &[(&str, &str)] = &[("mouse.asm", include_str!("mouse.asm")), ENTER, SERIAL];
const PATTERNS: &[(&str, &str)] = &[("patterns.asm", include_str!("patterns.asm")), ENTER];
const RAM: &[(&str, &str)] = &[("ram.asm", include_str!("ram.asm")), ENTER, SERIAL];
const RATES: &[(&str, &str)] = &[("rates.asm", include_str!("rates.asm")), ENTER, SERIAL];
const SPIN: &[(&str, &str)] = &[("spin.asm", include_str!("spin.asm")), ENTER, SERIAL];
const STEPS: &[(&str, &str)] = &[("steps.asm", include_str!("steps.asm")), ENTER, SERIAL];
const IPIS: &[(&str, &str)] = &[("ipis.asm", include_str!("ipis.asm")), X2APIC, ENTER, SERIAL];
const TICKS: &[(&str, &str)] = &[("ticks.asm", include_str!("ticks.asm")), X2APIC, ENTER, SERIAL];
const TRIPLE_FAULT: &[(&str, &str)] =
    &[("triple_fault.asm", include_str!("triple_fault.asm")), ENTER, SERIAL];
/// The sources that they share.
const ENTER: (&str, &str) = ("enter.asm", include_str!("enter.asm"));
const SERIAL: (&str, &str) = ("serial.asm", include_str!("serial.asm"));
const X2APIC: (&str, &str) = ("x2apic.asm", include_str!("x2apic.asm"));

impl Guest {
    /// The name used on the command line and for the file.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The guest's ISO, made when it is not there yet.
    ///
    /// # Errors
    /// If a program or a package that it is made of cannot be had.
    pub fn iso(self) -> Result<PathBuf> {
        // Guests share packages; one at a time is made.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        setup::require(&[setup::GUESTS])?;
        let name = self.name();
        let made = match self {
            Self::LinuxAmd64 => linux::AMD64.iso(&name),
            Self::LinuxAmd64Xen => linux::AMD64_XEN.iso(&name),
            Self::LinuxAmd64Quiet => linux::AMD64_QUIET.iso(&name),
            Self::LinuxAmd64Complaints => linux::AMD64_COMPLAINTS.iso(&name),
            Self::LinuxAmd64Cdrom => linux::AMD64_CDROM.iso(&name),
            Self::LinuxAmd64Buttons => linux::AMD64_BUTTONS.iso(&name),
            Self::LinuxAmd64Pv => linux::AMD64_PV.iso(&name),
            Self::LinuxAmd64PvLine => linux::AMD64_PV_LINE.iso(&name),
            Self::LinuxAmd64PvKexec => linux::AMD64_PV_KEXEC.iso(&name),
            Self::LinuxAmd64Disks => linux::AMD64_DISKS.iso(&name),
            Self::LinuxAmd64Storage => linux::AMD64_STORAGE.iso(&name),
            Self::Linux686Pae => linux::I686_PAE.iso(&name),
            Self::Linux686PaeComplaints => linux::I686_PAE_COMPLAINTS.iso(&name),
            Self::Linux686 => linux::I686.iso(&name),
            Self::InstallerSerial => installer::iso(&name, "console=ttyS0,115200"),
            Self::InstallerScreen => installer::iso(&name, ""),
            Self::Exits => assembled::iso(&name, EXITS),
            Self::Events => assembled::iso(&name, EVENTS),
            Self::Hostile => assembled::iso(&name, HOSTILE),
            Self::Input => assembled::iso(&name, INPUT),
            Self::Mouse => assembled::iso(&name, MOUSE),
            Self::Steps => assembled::iso(&name, STEPS),
            Self::Ticks => assembled::iso(&name, TICKS),
            Self::Ipis => assembled::iso(&name, IPIS),
            Self::Rates => assembled::iso(&name, RATES),
            Self::Descriptors => assembled::iso(&name, DESCRIPTORS),
            Self::FirstDisk => assembled::iso(&name, FIRST_DISK),
            Self::Ram => assembled::iso(&name, RAM),
            Self::Patterns => assembled::iso(&name, PATTERNS),
            Self::TripleFault => assembled::iso(&name, TRIPLE_FAULT),
            Self::Spin => assembled::iso(&name, SPIN),
            Self::MemtestX64 => ready_made("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso"),
            Self::MemtestIa32 => ready_made("memtest86+", "usr/lib/memtest86+/memtest86+ia32.iso"),
            Self::Ipxe => ready_made("ipxe", "usr/lib/ipxe/ipxe.iso"),
            Self::GrubRescue => {
                ready_made("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso")
            }
        };
        made.with_context(|| format!("cannot make the guest {name}"))
    }
}

fn ready_made(package: &str, file: &str) -> Result<PathBuf> {
    let iso = Source::System.unpacked(package)?.join(file);
    anyhow::ensure!(iso.is_file(), "the package {package} has no file {file}");
    Ok(iso)
}

/// Makes `NAME.iso` by `make` unless it was made by the same `recipe` before.
fn cached(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&std::path::Path) -> Result<()>,
) -> Result<PathBuf> {
    let iso = paths::build(&format!("guests/{name}.iso"));
    let record = paths::build(&format!("guests/{name}.recipe"));
    if iso.is_file() && std::fs::read_to_string(&record).is_ok_and(|made_by| made_by == recipe) {
        return Ok(iso);
    }
    make(&iso)?;
    std::fs::write(record, recipe)?;
    Ok(iso)
}
