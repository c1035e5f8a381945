//! Units: what is scheduled, a virtual CPU to the caller.

use super::cpu_set::CpuSet;
use super::virtual_time::{Rate, VirtualTime};
use super::{DomainId, UnitId};

/// On which CPUs a unit may run, and on which it had better: xl's `cpus` and `cpus_soft`.
///
/// ```
/// use vmm_core::scheduler::{Affinity, CpuSet};
///
/// let pinned = Affinity { hard: CpuSet::one(3), ..Affinity::default() };
/// assert_eq!(pinned.soft, CpuSet::ALL);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// It runs on no other, unless none of these is online.
    pub hard: CpuSet,
    /// Taken first, as far as they are in `hard`.
    pub soft: CpuSet,
}

impl Default for Affinity {
    fn default() -> Self {
        Self { hard: CpuSet::ALL, soft: CpuSet::ALL }
    }
}

/// A unit's state, as `xl vcpu-list` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// On a CPU (`r`).
    Running,
    /// Waits for a CPU, or for its domain's budget (`-`).
    Runnable,
    /// Sleeps until it is woken (`b`).
    Blocked,
    /// Held until it is let go (`p`).
    Paused,
}

/// Where a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no list: it is blocked, paused or on its way.
    Aside,
    /// In its CPU's queue.
    Queued,
    /// Its CPU runs it.
    Running,
    /// Among its domain's parked units.
    Parked,
}

#[derive(Debug)]
pub(super) struct Unit {
    pub domain: DomainId,
    /// The CPU in whose virtual time `time` is: that which runs it or has it in its queue, or had
    /// it last.
    pub cpu: usize,
    pub place: Place,
    /// The time it has run, as its weight sees it.
    pub time: VirtualTime,
    pub rate: Rate,
    /// It has something to do.
    pub awake: bool,
    /// It was woken since it began to run, and does not sleep the next time.
    pub woken: bool,
    pub paused: bool,
    pub dying: bool,
    /// It was made to leave a CPU, where it did not spin, and has not run since.
    pub preempted: bool,
    /// Its registers are still in `cpu`.
    pub held: bool,
    /// Its domain has a cap.
    pub capped: bool,
    /// The time that it may still run of its domain's budget.
    pub grant_ns: i64,
    pub runtime_ns: u64,
    pub affinity: Affinity,
    /// The online CPUs of its hard affinity, or all that are online if there is none.
    pub allowed: CpuSet,
    /// Those of them in its soft affinity, or all of them if there is none.
    pub preferred: CpuSet,
}

impl Unit {
    pub fn new(domain: DomainId, affinity: Affinity) -> Self {
        Self {
            domain,
            cpu: 0,
            place: Place::Aside,
            time: VirtualTime::default(),
            rate: Rate::new(1),
            awake: false,
            woken: false,
            paused: false,
            dying: false,
            preempted: false,
            held: false,
            capped: false,
            grant_ns: 0,
            runtime_ns: 0,
            affinity,
            allowed: CpuSet::NONE,
            preferred: CpuSet::NONE,
        }
    }

    /// Whether it wants a CPU and may have one.
    pub fn is_runnable(&self) -> bool {
        self.awake && !self.paused && !self.dying
    }

    /// Whether another CPU may take it out of its queue.
    pub fn may_move_to(&self, cpu: usize) -> bool {
        self.allowed.contains(cpu) && !self.held
    }

    /// One of these CPUs: its last, else the next, those of its soft affinity first.
    pub fn choose(&self, cpus: CpuSet) -> Option<usize> {
        if cpus.is_empty() {
            return None;
        }
        let next = |set| (cpus & set).next_from(self.cpu);
        next(self.preferred).or_else(|| next(self.allowed))
    }

    /// Finds the CPUs that it may run on.
    pub fn set_online(&mut self, online: CpuSet) {
        let or = |set: CpuSet, all: CpuSet| if set.is_empty() { all } else { set };
        self.allowed = or(self.affinity.hard & online, online);
        self.preferred = or(self.affinity.soft & self.allowed, self.allowed);
    }

    pub fn state(&self) -> UnitState {
        match self.place {
            Place::Running => UnitState::Running,
            _ if self.paused => UnitState::Paused,
            _ if self.awake => UnitState::Runnable,
            _ => UnitState::Blocked,
        }
    }
}

impl UnitId {
    /// As an index: small, and the number of another unit when this one is gone.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_that_nothing_is_left_of_is_broken() {
        let set = |cpus: &[usize]| cpus.iter().copied().collect::<CpuSet>();
        let affinity = Affinity { hard: set(&[2, 3]), soft: set(&[1, 3]) };
        let mut unit = Unit::new(DomainId(0), affinity);
        unit.set_online(CpuSet::first(4));
        assert_eq!((unit.allowed, unit.preferred), (set(&[2, 3]), set(&[3])));
        unit.set_online(CpuSet::first(3));
        assert_eq!((unit.allowed, unit.preferred), (set(&[2]), set(&[2])));
        unit.set_online(CpuSet::first(2));
        assert_eq!((unit.allowed, unit.preferred), (set(&[0, 1]), set(&[1])));
    }
}
