//! The figures as a page.

use std::fmt::Write;

use clap::ValueEnum;

use super::guests::GuestCosts;
use super::{ExitCosts, Exits, Measured, pv};
use crate::emulator::Backend;

/// The targets for exits on AMD-V, in instructions: beginnings of names.
const EXIT_TARGETS: [(&str, f64); 9] = [
    ("cpuid", 400.0),
    ("rdmsr", 400.0),
    ("in 21h", 400.0),
    ("in 61h", 500.0),
    ("in 3FDh", 500.0),
    ("in CFCh", 500.0),
    ("local APIC", 900.0),
    ("HPET", 900.0),
    ("step", 6000.0),
];

/// The fields of the VMCS that an exit needs, read or written (docs/vmx.md): beginnings of names.
const VMCS_FIELDS: [(&str, f64); 8] = [
    ("cpuid", 7.0),
    ("rdmsr EFER", 8.0),
    ("rdmsr", 7.0),
    ("in ", 8.0),
    ("out ", 8.0),
    ("local APIC", 13.0),
    ("I/O APIC", 14.0),
    ("HPET", 14.0),
];

/// The cost that a field may have: VMREAD or VMWRITE with its operands, the look whether the value
/// is known, its note, and a share in what else only VT-x needs.
const INSTRUCTIONS_A_FIELD: f64 = 12.0;

/// The targets of a boot, against one without a hypervisor.
const BOOT_INSTRUCTIONS_RATIO: f64 = 1.5;
const BOOT_CPU_RATIO: f64 = 2.0;
const BOOT_EXITS: u64 = 25_000;
const FIRST_ENTRY_MS: f64 = 150.0;
const IMAGE_BYTES: u64 = 3 << 20;

/// The tables.
pub fn table(measured: &Measured) -> String {
    let mut text = String::new();
    let (direct, bulkhead) = (&measured.direct, &measured.bulkhead);
    let ratio = bulkhead.instructions as f64 / direct.instructions as f64;
    let mut by_total: Vec<&Exits> =
        measured.timed.iter().map(|(_, bulkhead)| &bulkhead.exits).collect();
    by_total.sort_by_key(|exits| total(exits));
    let exits = by_total.get(by_total.len() / 2).copied().unwrap_or(&bulkhead.exits);
    let mut ratios: Vec<f64> = measured
        .timed
        .iter()
        .map(|(direct, bulkhead)| bulkhead.cpu_seconds / direct.cpu_seconds)
        .collect();
    let mut direct_cpu: Vec<f64> =
        measured.timed.iter().map(|(direct, _)| direct.cpu_seconds).collect();
    let mut bulkhead_cpu: Vec<f64> =
        measured.timed.iter().map(|(_, bulkhead)| bulkhead.cpu_seconds).collect();
    let mut first: Vec<f64> =
        measured.timed.iter().filter_map(|(_, bulkhead)| bulkhead.first_entry_ms).collect();
    let mut rows = vec![(
        "boot to userspace, instructions",
        count(direct.instructions),
        count(bulkhead.instructions),
        format!("{ratio:.2}"),
        at_most(ratio, BOOT_INSTRUCTIONS_RATIO, &times(BOOT_INSTRUCTIONS_RATIO)),
    )];
    if measured.timed.is_empty() {
        first.extend(bulkhead.first_entry_ms);
        let exits = count(total(exits));
        rows.push(("boot to userspace, exits", "0".into(), exits, String::new(), String::new()));
    } else {
        let cpu_ratio = median(&mut ratios);
        rows.extend([
            (
                "boot to userspace, CPU seconds (medians)",
                format!("{:.1}", median(&mut direct_cpu)),
                format!("{:.1}", median(&mut bulkhead_cpu)),
                format!("{cpu_ratio:.2}"),
                at_most(cpu_ratio, BOOT_CPU_RATIO, &times(BOOT_CPU_RATIO)),
            ),
            (
                "boot to userspace, exits (median)",
                "0".into(),
                count(total(exits)),
                String::new(),
                count_at_most(total(exits), BOOT_EXITS),
            ),
            (
                "the same under -icount",
                "0".into(),
                count(total(&bulkhead.exits)),
                String::new(),
                String::new(),
            ),
        ]);
    }
    let first_ms = median(&mut first);
    rows.extend([
        (
            "guest's first instruction after the image's entry",
            String::new(),
            format!("{first_ms:.0} ms"),
            String::new(),
            at_most(first_ms, FIRST_ENTRY_MS, &format!("{FIRST_ENTRY_MS:.0} ms")),
        ),
        (
            "image size, bytes",
            String::new(),
            count(measured.image_bytes),
            String::new(),
            count_at_most(measured.image_bytes, IMAGE_BYTES),
        ),
    ]);
    text += "| | no hypervisor | Bulkhead | ratio | at most |\n|---|---|---|---|---|\n";
    for (name, direct, bulkhead, ratio, target) in rows {
        _ = writeln!(text, "| {name} | {direct} | {bulkhead} | {ratio} | {target} |");
    }
    text += "\nExits of that boot (of the median one), by reason:\n\n| exit | count |\n|---|---|\n";
    let mut by_count: Vec<_> = exits.iter().filter(|(_, count)| **count > 0).collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, exits) in by_count {
        _ = writeln!(text, "| {name} | {} |", count(*exits));
    }
    text += "\nAn exit's round trip as the guest sees it, in instructions, with the loop around it:
the quickest of 16 rounds of 250.\n\n";
    text += match measured.backend {
        Backend::Svm => "| exit | no hypervisor | Bulkhead | at most |\n|---|---|---|---|\n",
        Backend::Vmx => {
            "| exit | no hypervisor | AMD-V | fields | Bulkhead | at most |\n|---|---|---|---|---|---|\n"
        }
    };
    for (name, cost) in &measured.bulkhead_exits {
        let direct = figure(cost_of(&measured.direct_exits, name));
        _ = match measured.backend {
            Backend::Svm => {
                let target = exit_at_most(*cost, beginning_of(name, &EXIT_TARGETS));
                writeln!(text, "| {name} | {direct} | {cost:.0} | {target} |")
            }
            Backend::Vmx => {
                let (amd, fields) =
                    (cost_of(&measured.amd_exits, name), beginning_of(name, &VMCS_FIELDS));
                let target =
                    amd.zip(fields).map(|(amd, fields)| amd + fields * INSTRUCTIONS_A_FIELD);
                // Steps take many entries, each with fields of its own.
                let target =
                    target.or(beginning_of(name, &EXIT_TARGETS).filter(|_| fields.is_none()));
                let target = exit_at_most(*cost, target);
                let (amd, fields) = (figure(amd), figure(fields));
                writeln!(text, "| {name} | {direct} | {amd} | {fields} | {cost:.0} | {target} |")
            }
        };
    }
    text +=
        "\nAll that is without defences against speculative execution (`spec-ctrl=no`). An exit,
CPUID's for one, takes so much more with each of them that is instructions of the hypervisor's, and
that this emulator's processor has; what the processor does by itself takes time that no emulator
shows (docs/security.md).\n\n| defence | instructions |\n|---|---|\n";
    for (name, added) in &measured.defences {
        _ = writeln!(text, "| {name} | {added:.0} |");
    }
    text += &measured.guest.map_or_else(String::new, |costs| guest_table(&costs));
    text + &measured.pv.as_ref().map_or_else(String::new, pv::tables)
}

/// The most instructions for making a guest or for ending it: 5 ms at one a nanosecond.
const LIFE_INSTRUCTIONS: u64 = 5_000_000;
const GUEST_HEAP_KIB: u64 = 512;
const VCPU_KIB: u64 = 40;

fn guest_table(costs: &GuestCosts) -> String {
    let mut text = "\nA guest of 512 MiB with one vCPU that is made and destroyed beside one that
runs, and what it takes of the hypervisor's memory beside RAM, video memory, ROM and page tables.\n\n| | Bulkhead | at most |\n|---|---|---|\n"
        .to_owned();
    let kib = |bytes: u64| bytes.div_ceil(1024);
    for (name, cost, target) in [
        ("until its first instruction, instructions", costs.create_instructions, LIFE_INSTRUCTIONS),
        (
            "until all of it is given back, instructions",
            costs.destroy_instructions,
            LIFE_INSTRUCTIONS,
        ),
        ("heap, KiB", kib(costs.heap_bytes), GUEST_HEAP_KIB),
        ("each further vCPU, heap and frames, KiB", kib(costs.vcpu_bytes), VCPU_KIB),
    ] {
        _ = writeln!(text, "| {name} | {} | {} |", count(cost), count_at_most(cost, target));
    }
    text
}

/// A table's entry for a name.
fn beginning_of(name: &str, table: &[(&str, f64)]) -> Option<f64> {
    table.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|&(_, value)| value)
}

/// The cell of a limit, as it is `shown`: a row that does not keep to it says so.
fn at_most(measured: f64, limit: f64, shown: &str) -> String {
    format!("{shown}{}", missed(measured <= limit))
}

fn count_at_most(measured: u64, limit: u64) -> String {
    format!("{}{}", count(limit), missed(measured <= limit))
}

/// Nothing if the exit has no limit.
fn exit_at_most(cost: f64, limit: Option<f64>) -> String {
    limit.map_or_else(String::new, |limit| at_most(cost, limit, &format!("{limit:.0}")))
}

fn times(limit: f64) -> String {
    format!("{limit:.1} times")
}

/// The mark of a goal that was not reached.
pub(super) const fn missed(is_reached: bool) -> &'static str {
    if is_reached { "" } else { ": missed" }
}

/// Nothing if there is none.
fn figure(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| format!("{number:.0}"))
}

const INTRODUCTION: &str = "# Performance

Written by `make bench` (`cargo xtask bench`), a section for each backend:
`make bench BACKEND=vmx` measures anew what is below \"VT-x in Bochs\" and leaves the rest. The
guest is the ISO `linux-amd64-quiet` (Debian's cloud kernel with BusyBox), one vCPU, 512 MiB:
without a hypervisor in the emulator's own i440FX machine, and under Bulkhead. The guest's
time-stamp counter counts the instructions that were executed by the guest and by everything
beneath it; it starts at zero with the virtual machine, BIOS included.
";

/// A backend's heading, and how its figures were measured.
const fn method(backend: Backend) -> (&'static str, &'static str) {
    match backend {
        Backend::Svm => (
            "AMD-V in QEMU",
            "Instructions are counted by `-icount shift=0,sleep=off`, repeatably. CPU time is QEMU's
own, from its start to the guest's userspace, so it includes the hypervisor's start. Exits are those
of the timed boots: how often Linux polls the PIT while it calibrates its clocks depends on how long
a read takes, and under `-icount` an exit takes a few hundred nanoseconds of the guest's time, so
that it polls some 17,000 times.",
        ),
        Backend::Vmx => (
            "VT-x in Bochs",
            "Bochs's clock is its count of instructions (`clock: sync=none`): one moves the
time-stamp counter on by one tick, each repetition of a string instruction too, and 50 million are a
second. A CPU that sleeps in HLT moves it on as well, without executing anything, as does one that
waits in a loop for a time to come. Each boot is therefore done twice, the second time with 100
million to the second. A wait for a moment then takes twice the ticks and all else the same, so
that twice the first count less the second is what was executed without waiting. Without a
hypervisor the BIOS is Bochs's own; under Bulkhead it is SeaBIOS. There are no CPU times, because
most of Bochs's is GRUB reading the modules; the milliseconds are Bochs's own. At this speed the
boot lasts half a minute of the guest's time, in which its timers and the host's ring more often
than on AMD-V above. An exit may take what it takes on AMD-V in the same emulator (Bochs has
next-RIP save, QEMU does not), and 12 for each field of the VMCS that it needs, read or written
(docs/vmx.md): the VMREAD or VMWRITE with its operands, the look whether the value is known, its
note, and a share in what else only VT-x needs.",
        ),
    }
}

/// `docs/performance.md`: what it was, with `backend`'s part written anew.
pub fn page(old: &str, backend: Backend, table: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    for &other in Backend::value_variants() {
        let (heading, method) = method(other);
        let section = if other == backend {
            Some(format!("{method}\n\n{table}"))
        } else {
            section(old, heading)
        };
        if let Some(section) = section {
            _ = write!(page, "\n## {heading}\n\n{}\n", section.trim());
        }
    }
    page
}

/// The text below a heading of a page.
fn section(page: &str, heading: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n"))?;
    Some(rest.split("\n## ").next()?.to_owned())
}

pub(super) fn total(exits: &Exits) -> u64 {
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
pub(super) fn count(number: u64) -> String {
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
    use super::super::{Boot, ExitCosts, Exits, Measured};
    use crate::emulator::Backend;

    /// With nothing else measured than exits.
    fn measured(backend: Backend, bulkhead_exits: ExitCosts) -> Measured {
        let boot = |first_entry_ms| Boot { instructions: 10, exits: Exits::new(), first_entry_ms };
        Measured {
            backend,
            image_bytes: 1,
            direct: boot(None),
            bulkhead: boot(Some(1.0)),
            timed: Vec::new(),
            direct_exits: ExitCosts::new(),
            bulkhead_exits,
            amd_exits: ExitCosts::new(),
            defences: vec![("VERW".to_owned(), 1.0)],
            guest: None,
            pv: None,
        }
    }

    #[test]
    fn an_exit_on_vt_x_may_take_what_it_takes_on_amd_v_and_its_fields() {
        let costs = |cost| vec![("nothing".to_owned(), 3.0), ("in 21h (PIC)".to_owned(), cost)];
        let measured = Measured {
            direct_exits: costs(3.0),
            amd_exits: costs(342.0),
            ..measured(Backend::Vmx, costs(421.0))
        };
        let table = super::table(&measured);
        assert!(table.contains("| in 21h (PIC) | 3 | 342 | 8 | 421 | 438 |\n"), "{table}");
        assert!(table.contains("| nothing | 3 | 3 |  | 3 |  |\n"), "{table}");
        assert!(table.ends_with("| VERW | 1 |\n"), "{table}");
    }

    #[test]
    fn a_row_that_misses_its_target_says_so() {
        let costs = vec![("cpuid".to_owned(), 401.0), ("in 21h (PIC)".to_owned(), 400.0)];
        let guest = super::GuestCosts {
            create_instructions: 5_000_001,
            destroy_instructions: 5_000_000,
            heap_bytes: 512 << 10,
            vcpu_bytes: (40 << 10) + 1,
        };
        let measured = Measured {
            image_bytes: (3 << 20) + 1,
            bulkhead: Boot { instructions: 16, exits: Exits::new(), first_entry_ms: Some(150.5) },
            guest: Some(guest),
            ..measured(Backend::Svm, costs)
        };
        let table = super::table(&measured);
        for row in [
            "| boot to userspace, instructions | 10 | 16 | 1.60 | 1.5 times: missed |\n",
            "|  | 150 ms |  | 150 ms: missed |\n",
            "|  | 3,145,729 |  | 3,145,728: missed |\n",
            "| cpuid |  | 401 | 400: missed |\n",
            "| in 21h (PIC) |  | 400 | 400 |\n",
            "| 5,000,001 | 5,000,000: missed |\n",
            "| 5,000,000 | 5,000,000 |\n",
            "| 512 | 512 |\n",
            "| 41 | 40: missed |\n",
        ] {
            assert!(table.contains(row), "{row}\n{table}");
        }
    }

    #[test]
    fn a_backend_leaves_the_other_ones_section() {
        let svm = super::page("", Backend::Svm, "| old svm |\n");
        let both = super::page(&svm, Backend::Vmx, "| vmx |\n");
        let again = super::page(&both, Backend::Svm, "| new svm |\n");
        assert!(
            again.contains("| new svm |")
                && again.contains("| vmx |")
                && !again.contains("| old svm |")
        );
        assert_eq!(super::page(&again, Backend::Vmx, "| vmx |\n"), again);
    }

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
