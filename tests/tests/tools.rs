//! Small systems that live on the firmware: iPXE, GRUB's rescue CD, Memtest86+.

use std::time::Duration;

use tests::{Guest, Result, Spec, spec, start, start_for};

#[test]
fn ipxe_finds_no_bootable_device() -> Result<()> {
    start(&spec(Guest::Ipxe)?)?.expect("No bootable device.")
}

/// GRUB shows its menu, takes a key, and its command line answers.
fn grub_answers(spec: &Spec) -> Result<()> {
    let mut machine = start(spec)?;
    machine.expect("GNU GRUB")?;
    machine.control().type_text("c")?;
    machine.expect("grub>")?;
    machine.control().type_text("echo $grub_platform-$grub_cpu\n")?;
    machine.expect("pc-i386")
}

#[test]
fn the_grub_rescue_cd_answers() -> Result<()> {
    grub_answers(&spec(Guest::GrubRescue)?)
}

#[test]
fn the_grub_rescue_cd_answers_on_epyc() -> Result<()> {
    grub_answers(&Spec { cpu: Some("EPYC".into()), ..spec(Guest::GrubRescue)? })
}

fn memtest(guest: Guest, awaited: &[&str], patience: Duration) -> Result<()> {
    let mut machine = start_for(&Spec { memory_mib: 128, ..spec(guest)? }, patience)?;
    for text in awaited {
        machine.expect(text)?;
    }
    let screen = machine.control().screen_text()?.unwrap_or_default();
    anyhow::ensure!(screen.contains("Errors: 0"), "Memtest86+ found errors:\n{screen}");
    Ok(())
}

#[test]
fn memtest_x64_begins_to_test() -> Result<()> {
    memtest(Guest::MemtestX64, &["Memtest86+ v", "Status: Testing"], tests::PATIENCE)
}

#[test]
fn memtest_ia32_begins_to_test() -> Result<()> {
    memtest(Guest::MemtestIa32, &["Memtest86+ v", "Status: Testing"], tests::PATIENCE)
}

const WHOLE_PASS: Duration = Duration::from_secs(3600);

#[test]
#[ignore = "slow: a whole pass over 128 MiB"]
fn memtest_x64_passes() -> Result<()> {
    memtest(Guest::MemtestX64, &["Memtest86+ v", "Pass:  1"], WHOLE_PASS)
}

#[test]
#[ignore = "slow: a whole pass over 128 MiB"]
fn memtest_ia32_passes() -> Result<()> {
    memtest(Guest::MemtestIa32, &["Memtest86+ v", "Pass:  1"], WHOLE_PASS)
}
