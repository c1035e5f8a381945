//! The virtual machine as its PV-on-HVM platform needs it.

use super::memory::{
    Area, AreaOwner, Backing, FrameMemory, GuestSpace, MAX_LEAVING, PAGE_BYTES, SpaceError,
};
use super::{Stop, StopSwitch};
use crate::host::clock::VmClock;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::ops::Range;
use devices::irq::{IrqLine, LineTarget};
use devices::local_apic::ApicInbox;
use devices::memory::{GuestMemory, NotRam};
use devices::time::{Alarm, Clock, GuestTime, Timed};
use xen::backends::BackEnds;
use xen::machine::{EventLine, MAX_PAGES_A_GO, Machine, ShownPages, ShutdownReason};
use xen::platform::PvPlatform;

/// The pages of a platform as memory of their own, from address 0.
pub struct SharedPages(pub Arc<FrameMemory>);

impl GuestMemory for SharedPages {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        self.0.read(gpa as usize, data).then_some(()).ok_or(NotRam { gpa })
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        self.0.write(gpa as usize, data).then_some(()).ok_or(NotRam { gpa })
    }

    fn fetch_or_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        self.0.fetch_or(gpa as usize, bits).ok_or(NotRam { gpa })
    }

    fn fetch_and_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        self.0.fetch_and(gpa as usize, bits).ok_or(NotRam { gpa })
    }

    fn compare_exchange_u8(&self, gpa: u64, expected: u8, new: u8) -> Result<bool, NotRam> {
        self.0.compare_exchange(gpa as usize, expected, new).ok_or(NotRam { gpa })
    }
}

/// The machine around a platform.
pub struct PvMachine {
    /// The guest's name, for messages.
    pub name: String,
    /// Its guest-physical memory.
    pub space: Arc<GuestSpace>,
    /// The platform's pages.
    pub pages: SharedPages,
    /// Its time.
    pub clock: Arc<VmClock>,
    /// Ends it.
    pub stop: Arc<StopSwitch>,
    /// The local APICs, by virtual CPU.
    pub inboxes: Vec<Arc<ApicInbox>>,
    /// The virtual CPUs' timers.
    pub alarms: Vec<Alarm>,
    /// For the back ends' work.
    pub work: Alarm,
    /// The lines that can tell of events.
    pub lines: EventLines,
}

/// The lines by which a guest can be told of events.
pub struct EventLines {
    /// Global system interrupts.
    pub gsis: Vec<IrqLine>,
    /// The interrupt pins of PCI devices, numbered as
    /// [`Piix3`](devices::pci::piix3::Piix3) takes them.
    pub pci: Arc<dyn LineTarget>,
}

impl PvMachine {
    fn stop_if_short<T>(&self, result: Result<T, SpaceError>) -> Option<T> {
        super::stop_if_short(&self.name, &self.stop, result)
    }
}

/// The addresses of pages. A number that is too large is none of RAM.
fn addresses(gfns: &[u64]) -> ArrayVec<u64, MAX_PAGES_A_GO> {
    let address = |gfn: &u64| gfn.checked_mul(PAGE_BYTES).unwrap_or(!(PAGE_BYTES - 1));
    gfns.iter().take(MAX_PAGES_A_GO).map(address).collect()
}

const _: () = assert!(MAX_PAGES_A_GO <= MAX_LEAVING);

impl Machine for PvMachine {
    fn memory(&self) -> &dyn GuestMemory {
        &*self.space
    }

    fn pages(&self) -> &dyn GuestMemory {
        &self.pages
    }

    fn is_ram(&self, gpa: u64) -> bool {
        self.space.is_writable_ram(gpa)
    }

    fn is_free(&self, gpa: u64) -> bool {
        self.space.is_free(gpa, PAGE_BYTES) && !self.space.is_chipset_memory(gpa)
    }

    fn show(&self, pages: &[ShownPages]) {
        let area = |pages: &ShownPages| Area {
            gpa: pages.gpa,
            length_bytes: pages.count as u64 * PAGE_BYTES,
            backing: Backing::Shared,
            offset: pages.first_page as u64 * PAGE_BYTES,
            writable: true,
        };
        let areas: Vec<_> = pages.iter().map(area).collect();
        self.stop_if_short(self.space.set_areas(AreaOwner::Platform, &areas));
    }

    fn ram_pages(&self) -> u64 {
        self.space.ram_pages()
    }

    fn ram_ranges(&self) -> Vec<Range<u64>> {
        self.space.ram_layout().ranges().collect()
    }

    fn give_back(&self, gfns: &[u64]) -> Option<usize> {
        self.stop_if_short(self.space.give_back(&addresses(gfns))).unwrap_or(Some(0))
    }

    fn take_again(&self, gfns: &[u64], most: u64) -> usize {
        self.stop_if_short(self.space.take_again(&addresses(gfns), most)).unwrap_or(0)
    }

    fn last_ram_page(&self) -> u64 {
        let layout = self.space.ram_layout();
        let end = if layout.high_bytes() == 0 { layout.low_end() } else { layout.high_end() };
        end / PAGE_BYTES - 1
    }

    fn now(&self) -> GuestTime {
        self.clock.now()
    }

    fn set_timer(&self, vcpu: usize, at: Option<GuestTime>) {
        self.alarms[vcpu].set(at);
    }

    fn interrupt(&self, vcpu: usize, vector: u8) {
        self.inboxes[vcpu].post_upcall(vector);
    }

    fn look_for_events(&self, vcpu: usize) {
        self.inboxes[vcpu].post_look();
    }

    fn work_in(&self, delay_ns: u64) {
        self.work.set_at_most(self.clock.now() + delay_ns);
    }

    fn set_line(&self, line: EventLine, high: bool) {
        match line {
            EventLine::Gsi(number) => {
                if let Some(line) = self.lines.gsis.get(usize::from(number)) {
                    line.set(high);
                }
            }
            EventLine::Pci { device, pin } => {
                let input = u32::from(device) << 2 | u32::from(pin);
                self.lines.pci.set_line(input, high);
            }
        }
    }

    fn shut_down(&self, reason: ShutdownReason) {
        self.stop.request(match reason {
            ShutdownReason::PowerOff => Stop::PowerOff,
            ShutdownReason::Reboot => Stop::Reset,
            ShutdownReason::Crash => Stop::Crash,
            ShutdownReason::Watchdog => Stop::Watchdog,
        });
    }
}

/// The back ends, which their timer tells.
pub struct PvWork(pub Weak<BackEnds>);

impl Timed for PvWork {
    fn expired(&self, _now: GuestTime) {
        if let Some(back_ends) = self.0.upgrade() {
            back_ends.work_by_the_clock();
        }
    }
}

/// A virtual CPU's timer, which its queue tells.
pub struct PvTimer {
    /// The platform.
    pub platform: Arc<PvPlatform>,
    /// The virtual CPU.
    pub vcpu: usize,
}

impl Timed for PvTimer {
    fn expired(&self, now: GuestTime) {
        self.platform.timer_expired(self.vcpu, now);
    }
}
