//! The disks of the machine, found one by one.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use block::HostDisk;

use crate::disk::{Adapter, Found, FoundDisk, Place};
use crate::hardware::{Fault, Hardware};
use crate::pci::{self, Address, Function};
use crate::{ahci, nvme, virtio};

/// A kind of controllers.
struct Kind {
    name: &'static str,
    is_one: fn(&Function<'_>) -> bool,
    start: Start,
}

/// Starts a controller; none if there is nothing to be driven.
type Start = fn(&'static dyn Hardware, Function<'static>, Place) -> Result<Option<Found>, Fault>;

/// In the order in which their disks are listed.
const KINDS: [Kind; 3] = [
    Kind { name: "virtio-blk", is_one: virtio::is_block, start: virtio::start },
    Kind { name: "NVMe", is_one: nvme::is_nvme, start: nvme::start },
    Kind { name: "AHCI", is_one: ahci::is_ahci, start: ahci::start },
];

/// So long devices get to be ready for the loss of power.
const SHUT_DOWN_NS: u64 = 5_000_000_000;

/// The disks of the machine.
#[derive(Default)]
pub struct Disks {
    hardware: Option<&'static dyn Hardware>,
    list: Vec<HostDisk>,
    adapters: Vec<Arc<Adapter>>,
}

impl fmt::Debug for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disks").field(&self.list).finish()
    }
}

impl Disks {
    /// Looks for disks on PCI and starts them, with a line in the log for each. One that cannot be
    /// used is left out, and gives its reason there. To be called once.
    pub fn find(hardware: &'static dyn Hardware) -> Self {
        let mut all = Self { hardware: Some(hardware), ..Self::default() };
        let functions = pci::functions(hardware);
        for kind in KINDS {
            let mut place = Place::default();
            for &address in &functions {
                let function = Function::new(hardware, address);
                if !(kind.is_one)(&function) {
                    continue;
                }
                match (kind.start)(hardware, function, place) {
                    Ok(Some(found)) => {
                        place.controller += 1;
                        place.disk += found.disks.len();
                        all.add(hardware, kind.name, address, found);
                    }
                    Ok(None) => {}
                    Err(fault) => {
                        log::warn!("{} at {address}: {fault}: it is left out", kind.name);
                    }
                }
            }
        }
        all
    }

    fn add(
        &mut self,
        hardware: &'static dyn Hardware,
        kind: &'static str,
        address: Address,
        found: Found,
    ) {
        let Found { controller, name, disks, pages, bell } = found;
        let adapter = Adapter::new(hardware, name, disks.len(), controller, pages, bell);
        for (unit, disk) in disks.into_iter().enumerate() {
            log::info!("{disk} ({kind} at {address})");
            let FoundDisk { name, ids, model, serial, geometry } = disk;
            let medium = adapter.disk(unit, geometry);
            self.list.push(HostDisk { name, ids, model, serial, medium });
        }
        self.adapters.push(adapter);
    }

    /// The disks, by kind and in the order in which they were found.
    pub fn list(&self) -> &[HostDisk] {
        &self.list
    }

    /// Does what the disks have to do: clients are told of what is complete, and what waits is
    /// started. To be called on the boot CPU, outside of interrupt handlers and with no lock held
    /// that a client takes, after each interrupt and at the host time that the last call returned,
    /// in nanoseconds ([`u64::MAX`]: at none). A call that finds nothing to do is short.
    pub fn attend(&self) -> u64 {
        self.adapters.iter().map(|adapter| adapter.attend()).min().unwrap_or(u64::MAX)
    }

    /// Tells the disks that power may go, and waits until they are ready, for five seconds at the
    /// most. To be called when nothing is under way.
    pub fn shut_down(&self) {
        let Some(hardware) = self.hardware else { return };
        let end_ns = hardware.host_ns().saturating_add(SHUT_DOWN_NS);
        // Each is told before one is waited for.
        while self.adapters.iter().filter(|adapter| !adapter.shut_down()).count() > 0 {
            if hardware.host_ns() > end_ns {
                log::warn!("a disk is not ready for the loss of power");
                return;
            }
            core::hint::spin_loop();
        }
    }
}
