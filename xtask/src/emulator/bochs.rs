//! Bochs: Intel VT-x, AMD-V, or a plain PC for comparison.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use super::bochs_setup::Installation;
use super::{Backend, Emulator, Medium, Spec, Wiring, module_name, mortal};
use crate::image::{Contents, Loader};
use crate::rpc::MANAGEMENT_SOCKET;

/// CPUs with everything that Bulkhead uses of VT-x and of AMD-V.
const INTEL_CPU: &str = "corei7_haswell_4770";
const AMD_CPU: &str = "ryzen";

/// The file of the debugger's commands.
const DEBUGGER_COMMANDS: &str = "debugger";

/// The most memory that Bochs takes from the host. A machine's memory beyond that goes to a file
/// when it is used.
const MAX_HOST_MEMORY_MIB: u64 = 1536;

/// Instructions that pass in one emulated second, and ticks of the time-stamp counter.
pub const INSTRUCTIONS_PER_SECOND: u64 = 50_000_000;

/// Bulkhead in Bochs's i440FX machine, booted by GRUB from a CD-ROM.
pub struct Bulkhead;

/// The guest in Bochs's i440FX machine.
pub struct Direct;

impl Emulator for Bulkhead {
    fn command(
        &self,
        spec: &Spec,
        folder: &Path,
        wiring: Wiring,
        _window: bool,
    ) -> Result<Command> {
        let memory_mib = spec.machine_memory_mib()?;
        let bochs = Installation::find()?;
        ensure!(spec.medium == Medium::Cdrom, "Bochs boots from CD-ROM only");
        ensure!(spec.host_disks.is_empty(), "disks of the machine's own need QEMU");
        let iso = match &spec.host_image {
            Some(iso) => iso.clone(),
            None => boot_iso(spec, folder)?,
        };
        let com2 = match wiring {
            Wiring::Harness => Socket::connecting(folder.join(MANAGEMENT_SOCKET)),
            Wiring::Terminal => Socket::listening(folder.join(MANAGEMENT_SOCKET))?,
        };
        let mut lines = machine(spec, &bochs, memory_mib, Some(&iso))?;
        lines.extend([com1(folder, wiring)?, socket_line(2, com2.port()?)]);
        start(&bochs, spec, folder, wiring, &lines)
    }

    fn has_management_port(&self) -> bool {
        true
    }

    fn has_monitor(&self) -> bool {
        false
    }

    fn may_stall(&self) -> bool {
        true
    }

    fn how_to_end(&self) -> &'static str {
        "Ctrl-A three times leads to the hypervisor's prompt, whose command host poweroff ends the machine. Its screen is a VNC server on this host (port 5900 or the next free one)."
    }

    fn is_success(&self, status: ExitStatus) -> bool {
        is_success(status)
    }
}

impl Emulator for Direct {
    fn command(
        &self,
        spec: &Spec,
        folder: &Path,
        wiring: Wiring,
        _window: bool,
    ) -> Result<Command> {
        let bochs = Installation::find()?;
        let mut lines = machine(spec, &bochs, u64::from(spec.memory_mib), spec.iso.as_deref())?;
        if let Some(disk) = &spec.hard_disk {
            // Sectors that the guest writes go to a file beside the journal's name, which is gone
            // at once.
            lines.push(format!(
                "ata0-master: type=disk, mode=volatile, journal={}, path={}, cylinders=0, heads=16, spt=63",
                folder.join("disk").display(),
                disk.display()
            ));
        }
        lines.push(com1(folder, wiring)?);
        start(&bochs, spec, folder, wiring, &lines)
    }

    fn has_management_port(&self) -> bool {
        false
    }

    fn has_monitor(&self) -> bool {
        false
    }

    fn how_to_end(&self) -> &'static str {
        "The machine ends when the guest powers it off. Its screen is a VNC server on this host (port 5900 or the next free one)."
    }

    fn is_success(&self, status: ExitStatus) -> bool {
        is_success(status)
    }
}

/// However a machine ends in Bochs, the status is 1.
fn is_success(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 1))
}

/// The configuration of a machine that boots `cdrom`, without its serial ports.
fn machine(
    spec: &Spec,
    bochs: &Installation,
    memory_mib: u64,
    cdrom: Option<&Path>,
) -> Result<Vec<String>> {
    if spec.kvm || spec.uefi {
        bail!("Bochs has neither KVM nor UEFI");
    }
    let cpu = match spec.backend {
        Backend::Svm => AMD_CPU,
        Backend::Vmx => INTEL_CPU,
    };
    let mut lines = vec![
        "config_interface: textconfig".to_owned(),
        // The machine's screen is at the first free VNC display; nothing waits for a viewer.
        "display_library: rfb, options=\"timeout=0\"".to_owned(),
        format!(
            "cpu: model={}, count={}, ips={}, reset_on_triple_fault={}, ignore_bad_msrs={}",
            spec.cpu.as_deref().unwrap_or(cpu),
            spec.smp,
            INSTRUCTIONS_PER_SECOND * spec.speed,
            // A guest sees what real machines do; the hypervisor's own end is the emulator's, and
            // it may try any MSR.
            u8::from(spec.direct),
            u8::from(!spec.direct || spec.lenient_msrs),
        ),
        memory(memory_mib),
        format!("romimage: file={}", bochs.bios.display()),
        format!("vgaromimage: file={}", bochs.vga_bios.display()),
        "vga: extension=vbe, update_freq=1".to_owned(),
        "pci: enabled=1, chipset=i440fx".to_owned(),
        "ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15".to_owned(),
        "boot: cdrom".to_owned(),
        // Time is the count of instructions.
        "clock: sync=none, time0=utc".to_owned(),
        "log: bochs.log".to_owned(),
        "panic: action=fatal".to_owned(),
        // Each access of a guest to a device's memory would be an error.
        "error: action=ignore".to_owned(),
        "info: action=ignore".to_owned(),
        "debug: action=ignore".to_owned(),
        "mouse: enabled=0".to_owned(),
        "speaker: enabled=0, mode=none".to_owned(),
    ];
    lines
        .extend(cdrom.map(|iso| {
            format!("ata1-master: type=cdrom, path={}, status=inserted", iso.display())
        }));
    Ok(lines)
}

/// There is no RAM at these addresses: Bochs (iodev/devices.cc) tells its BIOS of what is below
/// and of what is from 4 GiB on, and a machine that has more than 3 GiB loses 1 GiB of it.
const PCI_HOLE_MIB: std::ops::Range<u64> = 3072..4096;

/// The memory of a machine that has `usable_mib` of RAM. In the blocks of 128 KiB that are usual, 6
/// GiB would take Bochs half a minute to set up.
fn memory(usable_mib: u64) -> String {
    let mib = match usable_mib {
        mib if mib <= PCI_HOLE_MIB.start => mib,
        mib => mib + PCI_HOLE_MIB.end - PCI_HOLE_MIB.start,
    };
    match mib {
        ..=MAX_HOST_MEMORY_MIB => format!("memory: guest={mib}, host={mib}"),
        _ => format!("memory: guest={mib}, host={MAX_HOST_MEMORY_MIB}, block_size=2048"),
    }
}

fn com1(folder: &Path, wiring: Wiring) -> Result<String> {
    Ok(match wiring {
        Wiring::Harness => socket_line(1, Socket::connecting(folder.join("com1.sock")).port()?),
        Wiring::Terminal => "com1: enabled=1, mode=term, dev=/dev/tty".to_owned(),
    })
}

/// The command that runs the machine of `lines`.
fn start(
    bochs: &Installation,
    spec: &Spec,
    folder: &Path,
    wiring: Wiring,
    lines: &[String],
) -> Result<Command> {
    std::fs::write(folder.join("bochsrc"), lines.join("\n") + "\n")?;
    let mut command = mortal(&bochs.program[0]);
    command.args(&bochs.program[1..]).args(["-q", "-unlock", "-f", "bochsrc"]);
    if spec.smp > 1 {
        // With several CPUs the usual loop does not commit RIP when an exception has been delivered
        // (findings/bochs-several-cpus-stale-rip.sh), and a VM exit for an interrupt that comes
        // then reports that of the instruction before. The debugger's loop does, in four times the
        // time.
        std::fs::write(folder.join(DEBUGGER_COMMANDS), "continue\n")?;
        command.args(["-debugger", "-rc", DEBUGGER_COMMANDS]);
    }
    command
        .args(&spec.arguments)
        .envs(bochs.environment.iter().cloned())
        .current_dir(folder)
        .stdin(Stdio::null());
    if wiring == Wiring::Terminal {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    Ok(command)
}

/// Makes the CD-ROM that the machine boots.
fn boot_iso(spec: &Spec, folder: &Path) -> Result<PathBuf> {
    let modules: Vec<(PathBuf, String)> =
        spec.modules().map(|file| Ok((file.clone(), module_name(file)?))).collect::<Result<_>>()?;
    let tree = folder.join("iso");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    let output = folder.join("boot.iso");
    let cmdline = spec.hypervisor_cmdline();
    let contents =
        Contents { image: &spec.image, cmdline: &cmdline, modules: &modules, loader: Loader::Text };
    contents.write_iso(&tree, &output)?;
    std::fs::remove_dir_all(&tree)?;
    Ok(output)
}

fn socket_line(number: u8, port: u16) -> String {
    format!("com{number}: enabled=1, mode=socket-client, dev=127.0.0.1:{port}")
}

/// The harness speaks over Unix sockets, Bochs over TCP: a thread stands between them.
enum Socket {
    /// Connects to whoever listens at the path.
    Connecting(PathBuf),
    /// Listens, for one client after the other.
    Listening(UnixListener),
}

impl Socket {
    fn connecting(path: PathBuf) -> Self {
        Self::Connecting(path)
    }

    fn listening(path: PathBuf) -> Result<Self> {
        // Left over from an earlier run.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self::Listening(listener))
    }

    /// The port that Bochs connects to.
    fn port(self) -> Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no TCP port for Bochs")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            let Ok((serial, _)) = listener.accept() else { return };
            match self {
                Self::Connecting(path) => {
                    if let Ok(harness) = UnixStream::connect(path) {
                        join(&serial, &harness);
                    }
                    let _ = serial.shutdown(Shutdown::Both);
                }
                Self::Listening(clients) => serve(&serial, &clients),
            }
        });
        Ok(port)
    }
}

/// Passes bytes between the serial port and one client after the other. The port is read all the
/// time: what it says while no client is there is lost, and a client that has gone does not keep
/// the next one waiting until it says something.
fn serve(serial: &TcpStream, clients: &UnixListener) {
    // Without the option the answer to each line waits for the next one.
    let _ = serial.set_nodelay(true);
    let current = Mutex::new(None::<UnixStream>);
    let current = || current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut serial, mut bytes) = (serial, [0; 4096]);
            while let Ok(count @ 1..) = serial.read(&mut bytes) {
                // A client that has gone is replaced by the next.
                let _ = current().as_mut().map(|client| client.write_all(&bytes[..count]));
            }
        });
        for client in clients.incoming().flatten() {
            *current() = client.try_clone().ok();
            pass(client, serial);
        }
    });
}

/// Passes bytes both ways until one side ends.
fn join(serial: &TcpStream, harness: &UnixStream) {
    // Without the option the answer to each line waits for the next one.
    let _ = serial.set_nodelay(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pass(serial, harness);
            let _ = harness.shutdown(Shutdown::Both);
        });
        pass(harness, serial);
        let _ = harness.shutdown(Shutdown::Both);
    });
}

fn pass(mut from: impl Read, mut to: impl Write) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_after_the_other_is_served() {
        let folder = std::env::temp_dir().join(format!("bulkhead-serve-{}", std::process::id()));
        let port = Socket::listening(folder.clone()).unwrap().port().unwrap();
        let mut serial = TcpStream::connect(("127.0.0.1", port)).unwrap();
        for word in [b"one", b"two"] {
            let mut client = UnixStream::connect(&folder).unwrap();
            let mut bytes = [0; 3];
            client.write_all(word).unwrap();
            serial.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, word);
            serial.write_all(word).unwrap();
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, word);
        }
        std::fs::remove_file(folder).unwrap();
    }

    #[test]
    fn no_ram_is_lost_in_the_hole() {
        assert_eq!(memory(512), "memory: guest=512, host=512");
        assert_eq!(memory(3072), "memory: guest=3072, host=1536, block_size=2048");
        assert_eq!(memory(3073), "memory: guest=4097, host=1536, block_size=2048");
    }
}
