//! QEMU: AMD-V under TCG for the hypervisor, or a plain PC for comparison.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Emulator, Spec, Wiring};
use crate::{paths, setup};

/// The hypervisor takes this much beside the guest's memory and the modules: its image, heap, page tables, VGA memory.
const OVERHEAD_MIB: u64 = 192;

/// Bulkhead in a Q35 machine with AMD-V.
pub struct Bulkhead;

/// The guest in QEMU's own i440FX machine.
pub struct Direct;

impl Emulator for Bulkhead {
    fn command(&self, spec: &Spec, folder: &Path, wiring: Wiring, window: bool) -> Result<Command> {
        let mut command = qemu(spec, folder, window)?;
        command.args(["-machine", "q35", "-no-reboot"]);
        let mut memory_mib = guest_memory_mib(spec) + OVERHEAD_MIB;
        match &spec.host_iso {
            Some(iso) => {
                command.arg("-cdrom").arg(iso);
                memory_mib += size_mib(iso)?;
            }
            None => {
                let mut modules = Vec::new();
                for file in spec.iso.iter().chain(&spec.config) {
                    modules.push(module(file, folder)?);
                    memory_mib += size_mib(file)?;
                }
                command.arg("-kernel").arg(&spec.image);
                command.args(["-append", &cmdline(spec)]);
                if !modules.is_empty() {
                    command.arg("-initrd").arg(modules.join(","));
                }
            }
        }
        command.args(["-m", &memory_mib.to_string()]);
        wire_com1(&mut command, wiring);
        let com2 = match wiring {
            Wiring::Harness => "socket,id=com2,path=com2.sock",
            Wiring::Terminal => "socket,id=com2,path=com2.sock,server=on,wait=off",
        };
        command.args(["-chardev", com2, "-serial", "chardev:com2"]).args(&spec.arguments);
        Ok(command)
    }

    fn has_management_port(&self) -> bool {
        true
    }

    fn has_monitor(&self) -> bool {
        true
    }
}

impl Emulator for Direct {
    fn command(&self, spec: &Spec, folder: &Path, wiring: Wiring, window: bool) -> Result<Command> {
        let mut command = qemu(spec, folder, window)?;
        command.args(["-machine", "pc", "-m", &spec.memory_mib.to_string()]);
        if let Some(iso) = &spec.iso {
            command.arg("-cdrom").arg(iso).args(["-boot", "d"]);
        }
        wire_com1(&mut command, wiring);
        command.args(&spec.arguments);
        Ok(command)
    }

    fn has_management_port(&self) -> bool {
        false
    }

    fn has_monitor(&self) -> bool {
        true
    }
}

fn qemu(spec: &Spec, folder: &Path, window: bool) -> Result<Command> {
    setup::require(&[setup::QEMU])?;
    // Where the harness is killed, its emulator must not live on.
    let mut command = if paths::program("setpriv").is_some() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command
    } else {
        Command::new("qemu-system-x86_64")
    };
    let (accelerator, cpu) = if spec.kvm { ("kvm", "host") } else { ("tcg", "max") };
    command
        .current_dir(folder)
        .args(["-nodefaults", "-vga", "std", "-accel", accelerator])
        .args(["-cpu", spec.cpu.as_deref().unwrap_or(cpu)])
        .args(["-smp", &spec.smp.to_string()]);
    if !window {
        command.args(["-display", "none"]);
    }
    if spec.uefi {
        command.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
    }
    if spec.count_instructions {
        command
            .args(["-icount", "shift=0,sleep=off", "-seed", "1"])
            .args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
    }
    Ok(command)
}

/// The hypervisor's command line.
fn cmdline(spec: &Spec) -> String {
    let mut words = vec!["console=com1 rpc=com2".to_owned()];
    if spec.config.is_none() {
        words.push(format!("guest_memory={}", spec.memory_mib));
    }
    if !spec.cmdline.is_empty() {
        words.push(spec.cmdline.clone());
    }
    words.join(" ")
}

/// What the guest takes: as its configuration says, if it has one.
fn guest_memory_mib(spec: &Spec) -> u64 {
    let text = spec.config.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let setting =
        |line: &str| line.trim().strip_prefix("memory")?.trim().strip_prefix('=')?.trim().parse().ok();
    text.lines().find_map(setting).unwrap_or(u64::from(spec.memory_mib))
}

/// COM1, and the monitor: QMP for the harness; for the user behind Ctrl-], since Ctrl-A is the hypervisor's.
fn wire_com1(command: &mut Command, wiring: Wiring) {
    match wiring {
        Wiring::Harness => {
            command.args(["-chardev", "socket,id=com1,path=com1.sock", "-serial", "chardev:com1"]).args([
                "-chardev",
                "socket,id=monitor,path=monitor.sock",
                "-mon",
                "chardev=monitor,mode=control",
            ])
        }
        Wiring::Terminal => command
            .args(["-chardev", "stdio,id=com1,mux=on,signal=off", "-serial", "chardev:com1"])
            .args(["-mon", "chardev=com1", "-echr", "29"]),
    };
}

/// The name under which QEMU loads `file` as a multiboot module. The name becomes the module's command line, in which a blank
/// ends the file name and a comma the module; so a link without either is made in `folder`.
fn module(file: &Path, folder: &Path) -> Result<String> {
    let name: String =
        file.file_name()
            .with_context(|| format!("{} is no file", file.display()))?
            .to_string_lossy()
            .chars()
            .map(|character| {
                if character.is_ascii_alphanumeric() || "._-+".contains(character) { character } else { '_' }
            })
            .collect();
    let source = file.canonicalize().with_context(|| format!("no file {}", file.display()))?;
    ensure!(source.is_file(), "{} is no file", file.display());
    let link = folder.join(&name);
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(source, link)?;
    Ok(name)
}

fn size_mib(file: &Path) -> Result<u64> {
    let size = std::fs::metadata(file).with_context(|| format!("no file {}", file.display()))?.len();
    Ok(size.div_ceil(1 << 20))
}
