//! Decisions of the scheduler in a loop, to count their instructions:
//!
//! ```text
//! cargo build --profile image -p vmm-core --example scheduler_decisions
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*decide*' \
//!     target/image/examples/scheduler_decisions CPUS UNITS DECISIONS
//! ```
//!
//! The count that is collected, by the number of decisions, is the mean. Units of four weights
//! compute.

use vmm_core::scheduler::{Affinity, Decision, DomainParams, Scheduler};

#[inline(never)]
fn decide(scheduler: &mut Scheduler, cpu: usize, now_ns: u64) -> Decision {
    scheduler.pick(cpu, now_ns)
}

fn main() {
    let numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let numbers: Result<Vec<usize>, _> = numbers.collect();
    let Ok([cpus, units, decisions]) = numbers.as_deref() else {
        println!("scheduler_decisions CPUS UNITS DECISIONS");
        return;
    };
    let mut scheduler = Scheduler::new(*cpus);
    for unit in 0..*units {
        let params = DomainParams { weight: [256, 512, 128, 300][unit % 4], cap_percent: 0 };
        let domain = scheduler.add_domain(params).expect("room for a domain");
        let unit = scheduler.add_unit(domain, Affinity::default()).expect("room for a unit");
        scheduler.wake(unit, 0);
    }
    let mut until_ns = vec![0; *cpus];
    let mut switches = 0;
    for _ in 0..*decisions {
        let next = (0..*cpus).min_by_key(|cpu| until_ns[*cpu]).expect("a CPU");
        let now_ns = until_ns[next];
        let decision = decide(&mut scheduler, next, now_ns);
        scheduler.switched(next, now_ns);
        until_ns[next] = decision.until_ns;
        switches += usize::from(decision.left.is_some());
    }
    println!("{switches} of {decisions} decisions changed the unit");
}
