//! Directed yield: a unit that spins gives its place to the sibling that it may be waiting for.

use super::unit::Place;
use super::{Scheduler, UnitId};

impl Scheduler {
    /// The unit that runs instead of one that spins: a sibling that waits, one that was made to
    /// leave first, for that may hold the lock; else the next in the queue; else none.
    ///
    /// The sibling takes the place in the line that the spinning unit had, and gives its own for it
    /// if that is worse: the domain as a whole gains and loses nothing.
    #[cold]
    pub(super) fn give_way(&mut self, cpu: usize, unit: UnitId, now_ns: u64) -> Option<UnitId> {
        let Some(sibling) = self.waiting_sibling(cpu, unit) else {
            return self.first_of(cpu, now_ns);
        };
        let left_ns = self.units[unit.index()].grant_ns;
        self.return_budget(unit, now_ns);
        if !self.has_budget(sibling, now_ns) {
            self.take_back(unit, left_ns);
            return self.first_of(cpu, now_ns);
        }
        self.dequeue(sibling);
        self.carry(sibling, cpu);
        let (own, other) = (self.units[unit.index()].time, self.units[sibling.index()].time);
        self.units[unit.index()].time = own.max(other);
        self.units[sibling.index()].time = own.min(other);
        self.enqueue(sibling);
        Some(sibling)
    }

    fn waiting_sibling(&self, cpu: usize, unit: UnitId) -> Option<UnitId> {
        let siblings = &self.domains[self.units[unit.index()].domain.index()].units;
        let waits = |sibling: &&UnitId| {
            let it = &self.units[sibling.index()];
            it.place == Place::Queued && it.may_move_to(cpu)
        };
        let order = |sibling: &&UnitId| {
            let it = &self.units[sibling.index()];
            let credit = self.cpus[it.cpu].queue.clock().since(it.time);
            (it.preempted, credit)
        };
        siblings.iter().filter(waits).max_by_key(order).copied()
    }
}
