//! One life of a guest: from its power-on or reset to its stop.

use super::attendant::Attendant;
use super::cpus::{Cpus, RunningGuest};
use super::domain::Domain;
use super::pc::Pc;
use super::scheduling::GuestScheduling;
use crate::backend::Backend;
use crate::host::platform::{MAX_CPUS, Platform};
use crate::scheduler::{Affinity, CpuSet, DomainParams};
use crate::vcpu::{Vcpu, VcpuWires};
use crate::vm::memory::FrameMemory;
use crate::vm::{Stop, Vm};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::Medium;
use config::cpus::CpuList;
use config::{Disk, GuestConfig};
use control::budget::Budget;
use control::guest::{GuestPorts, OpenPorts};
use devices::cpu_hotplug::CpuHotplug;
use devices::ide::{DoorLocked, Ide};
use devices::rtc::{Battery, Rtc};
use xen::backends::{BackEnds, CardSettings, DiskSettings};
use xen::store::Quotas;

/// The most heap that a guest's devices and virtual CPUs take when it starts.
const START_HEAP_BYTES: u64 = 4 << 20;

/// The account of a second-level table, of which a guest that gives memory back may need one for
/// each 2 MiB.
const TABLE_HEAP_BYTES: u64 = 128;

/// The most heap that its devices take and give back while it runs: a chunk of each IDE channel,
/// which of a CD may have to be turned into raw sectors, one of the boot disk, and lists of pages.
const RUN_HEAP_BYTES: u64 = 320 << 10;

/// The same of a PV disk: lists of the requests that are on their way and of their pages, at worst
/// of as many as the rings have entries, and of one sector a page.
const PV_DISK_HEAP_BYTES: u64 = (1 << 20) + (128 << 10);

/// The same of a PV network card: the frames that wait for the guest, one that it sends, one that
/// is being given to it with what it is cut into or has its checksum put into, and the addresses
/// that are learned behind it.
const PV_CARD_HEAP_BYTES: u64 = net::MAX_WAITING_BYTES as u64 + (288 << 10);

/// Its replies from the store that wait, twenty of 4 KiB, and one on its way. Its nodes in the
/// store are there twice while a transaction ends or a directory is removed.
const STORE_REPLIES_BYTES: u64 = 96 << 10;

/// The most heap that a guest takes when it starts. RAM of an earlier life has its lists of pages.
fn start_heap_bytes(config: &GuestConfig, has_ram: bool) -> u64 {
    if !config.xen_platform_pci || has_ram {
        return START_HEAP_BYTES;
    }
    START_HEAP_BYTES + FrameMemory::divisible_heap_bytes(config.ram_mib() << 20)
}

/// The most heap that a guest takes and gives back while it runs.
fn run_heap_bytes(config: &GuestConfig) -> u64 {
    if !config.xen_platform_pci {
        return RUN_HEAP_BYTES;
    }
    let tables_bytes = config.ram_mib() / 2 * TABLE_HEAP_BYTES;
    let store_bytes = 2 * Quotas::default().memory_bytes as u64 + STORE_REPLIES_BYTES;
    let disks_bytes = config.disks.len() as u64 * PV_DISK_HEAP_BYTES;
    let cards_bytes = config.vifs.len() as u64 * PV_CARD_HEAP_BYTES;
    RUN_HEAP_BYTES + tables_bytes + store_bytes + disks_bytes + cards_bytes
}

/// A PV device that comes and goes while its guest runs, by its number in XenStore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// `vbd`
    Disk(u32),
    /// `vif`
    Card(u32),
}

/// A guest that runs.
pub struct Life<B: Backend> {
    vm: Arc<Vm>,
    ide: Arc<Ide>,
    rtc: Arc<Rtc>,
    sockets: Arc<CpuHotplug>,
    running: RunningGuest<B>,
    started_tsc: u64,
    /// Set aside as long as it lives.
    _heap: Budget,
    /// And as long as it has these devices, which came later.
    device_heaps: Vec<(Device, Budget)>,
}

/// The parts of a PC that outlast a reset.
pub struct Legacy {
    battery: Battery,
    /// When that was taken out.
    at_tsc: u64,
    /// Not if the power went off.
    ram: Option<Arc<FrameMemory>>,
}

impl<B: Backend> Life<B> {
    /// A guest begins to run on all CPUs, with what its life before left to it. This CPU is `cpu`.
    ///
    /// # Errors
    /// A line that says why it could not be started.
    pub fn begin(
        domain: &Domain<'_>,
        cpu: &B::Cpu,
        cpus: &'static Cpus<B>,
        attendant: &mut Attendant,
        legacy: Option<Legacy>,
    ) -> Result<Self, String> {
        let (platform, name) = (domain.platform(), &domain.config().name);
        check_affinity(domain.config(), cpus.online())?;
        let started_tsc = platform.tsc();
        let set_aside = |bytes| {
            let budget = Budget::reserve(platform, bytes);
            budget.map_err(|too_little| format!("{name}: {too_little}: give the guest less memory"))
        };
        let has_ram = legacy.as_ref().is_some_and(|legacy| legacy.ram.is_some());
        if !has_ram {
            domain.check_room()?;
        }
        let starting = set_aside(start_heap_bytes(domain.config(), has_ram))?;
        let heap = set_aside(run_heap_bytes(domain.config()))?;
        let ports = OpenPorts::new(name);
        let (battery, ram) = match legacy {
            Some(Legacy { battery, at_tsc, ram }) => {
                (battery.after_ns(domain.ns_since(at_tsc)), ram)
            }
            None => (domain.new_battery(), None),
        };
        let Pc { vm, vcpus, com1, ide, vga, i8042, rtc, power, sockets, pv } =
            domain.build::<B>(cpu, cpus.features(), &ports, battery, ram)?;
        let first = vcpus.first().ok_or_else(|| format!("{name}: vcpus: none to run"))?;
        let first = first.kick.clone();
        let timekeeper = cpus.timekeeper(vcpus.len());
        let make = |(index, wires): (usize, VcpuWires)| {
            let vcpu = Vcpu::<B>::new(index, platform, cpu, vm.clone(), wires.clone(), timekeeper);
            Ok((vcpu.map_err(|reason| format!("{name}: {}", reason.0))?, wires))
        };
        let vcpus = vcpus.into_iter().enumerate().map(make).collect::<Result<_, String>>()?;
        drop(starting);
        domain.mailbox().connect(first);
        let entered_us = domain.ns_since(platform.boot_tsc()) / 1000;
        log::info!("{name}: first instruction {entered_us} us after the image was entered");
        let params = DomainParams {
            weight: domain.config().cpu_weight,
            cap_percent: domain.config().cpu_cap_percent,
        };
        let affinity = |vcpu| affinity(domain.config(), vcpu);
        let running = cpus.begin_guest(params, affinity, vcpus);
        let running = running.ok_or_else(|| format!("{name}: the scheduler has no room for it"))?;
        let (number, units) = (running.domain(), running.units());
        let scheduling = GuestScheduling::new(cpus, vm.clone(), sockets.clone(), number, units);
        let ports = GuestPorts {
            uart: com1,
            vga,
            i8042,
            output: ports.output,
            power,
            processors: vm.chipset.processors.clone(),
            sockets: sockets.clone(),
            scheduling: Arc::new(scheduling),
            pv,
        };
        attendant.consoles.attach(domain.mailbox().number(), ports);
        let device_heaps = Vec::new();
        Ok(Self { vm, ide, rtc, sockets, running, started_tsc, _heap: heap, device_heaps })
    }

    /// Why the guest stops, if it does.
    pub fn stop(&self) -> Option<Stop> {
        self.vm.stop.requested()
    }

    /// Stops the guest.
    #[cfg(test)]
    pub fn request_stop(&self, stop: Stop) {
        self.vm.stop.request(stop);
    }

    /// Its back ends, if it may have PV drivers.
    pub fn back_ends(&self) -> Option<&Arc<BackEnds>> {
        self.vm.back_ends.as_deref()
    }

    /// Plugs a disk in.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn plug_disk(
        &mut self,
        platform: &'static dyn Platform,
        disk: DiskSettings,
    ) -> Result<(), String> {
        let device = Device::Disk(disk.id);
        self.plug(platform, device, PV_DISK_HEAP_BYTES, |back_ends| back_ends.add_disk(disk))
    }

    /// Plugs a network card in.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn plug_card(
        &mut self,
        platform: &'static dyn Platform,
        card: CardSettings,
    ) -> Result<(), String> {
        let device = Device::Card(card.id);
        self.plug(platform, device, PV_CARD_HEAP_BYTES, |back_ends| back_ends.add_card(card))
    }

    fn plug(
        &mut self,
        platform: &'static dyn Platform,
        device: Device,
        heap_bytes: u64,
        add: impl FnOnce(&Arc<BackEnds>) -> Result<(), xen::store::Error>,
    ) -> Result<(), String> {
        let back_ends = self.back_ends().ok_or("the guest has no PV devices")?;
        let heap = Budget::reserve(platform, heap_bytes);
        let heap = heap.map_err(|too_little| format!("{too_little}"))?;
        add(back_ends).map_err(|error| format!("XenStore: {error:?}"))?;
        self.device_heaps.push((device, heap));
        Ok(())
    }

    /// Puts another disc into a drive, or takes the disc out.
    ///
    /// # Errors
    /// Why it cannot, in the words of QEMU.
    pub fn change_disc(&self, disk: &Disk, disc: Option<Arc<dyn Medium>>) -> Result<(), String> {
        let id = disk.device.xen_number();
        if let Some((channel, unit)) = disk.device.ide_position() {
            let changed = self.ide.change_disc(usize::from(channel * 2 + unit), disc.clone());
            changed.map_err(|DoorLocked| {
                format!(
                    "Device 'ide-{id}' is locked and force was not specified, wait for tray to \
                     open and try again"
                )
            })?;
        }
        if let Some(back_ends) = self.back_ends() {
            back_ends.change_disc(id, disc, &disk.target);
        }
        Ok(())
    }

    /// The device is gone.
    pub fn unplugged(&mut self, device: Device) {
        self.device_heaps.retain(|(other, _)| *other != device);
    }

    /// The time stamp counter when it began.
    pub const fn started_tsc(&self) -> u64 {
        self.started_tsc
    }

    /// It is over, because of `stop`: all but what it leaves to the next life goes back.
    pub fn end(
        self,
        stop: Stop,
        domain: &mut Domain<'_>,
        cpus: &Cpus<B>,
        attendant: &mut Attendant,
    ) -> Option<Legacy> {
        // As with xl, what was asked for stays through the next life.
        let number = self.running.domain();
        let params = cpus.schedule(|scheduler, _| scheduler.domain(number));
        domain.set_share(params.weight, params.cap_percent);
        domain.set_vcpus(self.sockets.wanted());
        if let Some(back_ends) = &self.vm.back_ends {
            domain.set_memory_kib(back_ends.memory_target_kib());
        }
        cpus.end_guest(self.running);
        attendant.consoles.detach(domain.mailbox().number());
        let at_tsc = domain.platform().tsc();
        let legacy = |ram| Legacy { battery: self.rtc.battery(), at_tsc, ram };
        match stop {
            // One that has given memory back gets all of it again, new.
            Stop::Reset => {
                Some(legacy(Some(self.vm.space.ram().clone()).filter(|ram| ram.missing() == 0)))
            }
            Stop::PowerCycle => Some(legacy(None)),
            Stop::PowerOff | Stop::Crash | Stop::Watchdog | Stop::Destroy => None,
        }
    }
}

/// The CPUs of a virtual CPU, as the configuration has them.
fn affinity(config: &GuestConfig, vcpu: usize) -> Affinity {
    let set = |list: Option<&CpuList>| match list {
        Some(list) => (0..MAX_CPUS).filter(|&cpu| list.contains(cpu as u32)).collect(),
        None => CpuSet::ALL,
    };
    Affinity { hard: set(config.cpus.of(vcpu)), soft: set(config.soft_cpus.of(vcpu)) }
}

/// Each virtual CPU has a CPU to run on.
fn check_affinity(config: &GuestConfig, online: CpuSet) -> Result<(), String> {
    let has_none = |&vcpu: &usize| (affinity(config, vcpu).hard & online).is_empty();
    match (0..config.max_vcpus as usize).find(has_none) {
        Some(vcpu) => Err(format!(
            "{}: cpus: none of the machine's CPUs is left for vCPU {vcpu}",
            config.name
        )),
        None => Ok(()),
    }
}
