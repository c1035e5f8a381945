//! The MSRs of defences against speculative execution, by Bochs's log of writes: what the processor
//! loads at entries and exits, whatever the guest does.

use tests::{Backend, Guest, Result, Spec, spec, start, unless_stalled};
use xtask::paths;

const SPEC_CTRL: &str = "48";
const PRED_CMD: &str = "49";
const FLUSH_CMD: &str = "10b";

#[test]
fn each_entry_and_exit_switches_what_the_processor_needs() -> Result<()> {
    unless_stalled("each_entry_and_exit_switches_what_the_processor_needs", || {
        let writes = writes("speculation", "spec-ctrl=l1d-flush")?;
        // IBRS and BHI_DIS_S are on while the hypervisor runs; this guest sets neither.
        let controls = values(&writes, SPEC_CTRL);
        let (host, guest) = (Some(&0x401), Some(&0));
        assert_eq!(controls.first(), host, "when the CPU starts");
        for pair in controls[1..].chunks_exact(2) {
            assert_eq!((pair.first(), pair.last()), (guest, host));
        }
        let entries = controls.len() / 2;
        assert!(entries > 1000, "{entries} entries");
        let flushes = values(&writes, FLUSH_CMD);
        assert!(flushes.len().abs_diff(entries) <= 1, "{} flushes", flushes.len());
        assert!(flushes.iter().all(|&value| value == 1));
        assert_eq!(values(&writes, PRED_CMD), [1], "there is one guest");
        Ok(())
    })
}

#[test]
fn without_defences_none_of_the_registers_is_written() -> Result<()> {
    unless_stalled("without_defences_none_of_the_registers_is_written", || {
        let writes = writes("no-speculation", "spec-ctrl=no")?;
        assert!(!writes.is_empty());
        for msr in [SPEC_CTRL, PRED_CMD, FLUSH_CMD] {
            assert_eq!(values(&writes, msr), [0; 0], "{msr}");
        }
        Ok(())
    })
}

/// The values written to an MSR, oldest first.
fn values(writes: &[(String, u64)], msr: &str) -> Vec<u64> {
    writes.iter().filter(|(written, _)| written == msr).map(|&(_, value)| value).collect()
}

/// All writes of MSRs, by number and value, until the guest's BIOS has started it.
fn writes(name: &str, cmdline: &str) -> Result<Vec<(String, u64)>> {
    let log = paths::build(&format!("{name}.log"));
    let mut machine = start(&Spec {
        backend: Backend::Vmx,
        emulator: None,
        direct: false,
        cpu: Some("sapphire_rapids".to_owned()),
        cmdline: cmdline.to_owned(),
        memory_mib: 64,
        arguments: vec![
            format!("log: {}", log.display()),
            "debug: action=ignore, cpu0=report".to_owned(),
        ],
        ..spec(Guest::Ticks)?
    })?;
    machine.expect_serial("TICKING")?;
    drop(machine);
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    std::fs::remove_file(&log)?;
    Ok(text.lines().filter_map(write).collect())
}

/// From a line `... WRMSR: write HIGH:LOW to MSR NUMBER`.
fn write(line: &str) -> Option<(String, u64)> {
    let (_, text) = line.split_once("WRMSR: write ")?;
    let (value, msr) = text.split_once(" to MSR ")?;
    let value = u64::from_str_radix(&value.replace(':', ""), 16).ok()?;
    Some((msr.to_owned(), value))
}
