//! PV disks of a guest.

use super::BackEnds;
use super::device::{Class, DeviceGuest};
use crate::blkback::{Settings, Vbd};
use crate::events::BackEnd;
use crate::store::{DomId, Error, Store, tree, xenbus};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use block::Medium;

/// The class of the device.
const CLASS: &str = "vbd";
/// Rings of a disk.
const MAX_QUEUES: usize = 4;

/// A disk of a guest's configuration.
#[derive(Clone)]
pub struct DiskSettings {
    /// Its number in the store: 51712 is xvda.
    pub id: u32,
    /// Its name: `xvda`.
    pub name: String,
    /// Where it comes from, for readers of the store.
    pub target: String,
    /// It is a CD-ROM drive.
    pub is_cdrom: bool,
    /// The medium; none in a CD-ROM drive without a disc.
    pub medium: Option<Arc<dyn Medium>>,
}

impl DiskSettings {
    /// Makes its nodes in the store.
    fn add(&self, store: &mut Store, domain: DomId) -> Result<(), Error> {
        let id = self.id.to_string();
        let kind = if self.is_cdrom { "cdrom" } else { "disk" };
        let geometry = self.medium.as_ref().map(|medium| medium.geometry());
        let is_read_only = self.is_cdrom || geometry.is_some_and(|it| it.is_read_only);
        let mode = if is_read_only { "r" } else { "w" };
        let discards = !is_read_only && geometry.is_some_and(|it| it.has_discard);
        let device = tree::Device {
            class: CLASS,
            id: self.id,
            front: &[("virtual-device", &id), ("device-type", kind)],
            back: &[
                ("params", &self.target),
                ("type", "phy"),
                ("dev", &self.name),
                ("mode", mode),
                ("device-type", kind),
                ("bootable", "1"),
                ("removable", if self.is_cdrom { "1" } else { "0" }),
                ("discard-enable", if discards { "1" } else { "0" }),
            ],
        };
        tree::add_device(store, domain, &device)
    }
}

/// A disk of a guest.
#[derive(Clone)]
pub struct Disk {
    settings: DiskSettings,
    /// Its back end.
    pub vbd: Arc<Vbd>,
}

impl Disk {
    /// A disk with its nodes, which waits for a front end.
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node.
    pub fn new(
        settings: DiskSettings,
        store: &mut Store,
        guest: &Arc<BackEnds>,
    ) -> Result<Self, Error> {
        let domain = guest.platform.domain();
        settings.add(store, domain)?;
        let vbd_settings = Settings {
            domain,
            weight: guest.settings.weight,
            id: settings.id,
            is_cdrom: settings.is_cdrom,
            max_queues: guest.platform.vcpu_count().min(MAX_QUEUES) as u32,
        };
        let reached = DeviceGuest::new(guest, Class::Disk);
        let vbd = Vbd::new(store, vbd_settings, settings.medium.clone(), reached.clone())?;
        reached.connect(&vbd);
        Ok(Self { settings, vbd })
    }

    /// Makes its nodes anew, and waits for another front end.
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node.
    pub fn start_over(&self, store: &mut Store, domain: DomId) -> Result<(), Error> {
        self.settings.add(store, domain)?;
        self.vbd.let_go();
        self.vbd.attend(store)
    }
}

/// Disks that come and go while the guest runs.
impl BackEnds {
    /// Gives the guest one more disk (`xl block-attach`).
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node; nothing is left of the disk then.
    pub fn add_disk(self: &Arc<Self>, disk: DiskSettings) -> Result<(), Error> {
        let id = disk.id;
        self.shared.with(|store| match Disk::new(disk, store, self) {
            Ok(disk) => {
                self.disks.lock().push(disk);
                Ok(())
            }
            Err(error) => {
                // Its path is valid.
                let _ = tree::remove_device(store, self.platform.domain(), CLASS, id);
                Err(error)
            }
        })
    }

    /// True if the guest has the disk with this number.
    pub fn has_disk(&self, id: u32) -> bool {
        self.disks.lock().iter().any(|disk| disk.vbd.id() == id)
    }

    /// Asks the front end to let a disk go, which is removed when it has been, at once if there is
    /// no front end (`xl block-detach`); or removes it in any case (`--force`).
    pub fn remove_disk(&self, id: u32, is_forced: bool) {
        let found = self.disks.lock().iter().find(|disk| disk.vbd.id() == id).cloned();
        let Some(Disk { vbd: disk, .. }) = found else { return };
        self.shared.with(|store| {
            if is_forced {
                return self.drop_disk(store, &disk);
            }
            // Its paths are valid.
            let _ = disk.unplug(store);
            self.drop_if_unplugged(store, &disk);
        });
    }

    /// Puts another disc into a CD-ROM drive, or takes it out.
    pub fn change_disc(&self, id: u32, disc: Option<Arc<dyn Medium>>, target: &str) {
        let mut disks = self.disks.lock();
        let Some(disk) = disks.iter_mut().find(|disk| disk.vbd.id() == id) else { return };
        (disk.settings.medium, disk.settings.target) = (disc.clone(), target.into());
        let vbd = disk.vbd.clone();
        drop(disks);
        // Its paths are valid.
        let _ = self.shared.with(|store| vbd.change_medium(store, disc, target));
    }

    /// Removes the disks that a front end was asked to let go which is gone now: another kernel
    /// starts.
    pub(super) fn drop_leaving(&self, store: &mut Store) {
        let disks = self.disks.lock().clone();
        for disk in disks {
            if disk.vbd.is_leaving(store) {
                self.drop_disk(store, &disk.vbd);
            }
        }
    }

    /// Removes a disk if its front end was asked for it and has let it go.
    pub(super) fn drop_if_unplugged(&self, store: &mut Store, disk: &Vbd) {
        if disk.is_unplugged(store) {
            self.drop_disk(store, disk);
        }
    }

    fn drop_disk(&self, store: &mut Store, disk: &Vbd) {
        disk.end(store);
        // Its path is valid.
        let _ = tree::remove_device(store, self.platform.domain(), CLASS, disk.id());
        self.disks.lock().retain(|other| other.vbd.id() != disk.id());
    }
}

/// The way in which a disk and its front end are connected, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskLink {
    /// The front end's state.
    pub state: u32,
    /// Its event channel, if it has told one.
    pub event_channel: Option<u32>,
    /// The grant of its ring, if that is one page.
    pub ring_ref: Option<u32>,
    /// The back end's directory.
    pub back_end: String,
}

impl DiskLink {
    /// The link of the disk with this number, whether there is one or not.
    pub fn of(store: &Store, domain: DomId, id: u32) -> Self {
        let front = tree::front_path(domain, CLASS, id);
        let number = |name| xenbus::number(store, &front, name);
        Self {
            state: xenbus::state(store, &front) as u32,
            event_channel: number("event-channel"),
            ring_ref: number("ring-ref"),
            back_end: tree::back_path(domain, CLASS, id),
        }
    }
}

impl BackEnd for Vbd {
    fn notified(&self) {
        self.serve();
    }
}
