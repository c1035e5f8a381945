//! Which guest to run: the one that a module describes, or one with nothing but an image to boot.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::domain::usable_mib;
use crate::host::platform::{BootInputs, Module};
use config::modules::{self, ModuleKind};
use config::{CommandLine, Disk, DiskKind, GuestConfig, VirtualDevice};

/// Memory of a guest without a configured size: half of what is free, within these bounds.
const DEFAULT_MEMORY_MIB: core::ops::RangeInclusive<u64> = 32..=2048;
/// The CD-ROM drive of a guest without a configuration: secondary master, as PCs have it.
const DEFAULT_CD: VirtualDevice = VirtualDevice { index: 2, ide_only: true };
/// Its hard disk: primary master.
const DEFAULT_DISK: VirtualDevice = VirtualDevice { index: 0, ide_only: true };

/// The guests to start on a machine with `free_bytes` of memory left, in their order, or why one of
/// them cannot be.
///
/// A module that is meant as a configuration never gives way to a guest made up for want of one: it
/// can be read, or is an error.
///
/// # Errors
/// One line that says what is wrong and what to do, if there is nothing to start.
pub fn guest_configs(
    free_bytes: u64,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<Vec<Result<GuestConfig, String>>, String> {
    let configs = configs(options, inputs)?;
    if configs.is_empty() {
        return Ok(Vec::from([Ok(without_config(free_bytes, options, inputs)?)]));
    }
    let is_wanted = |config: &Result<GuestConfig, String>| match config {
        Ok(config) if !config.autostart => {
            log::info!("{}: autostart=0: not started", config.name);
            false
        }
        _ => true,
    };
    let read = |module: &Module| read(module, "");
    let mut configs: Vec<_> = configs.into_iter().map(read).filter(is_wanted).collect();
    configs.sort_by_key(|config| config.as_ref().map_or(0, |config| config.autostart_order));
    Ok(configs)
}

/// The modules that are configurations: those that the command line names, else those that look so.
fn configs<'a>(options: &CommandLine, inputs: &'a BootInputs) -> Result<Vec<&'a Module>, String> {
    if options.guest_configs.is_empty() {
        let is_config = |module: &&Module| module.kind() == ModuleKind::Config;
        return Ok(inputs.modules.iter().filter(is_config).collect());
    }
    options.guest_configs.iter().map(|wanted| named(inputs, "guest_cfg", wanted)).collect()
}

/// The guest that the boot module `wanted` describes, with lines of `settings` after its own: it
/// starts at once.
///
/// # Errors
/// One line that says what is wrong.
pub fn asked_config(
    inputs: &BootInputs,
    wanted: &str,
    settings: &str,
) -> Result<GuestConfig, String> {
    let module = named(inputs, "create", wanted)?;
    read(module, settings).map(|config| GuestConfig { autostart_delay_s: 0, ..config })
}

fn read(module: &Module, settings: &str) -> Result<GuestConfig, String> {
    let (result, warnings) = GuestConfig::parse_with(&module.name(), module.data, settings);
    for warning in warnings {
        log::warn!("{warning}");
    }
    result.map_err(|error| format!("{error}"))
}

fn named<'a>(inputs: &'a BootInputs, option: &str, wanted: &str) -> Result<&'a Module, String> {
    let found =
        inputs.modules.iter().find(|module| modules::is_meant_by(&module.command_line, wanted));
    found.ok_or_else(|| {
        let names = inputs.module_names();
        format!("{option}={wanted}: there is no such boot module (there are {names:?})")
    })
}

/// A guest that boots the image that came alone.
fn without_config(
    free_bytes: u64,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<GuestConfig, String> {
    let (image, kind) = boot_image(options, inputs)?;
    let free_mib = free_bytes >> 20;
    let default_mib = (free_mib / 2).clamp(*DEFAULT_MEMORY_MIB.start(), *DEFAULT_MEMORY_MIB.end());
    let memory_mib = options.guest_memory_mib.unwrap_or(default_mib);
    let mut config = GuestConfig::new("guest", memory_mib, options.guest_vcpus);
    let usable_mib = usable_mib(free_bytes, &config);
    if memory_mib > usable_mib {
        return Err(format!(
            "guest_memory={memory_mib}: only {usable_mib} MiB are free for guests"
        ));
    }
    config.boot = "dc".to_owned();
    let (device, read_only) = match kind {
        DiskKind::CdRom => (DEFAULT_CD, true),
        DiskKind::HardDisk => (DEFAULT_DISK, false),
    };
    config.disks.push(Disk { target: image.name(), device, kind, read_only, is_shared: false });
    Ok(config)
}

/// The ISO image that the command line names, else the first, else the first disk with a boot
/// sector.
fn boot_image<'a>(
    options: &CommandLine,
    inputs: &'a BootInputs,
) -> Result<(&'a Module, DiskKind), String> {
    if let Some(wanted) = &options.iso {
        let module = named(inputs, "iso", wanted)?;
        if module.kind() != ModuleKind::Iso {
            log::warn!("{}: no ISO image that a guest could boot", module.name());
        }
        return Ok((module, DiskKind::CdRom));
    }
    let first = |kind| inputs.modules.iter().find(|module| module.kind() == kind);
    let iso = first(ModuleKind::Iso).map(|module| (module, DiskKind::CdRom));
    let image =
        iso.or_else(|| first(ModuleKind::BootDisk).map(|module| (module, DiskKind::HardDisk)));
    image.ok_or_else(|| match inputs.module_names().as_slice() {
        [] => "no module to boot: give the boot loader an ISO image, or an xl.cfg and its disks, as modules".into(),
        names => format!(
            "no module to boot: none of {names:?} is a configuration (text), an ISO image or a disk with a boot sector"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const GIB: u64 = 1 << 30;
    const CONFIG: &[u8] = b"type='hvm'; name='g'; memory=64";

    fn iso() -> Vec<u8> {
        let mut data = vec![0; 17 * 2048];
        data[16 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        data
    }

    fn inputs(modules: &[(&str, &[u8])]) -> BootInputs {
        let module = |(line, data): &(&str, &[u8])| Module {
            command_line: (*line).into(),
            data: Vec::leak(data.to_vec()),
        };
        BootInputs { modules: modules.iter().map(module).collect(), ..BootInputs::default() }
            .with_named_modules()
    }

    fn choose(options: &str, modules: &[(&str, &[u8])]) -> Result<GuestConfig, String> {
        choose_all(options, modules)?.remove(0)
    }

    fn choose_all(
        options: &str,
        modules: &[(&str, &[u8])],
    ) -> Result<Vec<Result<GuestConfig, String>>, String> {
        guest_configs(GIB, &CommandLine::parse(options).0, &inputs(modules))
    }

    fn error(options: &str, modules: &[(&str, &[u8])]) -> String {
        choose(options, modules).unwrap_err()
    }

    #[test]
    fn an_image_alone_is_booted() {
        let config =
            choose("guest_memory=33", &[("junk", &[0; 99]), ("/boot/x.iso", &iso())]).unwrap();
        assert_eq!((config.memory_mib, config.disks[0].target.as_str()), (33, "/boot/x.iso"));
        assert_eq!((config.disks[0].device, config.disks[0].kind), (DEFAULT_CD, DiskKind::CdRom));
        let mut disk = vec![0; 1024];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let config = choose("", &[("x.img", &disk)]).unwrap();
        assert_eq!(
            (config.disks[0].device, config.disks[0].kind),
            (DEFAULT_DISK, DiskKind::HardDisk)
        );
        assert_eq!(config.memory_mib, 512);
        let config = choose("iso=b.iso", &[("a.iso", &iso()), ("/c/b.iso", &iso())]).unwrap();
        assert_eq!(config.disks[0].target, "/c/b.iso");
        assert_eq!(
            choose("", &[("x", &[0; 9]), (" ", &iso())]).unwrap().disks[0].target,
            "module2"
        );
    }

    #[test]
    fn a_configuration_is_found_by_name_or_content() {
        for name in ["g.cfg", "g", ""] {
            assert_eq!(choose("", &[("x.iso", &iso()), (name, CONFIG)]).unwrap().name, "g");
        }
        let both: [(&str, &[u8]); 2] =
            [("a.cfg", b"type='hvm'; name='a'; memory=8"), ("b.cfg", CONFIG)];
        assert_eq!(choose("", &both).unwrap().name, "a");
        assert_eq!(choose_all("", &both).unwrap().len(), 2);
        assert_eq!(choose_all("guest_cfg=b.cfg", &both).unwrap().len(), 1);
        assert_eq!(choose("guest_cfg=b.cfg", &both).unwrap().name, "g");
    }

    #[test]
    fn configurations_say_whether_and_in_which_order_their_guests_start() {
        let modules: [(&str, &[u8]); 5] = [
            ("a.cfg", b"name='a'; memory=8; autostart_order=2"),
            ("b.cfg", b"name='b'; memory=8; autostart=0"),
            ("c.cfg", b"name='c'; memory=8; autostart_order=-1"),
            ("d.cfg", b"name="),
            ("e.cfg", b"name='e'; memory=8"),
        ];
        let names = choose_all("", &modules).unwrap().into_iter();
        let names: Vec<_> = names.map(|config| config.map(|config| config.name)).collect();
        assert_eq!(names[0].as_deref(), Ok("c"));
        assert!(names[1].as_ref().unwrap_err().starts_with("d.cfg:1:"));
        assert_eq!(names[2..], [Ok("e".into()), Ok("a".into())]);
    }

    #[test]
    fn what_is_meant_as_a_configuration_and_is_none_is_an_error() {
        let iso = iso();
        let utf_16: Vec<u8> = "name='g'".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (name, data, expected) in [
            ("g.cfg", &b""[..], "g.cfg:1:1: the file is empty, so no configuration"),
            ("g.cfg", &[0; 8], "g.cfg:1:1: expected a key, found '\\0'; is this a text file?"),
            ("g.cfg", &iso, "g.cfg:1:1: expected a key, found '\\0'; is this a text file?"),
            (
                "g.conf",
                b"\x1f\x8b\x08",
                "g.conf:1:1: expected a key, found '\\u{1f}'; is this a text file?",
            ),
            ("g", b"# Gr\xfc\xdfe\nname = g", "g:2:8: name: text must be in quotes: name = \"g\""),
            (
                "g",
                &utf_16,
                "g:1:1: the file is in UTF-16 without a byte order mark: save it as UTF-8 or in an 8-bit encoding",
            ),
            (
                "g",
                &[b'#'; 650 << 10],
                "g:1:1: a configuration has at most 64 KiB, this file has 650",
            ),
        ] {
            assert_eq!(error("", &[("x.iso", &iso), (name, data)]), expected);
        }
        let megabyte = vec![b'#'; 1 << 20];
        assert_eq!(
            error("guest_cfg=x", &[("x", &megabyte)]),
            "x:1:1: a configuration has at most 64 KiB, this file has 1024"
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let iso = iso();
        let modules: [(&str, &[u8]); 1] = [("x.iso", &iso)];
        assert_eq!(
            error("guest_cfg=g.cfg", &modules),
            "guest_cfg=g.cfg: there is no such boot module (there are [\"x.iso\"])"
        );
        assert_eq!(
            error("iso=y", &modules),
            "iso=y: there is no such boot module (there are [\"x.iso\"])"
        );
        assert!(error("", &[]).starts_with("no module to boot: give the boot loader"));
        assert_eq!(
            error("", &[("x.qcow2", b"QFI\xfb\0\0\0\x03")]),
            "no module to boot: none of [\"x.qcow2\"] is a configuration (text), an ISO image or a disk with \
             a boot sector"
        );
        assert_eq!(
            error("guest_memory=4G", &modules),
            "guest_memory=4096: only 988 MiB are free for guests"
        );
    }
}
