//! Statements that hold between any two calls.

use crate::scheduler::unit::Place;
use crate::scheduler::{Scheduler, UnitId};

/// Checks that each unit is in one place, that the sets say what the queues hold, that affinity is
/// kept, and that no CPU is idle while a unit waits that may run there.
pub fn check(scheduler: &Scheduler) {
    let units = || (0..).map(UnitId).zip(&scheduler.units);
    let mut queued = 0;
    for (number, cpu) in scheduler.cpus.iter().enumerate() {
        let mut count = 0;
        for unit in cpu.queue.iter(&scheduler.links).map(UnitId) {
            let it = &scheduler.units[unit.index()];
            assert_eq!((it.place, it.cpu), (Place::Queued, number));
            assert!(it.is_runnable() && it.allowed.contains(number));
            count += 1;
        }
        assert_eq!(count, cpu.queue.count());
        assert_eq!(count != 0, scheduler.waiting.contains(number));
        queued += count;
        if let Some(unit) = cpu.running {
            assert_eq!(scheduler.units[unit.index()].place, Place::Running);
            assert_eq!(scheduler.units[unit.index()].cpu, number);
        }
        if let Some(unit) = cpu.held {
            assert!(scheduler.units[unit.index()].held && cpu.running != Some(unit));
        }
        if scheduler.idle.contains(number) {
            assert!(scheduler.online.contains(number) && cpu.running.is_none() && count == 0);
        }
        assert!(scheduler.online.contains(number) || count == 0);
    }
    assert_eq!(queued, scheduler.queued);
    for (unit, it) in units() {
        let of = |held: bool| {
            let cpus = scheduler.cpus.iter();
            cpus.filter(|cpu| if held { cpu.held } else { cpu.running } == Some(unit)).count()
        };
        assert_eq!(of(false), usize::from(it.place == Place::Running));
        assert_eq!(of(true), usize::from(it.held));
        let domain = &scheduler.domains[it.domain.index()];
        let parked = domain.parked.iter().filter(|parked| **parked == unit).count();
        assert_eq!(parked, usize::from(it.place == Place::Parked));
        assert!(parked == 0 || domain.keeper.is_some());
        if it.place == Place::Aside && it.is_runnable() {
            assert!(it.held, "{unit:?} is forgotten");
        }
        // A CPU that runs nothing and is not idle is on its way to a decision.
        let is_called =
            |cpu: &usize| scheduler.cpus[*cpu].running.is_none() && !scheduler.idle.contains(*cpu);
        let called = it.allowed.iter().any(|cpu| is_called(&cpu));
        if it.place == Place::Queued && !it.held && !called {
            assert!((scheduler.idle & it.allowed).is_empty(), "{unit:?} waits for an idle CPU");
        }
    }
    for domain in &scheduler.domains {
        if let Some(keeper) = domain.keeper {
            assert!(scheduler.cpus[keeper].period_end_ns <= domain.period_end_ns);
            assert!(scheduler.online.contains(keeper));
        }
    }
}
