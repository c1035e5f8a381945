//! A disk of the machine's own, as its driver hands it on.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::Medium;

/// A disk of the machine's own. Its texts come from the device: they are short, and printable ASCII
/// without blanks at either end.
#[derive(Clone)]
pub struct HostDisk {
    /// Its name below `/dev` as Linux would give it: `vda`, `nvme0n1`, `sda`.
    pub name: String,
    /// Its names below `/dev/disk/by-id`, as udev makes them: `virtio-SERIAL`, `nvme-MODEL_SERIAL`.
    pub ids: Vec<String>,
    /// The maker's name of it; empty if it has none.
    pub model: String,
    /// Its serial number; empty if it has none.
    pub serial: String,
    /// Its bytes.
    pub medium: Arc<dyn Medium>,
}

impl fmt::Debug for HostDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostDisk")
            .field("name", &self.name)
            .field("ids", &self.ids)
            .field("model", &self.model)
            .field("serial", &self.serial)
            .field("geometry", &self.medium.geometry())
            .finish()
    }
}
