//! The figures as a page.

use std::fmt::Write;

use super::{ExitCosts, Exits, Measured};

/// What to reach for an exit, in instructions: beginnings of names.
const EXIT_TARGETS: [(&str, f64); 8] = [
    ("cpuid", 400.0),
    ("rdmsr", 400.0),
    ("in 21h", 400.0),
    ("in 61h", 500.0),
    ("in 3FDh", 500.0),
    ("in CFCh", 500.0),
    ("local APIC", 900.0),
    ("HPET", 900.0),
];

/// The tables.
pub fn table(measured: &Measured) -> String {
    let mut text = String::new();
    let (direct, bulkhead) = (&measured.direct, &measured.bulkhead);
    let ratio = bulkhead.instructions as f64 / direct.instructions as f64;
    let mut by_total: Vec<&Exits> = measured.timed.iter().map(|(_, bulkhead)| &bulkhead.exits).collect();
    by_total.sort_by_key(|exits| total(exits));
    let nothing = Exits::new();
    let exits = by_total.get(by_total.len() / 2).copied().unwrap_or(&nothing);
    let mut ratios: Vec<f64> =
        measured.timed.iter().map(|(direct, bulkhead)| bulkhead.cpu_seconds / direct.cpu_seconds).collect();
    let mut direct_cpu: Vec<f64> = measured.timed.iter().map(|(direct, _)| direct.cpu_seconds).collect();
    let mut bulkhead_cpu: Vec<f64> =
        measured.timed.iter().map(|(_, bulkhead)| bulkhead.cpu_seconds).collect();
    let mut first: Vec<f64> =
        measured.timed.iter().filter_map(|(_, bulkhead)| bulkhead.first_entry_ms).collect();
    let rows = [
        (
            "boot to userspace, instructions",
            count(direct.instructions),
            count(bulkhead.instructions),
            format!("{ratio:.2}"),
            "1.5 times",
        ),
        (
            "boot to userspace, CPU seconds (medians)",
            format!("{:.1}", median(&mut direct_cpu)),
            format!("{:.1}", median(&mut bulkhead_cpu)),
            format!("{:.2}", median(&mut ratios)),
            "2.0 times",
        ),
        ("boot to userspace, exits (median)", "0".into(), count(total(exits)), String::new(), "25,000"),
        ("the same under -icount", "0".into(), count(bulkhead.exits), String::new(), ""),
        (
            "guest's first instruction after the image's entry (median)",
            String::new(),
            format!("{:.0} ms", median(&mut first)),
            String::new(),
            "150 ms",
        ),
        ("image size, bytes", String::new(), count(measured.image_bytes), String::new(), "2,097,152"),
    ];
    text += "| | no hypervisor | Bulkhead | ratio | at most |\n|---|---|---|---|---|\n";
    for (name, direct, bulkhead, ratio, target) in rows {
        _ = writeln!(text, "| {name} | {direct} | {bulkhead} | {ratio} | {target} |");
    }
    text += "\nExits of the median boot, by reason:\n\n| exit | count |\n|---|---|\n";
    let mut by_count: Vec<_> = exits.iter().filter(|(_, count)| **count > 0).collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, exits) in by_count {
        _ = writeln!(text, "| {name} | {} |", count(*exits));
    }
    text += "\nAn exit's round trip as the guest sees it, in instructions, with the loop around it:\n\n";
    text += "| exit | no hypervisor | Bulkhead | at most |\n|---|---|---|---|\n";
    for (name, cost) in &measured.bulkhead_exits {
        let direct =
            cost_of(&measured.direct_exits, name).map_or_else(String::new, |cost| format!("{cost:.0}"));
        let target = EXIT_TARGETS.iter().find(|(beginning, _)| name.starts_with(beginning));
        let target = target.map_or_else(String::new, |(_, most)| format!("{most:.0}"));
        _ = writeln!(text, "| {name} | {direct} | {cost:.0} | {target} |");
    }
    text
}

/// `docs/performance.md`.
pub fn page(table: &str) -> String {
    format!(
        "# Performance

Written by `make bench` (`cargo xtask bench`). The guest is the ISO `linux-amd64-quiet` (Debian's cloud kernel with
BusyBox), one vCPU, 512 MiB, under QEMU's TCG: without a hypervisor in QEMU's own i440FX machine, and under Bulkhead on
emulated AMD-V. Instructions are counted by `-icount shift=0,sleep=off`, under which the guest's time-stamp counter counts what
was executed by the guest and by everything beneath it, repeatably; it starts at zero with the virtual machine, BIOS
included. CPU time is QEMU's own, from its start to the guest's userspace, so it includes the hypervisor's start. Exits are those of
the timed boots: how often Linux polls the PIT while it calibrates its clocks depends on how long a read takes, and under
`-icount` an exit takes a few hundred nanoseconds of the guest's time, so that it polls some 17,000 times.

{table}"
    )
}

fn total(exits: &Exits) -> u64 {
    exits.values().sum()
}

fn cost_of(costs: &ExitCosts, wanted: &str) -> Option<f64> {
    costs.iter().find(|(name, _)| name == wanted).map(|(_, cost)| *cost)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// With commas between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_have_commas() {
        assert_eq!([0, 999, 1000, 2_097_152].map(super::count), ["0", "999", "1,000", "2,097,152"]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(super::median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(super::median(&mut []).is_nan());
    }
}
