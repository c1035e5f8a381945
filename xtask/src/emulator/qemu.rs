//! QEMU: AMD-V under TCG for the hypervisor, or a plain PC for comparison.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Backend, Emulator, Medium, Spec, Wiring, module_name, mortal};
use crate::{image, setup};

const PROGRAM: &str = "qemu-system-x86_64";

/// Memory that the host has to have. Of larger machines' it needs only what they use.
const MAX_RESERVED_MIB: u64 = 4096;

/// Bulkhead in a Q35 machine with AMD-V.
pub struct Bulkhead;

/// The guest in QEMU's own i440FX machine.
pub struct Direct;

/// The major number of the version that is installed.
///
/// # Errors
/// If there is none, or it does not tell.
pub fn major_version() -> Result<u32> {
    setup::require(&[setup::QEMU])?;
    let output = Command::new(PROGRAM).arg("--version").output().context(PROGRAM)?;
    let text = String::from_utf8_lossy(&output.stdout);
    major_of(&text).with_context(|| format!("{PROGRAM} tells no version: {text}"))
}

/// From a text that begins "QEMU emulator version 7.2.22".
fn major_of(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version ")?;
    version.split('.').next()?.parse().ok()
}

impl Emulator for Bulkhead {
    fn command(&self, spec: &Spec, folder: &Path, wiring: Wiring, window: bool) -> Result<Command> {
        ensure!(
            spec.backend == Backend::Svm || spec.kvm,
            "QEMU emulates no VT-x: use Bochs, or KVM on a machine with VT-x"
        );
        let mut command = qemu(spec, folder, window)?;
        command.args(["-machine", "q35", "-no-reboot"]);
        match &spec.host_image {
            Some(image) => attach(&mut command, spec, image),
            None => {
                let mut modules = Vec::new();
                for file in spec.modules() {
                    modules.push(module(file, folder)?);
                }
                command.arg("-kernel").arg(&spec.image);
                command.args(["-append", &spec.hypervisor_cmdline()]);
                if !modules.is_empty() {
                    command.arg("-initrd").arg(modules.join(","));
                }
            }
        }
        for (number, disk) in spec.host_disks.iter().enumerate() {
            command.args(disk.arguments(number));
        }
        let memory_mib = spec.machine_memory_mib()?;
        command.args(["-m", &memory_mib.to_string()]);
        if memory_mib > MAX_RESERVED_MIB {
            let memory = format!("memory-backend-ram,id=memory,size={memory_mib}M,reserve=off");
            command.args(["-object", &memory, "-machine", "memory-backend=memory"]);
        }
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
        if let Some(disk) = &spec.hard_disk {
            let drive =
                format!("file={},format=raw,if=ide,index=0,snapshot=on", option_value(disk));
            command.args(["-drive", &drive]);
        }
        if let Some(iso) = &spec.iso {
            let drive = format!("file={},format=raw,media=cdrom,index=2", option_value(iso));
            command.args(["-drive", &drive, "-boot", "d"]);
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
    let mut command = mortal(PROGRAM);
    let (accelerator, cpu) = if spec.kvm { ("kvm", "host") } else { ("tcg", "max") };
    let mut cpu = spec.cpu.as_deref().unwrap_or(cpu).to_owned();
    if spec.count_instructions {
        // Timers that are set by MSRs, which 7.2 does not have, end QEMU 10 while it counts ("Bad
        // icount read").
        cpu += ",-x2apic,-tsc-deadline";
    }
    command
        .current_dir(folder)
        .args(["-nodefaults", "-vga", "std", "-accel", accelerator])
        .args(["-cpu", &cpu])
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

/// Gives the machine the medium that it boots, which is not written to.
fn attach(command: &mut Command, spec: &Spec, image: &Path) {
    let path = option_value(image);
    let drive = |kind| format!("file={path},format=raw,{kind}");
    match spec.medium {
        Medium::Cdrom => command.args(["-drive", &drive("media=cdrom")]),
        Medium::Disk => command.args(["-drive", &drive("media=disk,snapshot=on")]),
        Medium::Usb => command.args(["-drive", &drive("if=none,id=stick,snapshot=on")]).args([
            "-device",
            "qemu-xhci",
            "-device",
            "usb-storage,drive=stick",
        ]),
        Medium::Network => {
            let program = if spec.uefi { image::NETBOOT_UEFI } else { image::NETBOOT_BIOS };
            command
                .args(["-netdev", &format!("user,id=net,tftp={path},bootfile={program}")])
                .args(["-device", "e1000,netdev=net", "-boot", "n"])
        }
    };
}

/// A path as the value of one of QEMU's options, in which a comma ends the value unless it is
/// doubled.
fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// COM1, and the monitor: QMP for the harness; for the user behind Ctrl-], since Ctrl-A is the
/// hypervisor's.
fn wire_com1(command: &mut Command, wiring: Wiring) {
    match wiring {
        Wiring::Harness => command
            .args(["-chardev", "socket,id=com1,path=com1.sock", "-serial", "chardev:com1"])
            .args([
                "-chardev",
                "socket,id=monitor,path=monitor.sock",
                "-mon",
                "chardev=monitor,mode=control",
            ]),
        Wiring::Terminal => command
            .args(["-chardev", "stdio,id=com1,mux=on,signal=off", "-serial", "chardev:com1"])
            .args(["-mon", "chardev=com1", "-echr", "29"]),
    };
}

/// The name under which QEMU loads `file` as a multiboot module: that of a link to it, made in
/// `folder`.
fn module(file: &Path, folder: &Path) -> Result<String> {
    let name = module_name(file)?;
    let source = file.canonicalize().with_context(|| format!("no file {}", file.display()))?;
    ensure!(source.is_file(), "{} is no file", file.display());
    let link = folder.join(&name);
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(source, link)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_line() {
        let line = "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c)";
        assert_eq!(super::major_of(line), Some(10));
        assert_eq!(super::major_of("QEMU"), None);
    }
}
