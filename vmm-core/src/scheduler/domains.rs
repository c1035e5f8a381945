//! Domains and units come, change and go.

use super::domain::{Domain, DomainParams};
use super::unit::{Affinity, Place, Unit};
use super::virtual_time::Rate;
use super::{DomainId, Scheduler, UnitId};

/// One less than numbers of 16 bits give: the last means none.
const MAX_UNITS: usize = u16::MAX as usize;

impl Scheduler {
    /// A new domain without units, or none if there are 65,535.
    pub fn add_domain(&mut self, params: DomainParams) -> Option<DomainId> {
        let new = Domain::new(params);
        if let Some(domain) = self.free_domains.pop() {
            self.domains[domain.index()] = new;
            return Some(domain);
        }
        let domain = u16::try_from(self.domains.len()).ok()?;
        self.domains.push(new);
        Some(DomainId(domain))
    }

    /// A new unit of a domain, which sleeps until it is woken, or none if there are 65,535. All
    /// that decisions about it will need is set aside here.
    pub fn add_unit(&mut self, domain: DomainId, affinity: Affinity) -> Option<UnitId> {
        let new = Unit::new(domain, affinity);
        let unit = match self.free_units.pop() {
            Some(unit) => {
                self.units[unit.index()] = new;
                unit
            }
            None if self.units.len() == MAX_UNITS => return None,
            None => {
                self.units.push(new);
                UnitId((self.units.len() - 1) as u16)
            }
        };
        self.links.reserve(self.units.len());
        let it = &mut self.units[unit.index()];
        it.set_online(self.online);
        it.cpu = it.preferred.next_from(unit.index() % self.cpus.len()).unwrap_or(0);
        // It begins with no more credit than those who compute.
        it.time = self.cpus[it.cpu].queue.clock();
        let its = &mut self.domains[domain.index()];
        its.units.push(unit);
        its.parked.reserve(its.units.len() - its.parked.len());
        self.apply(domain);
        Some(unit)
    }

    /// Changes a domain's weight and cap.
    pub fn set_domain(&mut self, domain: DomainId, params: DomainParams, now_ns: u64) {
        for index in 0..self.domains[domain.index()].units.len() {
            let unit = self.domains[domain.index()].units[index];
            let it = &mut self.units[unit.index()];
            if it.place == Place::Running {
                let cpu = it.cpu;
                self.charge(cpu, unit, now_ns);
                // It is told anew until when it runs.
                self.kicks.insert(cpu);
            }
            self.units[unit.index()].grant_ns = 0;
        }
        self.domains[domain.index()].set_params(params);
        self.apply(domain);
        self.unpark(domain.index(), now_ns);
    }

    /// A domain's weight and cap as they count.
    #[must_use]
    pub fn domain(&self, domain: DomainId) -> DomainParams {
        self.domains[domain.index()].params
    }

    /// Takes a domain and its units away; their numbers are another's later. Those that run are
    /// interrupted, and gone when their CPU has picked and switched.
    pub fn remove_domain(&mut self, domain: DomainId) {
        self.domains[domain.index()].dying = true;
        for index in (0..self.domains[domain.index()].units.len()).rev() {
            self.remove_unit(self.domains[domain.index()].units[index]);
        }
        self.retire_domain(domain);
    }

    /// Takes one unit away, as [`Self::remove_domain`] does with all.
    pub fn remove_unit(&mut self, unit: UnitId) {
        self.units[unit.index()].dying = true;
        self.take_away(unit);
        self.retire(unit);
    }

    /// Frees a dying unit's number once no CPU has it.
    pub(super) fn retire(&mut self, unit: UnitId) {
        let it = &self.units[unit.index()];
        if !it.dying || it.held || it.place != Place::Aside {
            return;
        }
        let domain = it.domain;
        let siblings = &mut self.domains[domain.index()].units;
        let Some(index) = siblings.iter().position(|sibling| *sibling == unit) else { return };
        siblings.swap_remove(index);
        self.free_units.push(unit);
        self.retire_domain(domain);
    }

    fn retire_domain(&mut self, domain: DomainId) {
        let its = &mut self.domains[domain.index()];
        if its.dying && its.units.is_empty() {
            its.dying = false;
            its.keeper = None;
            self.free_domains.push(domain);
        }
    }

    /// Has a domain's parameters count for its units.
    fn apply(&mut self, domain: DomainId) {
        let its = &self.domains[domain.index()];
        for unit in &its.units {
            let it = &mut self.units[unit.index()];
            it.rate = Rate::new(its.params.weight);
            it.capped = its.is_capped();
        }
    }
}

impl DomainId {
    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}
