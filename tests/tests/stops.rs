//! Guests that end badly: the log says everything about them, and nothing else is disturbed.

use anyhow::ensure;
use serde_json::json;
use tests::{Backend, Guest, Result, Spec, on_both_backends, spec, start};

/// The guest's line before it does it.
const LAST_WORDS: &str = "TRIPLE FAULT next";

on_both_backends! {
    a_triple_fault_is_dumped_and_resets_the_guest,
    a_state_that_the_processor_refuses_is_dumped_and_ends_the_guest,
}

/// The lines that a dump of the backend's state has, in this order: from its first to its last.
fn dump(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Svm => &["intercepts cr", "nested cr3", "cr0 0x", "es ", "idtr "],
        Backend::Vmx => &[
            "PinControls(",
            "SecondaryControls(",
            "exit:",
            "ExitQualification",
            "guest:",
            "GuestRip",
            "controls:",
            "EptPointer",
            "host:",
            "HostRip",
        ],
    }
}

fn a_triple_fault_is_dumped_and_resets_the_guest(backend: Backend) -> Result<()> {
    let mut machine = start(&Spec { backend, memory_mib: 64, ..spec(Guest::TripleFault)? })?;
    machine.expect_serial(LAST_WORDS)?;
    machine.expect_serial("vCPU 0: triple fault: INIT")?;
    machine.expect_serial(match backend {
        Backend::Svm => "exit code 0x7f",
        Backend::Vmx => "exit reason 2 (triple fault), instruction error",
    })?;
    for text in dump(backend) {
        machine.expect_serial(text)?;
    }
    // Its next life, and the hypervisor's.
    machine.expect_serial(LAST_WORDS)?;
    machine.call("guest.destroy", json!({}))?;
    machine.expect_end()?;
    let text = machine.serial().text();
    ensure!(!text.contains("PANIC"), "the hypervisor panicked:\n{text}");
    Ok(())
}

fn a_state_that_the_processor_refuses_is_dumped_and_ends_the_guest(backend: Backend) -> Result<()> {
    // PG without PE, and NW without CD.
    const CR0: &str = "a0000010";
    let mut machine = start(&Spec { backend, memory_mib: 64, ..spec(Guest::Steps)? })?;
    machine.expect_serial("STEPS ready")?;
    machine.call("guest.pause", json!({}))?;
    machine.call("guest.set_register", json!({"name": "cr0", "value": CR0}))?;
    machine.call("guest.unpause", json!({}))?;
    if backend == Backend::Vmx {
        machine.expect_serial("VM entry failed: ")?;
        machine.expect_serial("27.3.1.1: paging needs protected mode")?;
    }
    machine.expect_serial("the CPU refused the guest's state")?;
    for text in dump(backend) {
        machine.expect_serial(text)?;
    }
    machine.expect_end()?;
    let text = machine.serial().text();
    ensure!(!text.contains("PANIC"), "the hypervisor panicked:\n{text}");
    Ok(())
}
