//! The cost of a guest by itself: making it, ending it, and the memory that it takes beside its
//! own.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::PATIENCE;
use crate::emulator::Spec;
use crate::guests::Guest;
use crate::machine::Machine;
use crate::paths;

/// The cost of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuestCosts {
    /// From the reading of its configuration to its first instruction.
    pub create_instructions: u64,
    /// From its stop until all of it is given back.
    pub destroy_instructions: u64,
    /// The heap that it takes with one virtual CPU.
    pub heap_bytes: u64,
    /// Heap and frames that each further virtual CPU takes.
    pub vcpu_bytes: u64,
}

/// The virtual CPUs of the guest by which the memory of one is found.
const MANY: u64 = 9;

/// The machine's memory.
const MACHINE_MIB: &str = "1024";

/// Memory of the hypervisor's.
#[derive(Clone, Copy)]
struct InUse {
    free_bytes: u64,
    heap_bytes: u64,
}

/// Measures it on the machine of `spec`, whose clock counts instructions, beside a guest that runs.
pub(super) fn guest_costs(spec: &Spec) -> Result<GuestCosts> {
    let folder = paths::empty_build_folder("bench")?;
    let config = |name: &str, memory_mib: u32, vcpus: u64, autostart: u32| -> Result<_> {
        let path = folder.join(format!("{name}.cfg"));
        let disk = format!("{}.iso,raw,hdc,ro,cdrom", Guest::Patterns.name());
        let text = format!(
            "type = 'hvm'\nname = '{name}'\nmemory = {memory_mib}\nvcpus = {vcpus}\n\
             autostart = {autostart}\ndisk = [ '{disk}' ]\n"
        );
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let spec = Spec {
        iso: Some(Guest::Patterns.iso()?),
        config: Some(config("runs", 16, 1, 1)?),
        disks: vec![config("one", 512, 1, 0)?, config("many", 512, MANY, 0)?],
        // Otherwise the machine has what the first guest takes.
        arguments: ["-m", MACHINE_MIB].map(str::to_owned).to_vec(),
        ..spec.clone()
    };
    let mut machine = Machine::start(&spec, false, PATIENCE, Vec::new())?;
    machine.expect_serial("KEPT")?;
    // The heap grows for the first ones, and keeps what it took.
    live(&mut machine, "many")?;
    let (before, with_one) = live(&mut machine, "one")?;
    let log = machine.serial().text();
    let (_, with_many) = live(&mut machine, "many")?;
    let heap_bytes = with_one.heap_bytes.saturating_sub(before.heap_bytes);
    let more_heap = with_many.heap_bytes.saturating_sub(with_one.heap_bytes);
    let more_frames = with_one.free_bytes.saturating_sub(with_many.free_bytes);
    Ok(GuestCosts {
        create_instructions: create_us(&log, "one").context("no line of its start")? * 1000,
        destroy_instructions: destroy_us(&log, "one").context("no line of its end")? * 1000,
        heap_bytes,
        vcpu_bytes: (more_heap + more_frames) / (MANY - 1),
    })
}

/// Makes a guest and destroys it. Returns the memory in use without it and with it.
fn live(machine: &mut Machine, name: &str) -> Result<(InUse, InUse)> {
    let before = in_use(machine)?;
    let made =
        machine.call("guest.create", json!({ "config": Path::new(name).with_extension("cfg") }))?;
    machine.expect_serial(&format!("{name}: first instruction"))?;
    let with_it = in_use(machine)?;
    machine.call("guest.destroy", json!({ "guest": made["number"] }))?;
    machine.expect_serial(&format!("{name}: destroyed: Destroy"))?;
    machine.expect_serial("\n")?;
    Ok((before, with_it))
}

fn in_use(machine: &mut Machine) -> Result<InUse> {
    let stats = machine.call("guest.stats", json!({ "guest": "runs" }))?;
    let bytes = |name: &str| stats[name].as_u64().with_context(|| format!("no {name}"));
    Ok(InUse { free_bytes: bytes("host_free_bytes")?, heap_bytes: bytes("host_heap_bytes")? })
}

/// The time stamp of the first line of the log that has `text`, in microseconds.
fn stamp_us(log: &str, text: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains(text))?;
    let (stamp, _) = line.split_once('[')?.1.split_once(']')?;
    let (seconds, microseconds) = stamp.trim().split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + microseconds.parse::<u64>().ok()?)
}

fn create_us(log: &str, name: &str) -> Option<u64> {
    let begin = stamp_us(log, &format!("] {name}: 512 MiB"))?;
    stamp_us(log, &format!("] {name}: first instruction"))?.checked_sub(begin)
}

/// From the line "NAME: destroyed: Destroy, taken apart in N us; ...".
fn destroy_us(log: &str, name: &str) -> Option<u64> {
    let (_, rest) = log.split_once(&format!("] {name}: destroyed: Destroy, taken apart in "))?;
    rest.split_once(" us")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_those_of_the_log() {
        let log = "[    1.999990] one: 512 MiB, 1 vCPU, AMD-V\n\
                   [    2.001665] one: first instruction 2001665 us after the image was entered\n\
                   [    2.500000] one: destroyed: Destroy, taken apart in 812 us; 7 KiB free\n";
        assert_eq!(super::create_us(log, "one"), Some(1675));
        assert_eq!(super::destroy_us(log, "one"), Some(812));
        assert_eq!(super::create_us(log, "two").or(super::destroy_us(log, "two")), None);
    }
}
