//! The PV-on-HVM platform of a PC, from the PC's parts.

use crate::host::clock::VmClock;
use crate::host::owner::GuestId;
use crate::host::timers::TimerQueue;
use crate::vm::StopSwitch;
use crate::vm::memory::{FrameMemory, GuestSpace};
use crate::vm::pv::{PvMachine, PvTimer};
use alloc::sync::Arc;
use devices::ide::Ide;
use devices::local_apic::ApicInbox;
use xen::device::{EmulatedDevices, PlatformDevice, Unplug};
use xen::platform::{Identity, PvPlatform};

const NS_PER_S: u64 = 1_000_000_000;

/// The emulated disks. There are no emulated network cards.
struct EmulatedDisks(Arc<Ide>);

impl EmulatedDevices for EmulatedDisks {
    fn unplug(&self, unplug: Unplug) {
        if unplug.disks || unplug.auxiliary_disks {
            self.0.remove_disks(!unplug.disks);
        }
    }
}

/// The parts of a PC that its PV-on-HVM platform is made of.
pub(super) struct PvParts<'a> {
    pub guest: GuestId,
    pub name: &'a str,
    pub uuid: [u8; 16],
    pub utc_s: u64,
    pub space: &'a Arc<GuestSpace>,
    pub pages: Arc<FrameMemory>,
    pub clock: &'a Arc<VmClock>,
    pub stop: &'a Arc<StopSwitch>,
    pub inboxes: &'a [Arc<ApicInbox>],
    /// By virtual CPU.
    pub queues: &'a [Arc<TimerQueue>],
    pub ide: &'a Arc<Ide>,
}

impl PvParts<'_> {
    /// The platform and its PCI device; `slot` says which slot of its timer queue a virtual CPU's
    /// timer has.
    pub fn build(self, slot: impl Fn(usize) -> usize) -> (Arc<PvPlatform>, Arc<PlatformDevice>) {
        let queues = || self.queues.iter().enumerate();
        let alarms = queues().map(|(vcpu, queue)| queue.device_alarm(slot(vcpu))).collect();
        let machine = PvMachine::new(
            self.space.clone(),
            self.pages,
            self.clock.clone(),
            self.stop.clone(),
            self.inboxes.to_vec(),
            alarms,
        );
        let identity = Identity {
            domain: self.guest.number() as u16,
            vcpus: self.queues.len(),
            uuid: self.uuid,
            ns_per_tick_q32: self.clock.ns_per_tick_q32(),
            utc_start_ns: self.utc_s.saturating_mul(NS_PER_S),
        };
        let platform = Arc::new(PvPlatform::new(Arc::new(machine), identity));
        for (vcpu, queue) in queues() {
            let timer = PvTimer { platform: platform.clone(), vcpu };
            queue.connect(slot(vcpu), Arc::new(timer));
        }
        let emulated = Arc::new(EmulatedDisks(self.ide.clone()));
        (platform, Arc::new(PlatformDevice::new(self.name, emulated)))
    }
}
