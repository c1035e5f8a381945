//! How soon those run that have slept, and those that others spin for.

use super::machine::{MS, Machine, SECOND, US, Work};
use crate::scheduler::{Affinity, CpuSet, DomainParams, RATE_LIMIT_NS};

const KICK_NS: u64 = US;

fn waits_ns(machine: &Machine, unit: crate::scheduler::UnitId) -> (u64, u64) {
    // Units begin with equal credit; the first turns are no sleeper's.
    let mut waits = machine.latencies_ns(unit)[10..].to_vec();
    waits.sort_unstable();
    (waits[waits.len() / 2], waits[waits.len() - 1])
}

#[test]
fn a_sleeper_is_served_at_once_beside_those_that_compute() {
    for sleep_ns in [MS, 2500 * US, 10 * MS, 99 * MS] {
        let mut machine = Machine::new(1);
        (0..8).for_each(|_| _ = machine.guest(DomainParams::default(), Work::Compute));
        let work = Work::Sleep { run_ns: 50 * US, sleep_ns };
        let sleeper = machine.guest(DomainParams::default(), work);
        machine.run(3 * SECOND);
        let (median, longest) = waits_ns(&machine, sleeper);
        assert!(machine.latencies_ns(sleeper).len() as u64 > 2 * SECOND / (sleep_ns + 1200 * US));
        assert!(median <= RATE_LIMIT_NS && longest <= RATE_LIMIT_NS + 2 * KICK_NS, "{longest}");
    }
}

#[test]
fn a_sleeper_beside_one_that_computes_does_not_wait() {
    let mut machine = Machine::new(1);
    machine.guest(DomainParams::default(), Work::Compute);
    let work = Work::Sleep { run_ns: 50 * US, sleep_ns: MS };
    let sleeper = machine.guest(DomainParams::default(), work);
    machine.run(SECOND);
    assert_eq!(waits_ns(&machine, sleeper), (KICK_NS, KICK_NS));
}

#[test]
fn an_idle_cpu_is_taken_first() {
    let mut machine = Machine::new(4);
    (0..3).for_each(|_| _ = machine.guest(DomainParams::default(), Work::Compute));
    let work = Work::Sleep { run_ns: 100 * US, sleep_ns: 700 * US };
    let sleeper = machine.guest(DomainParams::default(), work);
    machine.run(SECOND);
    assert_eq!(waits_ns(&machine, sleeper), (KICK_NS, KICK_NS));
    // The three stay where they are.
    assert_eq!(machine.moves, 0);
}

#[test]
fn who_sleeps_a_moment_gains_nothing() {
    let mut machine = Machine::new(1);
    let computing = machine.guest(DomainParams::default(), Work::Compute);
    let work = Work::Sleep { run_ns: 9 * MS, sleep_ns: 10 * US };
    machine.guest(DomainParams::default(), work);
    machine.run(SECOND);
    let got_ns = machine.runtime_ns(computing);
    assert!(got_ns.abs_diff(500 * MS) <= 15 * MS, "{got_ns}");
}

/// Three units spin on a lock whose holder was made to leave, one CPU, beside another guest.
#[test]
fn a_spinning_unit_lets_the_lock_s_holder_run() {
    let mut machine = Machine::new(1);
    let domain = machine.domain(DomainParams::default());
    let all = Affinity::default();
    let holder = machine.unit(domain, Work::Hold { left_ns: 6 * MS }, all);
    machine.run(2 * MS);
    let spin = Work::Spin { for_unit: holder };
    let spinning: Vec<_> = (0..3).map(|_| machine.unit(domain, spin, all)).collect();
    let other = machine.guest(DomainParams::default(), Work::Compute);
    machine.run(20 * MS);
    assert!(matches!(machine.work(holder), Work::Compute), "the lock is held");
    let spun_ns: u64 = spinning.iter().map(|unit| machine.runtime_ns(*unit)).sum();
    let others_ns = machine.runtime_ns(other);
    assert!(spun_ns + machine.runtime_ns(holder) + others_ns == 22 * MS - KICK_NS);
    // A fifth of the time or more: the domain does not gain by it.
    assert!(others_ns >= 4 * MS, "{others_ns}");
    machine.run(SECOND);
    assert!((machine.runtime_ns(other) - others_ns).abs_diff(200 * MS) <= 15 * MS);
}

#[test]
fn a_unit_that_spins_fetches_the_holder_from_another_cpu() {
    let mut machine = Machine::new(2);
    let domain = machine.domain(DomainParams::default());
    let on = |cpu| Affinity { hard: CpuSet::one(cpu), ..Affinity::default() };
    (0..6)
        .for_each(|_| _ = machine.guest_on(DomainParams::default(), Work::Compute, CpuSet::one(1)));
    machine.run(50 * MS);
    let holder = machine.unit(domain, Work::Hold { left_ns: 3 * MS }, on(1));
    machine.run(5 * MS);
    machine.scheduler.set_affinity(holder, Affinity::default(), machine.now_ns);
    machine.after_call();
    machine.unit(domain, Work::Spin { for_unit: holder }, on(0));
    machine.run(4 * MS);
    assert!(matches!(machine.work(holder), Work::Compute));
}

/// Units that spin give way to each other in turn: none that they may wait for is left out.
#[test]
fn siblings_that_spin_all_get_their_turns() {
    let mut scheduler = Machine::new(1).scheduler;
    let domain = scheduler.add_domain(DomainParams::default()).expect("few");
    let units = [(); 3].map(|()| {
        let unit = scheduler.add_unit(domain, Affinity::default()).expect("few");
        scheduler.wake(unit, 0);
        unit
    });
    let mut runs = [0; 3];
    for turn in 0..30 {
        let unit = scheduler.pick(0, turn * MS).unit.expect("all are awake");
        scheduler.switched(0, turn * MS);
        runs[units.iter().position(|it| *it == unit).expect("one of them")] += 1;
        scheduler.yield_now(unit);
    }
    assert_eq!(runs, [10; 3]);
}

/// A unit that spins with no sibling to wait for gives way to the next for a moment.
#[test]
fn a_unit_that_spins_alone_lets_the_next_run() {
    let mut scheduler = Machine::new(1).scheduler;
    let mut guest = || {
        let domain = scheduler.add_domain(DomainParams::default()).expect("few");
        let unit = scheduler.add_unit(domain, Affinity::default()).expect("few");
        scheduler.wake(unit, 0);
        unit
    };
    let (first, second) = (guest(), guest());
    assert_eq!(scheduler.pick(0, 0).unit, Some(first));
    scheduler.yield_now(first);
    assert_eq!(scheduler.pick(0, 100).unit, Some(second));
    scheduler.yield_now(second);
    assert_eq!(scheduler.pick(0, 200).unit, Some(first));
    assert_eq!(scheduler.pick(0, 300).unit, Some(first));
}
