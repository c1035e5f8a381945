//! Guests with Xen drivers in their kernels, and the platform for them.

use anyhow::{Context, ensure};
use tests::{Backend, Guest, LINUX_PROMPT, Machine, Result, Spec, linux, on_both_backends, shell};
use xtask::paths;

on_both_backends! { linux_finds_xen }

/// A machine whose Linux has the platform, with as many virtual CPUs as it has CPUs.
fn with_platform(backend: Backend, cpus: u32) -> Result<Machine> {
    let iso = Guest::LinuxAmd64.iso()?;
    let name = iso.file_name().context("the guest's ISO has no name")?.display();
    let folder = paths::empty_build_folder(&format!("tests/xen-{backend:?}"))?;
    let config = folder.join("pv.cfg");
    let text = format!(
        "type='hvm'\nname='pv'\nmemory=128\nvcpus={cpus}\nxen_platform_pci=1\n\
         disk=['file:/{name},hdc:cdrom,r']\n"
    );
    std::fs::write(&config, text)?;
    linux(&Spec { backend, smp: cpus, iso: Some(iso), config: Some(config), ..Spec::default() })
}

/// The kernel runs by Xen's clock, timers and events, on all of its virtual CPUs. In Bochs a machine
/// with one CPU does: several take minutes.
fn linux_finds_xen(backend: Backend) -> Result<()> {
    let cpus = if backend == Backend::Svm { 2 } else { 1 };
    let mut machine = with_platform(backend, cpus)?;
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    ensure!(shell(&mut machine, &format!("cat {clock}"))? == "xen");
    let version = "cd /sys/hypervisor; cat type version/major version/minor version/extra";
    ensure!(shell(&mut machine, version)? == "xen\n4\n17\n.0-bulkhead");
    ensure!(shell(&mut machine, "nproc")? == cpus.to_string());
    // Each virtual CPU has a timer of Xen's, which rings, and the local APIC's does not.
    let timers = "grep -cE 'xen-percpu +-virq +timer' /proc/interrupts";
    ensure!(shell(&mut machine, timers)? == cpus.to_string());
    let rings = "grep -w timer0 /proc/interrupts | awk '{print ($2 > 50)}'";
    ensure!(shell(&mut machine, rings)? == "1");
    let local = "awk '$1 == \"LOC:\" {print $2 + 0}' /proc/interrupts";
    ensure!(shell(&mut machine, local)? == "0");
    if cpus > 1 {
        let switch = |to| format!("echo {to} > /sys/devices/system/cpu/cpu1/online; nproc");
        ensure!(shell(&mut machine, &switch(0))? == "1");
        ensure!(shell(&mut machine, &switch(1))? == "2");
        ensure!(shell(&mut machine, "taskset -c 1 sh -c 'echo on $(( 6 * 7 ))'")? == "on 42");
    }
    // The date is the host's, to which the real-time clock was set.
    let apart = "echo $(( $(date +%s) - $(cat /sys/class/rtc/rtc0/since_epoch) ))";
    let apart: i64 = shell(&mut machine, apart)?.parse()?;
    ensure!(apart.abs() <= 2, "{apart} s apart");
    let complaints =
        shell(&mut machine, "dmesg | grep -iE 'xen.*(fail|error|bug)|rcu.*stall|lockup|unstable'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    if backend == Backend::Svm {
        machine.serial().write(b"reboot -f\n")?;
        machine.expect_serial("reset: Restart")?;
        machine.expect_serial(LINUX_PROMPT)?;
        ensure!(shell(&mut machine, &format!("cat {clock}"))? == "xen");
    }
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}
