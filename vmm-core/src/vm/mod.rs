//! A virtual machine without its virtual CPUs, which share it.

pub mod bus;
pub mod chipset;
pub mod cpuid;
pub mod layout;
pub mod memory;
mod physical;
pub mod processors;
pub mod pv;

use crate::host::clock::VmClock;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bus::{BusLock, MmioBus, PortBus};
use chipset::{Chipset, SystemTimer};
use control::mailbox::Mailbox;
use core::sync::atomic::{AtomicU8, Ordering};
use cpuid::CpuidTable;
use devices::coprocessor::Coprocessor;
use devices::pci::{Bdf, MapObserver, PciBus, Space};
use devices::pic::Pic;
use layout::{Layout, LayoutOrder};
use memory::{GuestSpace, SpaceError};
use processors::Processors;
use xen::backends::OwnedBackEnds;
use xen::platform::PvPlatform;

const HOST_BRIDGE: Bdf = Bdf::new(0, 0);

/// Why a guest stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// It turned itself off.
    PowerOff = 1,
    /// It reset itself, processors and devices. Its memory and its battery are left to the next
    /// life.
    Reset = 2,
    /// It had its power switched off and on: the battery is left.
    PowerCycle = 3,
    /// It did what the hypervisor cannot go on from.
    Crash = 4,
    /// It is to be gone for good.
    Destroy = 5,
    /// It did not set its watchdog anew in time.
    Watchdog = 6,
}

/// The switch that stops a guest's virtual CPUs.
///
/// ```
/// use vmm_core::vm::{Stop, StopSwitch};
///
/// let switch = StopSwitch::default();
/// assert_eq!(switch.requested(), None);
/// switch.request(Stop::PowerOff);
/// switch.request(Stop::Reset);
/// assert_eq!(switch.requested(), Some(Stop::PowerOff));
/// ```
#[derive(Debug, Default)]
pub struct StopSwitch {
    reason: AtomicU8,
    processors: Arc<Processors>,
}

impl StopSwitch {
    /// The switch of these virtual CPUs.
    pub const fn new(processors: Arc<Processors>) -> Self {
        Self { reason: AtomicU8::new(0), processors }
    }

    /// Asks all virtual CPUs to stop before their next entry. The first reason counts.
    pub fn request(&self, stop: Stop) {
        let (order, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        if self.reason.compare_exchange(0, stop as u8, order, failed).is_ok() {
            self.processors.kick_all();
        }
    }

    /// The reason to stop, if there is one.
    #[inline]
    pub fn requested(&self) -> Option<Stop> {
        match self.reason.load(Ordering::Relaxed) {
            0 => None,
            reason => Some(Self::stop_of(reason)),
        }
    }

    /// Apart, so that looking whether there is one stays short.
    #[cold]
    const fn stop_of(reason: u8) -> Stop {
        match reason {
            1 => Stop::PowerOff,
            2 => Stop::Reset,
            3 => Stop::PowerCycle,
            5 => Stop::Destroy,
            6 => Stop::Watchdog,
            _ => Stop::Crash,
        }
    }
}

/// A virtual machine, as its virtual CPUs see it.
pub struct Vm {
    /// The guest's name, for messages.
    pub name: String,
    /// Where the guest is asked by others.
    pub mailbox: Arc<Mailbox>,
    /// Guest time.
    pub clock: Arc<VmClock>,
    /// Guest-physical memory.
    pub space: Arc<GuestSpace>,
    /// I/O ports.
    pub ports: PortBus,
    /// Device memory.
    pub mmio: MmioBus,
    /// For locked instructions on device memory.
    pub bus_lock: BusLock,
    /// The 8259 pair, whose interrupts the first virtual CPU takes.
    pub pic: Arc<Pic>,
    /// The system timer's interrupt, which hears of being taken.
    pub system_timer: SystemTimer,
    /// The answers to CPUID.
    pub cpuid: CpuidTable,
    /// Stops the virtual CPUs.
    pub stop: Arc<StopSwitch>,
    /// The virtual CPUs, as far as they concern each other.
    pub processors: Arc<Processors>,
    /// The wires that tell of x87 errors.
    pub coprocessor: Arc<Coprocessor>,
    /// The reset logic, and the A20 gate.
    pub chipset: Arc<Chipset>,
    /// Which memory is shown where.
    pub layout: Layout,
    /// The PCI bus.
    pub pci: Arc<PciBus>,
    /// Regions of PCI functions on the buses above.
    pub moving: Vec<MovingRegion>,
    /// Xen's guest ABI, if the guest has it.
    pub pv: Option<Arc<PvPlatform>>,
    /// Its back ends.
    pub back_ends: Option<OwnedBackEnds>,
}

/// A region whose base a PCI function's registers say.
#[derive(Clone, Copy, Debug)]
pub struct MovingRegion {
    /// The function.
    pub function: Bdf,
    /// The region's number there.
    pub number: u8,
    /// [`Space::Pio`] or [`Space::Mmio`].
    pub space: Space,
    /// The region's number on the bus.
    pub index: usize,
}

impl Vm {
    /// Puts the regions of PCI functions where they are now.
    fn move_regions(&self, order: &LayoutOrder<'_>) -> Result<(), SpaceError> {
        let regions = self.pci.regions();
        for moving in &self.moving {
            let now = regions.iter().find(|(function, region)| {
                *function == moving.function
                    && region.region.number == moving.number
                    && region.space == moving.space
            });
            let base = now.map(|(_, region)| region.region.base);
            match moving.space {
                Space::Pio => self.ports.move_region(moving.index, base.map(|base| base as u16)),
                _ => self.mmio.move_region(moving.index, base),
            }
        }
        let memories: Vec<_> = regions.into_iter().map(|(_, region)| region).collect();
        order.apply_areas(&memories)
    }

    /// Brings the address space up to date with the VGA's window, before a virtual CPU runs on.
    #[inline]
    pub fn refresh_layout(&self) {
        if self.layout.window_changed() {
            self.stop_if_short(self.layout.begin().apply_window());
        }
    }

    /// [`stop_if_short`] of this guest.
    pub(crate) fn stop_if_short<T>(&self, result: Result<T, SpaceError>) -> Option<T> {
        stop_if_short(&self.name, &self.stop, result)
    }
}

/// Stops the guest called `name` if its page tables need more memory than is set aside for them, or
/// RAM that it touches for the first time finds none.
fn stop_if_short<T>(name: &str, stop: &StopSwitch, result: Result<T, SpaceError>) -> Option<T> {
    let short = |_: &SpaceError| {
        log::error!(
            "{name}: the guest is stopped: its page tables need more memory than is set aside, or \
             the machine has none for RAM that is touched for the first time"
        );
        stop.request(Stop::Crash);
    };
    result.inspect_err(short).ok()
}

impl MapObserver for Vm {
    fn map_changed(&self, function: Bdf) {
        let order = self.layout.begin();
        let result = if function == HOST_BRIDGE {
            order.apply_pam().and_then(|()| order.apply_window())
        } else {
            self.move_regions(&order)
        };
        self.stop_if_short(result);
    }
}
