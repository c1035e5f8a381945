//! Files as guides and tools wrote them: `tests/configs` has the forms of published ones, with
//! other values.

use super::*;
use crate::DiskKind;
use alloc::string::ToString;

fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

macro_rules! published {
    ($name:literal) => {
        GuestConfig::parse($name, include_bytes!(concat!("../../../tests/configs/", $name)))
    };
}

const SCREEN: &str =
    "the machine's display shows the guest's screen, and the management port sends it (screen.png)";

#[test]
fn an_hvm_guest_from_a_cd_is_what_its_file_says() {
    let (config, warnings) = published!("hvm-from-cd.cfg");
    let config = config.unwrap();
    assert_eq!((config.name.as_str(), config.memory_mib, config.vcpus), ("web-hvm", 4096, 2));
    let [disk, cd] = &config.disks[..] else { panic!("{:?}", config.disks) };
    assert_eq!(
        (disk.target.as_str(), disk.device.ide_position()),
        ("/dev/data/web-hvm", Some((0, 0)))
    );
    assert_eq!(
        (disk.kind, disk.read_only, disk.device.ide_only),
        (DiskKind::HardDisk, false, false)
    );
    assert!(disk.is_module("web-hvm") && disk.is_module("/boot/web-hvm"));
    assert_eq!(
        (cd.target.as_str(), cd.device.ide_position()),
        ("/var/images/install.iso", Some((0, 1)))
    );
    assert_eq!((cd.kind, cd.read_only), (DiskKind::CdRom, true));
    assert!(cd.is_module("install.iso"));
    assert_eq!((config.boot.as_str(), config.serial[0]), ("dc", Serial::Console));
    assert_eq!(config.video_memory_mib, 64);
    let vnc = config.vnc.unwrap();
    assert_eq!((vnc.listen.as_deref(), vnc.display), (Some("198.51.100.7"), Some(0)));
    assert_eq!(
        lines(&warnings),
        [format!("hvm-from-cd.cfg:11: vnc: has no effect yet: {SCREEN}"),]
    );
    let (config, warnings) = published!("hvm-with-pv-drivers.cfg");
    assert!(config.unwrap().xen_platform_pci);
    assert!(!lines(&warnings).iter().any(|line| line.contains("xen_platform_pci")));
}

#[test]
fn pv_guests_are_refused_in_one_line() {
    let line = |place: &str, key: &str| {
        format!(
            "{place}: {key}: with {key} and no type=\"hvm\" this is a PV guest, and only HVM \
             guests can run: write type=\"hvm\", and give it a disk or CD with a boot loader on it \
             instead of {key}"
        )
    };
    let error = |(result, _): (Result<GuestConfig>, _)| result.unwrap_err().to_string();
    assert_eq!(error(published!("pv-by-pygrub.cfg")), line("pv-by-pygrub.cfg:2", "bootloader"));
    assert_eq!(
        error(published!("pv-by-virt-install.cfg")),
        line("pv-by-virt-install.cfg:7", "bootloader")
    );
    assert_eq!(error(published!("pv-by-kernel.cfg")), line("pv-by-kernel.cfg:2", "bootloader"));
    assert_eq!(error(published!("pv-old-lines.cfg")), line("pv-old-lines.cfg:5", "root"));
    for (text, what) in [
        ("type='pv'", "g.cfg:1: type: a PV guest"),
        ("builder='linux'", "g.cfg:1: builder: a PV guest"),
        ("builder='generic'", "g.cfg:1: builder: a PV guest"),
        ("type='pvh'", "g.cfg:1: type: a PVH guest"),
        ("type='pv'; builder='hvm'", "g.cfg:1: type: a PV guest"),
    ] {
        // Even a file with another fault is a PV guest's first.
        for rest in ["name='g'; memory=8", "memory='much'"] {
            let (result, _) = GuestConfig::parse("g.cfg", format!("{text}; {rest}").as_bytes());
            let expected = format!(
                "{what}, and only HVM guests can run: write type=\"hvm\", and give it a disk or CD \
                 with a boot loader on it"
            );
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }
}

#[test]
fn files_without_a_type_are_hvm_guests_with_a_warning() {
    let (config, warnings) = GuestConfig::parse("g.cfg", b"name='g'; memory=8");
    assert_eq!(config, Ok(GuestConfig::new("g", 8, 1)));
    assert_eq!(
        lines(&warnings),
        ["g.cfg: nothing says type=\"hvm\": an HVM guest is started; Xen would start a PV guest"]
    );
    for text in
        ["type='hvm'", "builder='hvm'", "type='hvm'; builder='linux'", "builder='hvm'; kernel=''"]
    {
        let (config, warnings) =
            GuestConfig::parse("g.cfg", format!("{text}; name='g'; memory=8").as_bytes());
        assert_eq!((config, warnings), (Ok(GuestConfig::new("g", 8, 1)), Vec::new()), "{text}");
    }
}

#[test]
fn text_without_quotes_is_shown_with_them() {
    assert_eq!(
        published!("xm-without-quotes.cfg").0.unwrap_err().to_string(),
        "xm-without-quotes.cfg:12:9: extra: text must be in quotes: \
         extra = \"/boot/unix/unix -B console=ttya,livemode=text\""
    );
}

#[test]
fn old_lines_are_known_with_what_replaces_them() {
    let file = "pv-old-lines.cfg";
    let partition = |name| {
        format!(
            "{file}:4: disk: {name}: an HVM guest has whole disks: the image is the drive hda, not \
             a partition"
        )
    };
    let ignored = |place: &str, instead: &str| {
        format!("{file}:{place}: is not supported and ignored: {instead}")
    };
    let nfs = "the guest's own kernel command line names its NFS root and addresses";
    let expected = [
        partition("sda1"),
        partition("sda2"),
        partition("sda3"),
        ignored("5: root", "the boot loader on the guest's disk has the kernel's command line"),
        ignored("6: nfs_server", nfs),
        ignored("7: nfs_root", nfs),
        ignored("8: pci", "the machine's devices cannot be given to a guest yet"),
        ignored("9: vfb", SCREEN),
    ];
    assert_eq!(lines(&published!("pv-old-lines.cfg").1), expected);
}
