//! Small systems that live on the firmware: iPXE, GRUB's rescue CD, Memtest86+.

use std::time::Duration;

use tests::{Backend, Guest, Result, Spec, on_both_backends, spec, start, start_for};

on_both_backends! {
    ipxe_finds_no_bootable_device,
    the_grub_rescue_cd_answers,
    memtest_x64_begins_to_test,
    memtest_ia32_begins_to_test,
    #[ignore = "slow: a whole pass"]
    memtest_x64_passes,
    #[ignore = "slow: a whole pass"]
    memtest_ia32_passes,
}

fn ipxe_finds_no_bootable_device(backend: Backend) -> Result<()> {
    start(&Spec { backend, ..spec(Guest::Ipxe)? })?.expect("No bootable device.")
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

fn the_grub_rescue_cd_answers(backend: Backend) -> Result<()> {
    grub_answers(&Spec { backend, ..spec(Guest::GrubRescue)? })
}

#[test]
fn the_grub_rescue_cd_answers_on_epyc() -> Result<()> {
    grub_answers(&Spec { cpu: Some("EPYC".into()), ..spec(Guest::GrubRescue)? })
}

/// Both versions are in their first pass within seconds.
const BEGINNING: [&str; 2] = ["Memtest86+ v", "Status: Testing"];
const PASSED: [&str; 2] = ["Memtest86+ v", "Pass:  1"];
const WHOLE_PASS: Duration = Duration::from_secs(3600);

fn memtest(backend: Backend, guest: Guest, awaited: &[&str]) -> Result<()> {
    let memory_mib = match backend {
        Backend::Svm => 128,
        // Bochs takes its time.
        Backend::Vmx => 64,
    };
    let mut machine = start_for(&Spec { backend, memory_mib, ..spec(guest)? }, WHOLE_PASS)?;
    for text in awaited {
        machine.expect(text)?;
    }
    let screen = machine.control().screen_text()?.unwrap_or_default();
    anyhow::ensure!(screen.contains("Errors: 0"), "Memtest86+ found errors:\n{screen}");
    Ok(())
}

fn memtest_x64_begins_to_test(backend: Backend) -> Result<()> {
    memtest(backend, Guest::MemtestX64, &BEGINNING)
}

fn memtest_ia32_begins_to_test(backend: Backend) -> Result<()> {
    memtest(backend, Guest::MemtestIa32, &BEGINNING)
}

fn memtest_x64_passes(backend: Backend) -> Result<()> {
    memtest(backend, Guest::MemtestX64, &PASSED)
}

fn memtest_ia32_passes(backend: Backend) -> Result<()> {
    memtest(backend, Guest::MemtestIa32, &PASSED)
}
