//! Disks of guests, as consoles list and change them.

use alloc::string::String;

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
