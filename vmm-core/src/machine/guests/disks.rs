//! Disks plugged in and unplugged while guests run: `xl block-list`, `block-attach`,
//! `block-detach`, `cd-insert` and `cd-eject`.

use super::{Attendant, Guest, Guests, State};
use crate::backend::Backend;
use crate::vcpu::Housekeeping;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use control::disks::{DiskChange, DiskFacts};
use control::mailbox::{Answer, Client};
use xen::backends::DiskLink;
use xen::store::{DomId, tree};

/// A guest that is asked for a disk may take so long to let it go, as in libxl
/// (`LIBXL_DESTROY_TIMEOUT`). After that it still may, but no client waits for it.
const DETACH_S: u64 = 10;
/// It is looked at so often meanwhile.
const LOOKS_PER_S: u64 = 50;

/// A client that waits for a guest to let a disk go.
pub(super) struct Detaching {
    client: Client,
    disk: u32,
    until_tsc: u64,
}

impl<B: Backend> Guests<'_, B> {
    /// The disks of the guests with these numbers.
    pub(super) fn list_disks(&mut self, numbers: &[u32]) -> Answer {
        let mut all = Vec::new();
        for &number in numbers {
            let Some(index) = self.index_of(number) else { return Answer::NoGuest };
            self.list[index].forget_disks();
            let disks = self.list[index].domain.disks().configured();
            all.extend(disks.into_iter().map(|disk| {
                let id = disk.device.xen_number();
                let link = self.store.with(|store| DiskLink::of(store, number as DomId, id));
                DiskFacts {
                    guest: number,
                    id,
                    name: disk.device.name(),
                    target: disk.target,
                    state: link.state,
                    event_channel: link.event_channel,
                    ring_ref: link.ring_ref,
                    back_end: link.back_end,
                }
            }));
        }
        Answer::Disks(all)
    }

    /// Changes the disks of the guest with this number; `None` if the answer has to wait for the
    /// guest.
    pub(super) fn change_disk(
        &mut self,
        client: Client,
        number: u32,
        change: &DiskChange,
    ) -> Option<Answer> {
        let Some(index) = self.index_of(number) else { return Some(Answer::NoGuest) };
        match change {
            DiskChange::Attach { disk } => Some(match self.list[index].attach_disk(disk) {
                Ok(()) => Answer::Done,
                Err(reason) => Answer::Failed(format!(
                    "Domain {number}:{reason}\nlibxl_device_disk_add failed."
                )),
            }),
            DiskChange::Insert { device, target } => {
                let Guest { domain, state, .. } = &mut self.list[index];
                let changed = domain.change_disc(device, target, |disk, disc| match state {
                    State::Lives(life) => life.change_disc(disk, disc),
                    State::Waits { .. } | State::Ended => Ok(()),
                });
                Some(match changed {
                    Ok(()) => Answer::Done,
                    Err(reason) => Answer::Failed(format!("Domain {number}:{reason}")),
                })
            }
            DiskChange::Detach { device, is_forced } => {
                let guest = &mut self.list[index];
                let Some(disk) = guest.domain.disks().find(device) else {
                    return Some(Answer::Failed(format!("Error: Device {device} not connected.")));
                };
                let disk = disk.device.xen_number();
                if let Some(back_ends) = guest.back_ends() {
                    back_ends.remove_disk(disk, *is_forced);
                }
                let wait_ticks = self.platform.tsc_hz() * DETACH_S;
                let until_tsc = self.platform.tsc().saturating_add(wait_ticks);
                guest.detaching.push(Detaching { client, disk, until_tsc });
                None
            }
        }
    }

    /// Answers those who wait for the guest to let disks go.
    pub(super) fn finish_detaching(&mut self, index: usize, attendant: &mut Attendant) {
        let guest = &mut self.list[index];
        guest.forget_disks();
        for Detaching { client, disk, until_tsc } in core::mem::take(&mut guest.detaching) {
            let now_tsc = self.platform.tsc();
            let is_there = guest.back_ends().is_some_and(|back_ends| back_ends.has_disk(disk));
            let answer = if !is_there {
                // If its life has ended, so has its hold on the disk.
                guest.domain.remove_disk(disk);
                Answer::Done
            } else if now_tsc >= until_tsc {
                let number = guest.domain.mailbox().number();
                let path = tree::back_path(number as DomId, "vbd", disk);
                Answer::Failed(format!(
                    "Domain {number}:unable to remove device with path {path}\n\
                     libxl_device_disk_remove failed."
                ))
            } else {
                guest.detaching.push(Detaching { client, disk, until_tsc });
                self.cpus.call_boot_cpu_at(now_tsc + self.platform.tsc_hz() / LOOKS_PER_S);
                continue;
            };
            attendant.machine.put_answer(client, answer);
            attendant.take_answers();
        }
    }

    /// The front end of the guest called `name` lets a disk go, which is no longer waited for.
    #[cfg(test)]
    pub fn let_disk_go(&self, name: &str, disk: u32) {
        let guest = self.list.iter().find(|guest| guest.domain.config().name == name).unwrap();
        guest.back_ends().unwrap().remove_disk(disk, true);
    }

    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        self.list.iter().position(|guest| guest.domain.mailbox().number() == number)
    }
}

impl<B: Backend> Guest<'_, B> {
    fn attach_disk(&mut self, text: &str) -> Result<(), String> {
        self.forget_disks();
        let settings = self.domain.attach_disk(text)?;
        let id = settings.id;
        let plugged = match &mut self.state {
            State::Lives(life) => life.plug(self.domain.platform(), settings),
            // It finds the disk when it starts.
            State::Waits { .. } | State::Ended => Ok(()),
        };
        plugged.inspect_err(|_| self.domain.remove_disk(id))
    }

    /// The guest does not get back, when it restarts, the disks that it has let go, perhaps after
    /// all who asked for that have been answered.
    pub(super) fn forget_disks(&mut self) {
        let State::Lives(life) = &mut self.state else { return };
        let Some(back_ends) = life.back_ends() else { return };
        let pv = self.domain.disks().pv();
        let gone = pv.iter().map(|disk| disk.id).filter(|&id| !back_ends.has_disk(id));
        let gone: Vec<u32> = gone.collect();
        for id in gone {
            self.domain.remove_disk(id);
            life.unplugged(id);
        }
    }
}
