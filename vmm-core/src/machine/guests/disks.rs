//! Disks plugged in and unplugged while guests run: `xl block-list`, `block-attach`,
//! `block-detach`, `cd-insert` and `cd-eject`.

use super::{Guest, Guests, State};
use crate::backend::Backend;
use crate::machine::life::Device;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use control::disks::{DiskChange, DiskFacts};
use control::mailbox::{Answer, Client};
use xen::backends::DiskLink;
use xen::store::DomId;

impl<B: Backend> Guests<'_, B> {
    /// The disks of the guests with these numbers.
    pub(super) fn list_disks(&mut self, numbers: &[u32]) -> Answer {
        let mut all = Vec::new();
        for &number in numbers {
            let Some(index) = self.index_of(number) else { return Answer::NoGuest };
            self.list[index].forget_devices();
            let disks = self.list[index].domain.disks().configured();
            all.extend(disks.into_iter().map(|disk| {
                let id = disk.device.xen_number();
                let link = self.shared.store.with(|store| DiskLink::of(store, number as DomId, id));
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
                self.wait_for(index, client, Device::Disk(disk));
                None
            }
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
        self.forget_devices();
        let settings = self.domain.attach_disk(text)?;
        let id = settings.id;
        let plugged = match &mut self.state {
            State::Lives(life) => life.plug_disk(self.domain.platform(), settings),
            // It finds the disk when it starts.
            State::Waits { .. } | State::Ended => Ok(()),
        };
        plugged.inspect_err(|_| self.domain.remove_disk(id))
    }
}
