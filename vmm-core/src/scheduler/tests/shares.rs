//! Shares by weight, and the table of docs/scheduler.md.

use super::machine::{MS, Machine, SECOND, US, Work};
use crate::scheduler::{Affinity, CpuSet, DomainParams, UnitId};

/// The time that each unit is due of a second if all compute and may run anywhere: by weight, but
/// no more than one CPU; what that leaves is the others'.
fn due_ns(cpus: usize, weights: &[u32]) -> Vec<u64> {
    let mut due = vec![0; weights.len()];
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|unit| std::cmp::Reverse(weights[*unit]));
    let mut left_ns = cpus as u64 * SECOND;
    let mut left_weight: u64 = weights.iter().copied().map(u64::from).sum();
    for unit in order {
        let weight = u64::from(weights[unit]);
        let part = u128::from(left_ns) * u128::from(weight) / u128::from(left_weight);
        due[unit] = (part as u64).min(SECOND);
        left_ns -= due[unit];
        left_weight -= weight;
    }
    due
}

fn weight(weight: u32) -> DomainParams {
    DomainParams { weight, ..DomainParams::default() }
}

fn capped(cap_percent: u32) -> DomainParams {
    DomainParams { cap_percent, ..DomainParams::default() }
}

/// A row of the table: what units got of a second.
struct Row {
    title: &'static str,
    cpus: usize,
    units: usize,
    /// Expected and got of the unit that is furthest from its due.
    due_ns: u64,
    got_ns: u64,
    /// A CPU's, in that second.
    switches: u64,
    moves: u64,
}

impl Row {
    /// Runs a machine for a while, then for a second in which `units` are due what is said.
    fn new(title: &'static str, cpus: usize, mut machine: Machine, due: &[(UnitId, u64)]) -> Self {
        machine.run(200 * MS);
        let before: Vec<_> = due.iter().map(|(unit, _)| machine.runtime_ns(*unit)).collect();
        let (switches, moves) = (machine.switches, machine.moves);
        machine.run(SECOND);
        let got = due.iter().zip(before);
        let got = got.map(|((unit, due), before)| (*due, machine.runtime_ns(*unit) - before));
        let error = |(due, got): &(u64, u64)| due.abs_diff(*got) * 1_000_000 / due;
        let (due_ns, got_ns) = got.max_by_key(error).expect("a unit");
        Self {
            title,
            cpus,
            units: due.len(),
            due_ns,
            got_ns,
            switches: (machine.switches - switches) / cpus as u64,
            moves: (machine.moves - moves) / cpus as u64,
        }
    }

    /// Units of these weights that compute.
    fn computing(title: &'static str, cpus: usize, weights: &[u32]) -> Self {
        let mut machine = Machine::new(cpus);
        let units = weights.iter().map(|it| machine.guest(weight(*it), Work::Compute));
        let units: Vec<UnitId> = units.collect();
        let due: Vec<_> = units.into_iter().zip(due_ns(cpus, weights)).collect();
        Self::new(title, cpus, machine, &due)
    }

    fn permille(&self) -> f64 {
        self.due_ns.abs_diff(self.got_ns) as f64 * 1000.0 / self.due_ns as f64
    }
}

fn mixed(count: usize) -> Vec<u32> {
    (0..count).map(|unit| [256, 512, 768, 1024][unit % 4]).collect()
}

fn beside_sleepers() -> Row {
    let mut machine = Machine::new(2);
    let sleep = Work::Sleep { run_ns: 200 * US, sleep_ns: 1800 * US };
    let sleepers: Vec<_> = (0..4).map(|_| machine.guest(weight(256), sleep)).collect();
    let computing: Vec<_> = (0..4).map(|_| machine.guest(weight(256), Work::Compute)).collect();
    let due = computing.into_iter().map(|unit| (unit, 400 * MS));
    let due = due.chain(sleepers.into_iter().map(|unit| (unit, 100 * MS))).collect::<Vec<_>>();
    Row::new("4 that compute, 4 that want 10 %", 2, machine, &due)
}

fn caps() -> Row {
    let mut machine = Machine::new(4);
    let mut due = Vec::new();
    for percent in [5, 25, 60, 90] {
        due.push((machine.guest(capped(percent), Work::Compute), u64::from(percent) * 10 * MS));
    }
    Row::new("caps of 5, 25, 60 and 90 %", 4, machine, &due)
}

fn beside_a_cap() -> Row {
    let mut machine = Machine::new(1);
    let held = machine.guest(capped(20), Work::Compute);
    let free = machine.guest(weight(256), Work::Compute);
    let due = [(held, 200 * MS), (free, 800 * MS)];
    Row::new("one with a cap of 20 %, one without", 1, machine, &due)
}

fn pinned() -> Row {
    let mut machine = Machine::new(4);
    let mut due = Vec::new();
    for cpu in 0..4 {
        for unit in 0..=cpu {
            let params = weight(if unit == 0 { 512 } else { 256 });
            let it = machine.guest_on(params, Work::Compute, CpuSet::one(cpu));
            let parts = cpu as u64 + 2;
            let part = if unit == 0 { 2 * SECOND / parts } else { SECOND / parts };
            due.push((it, if cpu == 0 { SECOND } else { part }));
        }
    }
    Row::new("1 to 4 pinned on each CPU, the first with 512", 4, machine, &due)
}

fn table() -> Vec<Row> {
    let ramp: Vec<u32> = (2..=17).map(|step| step * 64).collect();
    vec![
        Row::computing("equal", 1, &[256; 2]),
        Row::computing("weights 512, 256, 128", 1, &[512, 256, 128]),
        Row::computing("weights 4096 and 256", 1, &[4096, 256]),
        Row::computing("all of weight 1", 1, &[1; 10]),
        Row::computing("three on two", 2, &[256; 3]),
        Row::computing("one heavier than a CPU", 2, &[10_000, 256, 256, 256]),
        Row::computing("weights 128 to 1088", 4, &ramp),
        Row::computing("equal", 4, &[256; 64]),
        Row::computing("equal", 64, &[256; 70]),
        Row::computing("equal", 64, &[256; 256]),
        Row::computing("weights 256, 512, 768, 1024", 64, &mixed(256)),
        Row::computing("equal", 256, &[256; 300]),
        beside_sleepers(),
        pinned(),
        caps(),
        beside_a_cap(),
    ]
}

#[test]
fn shares_are_within_two_percent_over_a_second() {
    println!("| scenario | CPUs | units | due ms | got ms | off by | switches | moves |");
    println!("|---|---|---|---|---|---|---|---|");
    let rows = table();
    for row in &rows {
        let (due, got) = (row.due_ns as f64 / MS as f64, row.got_ns as f64 / MS as f64);
        let (percent, title) = (row.permille() / 10.0, row.title);
        println!(
            "| {title} | {} | {} | {due:.1} | {got:.1} | {percent:.2} % | {} | {} |",
            row.cpus, row.units, row.switches, row.moves
        );
    }
    for row in rows {
        assert!(row.permille() <= 20.0, "{} on {}", row.title, row.cpus);
    }
}

/// A share that is smaller than a few slices is off by no more than these.
#[test]
fn none_starves_however_many_there_are() {
    let mut machine = Machine::new(8);
    let units = (0..1000).map(|_| machine.guest(weight(256), Work::Compute));
    let units: Vec<_> = units.collect();
    machine.run(2 * SECOND);
    for unit in units {
        let got_ns = machine.runtime_ns(unit);
        assert!(got_ns.abs_diff(16 * MS) <= 4 * MS, "{got_ns}");
    }
}

#[test]
fn the_lightest_gets_its_part() {
    let mut machine = Machine::new(1);
    let light = machine.guest(weight(1), Work::Compute);
    let heavy = machine.guest(weight(255), Work::Compute);
    machine.run(10 * SECOND);
    let got_ns = machine.runtime_ns(light);
    assert!(got_ns.abs_diff(10 * SECOND / 256) <= 2 * MS, "{got_ns}");
    // The first interrupt takes its time.
    assert_eq!(got_ns + machine.runtime_ns(heavy), 10 * SECOND - US);
}

#[test]
fn a_domain_s_units_share_its_cap() {
    for cpus in [1, 2, 4] {
        let mut machine = Machine::new(cpus);
        let domain = machine.domain(capped(150));
        let work = |unit| match unit {
            0 => Work::Sleep { run_ns: 300 * US, sleep_ns: 5 * MS },
            _ => Work::Compute,
        };
        let affinity = Affinity::default();
        let units: Vec<_> = (0..4).map(|unit| machine.unit(domain, work(unit), affinity)).collect();
        let other = machine.guest(weight(64), Work::Compute);
        machine.run(SECOND);
        let got_ns: u64 = units.iter().map(|unit| machine.runtime_ns(*unit)).sum();
        // Four heavier ones beside a light one that takes its part, or what is left.
        let due_ns = [941 * MS, 1500 * MS, 1500 * MS][cpus / 2];
        assert!(got_ns.abs_diff(due_ns) <= 30 * MS, "{cpus}: {got_ns}");
        assert!(machine.runtime_ns(other) >= 50 * MS);
    }
}

#[test]
fn parameters_change_while_units_run() {
    let mut machine = Machine::new(1);
    let domain = machine.domain(weight(256));
    let unit = machine.unit(domain, Work::Compute, Affinity::default());
    machine.guest(weight(256), Work::Compute);
    let second = |machine: &mut Machine, params, due_ns: u64| {
        machine.scheduler.set_domain(domain, params, machine.now_ns);
        assert_eq!(machine.scheduler.domain(domain), params);
        machine.after_call();
        let before = machine.runtime_ns(unit);
        machine.run(SECOND);
        let got_ns = machine.runtime_ns(unit) - before;
        assert!(got_ns.abs_diff(due_ns) <= 10 * MS, "{params:?}: {got_ns}");
    };
    second(&mut machine, weight(768), 750 * MS);
    second(&mut machine, capped(10), 100 * MS);
    second(&mut machine, weight(256), 500 * MS);
}
