//! Disks of the emulated machine's own, which the hypervisor drives.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// The hardware that a disk is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk on PCI.
    Virtio,
    /// NVMe.
    Nvme,
    /// SATA.
    Ahci,
}

/// A disk of the emulated machine's: a raw image, which is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDisk {
    /// The image.
    pub file: PathBuf,
    /// The hardware that it is plugged into.
    pub bus: Bus,
}

impl HostDisk {
    /// The name that the hypervisor gives it, if it is the first on its bus.
    pub const fn name(&self) -> &'static str {
        match self.bus {
            Bus::Virtio => "vda",
            Bus::Nvme => "nvme0n1",
            Bus::Ahci => "sda",
        }
    }

    /// QEMU's arguments for it. `number` counts the machine's disks; the serial number is `disk`
    /// and that. A flush lasts when the file has it.
    pub fn arguments(&self, number: usize) -> [String; 4] {
        let file = self.file.display().to_string().replace(',', ",,");
        let drive =
            format!("file={file},format=raw,if=none,id=disk{number},cache=writeback,discard=unmap");
        let model = match self.bus {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Nvme => "nvme",
            Bus::Ahci => "ide-hd",
        };
        let device = format!("{model},drive=disk{number},serial=disk{number}");
        ["-drive".into(), drive, "-device".into(), device]
    }
}

impl FromStr for HostDisk {
    type Err = Error;

    /// `FILE`, or `FILE,BUS`.
    fn from_str(text: &str) -> Result<Self> {
        let (file, bus) = text.rsplit_once(',').unwrap_or((text, "virtio"));
        let bus = match bus {
            "virtio" => Bus::Virtio,
            "nvme" => Bus::Nvme,
            "ahci" => Bus::Ahci,
            _ => bail!("a disk is on virtio, nvme or ahci, not on {bus}"),
        };
        Ok(Self { file: file.into(), bus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_on_virtio_unless_a_bus_is_named() {
        let parsed = |text: &str| text.parse::<HostDisk>().map(|disk| (disk.file, disk.bus)).ok();
        assert_eq!(parsed("a.img"), Some(("a.img".into(), Bus::Virtio)));
        assert_eq!(parsed("a,b.img,nvme"), Some(("a,b.img".into(), Bus::Nvme)));
        assert_eq!(parsed("a.img,scsi"), None);
        let disk = HostDisk { file: "a,b".into(), bus: Bus::Ahci };
        let [_, drive, _, device] = disk.arguments(1);
        assert!(drive.starts_with("file=a,,b,format=raw,if=none,id=disk1,"), "{drive}");
        assert_eq!((device.as_str(), disk.name()), ("ide-hd,drive=disk1,serial=disk1", "sda"));
    }
}
