//! A disk of a guest: one string of the list `disk`, in the syntax of xl-disk-configuration(5).
//!
//! `target, format, vdev, access`, of which trailing ones can be left out, then `key=value` pairs;
//! `target=` may come last and takes the rest of the string as it is.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::modules;

/// The kind of drive that a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A hard disk.
    HardDisk,
    /// A CD-ROM drive; its medium is read-only.
    CdRom,
}

/// The name by which the guest knows the drive: `hda`, `xvdb`, `sdc`, `d3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualDevice {
    /// The number of the drive, from 0.
    pub index: u16,
    /// True for `hd`: an IDE drive only. The others can also be PV disks.
    pub ide_only: bool,
}

impl VirtualDevice {
    /// The IDE drive that it is: channel and unit; `None` beyond the fourth.
    pub const fn ide_position(self) -> Option<(u8, u8)> {
        if self.index < 4 { Some((self.index as u8 / 2, self.index as u8 % 2)) } else { None }
    }

    /// The number by which PV drivers know it (xen-vbd-interface(7)).
    ///
    /// ```
    /// use config::GuestConfig;
    ///
    /// let text = "name='g'\ntype='hvm'\nmemory=8\ndisk=['a,,xvda', 'b,,hdb', 'c,,xvdq']";
    /// let disks = GuestConfig::parse("g.cfg", text.as_bytes()).0.expect("it is sound").disks;
    /// let numbers: Vec<_> = disks.iter().map(|disk| disk.device.xen_number()).collect();
    /// assert_eq!(numbers, [51712, 832, 1 << 28 | 16 << 8]);
    /// ```
    pub const fn xen_number(self) -> u32 {
        let index = self.index as u32;
        match (self.ide_only, index) {
            (true, 0..2) => 3 << 8 | index << 6,
            (true, 2..4) => 22 << 8 | (index - 2) << 6,
            (_, 0..16) => 202 << 8 | index << 4,
            _ => 1 << 28 | index << 8,
        }
    }

    /// Its name: `hda`, `xvdb`.
    pub fn name(self) -> String {
        let mut letters = String::new();
        let mut rest = u32::from(self.index) + 1;
        while rest > 0 {
            rest -= 1;
            letters.insert(0, char::from(b'a' + (rest % 26) as u8));
            rest /= 26;
        }
        let prefix = if self.ide_only { "hd" } else { "xvd" };
        format!("{prefix}{letters}")
    }

    /// Reads a name, or a Linux device number (xen-vbd-interface(7)); returns it with true if it
    /// names a partition.
    fn parse(text: &str) -> Option<(Self, bool)> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return text.parse().ok().and_then(Self::from_number);
        }
        if let Some(position) =
            text.strip_prefix('d').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        {
            let (disk, partition) = position.split_once('p').unwrap_or((position, "0"));
            let is_partition = partition.parse::<u8>().ok()? != 0;
            return disk.parse().ok().map(|index| (Self { index, ide_only: false }, is_partition));
        }
        let (name, ide_only) = ["xvd", "sd", "hd"].iter().find_map(|prefix| {
            let name = text.strip_prefix(prefix)?;
            Some((name, *prefix == "hd"))
        })?;
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_partition = match &name[letters.len()..] {
            "" => false,
            number => number.parse::<u8>().ok()? != 0,
        };
        let mut index = 0u16;
        if letters.is_empty() || letters.len() > 3 {
            return None;
        }
        for letter in letters.bytes() {
            if !letter.is_ascii_lowercase() {
                return None;
            }
            index = index * 26 + u16::from(letter - b'a') + 1;
        }
        Some((Self { index: index - 1, ide_only }, is_partition))
    }

    /// A device number: Linux's major and minor ones, those of Xen's own disks, or, as xm's guests
    /// of other systems have it, the drive's place.
    fn from_number(number: u32) -> Option<(Self, bool)> {
        const EXTENDED: u32 = 1 << 28;
        let minor = number & 0xff;
        let (index, partition, ide_only) = match number >> 8 {
            0 => (minor, 0, false),
            3 => (minor >> 6, minor & 63, true),
            22 => (2 + (minor >> 6), minor & 63, true),
            8 | 202 => (minor >> 4, minor & 15, false),
            _ if number & EXTENDED != 0 => ((number ^ EXTENDED) >> 8, minor, false),
            _ => return None,
        };
        Some((Self { index: u16::try_from(index).ok()?, ide_only }, partition != 0))
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The disk of the machine's that it is, by its path below `/dev`, or the boot module that
    /// holds it, by name or path; empty for a drive without a medium.
    pub target: String,
    /// Which drive it is.
    pub device: VirtualDevice,
    /// Hard disk or CD-ROM.
    pub kind: DiskKind,
    /// True if the guest cannot write.
    pub read_only: bool,
    /// True if others may have it as well, whoever writes (`w!`).
    pub is_shared: bool,
}

/// Where a machine's own disks are.
const DEVICES: &str = "/dev/";

impl Disk {
    /// The name below `/dev` of the machine's disk or partition that may be meant.
    pub fn device_name(&self) -> Option<&str> {
        self.target.strip_prefix(DEVICES)
    }

    /// True if the boot module with that command line is the target: by its whole name, or by its
    /// file name.
    pub fn is_module(&self, command_line: &str) -> bool {
        let file_name = |path: &str| path.rsplit('/').next().map(ToOwned::to_owned);
        let target = file_name(&self.target).filter(|name| !name.is_empty());
        let is_same =
            |name: &String| *name == self.target || target.is_some() && file_name(name) == target;
        !self.target.is_empty() && modules::names(command_line).iter().any(is_same)
    }
}

/// A disk's string as read: the disk (`None` if it has to be left out), and warnings.
pub type ParsedDisk = (Option<Disk>, Vec<String>);

#[derive(Default)]
struct Fields<'a> {
    target: Option<&'a str>,
    format: Option<&'a str>,
    vdev: Option<&'a str>,
    access: Option<&'a str>,
    cd_rom: bool,
    warnings: Vec<String>,
}

/// Parses the string of a disk, as the list `disk` holds it, or the words of `xl block-attach` with
/// commas between them.
///
/// # Errors
/// The first fault in it.
pub fn parse(text: &str) -> Result<ParsedDisk, String> {
    let mut fields = Fields::default();
    fields.split(text)?;
    fields.finish()
}

impl<'a> Fields<'a> {
    fn split(&mut self, text: &'a str) -> Result<(), String> {
        let mut rest = Some(text);
        let mut position = 0;
        while let Some(text) = rest {
            if let Some(target) = text.trim_start().strip_prefix("target=") {
                return set(&mut self.target, target.trim(), "target");
            }
            let (item, more) =
                text.split_once(',').map_or((text, None), |(item, more)| (item, Some(more)));
            rest = more;
            let item = item.trim();
            match item
                .split_once('=')
                .filter(|(key, _)| key.bytes().all(|c| c.is_ascii_alphabetic() || c == b'-'))
            {
                Some((key, value)) => self.pair(key, value.trim())?,
                None if is_flag(item) => self.flag(item),
                None => {
                    // In xend's form there is no format: `phy:/dev/disk,hda,w`, `,hdc:cdrom,r`.
                    position += usize::from(position == 1 && self.names_no_format(item));
                    self.positional(position, item)?;
                    position += 1;
                }
            }
        }
        Ok(())
    }

    fn names_no_format(&self, item: &str) -> bool {
        let old_style = self.target.is_none_or(|target| strip_old_prefixes(target) != target);
        old_style && !item.is_empty() && parse_format(item).is_none()
    }

    fn positional(&mut self, position: usize, item: &'a str) -> Result<(), String> {
        if item.is_empty() {
            return Ok(());
        }
        match position {
            0 => set(&mut self.target, item, "target"),
            1 => set(&mut self.format, item, "format"),
            2 => self.set_vdev(item),
            3 => set(&mut self.access, item, "access"),
            _ => Err(format!("too many fields: \"{item}\" is the fifth")),
        }
    }

    fn pair(&mut self, key: &str, value: &'a str) -> Result<(), String> {
        match key {
            "format" => set(&mut self.format, value, key),
            "vdev" => self.set_vdev(value),
            "access" => set(&mut self.access, value, key),
            "devtype" if value == "cdrom" => {
                self.cd_rom = true;
                Ok(())
            }
            "devtype" if value == "disk" => Ok(()),
            "devtype" => Err(format!("devtype is \"disk\" or \"cdrom\", not \"{value}\"")),
            "backendtype" | "backend" | "script" | "discard-enable" | "direct-io-safe"
            | "colo-host" => {
                self.ignore(key);
                Ok(())
            }
            _ => Err(format!("unknown key \"{key}\"")),
        }
    }

    fn flag(&mut self, flag: &str) {
        match flag {
            "cdrom" => self.cd_rom = true,
            _ => self.ignore(flag),
        }
    }

    fn ignore(&mut self, what: &str) {
        self.warnings.push(format!("\"{what}\" is not supported and ignored"));
    }

    /// `hdc:cdrom` is the old way to say `devtype=cdrom`; `ioemu:hda` an even older one to say
    /// `hda`.
    fn set_vdev(&mut self, value: &'a str) -> Result<(), String> {
        let value = value.strip_prefix("ioemu:").unwrap_or(value);
        let name = match value.strip_suffix(":cdrom") {
            Some(name) => {
                self.cd_rom = true;
                name
            }
            None => value.strip_suffix(":disk").unwrap_or(value),
        };
        set(&mut self.vdev, name, "vdev")
    }

    fn finish(self) -> Result<ParsedDisk, String> {
        let mut warnings = self.warnings;
        let name = self.vdev.ok_or("no vdev (such as hda)")?;
        let (device, is_partition) = VirtualDevice::parse(name)
            .ok_or_else(|| format!("\"{name}\" is not a vdev (such as hda)"))?;
        let named = self.target.unwrap_or_default();
        let mut target = strip_old_prefixes(named).to_owned();
        if named.starts_with(PHYSICAL) && !target.starts_with('/') {
            target.insert_str(0, DEVICES);
        }
        let (read_only, is_shared) = match self.access {
            None => (self.cd_rom, false),
            Some("r" | "ro") => (true, false),
            Some("w" | "rw") => (self.cd_rom, false),
            Some("w!" | "rw!") => (self.cd_rom, true),
            Some(access) => return Err(format!("access is \"ro\" or \"rw\", not \"{access}\"")),
        };
        if target.is_empty() && !self.cd_rom {
            return Err(format!(
                "{name} has no target: name a disk or the boot module that holds it"
            ));
        }
        let format = self.format.unwrap_or("raw");
        if !parse_format(format).ok_or_else(|| format!("unknown format \"{format}\""))? {
            warnings
                .push(format!("{name}: format {format} is not supported, the disk is left out"));
            return Ok((None, warnings));
        }
        // The others are disks for PV drivers, if the guest has them.
        if device.ide_only && device.ide_position().is_none() {
            warnings.push(format!("{name}: there are four IDE drives, it is left out"));
            return Ok((None, warnings));
        }
        if is_partition {
            let letter = char::from(b'a' + device.index as u8);
            warnings.push(format!(
                "{name}: an HVM guest has whole disks: the image is the drive hd{letter}, not a \
                 partition"
            ));
        }
        let kind = if self.cd_rom { DiskKind::CdRom } else { DiskKind::HardDisk };
        Ok((Some(Disk { target, device, kind, read_only, is_shared }), warnings))
    }
}

/// `None` if there is no such format; else, whether it is supported.
fn parse_format(name: &str) -> Option<bool> {
    match name {
        "raw" | "empty" => Some(true),
        "qcow" | "qcow2" | "vhd" | "vhdx" | "qed" | "vmdk" => Some(false),
        _ => None,
    }
}

fn is_flag(item: &str) -> bool {
    matches!(item, "cdrom" | "discard" | "no-discard" | "direct-io-safe" | "colo")
}

fn set<'a>(field: &mut Option<&'a str>, value: &'a str, name: &str) -> Result<(), String> {
    match field {
        Some(earlier) if *earlier != value => Err(format!("{name} is given twice")),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

/// Before a device, which is below `/dev` unless it is a whole path.
const PHYSICAL: &str = "phy:";

/// xend's `phy:`, `file:`, `tap:aio:` before the target.
fn strip_old_prefixes(mut target: &str) -> &str {
    const PREFIXES: [&str; 7] = [PHYSICAL, "file:", "tap2:", "tap:", "aio:", "ioemu:", "raw:"];
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| target.strip_prefix(prefix)) {
        target = rest;
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(text: &str) -> Disk {
        let (disk, warnings) = parse(text).unwrap();
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
        disk.unwrap()
    }

    fn hard_disk(target: &str, index: u16, ide_only: bool) -> Disk {
        Disk {
            target: target.into(),
            device: VirtualDevice { index, ide_only },
            kind: DiskKind::HardDisk,
            read_only: false,
            is_shared: false,
        }
    }

    #[test]
    fn the_forms_of_the_manual_page() {
        // The examples of xl-disk-configuration(5) mean the same.
        for text in [
            "/dev/vg/guest-volume,,hda",
            "/dev/vg/guest-volume,raw,hda,rw",
            "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume",
            "raw:/dev/vg/guest-volume,,hda,w",
            "phy:/dev/vg/guest-volume,,ioemu:hda,w",
        ] {
            assert_eq!(disk(text), hard_disk("/dev/vg/guest-volume", 0, true), "{text}");
        }
        let cd = Disk {
            kind: DiskKind::CdRom,
            read_only: true,
            ..hard_disk("/root/image.iso", 2, true)
        };
        for text in [
            "/root/image.iso,,hdc,cdrom",
            "/root/image.iso,,hdc,,cdrom",
            "/root/image.iso,raw,hdc,devtype=cdrom",
            "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
            "raw:/root/image.iso,,hdc:cdrom,ro",
            "file:/root/image.iso,hdc:cdrom,r",
        ] {
            assert_eq!(disk(text), cd, "{text}");
        }
    }

    #[test]
    fn drives_have_many_names() {
        assert_eq!(disk("x,,xvdb").device, VirtualDevice { index: 1, ide_only: false });
        assert_eq!(disk("x,,d3").device.ide_position(), Some((1, 1)));
        let parsed =
            |index, ide_only, is_partition| Some((VirtualDevice { index, ide_only }, is_partition));
        for (text, expected) in [
            ("xvdaa", parsed(26, false, false)),
            ("sda3", parsed(0, false, true)),
            ("xvdb15", parsed(1, false, true)),
            ("d3p0", parsed(3, false, false)),
            ("d0p1", parsed(0, false, true)),
            ("0", parsed(0, false, false)),
            ("6", parsed(6, false, false)),
            ("768", parsed(0, true, false)),
            ("5632", parsed(2, true, false)),
            ("5696", parsed(3, true, false)),
            ("833", parsed(1, true, true)),
            ("2064", parsed(1, false, false)),
            ("51728", parsed(1, false, false)),
            ("268439808", parsed(17, false, false)),
        ] {
            assert_eq!(VirtualDevice::parse(text), expected, "{text}");
        }
        for wrong in [
            "hd",
            "hda256",
            "hda-1",
            "HDA",
            "d",
            "d0p",
            "d99999",
            "xvdaaaa",
            "c:",
            "1024",
            "99999999999",
        ] {
            assert_eq!(VirtualDevice::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cd_drive_can_be_empty() {
        let empty = disk(",,hdc,ro,cdrom");
        assert_eq!((empty.target.as_str(), empty.kind), ("", DiskKind::CdRom));
        assert_eq!(disk(",hdc:cdrom,r"), empty);
        assert!(!empty.is_module(""));
        assert_eq!(
            parse(",,hda"),
            Err("hda has no target: name a disk or the boot module that holds it".into())
        );
    }

    #[test]
    fn a_disk_of_the_machine_is_named_below_dev() {
        for (text, name) in [
            ("phy:vda,xvda,w", Some("vda")),
            ("phy:/dev/disk/by-label/root,,xvda,w", Some("disk/by-label/root")),
            ("/dev/nvme0n1p2,raw,xvda", Some("nvme0n1p2")),
            ("file:vda,xvda,w", None),
            ("vda,raw,xvda", None),
        ] {
            assert_eq!(disk(text).device_name(), name, "{text}");
        }
        let shared = |text| (disk(text).read_only, disk(text).is_shared);
        assert_eq!(["x,,hda,w!", "x,,hda,rw!"].map(shared), [(false, true); 2]);
        assert_eq!(["x,,hda,w", "x,,hda,r"].map(shared), [(false, false), (true, false)]);
    }

    #[test]
    fn the_target_takes_the_rest() {
        assert_eq!(disk("vdev=hda,target=a,b=c").target, "a,b=c");
    }

    #[test]
    fn targets_are_found_by_name_or_file_name() {
        let disk = disk("/isos/debian.iso,,hdc,cdrom");
        for module in
            ["/isos/debian.iso", "debian.iso", "/b/debian.iso", "/b/x debian.iso", "\"debian.iso\""]
        {
            assert!(disk.is_module(module), "{module}");
        }
        assert!(!disk.is_module("debian") && !disk.is_module("") && !disk.is_module("/isos/"));
    }

    #[test]
    fn what_cannot_be_attached_is_left_out_with_a_warning() {
        for (text, expected) in [
            ("x.qcow2,qcow2,hda", "hda: format qcow2 is not supported, the disk is left out"),
            ("x,,hde", "hde: there are four IDE drives, it is left out"),
        ] {
            assert_eq!(parse(text), Ok((None, Vec::from([expected.into()]))));
        }
        let (partition, warnings) = parse("phy:hda3,sda1,w").unwrap();
        assert_eq!(partition, Some(hard_disk("/dev/hda3", 0, false)));
        let whole =
            "sda1: an HVM guest has whole disks: the image is the drive hda, not a partition";
        assert_eq!(warnings, [whole]);
        let (disk, warnings) = parse("x,,hda,backendtype=tap").unwrap();
        assert_eq!((disk, warnings.len()), (Some(hard_disk("x", 0, true)), 1));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, expected) in [
            ("x", "no vdev (such as hda)"),
            ("x,,sda1x", "\"sda1x\" is not a vdev (such as hda)"),
            ("x,raw,hda,maybe", "access is \"ro\" or \"rw\", not \"maybe\""),
            ("x,zip,hda", "unknown format \"zip\""),
            ("x,raw,hda,rw,y", "too many fields: \"y\" is the fifth"),
            ("x,,hda,vdev=hdb", "vdev is given twice"),
            ("x,,hda,speed=9", "unknown key \"speed\""),
            ("x,,hda,devtype=tape", "devtype is \"disk\" or \"cdrom\", not \"tape\""),
        ] {
            assert_eq!(parse(text), Err(expected.into()), "{text}");
        }
    }
}
