//! The disks of a domain: what they are, and what they hold, through all its lives.

use super::disk::{MemoryDisk, ModuleImage};
use crate::host::platform::{BootInputs, Platform};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::guest::MAX_DISKS;
use config::{Disk, DiskKind, GuestConfig};
use core::ptr::addr_eq;
use devices::block::BlockBackend;
use devices::ide::Drive;
use xen::backends::DiskSettings;

/// The disks of a domain.
pub struct Disks {
    platform: &'static dyn Platform,
    has_pv: bool,
    list: Vec<(Disk, Drive)>,
    /// Copies of boot modules that the guest may have written to, plugged in or not, by the
    /// modules' names.
    copies: Vec<(String, Arc<MemoryDisk>)>,
}

impl Disks {
    /// Those of a configuration, but for those that the guest could not reach.
    ///
    /// # Errors
    /// A line that names the disk and what is wrong with it.
    pub fn new(
        platform: &'static dyn Platform,
        inputs: &BootInputs,
        config: &GuestConfig,
    ) -> Result<Self, String> {
        let has_pv = config.xen_platform_pci;
        let mut disks = Self { platform, has_pv, list: Vec::new(), copies: Vec::new() };
        for disk in &config.disks {
            if !has_pv && disk.device.ide_position().is_none() {
                log::warn!(
                    "{}: disk {:?}: only the first four drives are IDE; left out",
                    config.name,
                    disk.target
                );
                continue;
            }
            let drive = disks.drive(inputs, disk);
            let drive = drive.map_err(|reason| format!("{}: {reason}", config.name))?;
            disks.list.push((disk.clone(), drive));
        }
        Ok(disks)
    }

    /// As a configuration has them.
    pub fn configured(&self) -> Vec<Disk> {
        self.list.iter().map(|(disk, _)| disk.clone()).collect()
    }

    /// Those that are IDE drives, by their places.
    pub fn drives(&self) -> [Option<Drive>; 4] {
        let mut drives = [const { None }; 4];
        for (disk, drive) in &self.list {
            if let Some((channel, unit)) = disk.device.ide_position() {
                drives[usize::from(channel * 2 + unit)] = Some(drive.clone());
            }
        }
        drives
    }

    /// The same disks, and those that IDE has no place for, as PV drivers find them.
    pub fn pv(&self) -> Vec<DiskSettings> {
        let list = self.list.iter().filter(|_| self.has_pv);
        list.map(|(disk, drive)| pv_disk(disk, drive)).collect()
    }

    /// The disk that is called so, or has this number.
    pub fn find(&self, device: &str) -> Option<&Disk> {
        let names = |disk: &&Disk| {
            disk.device.name() == device || disk.device.xen_number().to_string() == device
        };
        self.list.iter().map(|(disk, _)| disk).find(names)
    }

    /// One disk more, by its text in a configuration: as PV drivers find it.
    ///
    /// # Errors
    /// Why it cannot be, in words of libxl where it has them.
    pub fn attach(&mut self, inputs: &BootInputs, text: &str) -> Result<DiskSettings, String> {
        if !self.has_pv {
            return Err("the guest has no PV disks (xen_platform_pci=0)".into());
        }
        let (disk, mut warnings) = config::parse_disk(text)?;
        let Some(disk) = disk else { return Err(warnings.pop().unwrap_or_default()) };
        let (device, position) = (disk.device, disk.device.ide_position());
        let is_taken = |(other, _): &(Disk, Drive)| {
            other.device == device || position.is_some() && other.device.ide_position() == position
        };
        if self.list.iter().any(is_taken) {
            return Err("device already exists in xenstore".into());
        }
        if self.list.len() >= MAX_DISKS {
            return Err(format!("a guest has {MAX_DISKS} disks at the most"));
        }
        let drive = self.drive(inputs, &disk)?;
        let settings = pv_disk(&disk, &drive);
        self.list.push((disk, drive));
        Ok(settings)
    }

    /// The disc of a boot module for the drive that is called so, or has this number, and the drive
    /// as it is with it; with an empty target, as it is without a disc.
    ///
    /// # Errors
    /// Why it cannot be, in words of libxl where it has them.
    pub fn disc(
        &self,
        inputs: &BootInputs,
        device: &str,
        target: &str,
    ) -> Result<(Disk, Option<Arc<dyn BlockBackend>>), String> {
        let drive = self.find(device).filter(|disk| disk.kind == DiskKind::CdRom);
        let drive = drive.ok_or("Virtual device not found")?;
        let disk = Disk { target: target.into(), ..drive.clone() };
        let disc = match target {
            "" => None,
            _ => Some(Arc::new(ModuleImage(image(inputs, &disk)?)) as _),
        };
        Ok((disk, disc))
    }

    /// The drive is so from now on.
    pub fn set_disc(&mut self, disk: Disk, disc: Option<Arc<dyn BlockBackend>>) {
        if let Some(entry) = self.list.iter_mut().find(|(other, _)| other.device == disk.device) {
            *entry = (disk, Drive::Cdrom(disc));
        }
    }

    /// The disk with this number is gone. A copy that it is stays, and is found again when its
    /// module is plugged in anew.
    pub fn remove(&mut self, id: u32) {
        self.list.retain(|(disk, _)| disk.device.xen_number() != id);
    }

    fn drive(&mut self, inputs: &BootInputs, disk: &Disk) -> Result<Drive, String> {
        if disk.target.is_empty() && disk.kind == DiskKind::CdRom {
            return Ok(Drive::Cdrom(None));
        }
        let image = image(inputs, disk)?;
        if disk.kind == DiskKind::CdRom {
            return Ok(Drive::Cdrom(Some(Arc::new(ModuleImage(image)))));
        }
        let backend: Arc<dyn BlockBackend> = if disk.read_only {
            Arc::new(ModuleImage(image))
        } else {
            self.copy(disk, image)
                .ok_or_else(|| format!("disk {:?}: no memory for a copy", disk.target))?
        };
        Ok(Drive::Disk(backend))
    }

    /// A copy of a module that is not plugged in, or a new one.
    fn copy(&mut self, disk: &Disk, image: &[u8]) -> Option<Arc<MemoryDisk>> {
        let is_plugged = |copy: &Arc<MemoryDisk>| {
            self.list.iter().any(|(_, drive)| match drive {
                Drive::Disk(medium) => addr_eq(Arc::as_ptr(medium), Arc::as_ptr(copy)),
                Drive::Cdrom(_) => false,
            })
        };
        let is_free = |(target, copy): &&(String, Arc<MemoryDisk>)| {
            *target == disk.target && !is_plugged(copy)
        };
        if let Some((_, copy)) = self.copies.iter().find(is_free) {
            return Some(copy.clone());
        }
        let copy = Arc::new(MemoryDisk::new(self.platform, image)?);
        self.copies.push((disk.target.clone(), copy.clone()));
        Some(copy)
    }
}

/// The same as PV drivers find it.
fn pv_disk(disk: &Disk, drive: &Drive) -> DiskSettings {
    let (is_cdrom, medium) = match drive {
        Drive::Disk(medium) => (false, Some(medium)),
        Drive::Cdrom(medium) => (true, medium.as_ref()),
    };
    DiskSettings {
        id: disk.device.xen_number(),
        name: disk.device.name(),
        target: disk.target.clone(),
        is_cdrom,
        medium: medium.cloned(),
    }
}

/// The boot module that is the disk's target.
fn image(inputs: &BootInputs, disk: &Disk) -> Result<&'static [u8], String> {
    let target = &disk.target;
    let found = inputs.modules.iter().find(|module| disk.is_module(&module.command_line));
    let image = found.map(|module| module.data).ok_or_else(|| {
        let file_name = target.rsplit('/').next().unwrap_or_default();
        let names = inputs.module_names();
        format!(
            "disk {target:?}: there is no boot module called {file_name:?} (there are {names:?})"
        )
    })?;
    if image.is_empty() {
        return Err(format!("disk {target:?}: the boot module is empty"));
    }
    Ok(image)
}
