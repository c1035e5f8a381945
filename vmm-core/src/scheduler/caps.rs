//! Caps: units without budget are parked until the next period.

use super::unit::Place;
use super::{Scheduler, UnitId};

impl Scheduler {
    /// Whether a unit may run, as far as its domain's cap goes. It takes its part of the budget if
    /// it has none.
    pub(super) fn has_budget(&mut self, unit: UnitId, now_ns: u64) -> bool {
        let it = &self.units[unit.index()];
        !it.capped || it.grant_ns > 0 || self.take_budget(unit, now_ns)
    }

    #[cold]
    fn take_budget(&mut self, unit: UnitId, now_ns: u64) -> bool {
        let it = &mut self.units[unit.index()];
        let domain = &mut self.domains[it.domain.index()];
        domain.replenish(now_ns);
        domain.give_back(core::mem::take(&mut it.grant_ns));
        it.grant_ns = domain.grant().unwrap_or(0);
        it.grant_ns > 0
    }

    /// Puts back what a unit has not used, and lets parked siblings have it.
    pub(super) fn return_budget(&mut self, unit: UnitId, now_ns: u64) {
        let it = &mut self.units[unit.index()];
        if it.capped {
            let domain = it.domain;
            let left_ns = core::mem::take(&mut it.grant_ns);
            self.domains[domain.index()].give_back(left_ns);
            self.unpark(domain.index(), now_ns);
        }
    }

    /// A unit that returned `left_ns`, of which nobody could make use, has it again.
    pub(super) fn take_back(&mut self, unit: UnitId, left_ns: i64) {
        let it = &mut self.units[unit.index()];
        if it.capped {
            it.grant_ns += left_ns;
            self.domains[it.domain.index()].give_back(-left_ns);
        }
    }

    /// A unit that is in no queue waits for budget. Its CPU looks after the next period, unless
    /// another does.
    #[cold]
    pub(super) fn park(&mut self, unit: UnitId, now_ns: u64) {
        let it = &mut self.units[unit.index()];
        it.place = Place::Parked;
        let domain = &mut self.domains[it.domain.index()];
        domain.replenish(now_ns);
        domain.parked.push(unit);
        if domain.keeper.is_none() {
            domain.keeper = Some(it.cpu);
            let end_ns = &mut self.cpus[it.cpu].period_end_ns;
            *end_ns = domain.period_end_ns.min(*end_ns);
        }
    }

    /// Begins the periods that are due of the domains that `cpu` keeps.
    pub(super) fn begin_periods(&mut self, cpu: usize, now_ns: u64) {
        self.cpus[cpu].period_end_ns = u64::MAX;
        for index in 0..self.domains.len() {
            if self.domains[index].keeper == Some(cpu) {
                self.domains[index].replenish(now_ns);
                self.unpark(index, now_ns);
                self.keep(index, cpu);
            }
        }
    }

    /// Has `cpu` look after a domain's next period if units are parked.
    pub(super) fn keep(&mut self, index: usize, cpu: usize) {
        let domain = &mut self.domains[index];
        domain.keeper = (!domain.parked.is_empty()).then_some(cpu);
        if domain.keeper.is_some() {
            let end_ns = &mut self.cpus[cpu].period_end_ns;
            *end_ns = domain.period_end_ns.min(*end_ns);
        }
    }

    /// Lets a domain's parked units run if there is budget.
    pub(super) fn unpark(&mut self, index: usize, now_ns: u64) {
        let domain = &self.domains[index];
        if domain.parked.is_empty() || domain.is_capped() && !domain.has_budget() {
            return;
        }
        let mut parked = core::mem::take(&mut self.domains[index].parked);
        for unit in parked.drain(..) {
            self.units[unit.index()].place = Place::Aside;
            self.place(unit, now_ns);
        }
        self.domains[index].parked = parked;
    }
}
