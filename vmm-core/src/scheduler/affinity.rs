//! Where units may run: their affinity, and CPUs that come and go.

use super::unit::{Affinity, Place};
use super::{Scheduler, UnitId};

impl Scheduler {
    /// Says where a unit may run from now on. It leaves a CPU that it may not be on.
    pub fn set_affinity(&mut self, unit: UnitId, affinity: Affinity, now_ns: u64) {
        self.units[unit.index()].affinity = affinity;
        self.find_cpus(unit, now_ns);
    }

    /// A unit's affinity as it was set.
    #[must_use]
    pub fn affinity(&self, unit: UnitId) -> Affinity {
        self.units[unit.index()].affinity
    }

    /// A CPU runs units from its next [`Self::pick`] on.
    pub fn cpu_online(&mut self, cpu: usize, now_ns: u64) {
        if cpu < self.cpus.len() && !self.online.contains(cpu) {
            self.online.insert(cpu);
            self.kicks.insert(cpu);
            self.find_all_cpus(now_ns);
        }
    }

    /// A CPU runs no more units: those in its queue move to others at once, that which it runs when
    /// the CPU, which is interrupted, has picked and switched. Units that may run nowhere else are
    /// let run anywhere until a CPU of theirs comes back. Returns whether it goes: the last that is
    /// online does not.
    pub fn cpu_offline(&mut self, cpu: usize, now_ns: u64) -> bool {
        if !self.online.contains(cpu) || self.online.len() == 1 {
            return false;
        }
        self.online.remove(cpu);
        self.idle.remove(cpu);
        self.kicks.insert(cpu);
        self.find_all_cpus(now_ns);
        // Another looks after caps.
        let heir = self.online.next_from(cpu).unwrap_or(0);
        for index in 0..self.domains.len() {
            if self.domains[index].keeper == Some(cpu) {
                self.keep(index, heir);
                self.kicks.insert(heir);
            }
        }
        self.cpus[cpu].period_end_ns = u64::MAX;
        true
    }

    fn find_all_cpus(&mut self, now_ns: u64) {
        for index in 0..self.units.len() {
            self.find_cpus(UnitId(index as u16), now_ns);
        }
    }

    /// Finds out where a unit may run, and moves it if it is elsewhere or an idle CPU may have it.
    pub(super) fn find_cpus(&mut self, unit: UnitId, now_ns: u64) {
        let it = &mut self.units[unit.index()];
        it.set_online(self.online);
        match it.place {
            Place::Queued if it.allowed.contains(it.cpu) => self.offer(unit),
            Place::Queued => {
                self.dequeue(unit);
                self.place(unit, now_ns);
            }
            Place::Running if !it.allowed.contains(it.cpu) => self.kicks.insert(it.cpu),
            _ => {}
        }
    }
}
