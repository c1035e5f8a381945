//! The things that all guests share.

use super::host_disks::HostDisks;
use super::network;
use crate::host::platform::Platform;
use alloc::rc::Rc;
use alloc::sync::Arc;
use net::Switch;
use xen::backends::SharedStore;

/// The things that all guests share.
#[derive(Clone)]
pub struct Shared {
    /// XenStore.
    pub store: Arc<SharedStore>,
    /// The switch that their network cards are plugged into.
    pub switch: Arc<Switch>,
    /// The machine's own disks.
    pub host_disks: Rc<HostDisks>,
}

impl Shared {
    /// With these disks, and nothing else in it yet.
    pub fn new(platform: &'static dyn Platform, host_disks: HostDisks) -> Self {
        Self {
            store: SharedStore::new(),
            switch: network::switch(platform),
            host_disks: Rc::new(host_disks),
        }
    }
}
