//! Small Linux guests: a Debian kernel, unmodified, and an initramfs with BusyBox.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{cached, isolinux};
use crate::debian::Source;
use crate::paths;

/// How one is made.
pub struct Linux {
    source: Source,
    /// The meta package that depends on the newest kernel.
    kernel: &'static str,
    busybox: &'static str,
    cmdline: &'static str,
    /// Kernel modules that the script `load-modules` in the guest loads, in this order.
    modules: &'static [&'static str],
    /// Commands before its shell begins.
    greeting: &'static str,
    /// A program of its own: its name and its source.
    program: Option<(&'static str, &'static str)>,
}

const VERBOSE: &str = "console=tty0 console=ttyS0,115200";
/// The last word is for [`INIT`].
const VERBOSE_COMPLAINTS: &str = "console=tty0 console=ttyS0,115200 complaints";

/// `linux-amd64`
pub const AMD64: Linux = Linux {
    source: Source::System,
    kernel: "linux-image-cloud-amd64",
    busybox: "busybox-static",
    cmdline: VERBOSE,
    modules: &[],
    greeting: "",
    program: None,
};

/// `linux-amd64-xen`
pub const AMD64_XEN: Linux = Linux { modules: &["xen-blkfront"], greeting: XEN_GREETING, ..AMD64 };

/// `linux-amd64-quiet`
pub const AMD64_QUIET: Linux = Linux { cmdline: "console=ttyS0,115200 quiet", ..AMD64 };

/// `linux-amd64-complaints`
pub const AMD64_COMPLAINTS: Linux = Linux { cmdline: VERBOSE_COMPLAINTS, ..AMD64 };

/// `linux-amd64-cdrom`
pub const AMD64_CDROM: Linux = Linux {
    modules: &["scsi_common", "scsi_mod", "libata", "ata_piix", "cdrom", "sr_mod", "isofs"],
    ..AMD64
};

/// `linux-amd64-buttons`
pub const AMD64_BUTTONS: Linux = Linux { modules: &["button", "evdev"], ..AMD64_QUIET };

/// `linux-amd64-pv`
pub const AMD64_PV: Linux = Linux { modules: &["xen-blkfront", "xen-netfront"], ..AMD64_QUIET };

/// `linux-amd64-pv-line`
pub const AMD64_PV_LINE: Linux =
    Linux { cmdline: "console=ttyS0,115200 quiet xen_no_vector_callback", ..AMD64_PV };

/// `linux-amd64-pv-kexec`
pub const AMD64_PV_KEXEC: Linux = Linux {
    modules: &["xen-blkfront", "cdrom", "isofs"],
    program: Some(("kexec", include_str!("kexec.asm"))),
    ..AMD64_QUIET
};

/// `linux-amd64-disks`. It leaves IDE's disks where they are beside those of PV drivers.
pub const AMD64_DISKS: Linux = Linux {
    cmdline: "console=ttyS0,115200 quiet xen_emul_unplug=unnecessary",
    modules: &[
        "scsi_common",
        "scsi_mod",
        "libata",
        "ata_piix",
        "crct10dif_common",
        "crct10dif_generic",
        "crc-t10dif",
        "crc64",
        "crc64-rocksoft_generic",
        "crc64-rocksoft",
        "t10-pi",
        "sd_mod",
        "xen-blkfront",
    ],
    program: Some(("read-rate", include_str!("read_rate.asm"))),
    ..AMD64_QUIET
};

/// `linux-amd64-storage`. The driver of PV disks comes last: without Xen it is not loaded, nor is
/// what would follow.
pub const AMD64_STORAGE: Linux = Linux {
    modules: &[
        "scsi_common",
        "scsi_mod",
        "libata",
        "ata_piix",
        "crct10dif_common",
        "crct10dif_generic",
        "crc-t10dif",
        "crc64",
        "crc64-rocksoft_generic",
        "crc64-rocksoft",
        "t10-pi",
        "sd_mod",
        "crc16",
        "crc32c_generic",
        "mbcache",
        "jbd2",
        "ext4",
        "xen-blkfront",
    ],
    ..AMD64_QUIET
};

/// `linux-686-pae`. Debian 12 is the last release with kernels for i386.
pub const I686_PAE: Linux = Linux {
    source: Source::Release("bookworm"),
    kernel: "linux-image-686-pae:i386",
    busybox: "busybox-static:i386",
    cmdline: VERBOSE,
    modules: &[],
    greeting: "",
    program: None,
};

/// `linux-686-pae-complaints`
pub const I686_PAE_COMPLAINTS: Linux = Linux { cmdline: VERBOSE_COMPLAINTS, ..I686_PAE };

/// `linux-686`
pub const I686: Linux = Linux { kernel: "linux-image-686:i386", ..I686_PAE };

/// The first program. It prints what the kernel complained about, if it is asked to: messages of
/// level "warning" and worse, which the kernel's WARNs are, and complaints about firmware of any
/// level. The first is one that it causes, `oom_adj is deprecated`: a report without it is none.
/// The shell has a terminal of its own, for job control; when it ends, another begins.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt /sbin /usr
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/ PS1='@PROMPT@'
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev 2>/dev/null
@GREETING@echo "@MARKER@ tsc=$(tsc) $(uname -m)"
if grep -qw complaints /proc/cmdline; then
    dmesg -n 1
    echo 0 >/proc/self/oom_adj
    echo BEGIN-COMPLAINTS
    dmesg -r | grep -e '^<[0-4]>' -e 'cut here' -e 'Firmware Bug'
    echo END-COMPLAINTS
fi
while true; do
    setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
done
"#;

/// For a guest with the drivers: the hypervisor, its clock, disk and console, as the kernel sees
/// them; and a shell on that console, once Enter is pressed there. The disk comes a moment after
/// its driver.
const XEN_GREETING: &str = r#"if grep -q xen /sys/hypervisor/type 2>/dev/null; then
    load-modules
    for moment in $(seq 50); do [ -b /dev/xvda ] || sleep 0.1; done
    cd /sys/hypervisor/version
    echo "Xen $(cat major).$(cat minor)$(cat extra)," \
        "clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)," \
        "disk $(cd /sys/block && echo xvd*) with $(cat /sys/block/xvda/size) sectors," \
        "console $(cd /dev && echo hvc0*)"
    cd /
    while read enter </dev/hvc0; do
        setsid sh -c 'exec sh </dev/hvc0 >/dev/hvc0 2>&1'
    done &
fi
"#;

/// Prints the time-stamp counter: 16 hexadecimal digits. A 32-bit program, which both kinds of
/// kernel run.
const TSC: &str = r"BITS 32
global _start
section .text
_start: rdtsc
    mov ebx, eax
    mov edi, digits
    mov eax, edx
    call eight
    mov eax, ebx
    call eight
    mov eax, 4
    mov ebx, 1
    mov ecx, digits
    mov edx, 17
    int 0x80
    mov eax, 1
    xor ebx, ebx
    int 0x80
eight: mov ecx, 8
.next: rol eax, 4
    mov edx, eax
    and edx, 15
    mov dl, [hex + edx]
    mov [edi], dl
    inc edi
    loop .next
    ret
section .data
hex: db '0123456789abcdef'
digits: db '................', 10
section .note.GNU-stack noalloc noexec nowrite progbits
";

impl Linux {
    /// The ISO.
    ///
    /// # Errors
    /// If a package cannot be had or a tool fails.
    pub fn iso(&self, name: &str) -> Result<PathBuf> {
        let package = self.source.dependency(self.kernel, "linux-image-")?;
        let (_, program) = self.program.unwrap_or_default();
        let init = self.init();
        let recipe =
            format!("{package} {} {:?}\n{init}\n{TSC}{program}", self.cmdline, self.modules);
        cached(name, &recipe, |iso: &Path| {
            let files = self.source.unpacked(&package)?;
            let kernel = find(&files.join("boot"), &|name| name.starts_with("vmlinuz-"))
                .with_context(|| format!("no kernel in {package}"))?;
            let initrd = self.initramfs(&files)?;
            isolinux::make(iso, &kernel, &initrd, self.cmdline)
        })
    }

    fn init(&self) -> String {
        INIT.replace("@GREETING@", self.greeting)
            .replace("@MARKER@", super::LINUX_MARKER)
            .replace("@PROMPT@", super::LINUX_PROMPT)
    }

    fn initramfs(&self, kernel_files: &Path) -> Result<PathBuf> {
        let tree = paths::empty_build_folder("guests/initramfs")?;
        std::fs::create_dir_all(tree.join("bin"))?;
        std::fs::create_dir_all(tree.join("modules"))?;
        let busybox = self.source.unpacked(self.busybox)?;
        // Debian 12 has it in bin, Debian 13 in usr/bin.
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|file| busybox.join(file));
        let busybox = busybox.iter().find(|file| file.is_file());
        let busybox = busybox.with_context(|| format!("no program busybox in {}", self.busybox))?;
        std::fs::copy(busybox, tree.join("bin/busybox"))?;
        write_program(&tree.join("init"), &self.init())?;
        assemble(TSC, "elf32", "elf_i386", &tree.join("bin/tsc"))?;
        if let Some((name, source)) = self.program {
            assemble(source, "elf64", "elf_x86_64", &tree.join("bin").join(name))?;
        }
        // Debian 12 has modules in lib, as they are; Debian 13 in usr/lib, compressed.
        let folders = ["lib/modules", "usr/lib/modules"].map(|folder| kernel_files.join(folder));
        let folder = folders.iter().find(|folder| folder.is_dir());
        let folder = folder.with_context(|| format!("no modules for {}", self.kernel))?;
        let mut load = String::from("#!/bin/sh\nset -e\ncd /modules\n");
        for module in self.modules {
            let (plain, packed) = (format!("{module}.ko"), format!("{module}.ko.xz"));
            // A module that the kernel has built in needs no loading.
            let Some(file) = find(folder, &|name| name == plain || name == packed) else {
                continue;
            };
            if file.extension().is_some_and(|extension| extension == "xz") {
                std::fs::copy(file, tree.join("modules").join(&packed))?;
                load += &format!("unxz {packed}\n");
            } else {
                std::fs::copy(file, tree.join("modules").join(&plain))?;
            }
            load += &format!("insmod {plain}\n");
        }
        write_program(&tree.join("bin/load-modules"), &load)?;
        let initrd = paths::build("guests/initrd.gz");
        let pack =
            "find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0 | gzip -9n > \"$1\"";
        let status = Command::new("sh")
            .args(["-ec", pack, "sh"])
            .arg(&initrd)
            .current_dir(&tree)
            .status()?;
        ensure!(status.success(), "cannot pack the initramfs");
        Ok(initrd)
    }
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Makes a static program, in an object format of nasm's and an emulation of ld's.
fn assemble(source: &str, format: &str, emulation: &str, program: &Path) -> Result<()> {
    let (assembly, object) = (paths::build("guests/program.asm"), paths::build("guests/program.o"));
    std::fs::write(&assembly, source)?;
    let mut nasm = Command::new("nasm");
    nasm.args(["-f", format, "-o"]).args([&object, &assembly]);
    let mut link = Command::new("ld");
    link.args(["-m", emulation, "-s", "-o"]).args([program, &object]);
    for mut command in [nasm, link] {
        let status = command.stdin(Stdio::null()).status()?;
        ensure!(status.success(), "{} failed", command.get_program().to_string_lossy());
    }
    Ok(())
}

/// The first file below `folder` whose name satisfies `wanted`.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).ok()?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.file_name().to_str().is_some_and(wanted) {
                return Some(entry.path());
            }
        }
    }
    None
}
