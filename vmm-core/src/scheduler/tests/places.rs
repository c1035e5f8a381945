//! Where units run: affinity, pauses, CPUs that come and go, the caller's races.

use super::machine::{MS, Machine, SECOND, US, Work};
use crate::scheduler::{Affinity, CpuSet, DomainParams, Scheduler, UnitId, UnitState};

fn set(cpus: &[usize]) -> CpuSet {
    cpus.iter().copied().collect()
}

fn scheduler_of(cpus: usize, units: usize) -> (Scheduler, Vec<UnitId>) {
    let mut scheduler = Scheduler::new(cpus);
    (0..cpus).for_each(|cpu| assert_eq!(scheduler.pick(cpu, 0).unit, None));
    let domain = scheduler.add_domain(DomainParams::default()).expect("few");
    let mut add = |_| scheduler.add_unit(domain, Affinity::default()).expect("few");
    let units = (0..units).map(&mut add).collect();
    (scheduler, units)
}

#[test]
fn a_wake_up_before_the_sleep_is_not_lost() {
    let (mut scheduler, units) = scheduler_of(1, 1);
    scheduler.wake(units[0], 0);
    assert_eq!(scheduler.take_kicks(), set(&[0]));
    assert_eq!(scheduler.pick(0, 1).unit, Some(units[0]));
    scheduler.wake(units[0], 2);
    assert_eq!(scheduler.take_kicks(), CpuSet::NONE);
    scheduler.block(units[0]);
    assert_eq!(scheduler.pick(0, 3).unit, Some(units[0]));
    scheduler.block(units[0]);
    scheduler.wake(units[0], 4);
    assert_eq!(scheduler.pick(0, 5).unit, Some(units[0]));
    scheduler.block(units[0]);
    assert_eq!(scheduler.pick(0, 6).unit, None);
    assert_eq!(scheduler.state(units[0]), UnitState::Blocked);
}

#[test]
fn a_cpu_that_begins_with_another_unit_than_it_was_called_for_calls_the_next() {
    let (mut scheduler, units) = scheduler_of(3, 3);
    let pinned = |cpu| Affinity { hard: CpuSet::one(cpu), ..Affinity::default() };
    let [first, moves, second] = units[..] else { unreachable!() };
    scheduler.set_affinity(first, pinned(2), 0);
    scheduler.set_affinity(moves, pinned(2), 0);
    scheduler.set_affinity(second, pinned(0), 0);
    scheduler.wake(first, 0);
    assert_eq!(scheduler.pick(2, 0).unit, Some(first));
    scheduler.wake(moves, 1);
    scheduler.take_kicks();
    scheduler.set_affinity(moves, Affinity::default(), 2);
    assert_eq!(scheduler.take_kicks(), set(&[0]));
    scheduler.wake(second, 3);
    assert_eq!(scheduler.pick(0, 4).unit, Some(second));
    assert_eq!(scheduler.take_kicks(), set(&[1]));
    assert_eq!(scheduler.pick(1, 5).unit, Some(moves));
}

/// Of the shortest grant some is left, and the domain is in debt by it.
#[test]
fn one_that_spins_keeps_its_budget_if_its_sibling_can_have_none_of_it() {
    let (mut scheduler, units) = scheduler_of(1, 2);
    let [spins, sibling] = units[..] else { unreachable!() };
    let domain = scheduler.units[spins.index()].domain;
    scheduler.wake(spins, 0);
    assert_eq!(scheduler.pick(0, 0).unit, Some(spins));
    scheduler.set_domain(domain, DomainParams { cap_percent: 1, ..DomainParams::default() }, 0);
    assert_eq!(scheduler.pick(0, 0).until_ns, 100 * US);
    assert_eq!(scheduler.pick(0, 120 * US).unit, None);
    scheduler.switched(0, 120 * US);
    let end_ns = 10 * MS + 100 * US;
    assert_eq!(scheduler.pick(0, 10 * MS).until_ns, end_ns);
    scheduler.wake(sibling, end_ns - 10 * US);
    scheduler.yield_now(spins);
    let decision = scheduler.pick(0, end_ns - 10 * US);
    assert_eq!((decision.unit, decision.until_ns), (Some(spins), end_ns));
}

#[test]
fn a_unit_whose_registers_are_in_a_cpu_runs_on_no_other() {
    let (mut scheduler, units) = scheduler_of(2, 2);
    scheduler.wake(units[0], 0);
    scheduler.wake(units[1], 0);
    let cpu = scheduler.cpu_of(units[0]);
    let other = 1 - cpu;
    scheduler.pick(other, 0);
    scheduler.pick(cpu, 0);
    scheduler.block(units[1]);
    assert_eq!(scheduler.pick(other, 10).left, Some(units[1]));
    scheduler.switched(other, 11);
    scheduler.block(units[0]);
    assert_eq!(scheduler.pick(cpu, 20).left, Some(units[0]));
    scheduler.take_kicks();
    scheduler.wake(units[0], 21);
    assert_eq!(scheduler.take_kicks(), CpuSet::NONE);
    assert_eq!(scheduler.pick(other, 22).unit, None);
    scheduler.switched(cpu, 23);
    assert_eq!(scheduler.take_kicks(), set(&[cpu]));
    assert_eq!(scheduler.pick(cpu, 24).unit, Some(units[0]));
}

#[test]
fn a_paused_unit_leaves_and_comes_back() {
    let mut machine = Machine::new(1);
    machine.is_checked = true;
    let unit = machine.guest(DomainParams::default(), Work::Compute);
    let other = machine.guest(DomainParams::default(), Work::Compute);
    machine.run(10 * MS);
    machine.scheduler.pause(unit);
    machine.after_call();
    machine.run(10 * US);
    assert_eq!(machine.scheduler.state(unit), UnitState::Paused);
    let (before, others) = (machine.runtime_ns(unit), machine.runtime_ns(other));
    machine.run(20 * MS);
    assert_eq!(machine.runtime_ns(unit), before);
    assert_eq!(machine.runtime_ns(other), others + 20 * MS);
    machine.scheduler.unpause(unit, machine.now_ns);
    machine.after_call();
    machine.run(20 * MS);
    assert!(machine.runtime_ns(unit) >= before + 8 * MS);
}

#[test]
fn affinity_is_kept_and_soft_affinity_preferred() {
    let mut machine = Machine::new(4);
    machine.is_checked = true;
    let domain = machine.domain(DomainParams::default());
    let affinity = Affinity { hard: set(&[1, 2]), soft: set(&[2]) };
    let unit = machine.unit(domain, Work::Compute, affinity);
    machine.run(MS);
    assert_eq!(machine.running(2), Some(unit));
    // One that may be on CPU 2 only drives it to CPU 1 rather than waits.
    machine.guest_on(DomainParams::default(), Work::Compute, CpuSet::one(2));
    machine.run(20 * MS);
    assert_eq!(machine.running(1), Some(unit));
    machine.scheduler.set_affinity(unit, Affinity { hard: set(&[3]), ..affinity }, machine.now_ns);
    machine.after_call();
    machine.run(MS);
    assert_eq!(machine.running(3), Some(unit));
}

#[test]
fn units_leave_a_cpu_that_goes() {
    let mut machine = Machine::new(4);
    machine.is_checked = true;
    let units: Vec<_> =
        (0..12).map(|_| machine.guest(DomainParams::default(), Work::Compute)).collect();
    let pinned = machine.guest_on(DomainParams::default(), Work::Compute, CpuSet::one(3));
    machine.run(100 * MS);
    for cpu in [3, 1, 0] {
        assert!(machine.scheduler.cpu_offline(cpu, machine.now_ns));
        machine.after_call();
    }
    assert!(!machine.scheduler.cpu_offline(2, machine.now_ns));
    machine.run(10 * US);
    assert_eq!([0, 1, 3].map(|cpu| machine.running(cpu)), [None; 3]);
    let before: Vec<_> = units.iter().map(|unit| machine.runtime_ns(*unit)).collect();
    let pinned_before = machine.runtime_ns(pinned);
    machine.run(SECOND);
    for (unit, before) in units.iter().zip(before) {
        assert!((machine.runtime_ns(*unit) - before).abs_diff(SECOND / 13) <= 8 * MS);
    }
    assert!(machine.runtime_ns(pinned) > pinned_before);
    machine.scheduler.cpu_online(3, machine.now_ns);
    machine.after_call();
    machine.run(20 * MS);
    assert_eq!(machine.scheduler.cpu_of(pinned), 3);
    let pinned_before = machine.runtime_ns(pinned);
    machine.run(SECOND);
    assert!(machine.runtime_ns(pinned) - pinned_before >= SECOND / 8);
    assert!(machine.running(3).is_some());
}

#[test]
fn a_domain_goes_with_units_that_run() {
    let (mut scheduler, units) = scheduler_of(1, 3);
    units.iter().for_each(|unit| scheduler.wake(*unit, 0));
    assert_eq!(scheduler.pick(0, 0).unit, Some(units[0]));
    let domain = scheduler.units[0].domain;
    scheduler.remove_domain(domain);
    assert_eq!(scheduler.take_kicks(), set(&[0]));
    let decision = scheduler.pick(0, 10);
    assert_eq!((decision.unit, decision.left), (None, Some(units[0])));
    let second = scheduler.add_domain(DomainParams::default()).expect("few");
    assert_ne!(second, domain);
    scheduler.switched(0, 11);
    assert_eq!(scheduler.add_domain(DomainParams::default()), Some(domain));
    let reused: Vec<_> =
        (0..4).map(|_| scheduler.add_unit(domain, Affinity::default()).expect("few")).collect();
    assert_eq!(scheduler.units.len(), 4);
    assert!(units.iter().all(|unit| reused.contains(unit)));
}
