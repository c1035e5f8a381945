//! A guest that is paused, stepped through and caught, from the prompt and the management port.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{Backend, Guest, Machine, Result, Spec, on_both_backends, spec, start};
use xtask::emulator::qemu;

const READY: &str = "STEPS ready";
const RIGHT: &str = "STEPS right";

on_both_backends! {
    a_paused_guest_is_stepped_through_and_does_not_notice,
    each_access_to_a_register_of_descriptors_pauses_the_guest
}

/// The guest's instructions from its CLI on, to the end of its interrupt's handler. CLC is left
/// out: it may be one step with POP SS and with STI before it.
const SEQUENCE: [&str; 7] = [
    "cli pushf pop or xor cpuid in out inc int",
    // Its handler.
    "push mov mov or inc pop iret ud2",
    // Its handler.
    "push mov add mov or inc pop iret pushf popf",
    "push pop mov mov rep rep rep",
    // The interrupt comes behind one more instruction.
    "sti cmc",
    "push mov out inc pop iret",
    "cmc inc sti",
];

/// The same as one text. In QEMU 10 (`do_gen_rep`) the last repetition goes back to the instruction
/// while the trap flag is set, so that there is one step more.
fn sequence(backend: Backend) -> Result<String> {
    let sequence = SEQUENCE.join(" ");
    if backend == Backend::Svm && qemu::major_version()? == 10 {
        return Ok(sequence.replace("rep rep rep", "rep rep rep rep"));
    }
    Ok(sequence)
}

/// The mnemonics of the instructions of `count` steps.
fn steps(machine: &mut Machine, count: u32) -> Result<Vec<String>> {
    let answer = machine.call("guest.step", json!({"count": count}))?;
    ensure!(answer["end"].is_null(), "{answer}");
    let steps = answer["steps"].as_array().context("no steps")?;
    ensure!(steps.len() == count as usize, "{answer}");
    let mnemonic =
        |step: &Value| step["text"].as_str()?.split_whitespace().next().map(str::to_owned);
    steps.iter().map(mnemonic).collect::<Option<_>>().context("a step without text")
}

fn state(machine: &mut Machine) -> Result<Value> {
    Ok(machine.stats()?["state"].clone())
}

fn a_paused_guest_is_stepped_through_and_does_not_notice(backend: Backend) -> Result<()> {
    let mut machine = start(&Spec { backend, memory_mib: 64, ..spec(Guest::Steps)? })?;
    machine.expect_serial(READY)?;
    // At the prompt, in the loop that waits for a byte.
    machine.serial().write(b"\x01\x01\x01")?;
    machine.expect_serial("bulkhead> ")?;
    machine.serial().write(b"pause\r")?;
    machine.expect_serial("0000:7")?;
    ensure!(state(&mut machine)? == "paused");
    machine.serial().write(b"step 4\r")?;
    machine.expect_serial("in al,dx")?;
    machine.expect_serial("test al,1")?;
    machine.expect_serial("bulkhead> ")?;
    // Nothing moves meanwhile.
    let registers = machine.call("guest.registers", json!({}))?;
    ensure!(registers == machine.call("guest.registers", json!({}))?);
    machine.call("serial.write", json!({"text": "x"}))?;
    let mut seen = Vec::new();
    while seen.iter().all(|step| step != "cli") {
        ensure!(!machine.time_left().is_zero(), "no CLI in {seen:?}");
        seen.extend(steps(&mut machine, 10)?);
    }
    seen.extend(steps(&mut machine, 60)?);
    let begin = seen.iter().position(|step| step == "cli").context("no CLI")?;
    let seen: Vec<&str> =
        seen[begin..].iter().map(String::as_str).filter(|&step| step != "clc").collect();
    let (seen, sequence) = (seen.join(" "), sequence(backend)?);
    ensure!(seen.starts_with(&sequence), "it did\n{seen}\nand not\n{sequence}");
    machine.call("guest.unpause", json!({}))?;
    machine.expect_serial(RIGHT)?;
    ensure!(state(&mut machine)? != "paused");
    machine.call("guest.destroy", json!({}))?;
    machine.expect_end()?;
    Ok(())
}

/// The guest's accesses, in their order.
const ACCESSES: [(&str, &str); 8] = [
    ("a load of GDTR", "lgdt"),
    ("a load of IDTR", "lidt"),
    ("a load of LDTR", "lldt"),
    ("a load of TR", "ltr"),
    ("a store of GDTR", "sgdt"),
    ("a store of IDTR", "sidt"),
    ("a store of LDTR", "sldt"),
    ("a store of TR", "str"),
];
const TASK_SELECTOR: &str = "0x20";

fn each_access_to_a_register_of_descriptors_pauses_the_guest(backend: Backend) -> Result<()> {
    let mut machine = start(&Spec { backend, memory_mib: 64, ..spec(Guest::Descriptors)? })?;
    machine.expect_serial("DESCRIPTORS ready")?;
    machine.serial().write(b"\x01\x01\x01")?;
    machine.expect_serial("bulkhead> ")?;
    machine.serial().write(b"catch tables\r")?;
    machine.expect_serial("bulkhead> ")?;
    machine.call("serial.write", json!({"text": "x"}))?;
    for (access, mnemonic) in ACCESSES {
        machine.expect_serial(&format!("paused before {access}: "))?;
        machine.expect_serial(mnemonic)?;
        ensure!(state(&mut machine)? == "paused", "{access}");
        if access == "a load of TR" {
            // It is not done yet, and a step does it.
            let before = machine.call("guest.registers", json!({}))?["tr"].clone();
            ensure!(steps(&mut machine, 1)? == [mnemonic]);
            let after = machine.call("guest.registers", json!({}))?["tr"].clone();
            ensure!(before != TASK_SELECTOR && after == TASK_SELECTOR, "TR {before}, then {after}");
        }
        machine.serial().write(b"unpause\r")?;
    }
    machine.expect_serial("DESCRIPTORS right")?;
    let exits = machine.stats()?["exits"]["descriptor table"].clone();
    ensure!(exits == ACCESSES.len(), "{exits} exits");
    machine.call("guest.destroy", json!({}))?;
    machine.expect_end()?;
    Ok(())
}
