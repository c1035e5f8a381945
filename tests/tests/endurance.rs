//! What takes minutes: clocks and reboots.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::{Guest, LINUX_MARKER, LINUX_PROMPT, Machine, Result, linux_for, shell, spec, start_for};

const PATIENCE: Duration = Duration::from_secs(1800);

/// Seconds since the guest's start by its kernel's clock, and since 1970 by its real-time clock.
fn clocks(machine: &mut Machine) -> Result<(f64, f64)> {
    let text = shell(machine, "cut -d ' ' -f 1 /proc/uptime; cat /sys/class/rtc/rtc0/since_epoch")?;
    let mut numbers = text.lines().map(str::parse::<f64>);
    let mut number = || Ok::<_, anyhow::Error>(numbers.next().context("no time")??);
    Ok((number()?, number()?))
}

#[test]
#[ignore = "slow: a minute"]
fn clocks_keep_time_over_a_minute() -> Result<()> {
    let mut machine = linux_for(&spec(Guest::LinuxAmd64)?, PATIENCE)?;
    let (started, (uptime, rtc)) = (Instant::now(), clocks(&mut machine)?);
    machine.pause(Duration::from_secs(60));
    let (elapsed, (uptime_later, rtc_later)) = (started.elapsed().as_secs_f64(), clocks(&mut machine)?);
    let (by_kernel, by_rtc) = (uptime_later - uptime, rtc_later - rtc);
    // A busy host delays the reading, and the real-time clock counts whole seconds.
    ensure!((by_kernel - elapsed).abs() < 2.0, "{by_kernel} s passed for the kernel, {elapsed} s here");
    ensure!((by_rtc - elapsed).abs() < 3.0, "{by_rtc} s passed for the real-time clock, {elapsed} s here");
    Ok(())
}

#[test]
#[ignore = "slow: 20 boots"]
fn twenty_reboots_take_no_memory() -> Result<()> {
    let mut machine = start_for(&spec(Guest::LinuxAmd64Quiet)?, PATIENCE)?;
    let mut free = Vec::new();
    for _ in 0..20 {
        machine.expect_serial(LINUX_MARKER)?;
        machine.expect_serial(LINUX_PROMPT)?;
        let stats = machine.stats()?;
        free.push(stats["host_free_bytes"].as_u64().context("no host_free_bytes in guest.stats")?);
        machine.serial().write(b"reboot -f\n")?;
    }
    // The first boot touches what all of them use.
    let (second, last) = (free[1], free[19]);
    ensure!(last + (1 << 20) >= second, "free memory after each boot: {free:?}");
    Ok(())
}
