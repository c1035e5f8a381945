//! The PV-on-HVM platform of a PC, from the PC's parts.

use crate::host::clock::VmClock;
use crate::host::owner::GuestId;
use crate::host::timers::TimerQueue;
use crate::vm::StopSwitch;
use crate::vm::memory::{FrameMemory, GuestSpace};
use crate::vm::pv::{EventLines, PvMachine, PvTimer, PvWork, SharedPages};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use config::GuestConfig;
use control::guest::PvDrivers;
use devices::console::ByteSink;
use devices::ide::Ide;
use devices::local_apic::ApicInbox;
use xen::backends::{
    BackEnds, CardSettings, ConsoleOutput, DiskSettings, OwnedBackEnds, Settings, SharedStore,
};
use xen::device::{EmulatedDevices, PlatformDevice, Unplug};
use xen::platform::{Identity, PvPlatform};

const NS_PER_S: u64 = 1_000_000_000;
const KIB_PER_MIB: u64 = 1024;

/// The output of the PV console.
struct PvOutput(Arc<dyn ByteSink>);

impl ConsoleOutput for PvOutput {
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.iter().take_while(|&&byte| self.0.put(byte)).count()
    }
}

/// The way to a guest's PV drivers.
pub(super) struct PvPorts {
    pub back_ends: Weak<BackEnds>,
}

impl PvDrivers for PvPorts {
    fn put(&self, bytes: &[u8]) -> usize {
        self.back_ends.upgrade().map_or(0, |back_ends| back_ends.console().put_input(bytes))
    }

    fn ask_to_shut_down(&self) -> bool {
        self.back_ends.upgrade().is_some_and(|back_ends| back_ends.ask("poweroff"))
    }

    fn memory_kib(&self) -> Option<u64> {
        self.back_ends.upgrade().map(|back_ends| back_ends.memory_kib())
    }

    fn set_memory_target(&self, kib: u64) -> bool {
        self.back_ends.upgrade().is_some_and(|back_ends| back_ends.set_memory_target(kib))
    }

    fn set_max_memory(&self, kib: u64) -> bool {
        self.back_ends.upgrade().is_some_and(|back_ends| back_ends.set_max_memory(kib))
    }

    fn set_vcpus(&self, count: u32) {
        if let Some(back_ends) = self.back_ends.upgrade() {
            back_ends.set_vcpus(count);
        }
    }
}

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
    pub config: &'a GuestConfig,
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
    pub lines: EventLines,
    pub store: &'a Arc<SharedStore>,
    pub disks: Vec<DiskSettings>,
    pub cards: Vec<CardSettings>,
    /// Where its console transmits to.
    pub output: Arc<dyn ByteSink>,
}

/// A platform, and what goes with it.
pub(super) struct Pv {
    pub platform: Arc<PvPlatform>,
    pub back_ends: Option<OwnedBackEnds>,
    pub device: Arc<PlatformDevice>,
}

impl PvParts<'_> {
    /// The platform with its back ends and its PCI device; `slot` says which slot of its timer
    /// queue a virtual CPU's timer has, and `work_slot` which one of the first queue is for the
    /// back ends.
    pub fn build(self, slot: impl Fn(usize) -> usize, work_slot: usize) -> Pv {
        let queues = || self.queues.iter().enumerate();
        let alarms = queues().map(|(vcpu, queue)| queue.device_alarm(slot(vcpu))).collect();
        let machine = PvMachine {
            name: self.config.name.clone(),
            space: self.space.clone(),
            pages: SharedPages(self.pages),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            inboxes: self.inboxes.to_vec(),
            alarms,
            work: self.queues[0].device_alarm(work_slot),
            lines: self.lines,
        };
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
        let config = self.config;
        let settings = Settings {
            name: config.name.clone(),
            weight: config.cpu_weight,
            static_max_kib: config.ram_mib() * KIB_PER_MIB,
            target_kib: config.memory_mib * KIB_PER_MIB,
            video_kib: config.video_memory_mib as u64 * KIB_PER_MIB,
            max_vcpus: config.max_vcpus,
            vcpus: config.vcpus,
            disks: self.disks,
            cards: self.cards,
            console: Arc::new(PvOutput(self.output)),
        };
        let back_ends = BackEnds::connect(&platform, self.store, settings);
        let back_ends = back_ends
            .inspect_err(|error| log::error!("{}: no PV devices: {error:?}", config.name))
            .ok();
        if let Some(back_ends) = &back_ends {
            self.queues[0].connect(work_slot, Arc::new(PvWork(Arc::downgrade(back_ends))));
        }
        let emulated = Arc::new(EmulatedDisks(self.ide.clone()));
        let device = Arc::new(PlatformDevice::new(&config.name, emulated));
        Pv { platform, back_ends, device }
    }
}
