//! Tests that take minutes: clocks and reboots.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::{
    Guest, LINUX_MARKER, LINUX_PROMPT, Machine, Result, linux_for, shell, spec, start_for,
};

const PATIENCE: Duration = Duration::from_secs(1800);

/// How far a guest's clock may be off in a minute.
const DRIFT_S: f64 = 0.1;

/// The times of a guest's clocks, and the host's clock before and after they were asked: a busy
/// host makes that long.
struct Clocks {
    asked: Instant,
    /// Seconds since its start by its kernel's clock.
    uptime_s: f64,
    /// Seconds since 1970 by its real-time clock, which counts whole seconds.
    rtc_s: f64,
    answered: Instant,
}

impl Clocks {
    fn read(machine: &mut Machine) -> Result<Self> {
        let asked = Instant::now();
        let text =
            shell(machine, "cut -d ' ' -f 1 /proc/uptime; cat /sys/class/rtc/rtc0/since_epoch")?;
        let answered = Instant::now();
        let mut numbers = text.lines().map(str::parse::<f64>);
        let mut number = || Ok::<_, anyhow::Error>(numbers.next().context("no time")??);
        Ok(Self { asked, uptime_s: number()?, rtc_s: number()?, answered })
    }
}

#[test]
#[ignore = "slow: a minute"]
fn clocks_keep_time_over_a_minute() -> Result<()> {
    let mut machine = linux_for(&spec(Guest::LinuxAmd64)?, PATIENCE)?;
    let first = Clocks::read(&mut machine)?;
    machine.pause(Duration::from_secs(60));
    let last = Clocks::read(&mut machine)?;
    let least = last.asked.duration_since(first.answered).as_secs_f64() - DRIFT_S;
    let most = last.answered.duration_since(first.asked).as_secs_f64() + DRIFT_S;
    let (by_kernel, by_rtc) = (last.uptime_s - first.uptime_s, last.rtc_s - first.rtc_s);
    ensure!(
        (least..=most).contains(&by_kernel),
        "{by_kernel} s by the kernel's clock, {least} to {most} s here"
    );
    ensure!(
        (least - 1.0..=most + 1.0).contains(&by_rtc),
        "{by_rtc} s by the RTC, {least} to {most} s here"
    );
    Ok(())
}

/// The heap may vary by so much from boot to boot: requests and answers on their way.
const HEAP_SLACK_BYTES: u64 = 4096;

/// The hypervisor's memory: what it has not handed out, and what its own heap holds. A heap that
/// grew keeps what it took.
#[derive(Debug)]
struct HostMemory {
    free_bytes: u64,
    heap_bytes: u64,
}

impl HostMemory {
    fn now(machine: &mut Machine) -> Result<Self> {
        let stats = machine.stats()?;
        let bytes =
            |name: &str| stats[name].as_u64().with_context(|| format!("no {name} in guest.stats"));
        Ok(Self { free_bytes: bytes("host_free_bytes")?, heap_bytes: bytes("host_heap_bytes")? })
    }
}

#[test]
#[ignore = "slow: 20 boots"]
fn twenty_reboots_take_no_memory() -> Result<()> {
    let mut machine = start_for(&spec(Guest::LinuxAmd64Quiet)?, PATIENCE)?;
    let mut memory = Vec::new();
    for _ in 0..20 {
        machine.expect_serial(LINUX_MARKER)?;
        machine.expect_serial(LINUX_PROMPT)?;
        memory.push(HostMemory::now(&mut machine)?);
        machine.serial().write(b"reboot -f\n")?;
    }
    // The first boot touches what all of them use.
    let (second, last) = (&memory[1], &memory[19]);
    ensure!(last.free_bytes == second.free_bytes, "not all is free again: {memory:?}");
    ensure!(
        last.heap_bytes <= second.heap_bytes + HEAP_SLACK_BYTES,
        "the heap holds more and more: {memory:?}"
    );
    Ok(())
}
