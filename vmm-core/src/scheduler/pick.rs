//! A CPU's decision: which unit it runs next, and how long.

use super::unit::Place;
use super::{MARGIN, MAX_SLICE_NS, RATE_LIMIT_NS, Scheduler, UnitId};

/// How much earlier than the rate limit a CPU may be that was told to come when it ends.
const TOLERANCE_NS: u64 = 50_000;

/// The shortest time until credit alone has a CPU decide again.
const MIN_SLICE_NS: u64 = 50_000;

/// A CPU's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit to run, or none: the CPU is idle.
    pub unit: Option<UnitId>,
    /// When the CPU picks again, if nothing happens before. Never, for `u64::MAX`.
    pub until_ns: u64,
    /// The unit that ran here until now and does not go on: no other CPU has it before
    /// [`Scheduler::switched`].
    pub left: Option<UnitId>,
}

impl Scheduler {
    /// Decides for `cpu` from now on. The unit that it ran until now is charged for its time, and
    /// waits if it has more to do.
    pub fn pick(&mut self, cpu: usize, now_ns: u64) -> Decision {
        let this = &self.cpus[cpu];
        let before = this.running;
        if this.held.is_some() || now_ns >= this.period_end_ns {
            self.attend(cpu, now_ns);
        }
        let mut current = before;
        if let Some(unit) = before {
            self.charge(cpu, unit, now_ns);
            if !self.may_go_on(unit, cpu, now_ns) {
                self.put_aside(unit, now_ns);
                current = None;
            }
        }
        if now_ns >= self.cpus[cpu].look_ns {
            self.look_around(cpu, now_ns);
        }
        let next = match current {
            Some(unit) => self.rival(cpu, unit, now_ns),
            None => self.first_of(cpu, now_ns).or_else(|| self.steal(cpu, now_ns)),
        };
        let yields = core::mem::take(&mut self.cpus[cpu].yields);
        let unit = match (current, next) {
            (current, Some(next)) => {
                self.dequeue(next);
                if let Some(unit) = current {
                    self.cpus[cpu].limit_ns = now_ns + RATE_LIMIT_NS;
                    self.give_up(unit, !yields, now_ns);
                }
                self.begin(cpu, next, now_ns);
                next
            }
            (Some(unit), None) => {
                self.units[unit.index()].woken = false;
                unit
            }
            (None, None) => return self.go_idle(cpu, before),
        };
        let this = &mut self.cpus[cpu];
        this.queue.advance(self.units[unit.index()].time);
        self.pulse = this.common_clock();
        if before.is_none() {
            self.offer_rest();
        }
        let left = before.filter(|before| *before != unit);
        if left.is_some() {
            self.hold(cpu, left);
        }
        Decision { unit: Some(unit), until_ns: self.until_ns(cpu, unit, now_ns), left }
    }

    /// The unit that [`Self::pick`] said has left `cpu` is in none of its registers any more.
    pub fn switched(&mut self, cpu: usize, now_ns: u64) {
        let Some(unit) = self.cpus[cpu].held.take() else { return };
        self.units[unit.index()].held = false;
        match self.units[unit.index()].place {
            // Another CPU may have become idle meanwhile.
            Place::Queued => self.offer(unit),
            _ => self.place(unit, now_ns),
        }
        self.retire(unit);
    }

    /// Charges the running unit for its time.
    pub(super) fn charge(&mut self, cpu: usize, unit: UnitId, now_ns: u64) {
        let this = &mut self.cpus[cpu];
        let run_ns = this.uncharged_ns(now_ns);
        this.charged_ns = this.charged_ns.max(now_ns);
        let it = &mut self.units[unit.index()];
        it.runtime_ns += run_ns;
        it.time = it.time.plus(it.rate.burnt(run_ns));
        if it.capped {
            it.grant_ns -= run_ns.cast_signed();
        }
    }

    fn may_go_on(&mut self, unit: UnitId, cpu: usize, now_ns: u64) -> bool {
        let it = &self.units[unit.index()];
        it.is_runnable() && it.allowed.contains(cpu) && self.has_budget(unit, now_ns)
    }

    /// The first in the queue that has budget.
    pub(super) fn first_of(&mut self, cpu: usize, now_ns: u64) -> Option<UnitId> {
        loop {
            let unit = UnitId(self.cpus[cpu].queue.first()?);
            if self.has_budget(unit, now_ns) {
                return Some(unit);
            }
            self.dequeue(unit);
            self.park(unit, now_ns);
        }
    }

    /// The unit that takes the place of the one that runs and could go on.
    fn rival(&mut self, cpu: usize, unit: UnitId, now_ns: u64) -> Option<UnitId> {
        if self.cpus[cpu].yields {
            return self.give_way(cpu, unit, now_ns);
        }
        if now_ns + TOLERANCE_NS < self.cpus[cpu].limit_ns {
            return None;
        }
        let time = self.units[unit.index()].time;
        loop {
            let first = UnitId(self.cpus[cpu].queue.first()?);
            if time.since(self.units[first.index()].time) < MARGIN {
                return None;
            }
            if self.has_budget(first, now_ns) {
                return Some(first);
            }
            self.dequeue(first);
            self.park(first, now_ns);
        }
    }

    /// The running unit does not go on here: it sleeps, is held, has no budget or may be elsewhere.
    fn put_aside(&mut self, unit: UnitId, now_ns: u64) {
        self.return_budget(unit, now_ns);
        let it = &mut self.units[unit.index()];
        let cpu = it.cpu;
        it.place = Place::Aside;
        let lacks_budget = it.is_runnable() && it.allowed.contains(cpu);
        self.cpus[cpu].running = None;
        if lacks_budget {
            self.park(unit, now_ns);
        }
    }

    /// A unit that could go on waits in its CPU's queue.
    fn give_up(&mut self, unit: UnitId, preempted: bool, now_ns: u64) {
        self.return_budget(unit, now_ns);
        self.units[unit.index()].preempted = preempted;
        self.enqueue(unit);
    }

    fn begin(&mut self, cpu: usize, unit: UnitId, now_ns: u64) {
        let it = &mut self.units[unit.index()];
        it.place = Place::Running;
        it.woken = false;
        it.preempted = false;
        let this = &mut self.cpus[cpu];
        this.running = Some(unit);
        this.charged_ns = this.charged_ns.max(now_ns);
        self.idle.remove(cpu);
    }

    #[cold]
    fn go_idle(&mut self, cpu: usize, left: Option<UnitId>) -> Decision {
        self.cpus[cpu].running = None;
        if self.online.contains(cpu) {
            self.idle.insert(cpu);
        }
        self.hold(cpu, left);
        Decision { unit: None, until_ns: self.cpus[cpu].period_end_ns, left }
    }

    fn hold(&mut self, cpu: usize, left: Option<UnitId>) {
        self.cpus[cpu].held = left;
        if let Some(unit) = left {
            self.units[unit.index()].held = true;
        }
    }

    /// Sees to matters that are seldom due: the last switch, if the caller did not report it, and
    /// caps.
    #[cold]
    fn attend(&mut self, cpu: usize, now_ns: u64) {
        self.switched(cpu, now_ns);
        if now_ns >= self.cpus[cpu].period_end_ns {
            self.begin_periods(cpu, now_ns);
        }
    }

    /// When the unit that begins or goes on is due to leave.
    fn until_ns(&self, cpu: usize, unit: UnitId, now_ns: u64) -> u64 {
        let this = &self.cpus[cpu];
        let it = &self.units[unit.index()];
        let mut slice_ns = MAX_SLICE_NS;
        if let Some(first) = this.queue.first() {
            let lead = self.units[usize::from(first)].time.since(it.time) + MARGIN;
            slice_ns = it.rate.run_ns(lead).clamp(MIN_SLICE_NS, slice_ns);
        }
        let mut until_ns = (now_ns + slice_ns).max(this.limit_ns).min(this.period_end_ns);
        if self.queued > this.queue.count() {
            until_ns = until_ns.min(this.look_ns);
        }
        if it.capped {
            until_ns = until_ns.min(now_ns + it.grant_ns.max(0).cast_unsigned());
        }
        until_ns
    }
}
