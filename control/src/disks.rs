//! Disks of guests, as consoles list and change them.

use alloc::string::String;
use alloc::vec::Vec;

/// A change of a guest's disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskChange {
    /// To plug a disk in.
    Attach {
        /// The disk, as in the configuration's list `disk`.
        disk: String,
    },
    /// To ask the guest to let one go, and to remove it then.
    Detach {
        /// Its name (`xvdb`) or number.
        device: String,
        /// It is removed at once, and the guest is not asked.
        is_forced: bool,
    },
    /// To put another disc into a CD-ROM drive.
    Insert {
        /// The drive's name (`hdc`) or number.
        device: String,
        /// The boot module with the disc; empty to take out the one that is in the drive.
        target: String,
    },
}

/// A disk in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// The number of its guest.
    pub guest: u32,
    /// Its own number (xen-vbd-interface(7)).
    pub id: u32,
    /// Its name: `xvdb`.
    pub name: String,
    /// The boot module that holds it; empty for a drive without a medium.
    pub target: String,
    /// The state of the guest's front end (`enum xenbus_state`), 0 if there cannot be one.
    pub state: u32,
    /// The front end's event channel, if it has told one.
    pub event_channel: Option<u32>,
    /// The grant of its ring, if that is one page.
    pub ring_ref: Option<u32>,
    /// The back end's directory in XenStore.
    pub back_end: String,
}

/// A disk of the machine's own in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDiskFacts {
    /// The whole disk.
    pub volume: VolumeFacts,
    /// The maker's name of it; empty if it has none.
    pub model: String,
    /// Its serial number; empty if it has none.
    pub serial: String,
    /// Its sectors.
    pub sector_bytes: u32,
    /// The unit that is best for it.
    pub physical_sector_bytes: u32,
    /// It cannot be written.
    pub is_read_only: bool,
    /// Its partitions, as they were when the machine started.
    pub partitions: Vec<PartitionFacts>,
}

/// A disk, or a partition, as what guests can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Its name below `/dev`: `vda1`.
    pub name: String,
    /// Its other names below `/dev`: `disk/by-label/root`.
    pub links: Vec<String>,
    /// Its length.
    pub size_bytes: u64,
    /// The file system that begins it, if it is a known one, as it was when the machine started.
    pub file_system: Option<FileSystemFacts>,
    /// The guests that have it.
    pub users: Vec<DiskUser>,
}

/// A partition in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The bytes in it, as guests can have them.
    pub volume: VolumeFacts,
    /// Where on its disk it begins.
    pub start_bytes: u64,
    /// Its purpose: the number in an MBR, the GUID in a GPT.
    pub kind: String,
    /// Its label in the table; empty if it has none.
    pub label: String,
    /// Its UUID as Linux has it; empty if it has none.
    pub uuid: String,
}

/// A file system by its superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemFacts {
    /// `ext4`, `vfat`.
    pub kind: &'static str,
    /// Its label; empty if it has none.
    pub label: String,
    /// Its UUID; empty if it has none.
    pub uuid: String,
}

/// A guest that has a disk or partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskUser {
    /// Its name.
    pub guest: String,
    /// How: `r`, `w`, or `w!`, as in a configuration.
    pub access: &'static str,
}
