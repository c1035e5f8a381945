//! Balance: units move from queues that are behind in virtual time to those that are ahead.
//!
//! A queue's time passes the faster the less there is to do in it. So the one rule, to take what
//! waits in a queue and has been served less than those here, both spreads the load and makes the
//! shares of a weight equal on all CPUs.

use super::placement::MAX_DRIFT;
use super::unit::Place;
use super::virtual_time::VirtualTime;
use super::{Scheduler, UnitId};

/// How often a busy CPU looks at other queues.
const LOOK_NS: u64 = 4_000_000;

/// How many queues it looks at each time; with which it begins goes round.
const QUEUES: usize = 16;

/// How many units it looks at in each for one that may run here.
const UNITS: usize = 4;

/// How much less a unit must have been served to be moved away from its CPU's caches: 1 ms.
const RESISTANCE: i64 = VirtualTime::from_ns(1_000_000);

/// A unit that waits for another CPU, and may run on this.
struct Candidate {
    unit: UnitId,
    /// This CPU is in its soft affinity.
    is_preferred: bool,
    /// How much less it has been served than this CPU's clock.
    behind: i64,
}

impl Scheduler {
    /// Finds work for a CPU that has none: of all that waits and may run here, in its soft affinity
    /// if there is any, the unit that was served least. It is in the CPU's queue then.
    #[cold]
    pub(super) fn steal(&mut self, cpu: usize, now_ns: u64) -> Option<UnitId> {
        if !self.online.contains(cpu) {
            return None;
        }
        loop {
            let found =
                self.waiting.iter().filter_map(|other| self.candidate(cpu, other, usize::MAX));
            let unit = found.max_by_key(|found| (found.is_preferred, found.behind))?.unit;
            self.dequeue(unit);
            if self.has_budget(unit, now_ns) {
                self.carry(unit, cpu);
                self.enqueue(unit);
                return Some(unit);
            }
            self.park(unit, now_ns);
        }
    }

    /// Takes one unit from another queue that was served less than those here.
    #[cold]
    pub(super) fn look_around(&mut self, cpu: usize, now_ns: u64) {
        let this = &mut self.cpus[cpu];
        this.look_ns = now_ns + LOOK_NS;
        let first = this.queue.first().map(UnitId).or(this.running);
        let Some(first) = first.filter(|_| self.online.contains(cpu)) else { return };
        if self.queued == this.queue.count() {
            return;
        }
        // Where the queue would go on, beyond its clock.
        let ahead = self.units[first.index()].time.since(this.queue.clock());
        let mut best: Option<Candidate> = None;
        let start = (now_ns / LOOK_NS) as usize + cpu;
        for other in self.waiting.iter_round(start % self.cpus.len()).take(QUEUES) {
            let Some(found) = self.candidate(cpu, other, UNITS) else { continue };
            self.bring_into_step(cpu, other);
            let is_better = best.as_ref().is_none_or(|best| found.behind > best.behind);
            if found.is_preferred && is_better {
                best = Some(found);
            }
        }
        if let Some(best) = best.filter(|best| best.behind + ahead >= RESISTANCE) {
            self.dequeue(best.unit);
            self.carry(best.unit, cpu);
            self.enqueue(best.unit);
        }
    }

    /// The first of the `limit` first units of another queue that may run here.
    fn candidate(&self, cpu: usize, other: usize, limit: usize) -> Option<Candidate> {
        if other == cpu {
            return None;
        }
        let (this, that) = (&self.cpus[cpu], &self.cpus[other]);
        let units = that.queue.iter(&self.links).map(UnitId).take(limit);
        let unit = { units }.find(|unit| self.units[unit.index()].may_move_to(cpu))?;
        let it = &self.units[unit.index()];
        debug_assert_eq!(it.place, Place::Queued);
        let drift = this.common_clock().since(that.common_clock()).clamp(-MAX_DRIFT, MAX_DRIFT);
        let behind = drift + that.queue.clock().since(it.time);
        Some(Candidate { unit, is_preferred: it.preferred.contains(cpu), behind })
    }
}
