//! The disks of a domain: what they are, and what they hold, through all its lives.

use super::disk::{MemoryDisk, ModuleImage};
use super::host_disks::{Access, Claim, Given, HostDisks};
use crate::host::platform::{BootInputs, Platform};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Medium, Watched};
use config::guest::MAX_DISKS;
use config::{Disk, DiskKind, GuestConfig};
use devices::ide::Drive;
use xen::backends::DiskSettings;

/// The disks of a domain.
pub struct Disks {
    platform: &'static dyn Platform,
    /// The guest's name.
    name: String,
    has_pv: bool,
    host_disks: Rc<HostDisks>,
    list: Vec<Plugged>,
    /// Copies of boot modules that the guest may have written to, plugged in or not, by the
    /// modules' names.
    copies: Vec<(String, Arc<MemoryDisk>)>,
}

/// A disk of a domain.
pub struct Plugged {
    disk: Disk,
    drive: Drive,
    /// Which of the copies it is, if it is one.
    copy: Option<usize>,
    /// The claim to it, if it is one of the machine's.
    _claim: Option<Claim>,
}

impl Disks {
    /// Those of a configuration, but for those that the guest could not reach.
    ///
    /// # Errors
    /// A line that names the disk and what is wrong with it.
    pub fn new(
        platform: &'static dyn Platform,
        inputs: &BootInputs,
        host_disks: &Rc<HostDisks>,
        config: &GuestConfig,
    ) -> Result<Self, String> {
        let has_pv = config.xen_platform_pci;
        let mut disks = Self {
            platform,
            name: config.name.clone(),
            has_pv,
            host_disks: host_disks.clone(),
            list: Vec::new(),
            copies: Vec::new(),
        };
        for disk in &config.disks {
            if !has_pv && disk.device.ide_position().is_none() {
                log::warn!(
                    "{}: disk {:?}: only the first four drives are IDE; left out",
                    config.name,
                    disk.target
                );
                continue;
            }
            let plugged = disks.plug(inputs, disk.clone());
            let plugged = plugged.map_err(|reason| format!("{}: {reason}", config.name))?;
            disks.list.push(plugged);
        }
        Ok(disks)
    }

    /// As a configuration has them.
    pub fn configured(&self) -> Vec<Disk> {
        self.list.iter().map(|plugged| plugged.disk.clone()).collect()
    }

    /// Those that are IDE drives, by their places.
    pub fn drives(&self) -> [Option<Drive>; 4] {
        let mut drives = [const { None }; 4];
        for Plugged { disk, drive, .. } in &self.list {
            if let Some((channel, unit)) = disk.device.ide_position() {
                drives[usize::from(channel * 2 + unit)] = Some(drive.clone());
            }
        }
        drives
    }

    /// The same disks, and those that IDE has no place for, as PV drivers find them.
    pub fn pv(&self) -> Vec<DiskSettings> {
        let list = self.list.iter().filter(|_| self.has_pv);
        list.map(Plugged::pv).collect()
    }

    /// The disk that is called so, or has this number.
    pub fn find(&self, device: &str) -> Option<&Disk> {
        let names = |disk: &&Disk| {
            disk.device.name() == device || disk.device.xen_number().to_string() == device
        };
        self.list.iter().map(|plugged| &plugged.disk).find(names)
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
        let is_taken = |Plugged { disk: other, .. }: &Plugged| {
            other.device == device || position.is_some() && other.device.ide_position() == position
        };
        if self.list.iter().any(is_taken) {
            return Err("device already exists in xenstore".into());
        }
        if self.list.len() >= MAX_DISKS {
            return Err(format!("a guest has {MAX_DISKS} disks at the most"));
        }
        let plugged = self.plug(inputs, disk)?;
        let settings = plugged.pv();
        self.list.push(plugged);
        Ok(settings)
    }

    /// The drive that is called so, or has this number, with another disc in it; with an empty
    /// target, without one. [`Self::set_disc`] makes it so.
    ///
    /// # Errors
    /// Why it cannot be, in words of libxl where it has them.
    pub fn disc(
        &mut self,
        inputs: &BootInputs,
        device: &str,
        target: &str,
    ) -> Result<Plugged, String> {
        let drive = self.find(device).filter(|disk| disk.kind == DiskKind::CdRom);
        let drive = drive.ok_or("Virtual device not found")?;
        let disk = Disk { target: target.into(), ..drive.clone() };
        self.plug(inputs, disk)
    }

    /// The drive is so from now on.
    pub fn set_disc(&mut self, drive: Plugged) {
        if let Some(entry) = self.list.iter_mut().find(|it| it.disk.device == drive.disk.device) {
            *entry = drive;
        }
    }

    /// The disk with this number is gone. A copy that it is stays, and is found again when its
    /// module is plugged in anew.
    pub fn remove(&mut self, id: u32) {
        self.list.retain(|plugged| plugged.disk.device.xen_number() != id);
    }

    fn plug(&mut self, inputs: &BootInputs, disk: Disk) -> Result<Plugged, String> {
        if disk.target.is_empty() && disk.kind == DiskKind::CdRom {
            return Ok(Plugged { disk, drive: Drive::Cdrom(None), copy: None, _claim: None });
        }
        let (medium, copy, claim): (Arc<dyn Medium>, _, _) = match self.host_disk(&disk)? {
            Some(Given { medium, claim }) => (medium, None, Some(claim)),
            None => {
                let image = image(inputs, &self.host_disks, &disk)?;
                let is_changed = disk.kind == DiskKind::HardDisk && !disk.read_only;
                match is_changed.then(|| self.copy(&disk, image)).transpose()? {
                    Some(copy) => (self.copies[copy].1.clone(), Some(copy), None),
                    None => (Arc::new(ModuleImage(image)), None, None),
                }
            }
        };
        let medium = self.watched(&disk, medium);
        let drive = match disk.kind {
            DiskKind::CdRom => Drive::Cdrom(Some(medium)),
            DiskKind::HardDisk => Drive::Disk(medium),
        };
        Ok(Plugged { disk, drive, copy, _claim: claim })
    }

    /// The disk of the machine's that is the target, if it is one.
    fn host_disk(&self, disk: &Disk) -> Result<Option<Given>, String> {
        let Some(name) = disk.device_name() else { return Ok(None) };
        let access = match disk {
            Disk { read_only: true, .. } => Access::Read,
            Disk { is_shared: true, .. } => Access::Shared,
            _ => Access::Write,
        };
        let given = self.host_disks.give(name, access, &self.name);
        given.map_err(|reason| format!("disk {:?}: {reason}", disk.target))
    }

    fn watched(&self, disk: &Disk, medium: Arc<dyn Medium>) -> Arc<dyn Medium> {
        Watched::new(medium, format!("{}: disk {}", self.name, disk.device.name()))
    }

    /// A copy of a module that is not plugged in, or a new one.
    fn copy(&mut self, disk: &Disk, image: &[u8]) -> Result<usize, String> {
        let is_plugged = |copy| self.list.iter().any(|plugged| plugged.copy == Some(copy));
        let mut copies = self.copies.iter().enumerate();
        let is_free = |(copy, (target, _)): &(usize, &(String, Arc<MemoryDisk>))| {
            *target == disk.target && !is_plugged(*copy)
        };
        if let Some((copy, _)) = copies.find(is_free) {
            return Ok(copy);
        }
        let copy = MemoryDisk::new(self.platform, image)
            .ok_or_else(|| format!("disk {:?}: no memory for a copy", disk.target))?;
        self.copies.push((disk.target.clone(), Arc::new(copy)));
        Ok(self.copies.len() - 1)
    }
}

impl Plugged {
    /// The disk, as a configuration has it.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The disc that is in it.
    pub fn disc(&self) -> Option<Arc<dyn Medium>> {
        match &self.drive {
            Drive::Cdrom(disc) => disc.clone(),
            Drive::Disk(_) => None,
        }
    }

    /// The same as PV drivers find it.
    fn pv(&self) -> DiskSettings {
        let Self { disk, drive, .. } = self;
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
}

/// The boot module that is the disk's target, which is no disk of the machine's.
fn image(
    inputs: &BootInputs,
    host_disks: &HostDisks,
    disk: &Disk,
) -> Result<&'static [u8], String> {
    let target = &disk.target;
    let found = inputs.modules.iter().find(|module| disk.is_module(&module.command_line));
    let image = found.map(|module| module.data).ok_or_else(|| {
        let file_name = target.rsplit('/').next().unwrap_or_default();
        let names = inputs.module_names();
        let no_disk = match disk.device_name() {
            Some(_) => format!("there is no such disk (there are {:?}), and ", host_disks.names()),
            None => String::new(),
        };
        format!(
            "disk {target:?}: {no_disk}there is no boot module called {file_name:?} (there are \
             {names:?})"
        )
    })?;
    if image.is_empty() {
        return Err(format!("disk {target:?}: the boot module is empty"));
    }
    Ok(image)
}
