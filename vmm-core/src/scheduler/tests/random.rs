//! Random calls, in any order: the invariants hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::invariants::check;
use crate::scheduler::{Affinity, CpuSet, DomainId, DomainParams, Scheduler, UnitId};

const CPUS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    AddDomain(u32, u32),
    AddUnit(usize, u8, u8),
    RemoveDomain(usize),
    RemoveUnit(usize),
    Wake(usize),
    Block(usize),
    Yield(usize),
    Pick(usize),
    Switched(usize),
    Pause(usize),
    Unpause(usize),
    SetDomain(usize, u32, u32),
    SetAffinity(usize, u8, u8),
    Online(usize),
    Offline(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let cap = prop_oneof![Just(0), 1..300_u32];
    prop_oneof![
        1 => (any::<u16>(), cap.clone()).prop_map(|(weight, cap)| AddDomain(weight.into(), cap)),
        4 => (0..64_usize, any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| AddUnit(a, b, c)),
        1 => (0..64_usize).prop_map(RemoveDomain),
        1 => (0..64_usize).prop_map(RemoveUnit),
        20 => (0..64_usize).prop_map(Wake),
        6 => (0..CPUS).prop_map(Block),
        4 => (0..CPUS).prop_map(Yield),
        30 => (0..CPUS).prop_map(Pick),
        20 => (0..CPUS).prop_map(Switched),
        2 => (0..64_usize).prop_map(Pause),
        3 => (0..64_usize).prop_map(Unpause),
        1 => (0..64_usize, any::<u16>(), cap).prop_map(|(a, b, c)| SetDomain(a, b.into(), c)),
        2 => (0..64_usize, any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| SetAffinity(a, b, c)),
        2 => (0..CPUS).prop_map(Online),
        1 => (0..CPUS).prop_map(Offline),
        10 => prop_oneof![0..5_000_u64, 0..30_000_000_u64].prop_map(Pass),
    ]
}

fn affinity(hard: u8, soft: u8) -> Affinity {
    let set = |bits: u8| (0..8).filter(|bit| bits >> bit & 1 != 0).collect::<CpuSet>();
    Affinity { hard: set(hard), soft: set(soft) }
}

#[derive(Default)]
struct Caller {
    now_ns: u64,
    domains: Vec<DomainId>,
    units: Vec<(DomainId, UnitId)>,
    /// The unit that each CPU runs, and the one that it has not reported as unloaded.
    running: [Option<UnitId>; CPUS],
    held: [Option<UnitId>; CPUS],
}

impl Caller {
    fn take(&mut self, scheduler: &mut Scheduler, step: Step) {
        let now_ns = self.now_ns;
        let domain = |index: usize| self.domains.get(index % self.domains.len().max(1)).copied();
        let unit = |index: usize| self.units.get(index % self.units.len().max(1)).map(|it| it.1);
        match step {
            Step::AddDomain(weight, cap_percent) => {
                self.domains.extend(scheduler.add_domain(DomainParams { weight, cap_percent }));
            }
            Step::AddUnit(index, hard, soft) => {
                if let Some(domain) = domain(index) {
                    let unit = scheduler.add_unit(domain, affinity(hard, soft));
                    self.units.extend(unit.map(|unit| (domain, unit)));
                }
            }
            Step::RemoveDomain(index) => {
                if let Some(domain) = domain(index) {
                    scheduler.remove_domain(domain);
                    self.domains.retain(|other| *other != domain);
                    self.units.retain(|(other, _)| *other != domain);
                }
            }
            Step::RemoveUnit(index) => {
                if let Some(unit) = unit(index) {
                    scheduler.remove_unit(unit);
                    self.units.retain(|(_, other)| *other != unit);
                }
            }
            Step::Wake(index) => unit(index).iter().for_each(|it| scheduler.wake(*it, now_ns)),
            Step::Block(cpu) => self.running[cpu].iter().for_each(|it| scheduler.block(*it)),
            Step::Yield(cpu) => self.running[cpu].iter().for_each(|it| scheduler.yield_now(*it)),
            Step::Pick(cpu) => {
                let decision = scheduler.pick(cpu, now_ns);
                let before = std::mem::replace(&mut self.running[cpu], decision.unit);
                assert_eq!(decision.left, before.filter(|_| before != decision.unit));
                self.held[cpu] = decision.left;
                assert!(decision.until_ns > now_ns);
                if let Some(unit) = decision.unit {
                    let others = (0..CPUS).filter(|other| *other != cpu);
                    let holders = others.filter(|other| {
                        [self.running[*other], self.held[*other]].contains(&Some(unit))
                    });
                    assert_eq!(holders.count(), 0, "on two CPUs");
                    assert!(scheduler.online().contains(cpu));
                }
            }
            Step::Switched(cpu) => {
                scheduler.switched(cpu, now_ns);
                self.held[cpu] = None;
            }
            Step::Pause(index) => unit(index).iter().for_each(|it| scheduler.pause(*it)),
            Step::Unpause(index) => {
                unit(index).iter().for_each(|it| scheduler.unpause(*it, now_ns));
            }
            Step::SetDomain(index, weight, cap_percent) => {
                let params = DomainParams { weight, cap_percent };
                domain(index).iter().for_each(|it| scheduler.set_domain(*it, params, now_ns));
            }
            Step::SetAffinity(index, hard, soft) => {
                let affinity = affinity(hard, soft);
                unit(index).iter().for_each(|it| scheduler.set_affinity(*it, affinity, now_ns));
            }
            Step::Online(cpu) => scheduler.cpu_online(cpu, now_ns),
            Step::Offline(cpu) => _ = scheduler.cpu_offline(cpu, now_ns),
            Step::Pass(ns) => self.now_ns += ns,
        }
    }
}

proptest! {
    #[test]
    fn random_steps_break_nothing(steps in vec(step(), 1..400)) {
        let mut scheduler = Scheduler::new(CPUS);
        let mut caller = Caller::default();
        for step in steps {
            caller.take(&mut scheduler, step);
            check(&scheduler);
        }
    }
}
