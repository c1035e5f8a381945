//! Which virtual CPU runs on which physical CPU, and until when: docs/scheduler.md.
//!
//! A state machine of numbers: it knows neither virtual CPUs nor the machine, and time is what the
//! caller says. The caller keeps it under a lock, and
//!
//! 1. calls [`Scheduler::pick`] on a CPU when what that CPU was told to run has no more to do, when
//!    the time has come that `pick` named, and when the CPU is interrupted for it;
//! 2. unloads the unit that `pick` says has left, then calls [`Scheduler::switched`];
//! 3. after any call that takes the time, interrupts the CPUs of [`Scheduler::take_kicks`], which
//!    can wait until the lock is free.
//!
//! Time is in nanoseconds from any start, and the same on all CPUs.

mod affinity;
mod balance;
mod caps;
mod cpu_set;
mod directed_yield;
mod domain;
mod domains;
mod pick;
mod placement;
mod queue;
#[cfg(test)]
mod tests;
mod unit;
mod virtual_time;

use alloc::vec::Vec;

pub use cpu_set::CpuSet;
use domain::Domain;
pub use domain::{CAP_PERIOD_NS, DomainParams};
pub use pick::Decision;
use queue::{Links, Queue};
pub use unit::{Affinity, UnitState};
use unit::{Place, Unit};
use virtual_time::VirtualTime;
pub use virtual_time::{DEFAULT_WEIGHT, MAX_WEIGHT};

/// After a unit was made to leave a CPU, the next there is not made to leave for as long: Xen's
/// `ratelimit`, 1 ms.
pub const RATE_LIMIT_NS: u64 = 1_000_000;

/// The longest time until a CPU decides again.
pub const MAX_SLICE_NS: u64 = 10_000_000;

/// The credit that a sleeper keeps.
const MAX_CREDIT: i64 = VirtualTime::from_ns(10_000_000);

/// By how much another must have more credit before a unit is made to leave.
const MARGIN: i64 = VirtualTime::from_ns(1_000_000);

/// A domain's number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(u16);

/// A unit's number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(u16);

/// A physical CPU.
#[derive(Debug)]
struct Cpu {
    queue: Queue,
    /// The number that is added to times of its queue to compare them with another's.
    offset: u64,
    running: Option<UnitId>,
    /// Until when the running unit's time is charged.
    charged_ns: u64,
    /// No unit is made to leave before.
    limit_ns: u64,
    /// The running unit has said that it spins.
    yields: bool,
    /// The unit that ran before, and whose registers are still here.
    held: Option<UnitId>,
    /// When to look at other queues again.
    look_ns: u64,
    /// When the first cap's period ends that this CPU keeps.
    period_end_ns: u64,
}

/// The scheduler of all CPUs.
///
/// ```
/// use vmm_core::scheduler::{Affinity, CpuSet, DomainParams, Scheduler};
///
/// let mut scheduler = Scheduler::new(2);
/// assert_eq!(scheduler.pick(0, 0).unit, None);
/// assert_eq!(scheduler.pick(1, 0).unit, None);
///
/// let domain = scheduler.add_domain(DomainParams::default()).unwrap();
/// let unit = scheduler.add_unit(domain, Affinity::default()).unwrap();
/// scheduler.wake(unit, 1_000);
/// let kicked = scheduler.take_kicks();
/// assert_eq!(kicked.len(), 1);
///
/// let cpu = kicked.iter().next().unwrap();
/// assert_eq!(scheduler.pick(cpu, 2_000).unit, Some(unit));
/// // It halts.
/// scheduler.block(unit);
/// let decision = scheduler.pick(cpu, 502_000);
/// assert_eq!((decision.unit, decision.left), (None, Some(unit)));
/// scheduler.switched(cpu, 503_000);
/// assert_eq!(scheduler.runtime_ns(unit, 600_000), 500_000);
/// ```
#[derive(Debug)]
pub struct Scheduler {
    cpus: Vec<Cpu>,
    units: Vec<Unit>,
    domains: Vec<Domain>,
    /// Numbers that wait for a new unit or domain.
    free_units: Vec<UnitId>,
    free_domains: Vec<DomainId>,
    links: Links,
    online: CpuSet,
    /// Online CPUs that run nothing and have nothing in their queue.
    idle: CpuSet,
    /// CPUs with units in their queues.
    waiting: CpuSet,
    /// Units in all queues.
    queued: usize,
    kicks: CpuSet,
    /// The clock of the queue that was picked from last, in comparable time.
    pulse: VirtualTime,
}

impl Scheduler {
    /// A scheduler of CPUs 0 to `cpus - 1`, at most
    /// [`MAX_CPUS`](crate::host::platform::MAX_CPUS), all online. Until its first [`Self::pick`] a
    /// CPU counts as busy.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        let online = CpuSet::first(cpus);
        Self {
            cpus: online.iter().map(|_| Cpu::new()).collect(),
            units: Vec::new(),
            domains: Vec::new(),
            free_units: Vec::new(),
            free_domains: Vec::new(),
            links: Links::default(),
            online,
            idle: CpuSet::NONE,
            waiting: CpuSet::NONE,
            queued: 0,
            kicks: CpuSet::NONE,
            pulse: VirtualTime::default(),
        }
    }

    /// The CPUs to interrupt, so that they pick again. They are told once.
    pub fn take_kicks(&mut self) -> CpuSet {
        core::mem::take(&mut self.kicks)
    }

    /// A unit has something to do. Of one that runs it is remembered until it runs the next time,
    /// so that a [`Self::block`] in between does not lose it.
    pub fn wake(&mut self, unit: UnitId, now_ns: u64) {
        let it = &mut self.units[unit.index()];
        it.woken = it.place == Place::Running;
        it.awake = true;
        self.place(unit, now_ns);
    }

    /// A running unit has no more to do and sleeps, unless it was woken meanwhile. Its CPU picks
    /// next.
    pub fn block(&mut self, unit: UnitId) {
        let it = &mut self.units[unit.index()];
        it.awake = core::mem::take(&mut it.woken);
    }

    /// A running unit spins for something that another does. Its CPU picks next.
    pub fn yield_now(&mut self, unit: UnitId) {
        let it = &self.units[unit.index()];
        if it.place == Place::Running {
            self.cpus[it.cpu].yields = true;
        }
    }

    /// Takes a unit off its CPU, which is interrupted, or out of the queue, until
    /// [`Self::unpause`]. It has left when its [`Self::state`] says so.
    pub fn pause(&mut self, unit: UnitId) {
        self.units[unit.index()].paused = true;
        self.take_away(unit);
    }

    /// Lets a unit go on that was paused. One that was woken meanwhile runs.
    pub fn unpause(&mut self, unit: UnitId, now_ns: u64) {
        self.units[unit.index()].paused = false;
        self.place(unit, now_ns);
    }

    /// A unit's state.
    #[must_use]
    pub fn state(&self, unit: UnitId) -> UnitState {
        self.units[unit.index()].state()
    }

    /// The CPU that a unit is on, or was last or will be next.
    #[must_use]
    pub fn cpu_of(&self, unit: UnitId) -> usize {
        self.units[unit.index()].cpu
    }

    /// How long a unit has run, up to now.
    #[must_use]
    pub fn runtime_ns(&self, unit: UnitId, now_ns: u64) -> u64 {
        let it = &self.units[unit.index()];
        let running = it.place == Place::Running;
        it.runtime_ns + if running { self.cpus[it.cpu].uncharged_ns(now_ns) } else { 0 }
    }

    /// The CPUs that are online.
    #[must_use]
    pub fn online(&self) -> CpuSet {
        self.online
    }
}

impl Cpu {
    fn new() -> Self {
        Self {
            queue: Queue::new(),
            offset: 0,
            running: None,
            charged_ns: 0,
            limit_ns: 0,
            yields: false,
            held: None,
            look_ns: 0,
            period_end_ns: u64::MAX,
        }
    }

    fn uncharged_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.charged_ns)
    }

    /// The queue's clock, comparable with other queues'.
    fn common_clock(&self) -> VirtualTime {
        self.common(self.queue.clock())
    }

    /// A time of this queue's, comparable with other queues'.
    fn common(&self, time: VirtualTime) -> VirtualTime {
        VirtualTime(time.0.wrapping_add(self.offset))
    }
}
