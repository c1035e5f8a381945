//! PV devices that guests are asked to let go, and clients that wait for that.

use super::{Attendant, Guest, Guests, State};
use crate::backend::Backend;
use crate::machine::life::Device;
use crate::vcpu::Housekeeping;
use alloc::format;
use alloc::vec::Vec;
use control::mailbox::{Answer, Client};
use xen::backends::BackEnds;
use xen::store::{DomId, tree};

/// A guest that is asked for a device may take so long to let it go, as in libxl
/// (`LIBXL_DESTROY_TIMEOUT`). After that it still may, but no client waits for it.
const DETACH_S: u64 = 10;
/// It is looked at so often meanwhile.
const LOOKS_PER_S: u64 = 50;

/// A client that waits for a guest to let a device go.
pub(super) struct Detaching {
    client: Client,
    device: Device,
    until_tsc: u64,
}

impl Device {
    fn is_in(self, back_ends: &BackEnds) -> bool {
        match self {
            Self::Disk(id) => back_ends.has_disk(id),
            Self::Card(id) => back_ends.has_card(id),
        }
    }

    /// The words of libxl and xl for one that is not let go.
    fn refusal(self, guest: u32) -> Answer {
        let (class, id, function) = match self {
            Self::Disk(id) => ("vbd", id, "libxl_device_disk_remove"),
            Self::Card(id) => ("vif", id, "libxl_device_nic_del"),
        };
        let path = tree::back_path(guest as DomId, class, id);
        Answer::Failed(format!(
            "Domain {guest}:unable to remove device with path {path}\n{function} failed."
        ))
    }
}

impl<B: Backend> Guests<'_, B> {
    /// The client waits for the guest, which has been asked to let the device go.
    pub(super) fn wait_for(&mut self, index: usize, client: Client, device: Device) {
        let wait_ticks = self.platform.tsc_hz() * DETACH_S;
        let until_tsc = self.platform.tsc().saturating_add(wait_ticks);
        self.list[index].detaching.push(Detaching { client, device, until_tsc });
    }

    /// Answers those who wait for the guest to let devices go.
    pub(super) fn finish_detaching(&mut self, index: usize, attendant: &mut Attendant) {
        let guest = &mut self.list[index];
        guest.forget_devices();
        for Detaching { client, device, until_tsc } in core::mem::take(&mut guest.detaching) {
            let now_tsc = self.platform.tsc();
            let is_there = guest.back_ends().is_some_and(|back_ends| device.is_in(back_ends));
            let answer = if !is_there {
                // If its life has ended, so has its hold on the device.
                guest.forget(device);
                Answer::Done
            } else if now_tsc >= until_tsc {
                device.refusal(guest.domain.mailbox().number())
            } else {
                guest.detaching.push(Detaching { client, device, until_tsc });
                self.cpus.call_boot_cpu_at(now_tsc + self.platform.tsc_hz() / LOOKS_PER_S);
                continue;
            };
            attendant.machine.put_answer(client, answer);
            attendant.take_answers();
        }
    }
}

impl<B: Backend> Guest<'_, B> {
    /// The guest does not get back, when it restarts, the devices that it has let go, perhaps after
    /// all who asked for that have been answered.
    pub(super) fn forget_devices(&mut self) {
        let Some(back_ends) = self.back_ends() else { return };
        let disks = self.domain.disks().pv().into_iter().map(|disk| Device::Disk(disk.id));
        let cards = self.domain.cards().iter().map(|card| Device::Card(card.id));
        let gone = disks.chain(cards).filter(|device| !device.is_in(back_ends));
        let gone: Vec<_> = gone.collect();
        gone.into_iter().for_each(|device| self.forget(device));
    }

    fn forget(&mut self, device: Device) {
        match device {
            Device::Disk(id) => self.domain.remove_disk(id),
            Device::Card(id) => self.domain.remove_card(id),
        }
        if let State::Lives(life) = &mut self.state {
            life.unplugged(device);
        }
    }
}
