//! Where a unit waits: into queues and out of them, from one CPU's time into another's.

use super::unit::{Place, Unit};
use super::virtual_time::VirtualTime;
use super::{Cpu, MARGIN, MAX_CREDIT, Scheduler, UnitId};

/// How many CPUs are looked at for one whose unit has less credit.
const PROBES: usize = 16;

/// How far two queues' clocks may be apart for what one was served less than the other to be made
/// good on a unit that moves: 40 ms of virtual time.
pub(super) const MAX_DRIFT: i64 = VirtualTime::from_ns(40_000_000);

impl Scheduler {
    /// Finds a CPU for a unit that is runnable and in no queue.
    pub(super) fn place(&mut self, unit: UnitId, now_ns: u64) {
        let it = &self.units[unit.index()];
        if it.place != Place::Aside || it.held || !it.is_runnable() {
            return;
        }
        let (cpu, kick) = match it.choose(self.idle) {
            Some(cpu) => (cpu, true),
            None => match self.probe(it, now_ns) {
                Some(cpu) => (cpu, true),
                None => (self.home(it), false),
            },
        };
        self.carry(unit, cpu);
        self.enqueue(unit);
        if kick {
            self.idle.remove(cpu);
            self.kicks.insert(cpu);
        }
    }

    /// Tells an idle CPU of a unit that waits in another's queue.
    pub(super) fn offer(&mut self, unit: UnitId) {
        if let Some(cpu) = self.units[unit.index()].choose(self.idle) {
            self.idle.remove(cpu);
            self.kicks.insert(cpu);
        }
    }

    /// A CPU that was idle has begun with one of the units that it was called for, which are in its
    /// queue, or in that of a busy CPU: idle CPUs are told of the others.
    #[cold]
    pub(super) fn offer_rest(&mut self) {
        let mut idle = self.idle;
        // One that runs nothing was called itself, and will see to its queue.
        let busy = self.waiting.iter().filter(|cpu| self.cpus[*cpu].running.is_some());
        for unit in busy.flat_map(|cpu| self.cpus[cpu].queue.iter(&self.links)) {
            if idle.is_empty() {
                break;
            }
            let it = &self.units[usize::from(unit)];
            if let Some(other) = it.choose(idle).filter(|_| !it.held) {
                idle.remove(other);
                self.kicks.insert(other);
            }
        }
        self.idle = idle;
    }

    /// Stops a unit that may run no more, or no more where it is.
    pub(super) fn take_away(&mut self, unit: UnitId) {
        let it = &mut self.units[unit.index()];
        match it.place {
            Place::Aside => {}
            Place::Queued => self.dequeue(unit),
            Place::Running => self.kicks.insert(it.cpu),
            Place::Parked => {
                it.place = Place::Aside;
                let domain = it.domain;
                self.domains[domain.index()].parked.retain(|parked| *parked != unit);
            }
        }
    }

    /// Puts a unit into its CPU's queue. A sleeper's credit is bounded here.
    pub(super) fn enqueue(&mut self, unit: UnitId) {
        let it = &mut self.units[unit.index()];
        let cpu = it.cpu;
        let queue = &mut self.cpus[cpu].queue;
        it.place = Place::Queued;
        it.time = it.time.max(queue.clock().plus(-MAX_CREDIT));
        queue.insert(&mut self.links, unit.0, it.time);
        self.queued += 1;
        self.waiting.insert(cpu);
    }

    /// Takes a unit out of its CPU's queue.
    pub(super) fn dequeue(&mut self, unit: UnitId) {
        let it = &mut self.units[unit.index()];
        it.place = Place::Aside;
        let queue = &mut self.cpus[it.cpu].queue;
        queue.remove(&mut self.links, unit.0);
        self.queued -= 1;
        if queue.count() == 0 {
            self.waiting.remove(it.cpu);
        }
    }

    /// Moves a unit that is in no queue to another CPU's time. It keeps the time that it was served
    /// less than those there, or more, if the two queues are about in step; of queues that are not,
    /// that which is behind is moved on.
    pub(super) fn carry(&mut self, unit: UnitId, to: usize) {
        let from = self.units[unit.index()].cpu;
        self.catch_up(to);
        if from != to {
            self.catch_up(from);
            self.bring_into_step(from, to);
            self.bring_into_step(to, from);
            let it = &mut self.units[unit.index()];
            it.time =
                VirtualTime(self.cpus[from].common(it.time).0.wrapping_sub(self.cpus[to].offset));
            it.cpu = to;
        }
    }

    /// Moves a queue's time on, so that it is not too far behind another's.
    pub(super) fn bring_into_step(&mut self, behind: usize, ahead: usize) {
        let clock = self.cpus[ahead].common_clock().plus(-MAX_DRIFT);
        self.cpus[behind].move_on(clock);
    }

    /// A CPU that did nothing is where the others are.
    fn catch_up(&mut self, cpu: usize) {
        let pulse = self.pulse;
        let this = &mut self.cpus[cpu];
        if this.running.is_none() && this.queue.count() == 0 {
            this.move_on(pulse);
        }
    }

    /// The CPU whose running unit has least credit, if that is less than the unit's: its last CPU
    /// if it is one of them.
    fn probe(&self, unit: &Unit, now_ns: u64) -> Option<usize> {
        let lead = |cpu: usize| self.cpus[cpu].lead_of_running(self, unit, now_ns);
        let is_due = |cpu: usize| unit.preferred.contains(cpu) && lead(cpu) >= MARGIN;
        if is_due(unit.cpu) {
            return Some(unit.cpu);
        }
        let cpus = unit.preferred.iter_round(unit.cpu).take(PROBES);
        cpus.filter(|cpu| is_due(*cpu)).max_by_key(|cpu| lead(*cpu))
    }

    /// Where a unit waits that nobody makes room for.
    fn home(&self, unit: &Unit) -> usize {
        let shortest = || {
            let cpus = unit.preferred.iter_round(unit.cpu).take(PROBES);
            cpus.min_by_key(|cpu| self.cpus[*cpu].queue.count())
        };
        let last = Some(unit.cpu).filter(|cpu| unit.preferred.contains(*cpu));
        last.or_else(shortest).unwrap_or(unit.cpu)
    }
}

impl Cpu {
    /// By how much the running unit has less credit than one that comes.
    fn lead_of_running(&self, scheduler: &Scheduler, unit: &Unit, now_ns: u64) -> i64 {
        let Some(running) = self.running else { return i64::MIN };
        let running = &scheduler.units[running.index()];
        let time = running.time.plus(running.rate.burnt(self.uncharged_ns(now_ns)));
        let other = &scheduler.cpus[unit.cpu];
        let bounded = unit.time.max(other.queue.clock().plus(-MAX_CREDIT));
        let lead = self.common(time).since(other.common(bounded));
        // As `carry` would do.
        let own = time.since(self.queue.clock().plus(-MAX_CREDIT));
        lead.min(own)
    }

    /// Moves the queue's comparable time on to `clock`, if it is behind.
    fn move_on(&mut self, clock: VirtualTime) {
        let behind = clock.since(self.common_clock()).max(0);
        self.offset = self.offset.wrapping_add_signed(behind);
    }
}
