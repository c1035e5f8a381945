//! A machine of many CPUs under a simulated clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::scheduler::{Affinity, CpuSet, DomainId, DomainParams, Scheduler, UnitId};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000 * US;
pub const SECOND: u64 = 1_000 * MS;

/// From an interrupt's sending to the CPU's decision.
const KICK_NS: u64 = US;

/// From a decision until the unit that left has been unloaded.
const UNLOAD_NS: u64 = 500;

/// A unit's work all day.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Compute,
    /// Runs a while, then sleeps for a while.
    Sleep {
        run_ns: u64,
        sleep_ns: u64,
    },
    /// Wants a lock that another unit holds while it has this work, and spins 50 us at a time.
    Spin {
        for_unit: UnitId,
    },
    /// Holds the lock until it has run so long, then computes.
    Hold {
        left_ns: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(UnitId),
    /// The CPU's unit is at its end, or the CPU's time has come; of which decision.
    Timer(usize, u64),
    Interrupt(usize),
    Unloaded(usize),
}

#[derive(Default)]
struct SimulatedCpu {
    running: Option<UnitId>,
    since_ns: u64,
    decisions: u64,
    until_ns: u64,
}

struct Life {
    work: Work,
    /// Of a sleeper, until it sleeps.
    left_ns: u64,
    runtime_ns: u64,
    woken_ns: Option<u64>,
    /// From each wake-up until it ran.
    latencies_ns: Vec<u64>,
}

pub struct Machine {
    pub scheduler: Scheduler,
    pub now_ns: u64,
    pub moves: u64,
    pub switches: u64,
    cpus: Vec<SimulatedCpu>,
    lives: Vec<Life>,
    last_cpu: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sent: u64,
    pub is_checked: bool,
}

impl Machine {
    pub fn new(cpus: usize) -> Self {
        let mut machine = Self {
            scheduler: Scheduler::new(cpus),
            now_ns: 0,
            moves: 0,
            switches: 0,
            cpus: (0..cpus).map(|_| SimulatedCpu::default()).collect(),
            lives: Vec::new(),
            last_cpu: Vec::new(),
            events: BinaryHeap::new(),
            sent: 0,
            is_checked: false,
        };
        (0..cpus).for_each(|cpu| machine.decide(cpu));
        machine
    }

    /// A domain of one unit.
    pub fn guest(&mut self, params: DomainParams, work: Work) -> UnitId {
        self.guest_on(params, work, CpuSet::ALL)
    }

    pub fn guest_on(&mut self, params: DomainParams, work: Work, hard: CpuSet) -> UnitId {
        let domain = self.domain(params);
        self.unit(domain, work, Affinity { hard, ..Affinity::default() })
    }

    pub fn domain(&mut self, params: DomainParams) -> DomainId {
        self.scheduler.add_domain(params).expect("few domains")
    }

    pub fn unit(&mut self, domain: DomainId, work: Work, affinity: Affinity) -> UnitId {
        let unit = self.scheduler.add_unit(domain, affinity).expect("few units");
        assert_eq!(unit.index(), self.lives.len());
        let left_ns = if let Work::Sleep { run_ns, .. } = work { run_ns } else { 0 };
        let (woken_ns, latencies_ns) = (None, Vec::new());
        self.lives.push(Life { work, left_ns, runtime_ns: 0, woken_ns, latencies_ns });
        self.last_cpu.push(usize::MAX);
        self.post(0, Event::Wake(unit));
        unit
    }

    pub fn run(&mut self, length_ns: u64) {
        let end_ns = self.now_ns + length_ns;
        while let Some(Reverse((at_ns, ..))) = self.events.peek().filter(|at| at.0.0 <= end_ns) {
            self.now_ns = *at_ns;
            let Some(Reverse((.., event))) = self.events.pop() else { return };
            self.handle(event);
            self.after_call();
        }
        self.now_ns = end_ns;
    }

    /// Does a caller's part after each call: it interrupts CPUs.
    pub fn after_call(&mut self) {
        for cpu in self.scheduler.take_kicks().iter() {
            self.post(KICK_NS, Event::Interrupt(cpu));
        }
        if self.is_checked {
            super::invariants::check(&self.scheduler);
        }
    }

    pub fn runtime_ns(&self, unit: UnitId) -> u64 {
        let runtime_ns = self.scheduler.runtime_ns(unit, self.now_ns);
        let seen_ns = self.cpus.iter().filter(|cpu| cpu.running == Some(unit));
        let seen_ns: u64 = seen_ns.map(|cpu| self.now_ns - cpu.since_ns).sum();
        assert_eq!(runtime_ns, self.lives[unit.index()].runtime_ns + seen_ns);
        runtime_ns
    }

    pub fn running(&self, cpu: usize) -> Option<UnitId> {
        self.cpus[cpu].running
    }

    pub fn latencies_ns(&self, unit: UnitId) -> &[u64] {
        &self.lives[unit.index()].latencies_ns
    }

    pub fn work(&self, unit: UnitId) -> Work {
        self.lives[unit.index()].work
    }

    fn post(&mut self, after_ns: u64, event: Event) {
        self.sent += 1;
        self.events.push(Reverse((self.now_ns.saturating_add(after_ns), self.sent, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(unit) => {
                self.lives[unit.index()].woken_ns = Some(self.now_ns);
                self.scheduler.wake(unit, self.now_ns);
            }
            Event::Timer(cpu, decision) if self.cpus[cpu].decisions == decision => self.stop(cpu),
            Event::Timer(..) => {}
            Event::Interrupt(cpu) => self.stop(cpu),
            Event::Unloaded(cpu) => self.scheduler.switched(cpu, self.now_ns),
        }
    }

    /// The CPU's unit exits: it may be at the end of its work.
    fn stop(&mut self, cpu: usize) {
        let this = &mut self.cpus[cpu];
        if let Some(unit) = this.running {
            let ran_ns = self.now_ns - this.since_ns;
            let is_due = self.now_ns >= this.until_ns;
            this.since_ns = self.now_ns;
            let life = &mut self.lives[unit.index()];
            life.runtime_ns += ran_ns;
            match &mut life.work {
                Work::Compute => {}
                Work::Sleep { run_ns, sleep_ns } => {
                    life.left_ns = life.left_ns.saturating_sub(ran_ns);
                    if life.left_ns == 0 {
                        life.left_ns = *run_ns;
                        let sleep_ns = *sleep_ns;
                        self.scheduler.block(unit);
                        self.post(sleep_ns, Event::Wake(unit));
                    }
                }
                Work::Spin { for_unit } => {
                    let for_unit = *for_unit;
                    if !matches!(self.work(for_unit), Work::Hold { .. }) {
                        self.lives[unit.index()].work = Work::Compute;
                    } else if !is_due {
                        self.scheduler.yield_now(unit);
                    }
                }
                Work::Hold { left_ns } => {
                    *left_ns = left_ns.saturating_sub(ran_ns);
                    if *left_ns == 0 {
                        life.work = Work::Compute;
                    }
                }
            }
        }
        self.decide(cpu);
    }

    fn decide(&mut self, cpu: usize) {
        let before = self.cpus[cpu].running;
        let decision = self.scheduler.pick(cpu, self.now_ns);
        assert_eq!(decision.left, before.filter(|_| before != decision.unit));
        if decision.left.is_some() {
            self.post(UNLOAD_NS, Event::Unloaded(cpu));
        }
        if let Some(unit) = decision.unit {
            assert!(
                self.cpus
                    .iter()
                    .enumerate()
                    .all(|(other, it)| { other == cpu || it.running != Some(unit) })
            );
            let last = std::mem::replace(&mut self.last_cpu[unit.index()], cpu);
            self.switches += u64::from(before != Some(unit));
            self.moves += u64::from(last != cpu && last != usize::MAX);
            let life = &mut self.lives[unit.index()];
            let woken_ns = life.woken_ns.take();
            life.latencies_ns.extend(woken_ns.map(|woken_ns| self.now_ns - woken_ns));
        }
        let this = &mut self.cpus[cpu];
        this.running = decision.unit;
        this.since_ns = self.now_ns;
        this.until_ns = decision.until_ns;
        this.decisions += 1;
        let number = this.decisions;
        let work_ns = decision.unit.map_or(u64::MAX, |unit| match self.work(unit) {
            Work::Compute => u64::MAX,
            Work::Sleep { .. } => self.lives[unit.index()].left_ns,
            Work::Spin { .. } => 50 * US,
            Work::Hold { left_ns } => left_ns,
        });
        let until_ns = decision.until_ns.min(self.now_ns.saturating_add(work_ns));
        if until_ns != u64::MAX {
            self.post(until_ns.saturating_sub(self.now_ns), Event::Timer(cpu, number));
        }
    }
}
