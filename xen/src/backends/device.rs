//! The guest as the back ends of its devices reach it.

use super::BackEnds;
use crate::events::BackEnd;
use crate::grants::NoGrant;
use crate::guest::{BadGrant, Guest, Held};
use crate::pages::Shared;
use crate::platform::PvPlatform;
use crate::width::Width;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::iter;
use devices::lock::{Ranked, rank};
use spin::Once;

/// The kinds of devices, each with numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `vbd`
    Disk,
    /// `vif`
    Card,
}

/// A device that is served when its guest signals; it is known once it has been made.
type Device = Arc<Once<Weak<dyn BackEnd>>>;

/// The port of one of a device's queues.
struct QueuePort(Device);

impl BackEnd for QueuePort {
    fn notified(&self) {
        if let Some(device) = self.0.get().and_then(Weak::upgrade) {
            device.notified();
        }
    }
}

/// The guest as a device reaches it.
pub struct DeviceGuest {
    platform: Weak<PvPlatform>,
    back_ends: Weak<BackEnds>,
    class: Class,
    device: Device,
    /// By the guest's ports, which are their names here too.
    bound: Ranked<BTreeMap<u32, Arc<dyn BackEnd>>, { rank::PV_LIST }>,
}

impl DeviceGuest {
    /// For a device that is to be made.
    pub fn new(back_ends: &Arc<BackEnds>, class: Class) -> Arc<Self> {
        Arc::new(Self {
            platform: Arc::downgrade(&back_ends.platform),
            back_ends: Arc::downgrade(back_ends),
            class,
            device: Device::default(),
            bound: Ranked::default(),
        })
    }

    /// This is the device.
    pub fn connect(&self, device: &Arc<impl BackEnd + 'static>) {
        let device: Weak<dyn BackEnd> = Arc::downgrade(device) as _;
        self.device.call_once(|| device);
    }

    fn with_held<T>(
        &self,
        held: &Held,
        work: impl FnOnce(Shared<'_>) -> Option<T>,
    ) -> Result<T, BadGrant> {
        let platform = self.platform.upgrade().ok_or(BadGrant)?;
        work(Shared::at_gpa(platform.machine(), held.gpa)).ok_or(BadGrant)
    }
}

impl Guest for DeviceGuest {
    fn hold(&self, reference: u32, is_writable: bool) -> Result<Held, BadGrant> {
        let mut found = Err(BadGrant);
        self.hold_all(&mut iter::once(reference), is_writable, &mut |held| found = Ok(held))?;
        found
    }

    fn hold_all(
        &self,
        references: &mut dyn Iterator<Item = u32>,
        is_writable: bool,
        take: &mut dyn FnMut(Held),
    ) -> Result<(), BadGrant> {
        let platform = self.platform.upgrade().ok_or(BadGrant)?;
        let take = |reference, gpa| take(Held { reference, gpa, is_writable });
        platform.hold_grants(references, is_writable, take).map_err(|NoGrant| BadGrant)
    }

    fn release(&self, held: Held) {
        self.release_all(&mut iter::once(held));
    }

    fn release_all(&self, held: &mut dyn Iterator<Item = Held>) {
        if let Some(platform) = self.platform.upgrade() {
            platform.release_grants(held.map(|held| (held.reference, held.is_writable)));
        }
    }

    fn read(&self, held: &Held, offset: usize, data: &mut [u8]) -> Result<(), BadGrant> {
        self.with_held(held, |page| page.read(offset as u64, data).ok())
    }

    fn write(&self, held: &Held, offset: usize, data: &[u8]) -> Result<(), BadGrant> {
        self.with_held(held, |page| page.write(offset as u64, data).ok())
    }

    fn bind(&self, port: u32) -> Option<u32> {
        let platform = self.platform.upgrade()?;
        let queue: Arc<dyn BackEnd> = Arc::new(QueuePort(self.device.clone()));
        platform.with_ports(|ports, _| ports.connect(port, queue.clone())).ok()?;
        let before = self.bound.lock().insert(port, queue);
        // The guest has closed the port meanwhile, and made another of this number.
        if let Some(before) = before {
            platform.with_ports(|ports, _| ports.disconnect(&before));
        }
        Some(port)
    }

    fn unbind(&self, local_port: u32) {
        let queue = self.bound.lock().remove(&local_port);
        if let (Some(queue), Some(platform)) = (queue, self.platform.upgrade()) {
            platform.with_ports(|ports, _| ports.disconnect(&queue));
        }
    }

    fn notify(&self, local_port: u32) {
        let queue = self.bound.lock().get(&local_port).cloned();
        if let (Some(queue), Some(platform)) = (queue, self.platform.upgrade()) {
            platform.notify(&queue);
        }
    }

    fn width(&self) -> Width {
        self.platform.upgrade().map(|platform| platform.width()).unwrap_or_default()
    }

    fn call_back(&self, device: u32) {
        if let Some(back_ends) = self.back_ends.upgrade() {
            back_ends.call_back(self.class, device);
        }
    }

    fn look_later(&self, device: u32) {
        if let Some(back_ends) = self.back_ends.upgrade() {
            back_ends.look_later(device);
        }
    }

    fn call_back_later(&self, device: u32) {
        if let Some(back_ends) = self.back_ends.upgrade() {
            back_ends.call_back_later(self.class, device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::SharedStore;
    use crate::test_guest::{Guest as TestGuest, SELF, Screen};

    #[test]
    fn a_port_that_comes_anew_leaves_no_end_behind() {
        let mut guest = TestGuest::new(Width::Bits64, 1);
        let (shared, screen) = (SharedStore::new(), Arc::new(Screen::default()));
        let back_ends = guest.back_ends(&shared, &screen, vec![0; 512]);
        let device = DeviceGuest::new(&back_ends, Class::Card);
        let to_self = u32::from(SELF);
        let bind = |guest: &mut TestGuest| {
            let (_, [_, port]) = guest.event(6, [to_self, 0]);
            assert_eq!(device.bind(port), Some(port));
            assert_eq!(device.bind(port), None, "it is bound");
            let (_, [.., far_port]) = guest.event(5, [to_self, port, 0, 0, 0, 0]);
            (port, far_port)
        };
        let first = bind(&mut guest);
        // The guest closes it while the device is being connected.
        assert_eq!(guest.event(3, [first.0]).0, 0);
        let again = bind(&mut guest);
        assert_eq!(again.0, first.0);
        device.unbind(again.0);
        assert_eq!(guest.event(3, [again.0]).0, 0);
        assert_eq!(bind(&mut guest), first);
    }
}
