//! Errors of the machine, which QEMU's monitor puts into a CPU's machine-check banks: those that
//! the hardware corrected, and those that a #MC tells of while a CPU sleeps in the hypervisor.
//! (QEMU delivers a #MC that comes while a guest runs to the guest, whatever the hypervisor
//! intercepts: that case is tested on the development host.)

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::{Guest, Machine, Result, Spec, spec, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// Valid, with an address: a memory read error on channel 1 that was corrected.
const CORRECTED: &str = "0x8400000000000091";
/// Valid, uncorrected, enabled, with an address, deferred, as AMD has it: nothing has used the data
/// yet.
const FOUND_BY_SCRUBBER: &str = "0xb4001000000000c1";
/// Valid, uncorrected, enabled, with an address; the processor's state may be wrong.
const CORRUPT: &str = "0xb600000000000135";
/// MCG_STATUS: what was interrupted can go on; a machine check is in progress.
const RESTART: &str = "0x5";

/// Puts an error into bank `bank` of CPU `cpu`; of one that is not corrected a #MC tells.
fn inject(machine: &mut Machine, cpu: u32, bank: u32, status: &str, global: &str) -> Result<()> {
    let line = format!("mce {cpu} {bank} {status} {global} 0x12345000 0x8c");
    let said = machine.host_control().call(
        "human-monitor-command",
        json!({ "command-line": line }),
        PATIENCE,
    )?;
    ensure!(said.as_str().is_none_or(|said| !said.contains("MCE")), "{line}: {said}");
    Ok(())
}

#[test]
fn errors_are_logged_and_only_one_that_corrupts_ends_the_machine() -> Result<()> {
    let mut machine = start(&Spec { smp: 2, ..spec(Guest::Input)? })?;
    machine.expect_serial("INPUT keys")?;
    // Each CPU looks at its banks now and then.
    for cpu in [0, 1] {
        inject(&mut machine, cpu, 2, CORRECTED, "0")?;
    }
    let line = "bank 2: memory error, read, channel 1: corrected";
    for _ in [0, 1] {
        machine.expect_serial(line)?;
        machine.expect_serial(&format!("status {CORRECTED}, address 0x12345000"))?;
    }
    for cpu in [0, 1] {
        ensure!(
            machine.serial().text().contains(&format!("machine check: CPU {cpu}, {line}")),
            "not CPU {cpu}"
        );
    }
    // Twice, since it must be cleared for another to be taken.
    for bank in [3, 4] {
        inject(&mut machine, 1, bank, FOUND_BY_SCRUBBER, RESTART)?;
        machine.expect_serial(&format!(
            "machine check: CPU 1, bank {bank}: memory error, scrubbing, channel 1"
        ))?;
        machine.expect_serial("uncorrected, not used yet")?;
    }
    // The guest has noticed nothing.
    machine.control().type_text("\u{1b}")?;
    machine.expect_serial("INPUT serial")?;
    machine.serial().write(b"word")?;
    machine.expect_serial("word in 4 interrupts")?;
    inject(&mut machine, 1, 5, CORRUPT, RESTART)?;
    machine.expect_serial("PANIC: #MC machine check")?;
    machine.expect_serial("machine check: bank 5: error in the data cache, level 1, data read")?;
    machine.expect_serial("the processor's state may be wrong")?;
    machine.expect_serial("Bulkhead has crashed; ")
}
