//! Guests with Xen drivers in their kernels, and the platform for them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::{
    Backend, Guest, LINUX_MARKER, LINUX_PROMPT, Machine, Result, Spec, linux, on_both_backends,
    shell,
};
use xtask::paths;

/// Loads the driver and waits for the disk. The kernel says that no driver is for the CD-ROM, as
/// under Xen: not on the console.
const LOAD: &str =
    "dmesg -n 1; load-modules; until [ -b /dev/xvda ]; do sleep 0.1; done; echo loaded";

/// The hypervisor says so when a guest is started again by its firmware.
const RESTARTED: &str = "reset: Restart";

on_both_backends! {
    linux_finds_xen, linux_reads_and_writes_a_pv_disk, linux_gives_memory_back_and_takes_it_again
}

/// A machine whose Linux has the platform, with as many virtual CPUs as it has CPUs, and `disk` as
/// its first one, if there is one.
fn with_platform(
    backend: Backend,
    guest: Guest,
    memory_mib: u32,
    cpus: u32,
    disk: Option<&[u8]>,
) -> Result<Machine> {
    let iso = guest.iso()?;
    let name = iso.file_name().context("the guest's ISO has no name")?.display();
    let folder = format!("tests/xen-{}-{memory_mib}-{backend:?}", guest.name());
    let folder = paths::empty_build_folder(&folder)?;
    let (config, image) = (folder.join("pv.cfg"), folder.join("disk.img"));
    let mut disks = format!("'file:/{name},hdc:cdrom,r'");
    if let Some(content) = disk {
        std::fs::write(&image, content)?;
        disks += ", 'file:/disk.img,xvda,w'";
    }
    let text = format!(
        "type='hvm'\nname='pv'\nmemory={memory_mib}\nvcpus={cpus}\nxen_platform_pci=1\n\
         disk=[{disks}]\n"
    );
    std::fs::write(&config, text)?;
    let more = folder.join("more.img");
    std::fs::write(&more, vec![b'm'; 1 << 20])?;
    let disks = disk.map(|_| image).into_iter().chain([more]).collect();
    let (iso, config) = (Some(iso), Some(config));
    linux(&Spec { backend, smp: cpus, iso, config, disks, ..Spec::default() })
}

/// The guest finds its disk by the PV driver; it reads there what the image holds, and in its next
/// life what it has written itself.
fn linux_reads_and_writes_a_pv_disk(backend: Backend) -> Result<()> {
    let content: Vec<u8> = (0..1_u32 << 20).flat_map(|word| word.to_le_bytes()).collect();
    let cpus = if backend == Backend::Svm { 2 } else { 1 };
    let mut machine = with_platform(backend, Guest::LinuxAmd64Pv, 128, cpus, Some(&content))?;
    ensure!(shell(&mut machine, LOAD)? == "loaded");
    // Both ends are in state 4, as the store says at the management port.
    let [front, back] = ["1/device/vbd/51712", "0/backend/vbd/1/51712"];
    let words = [(front, "state"), (front, "protocol"), (back, "state")]
        .map(|(end, node)| format!("/local/domain/{end}/{node}"));
    let answer = machine.call("store.command", json!({ "name": "read", "words": words }))?;
    ensure!(answer["text"] == "4\nx86_64-abi\n4\n", "{answer}");
    // The last word of the image, in the order of bytes that it was written in.
    let last = "tail -c 4 /dev/xvda | od -A n -t x4";
    ensure!(shell(&mut machine, last)?.trim() == "000fffff");
    ensure!(shell(&mut machine, "cat /dev/xvda | wc -c")? == content.len().to_string());
    let words = "od -A n -v -t u4 /dev/xvda | awk '{ for (i = 1; i <= NF; i++) \
                 if ($i != n++) bad++ } END { print n, bad + 0 }'";
    if backend == Backend::Svm {
        ensure!(shell(&mut machine, words)? == "1048576 0");
    }
    let write = "seq 1 100000 | dd of=/dev/xvda bs=64k conv=fsync 2>/dev/null; echo written";
    ensure!(shell(&mut machine, write)? == "written");
    if backend == Backend::Svm {
        disks_come_and_go_under_load(&mut machine)?;
    }
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial(RESTARTED)?;
    machine.expect_serial(LINUX_PROMPT)?;
    ensure!(shell(&mut machine, LOAD)? == "loaded");
    if backend == Backend::Svm {
        ensure!(shell(&mut machine, "head -n 1 /dev/xvdb")? == "kept");
    }
    let compare = "seq 1 100000 > /tmp/same; head -c $(wc -c < /tmp/same) /dev/xvda | \
                   cmp - /tmp/same && echo same";
    ensure!(shell(&mut machine, compare)? == "same");
    // Each of the two consoles can be had alone, once the line has come to the first one. stty
    // waits until its output has gone out. A console that nobody has open loses what is typed
    // there.
    let read = "echo beg'un'; stty echo; exec 3<>/dev/hvc0; echo rea'dy' >&3; read line <&3; \
                exec 3>&-; echo got $line\n";
    machine.serial().write(read.as_bytes())?;
    machine.expect_serial("begun\n")?;
    machine.call("guest.console", json!({ "type": "pv" }))?;
    machine.expect_serial("ready\n")?;
    machine.serial().write(b"typed\n")?;
    machine.expect_serial("typed\n")?;
    machine.call("guest.console", json!({ "type": "serial" }))?;
    machine.expect_serial("got typed\n")?;
    // The store tells what the kernel can do, and asks it to shut down.
    let path = "/local/domain/1/control/feature-poweroff";
    let told = machine.call("store.command", json!({ "name": "read", "words": [path] }))?;
    ensure!(told["text"] == "1\n", "{told}");
    let complaints = "dmesg | grep -iE '(xvd|blkfront|xenbus).*(fail|error|wrong|disabled for)'";
    let complaints = shell(&mut machine, complaints)?;
    ensure!(complaints.is_empty(), "{complaints}");
    let helper = "printf '#!/bin/sh\\npoweroff -f\\n' > /sbin/poweroff; chmod +x /sbin/poweroff";
    shell(&mut machine, helper)?;
    machine.call("guest.shutdown", json!({}))?;
    machine.expect_serial("powered off: Destroy")
}

/// A second disk is plugged in, read, written and let go while the first is busy, and holds what
/// was written when it comes again. The guest's next life has it too.
fn disks_come_and_go_under_load(machine: &mut Machine) -> Result<()> {
    let attach = json!({ "disk": "format=raw,vdev=xvdb,access=rw,target=more.img" });
    let appears = "until [ -b /dev/xvdb ]; do sleep 0.1; done; ";
    let busy = "while [ ! -e /tmp/stop ]; do cat /dev/xvda > /dev/null; done & echo busy";
    ensure!(shell(machine, busy)?.ends_with("busy"));
    machine.call("guest.attach_disk", attach.clone())?;
    let read = "tr -d m < /dev/xvdb | wc -c; wc -c < /dev/xvdb";
    ensure!(shell(machine, &format!("{appears}{read}"))? == "0\n1048576");
    let write = "echo kept | dd of=/dev/xvdb conv=fsync 2>/dev/null; echo written";
    ensure!(shell(machine, write)? == "written");
    let disks = machine.call("guest.disks", json!({}))?;
    let states: Vec<_> = disks.as_array().context("no list")?.iter().collect();
    let state = |vdev: &str| states.iter().find(|disk| disk["vdev"] == vdev).map(|it| &it["state"]);
    ensure!(state("xvda") == Some(&json!(4)) && state("xvdb") == Some(&json!(4)), "{disks}");
    machine.call("guest.detach_disk", json!({ "vdev": "xvdb" }))?;
    let gone = "while [ -b /dev/xvdb ]; do sleep 0.1; done; echo gone";
    ensure!(shell(machine, gone)? == "gone");
    machine.call("guest.attach_disk", attach)?;
    ensure!(shell(machine, &format!("{appears}head -n 1 /dev/xvdb"))? == "kept");
    ensure!(shell(machine, "touch /tmp/stop; wait; echo idle")?.ends_with("idle"));
    Ok(())
}

/// The balloon driver gives memory back when it is asked to, as much as the host then has more, and
/// takes it again.
fn linux_gives_memory_back_and_takes_it_again(backend: Backend) -> Result<()> {
    const MIB: i64 = 1 << 20;
    const ALL_MIB: i64 = 160;
    let cpus = if backend == Backend::Svm { 2 } else { 1 };
    let mut machine = with_platform(backend, Guest::LinuxAmd64, ALL_MIB as u32, cpus, None)?;
    let total = "awk '$1 == \"MemTotal:\" { print $2 }' /proc/meminfo";
    let free = |machine: &mut Machine| -> Result<i64> {
        let stats = machine.call("guest.stats", json!({}))?;
        stats["host_free_bytes"].as_i64().context("no free bytes")
    };
    let memory = |machine: &mut Machine| -> Result<i64> {
        let list = machine.call("guest.list", json!({}))?;
        list[0]["memory_mib"].as_i64().context("no memory")
    };
    // The management port tells when the guest and the host have what they are to have.
    let has = |machine: &mut Machine, mib: i64, free_bytes: i64| -> Result<()> {
        loop {
            let now = (memory(machine)?, free(machine)?);
            if now == (mib, free_bytes) {
                return Ok(());
            }
            let late = machine.time_left().is_zero();
            ensure!(!late, "{now:?}, not {mib} MiB and {free_bytes} bytes for the host");
            machine.pause(Duration::from_millis(200));
        }
    };
    let all: i64 = shell(&mut machine, total)?.parse()?;
    let (free_before, given_kib) = (free(&mut machine)?, 40 << 10);
    // A file that stays, to be compared.
    ensure!(shell(&mut machine, "seq 1 200000 > /tmp/file; cksum < /tmp/file")?.len() > 5);
    let sum = shell(&mut machine, "cksum < /tmp/file")?;
    machine.call("guest.set_memory", json!({ "kib": (ALL_MIB << 10) - given_kib }))?;
    let reached = |kib: i64| format!("until [ $({total}) -eq {kib} ]; do sleep 0.1; done; echo is");
    has(&mut machine, ALL_MIB - 40, free_before + 40 * MIB)?;
    ensure!(shell(&mut machine, total)?.parse::<i64>()? == all - given_kib);
    // More than it is to have cannot be.
    let too_much = machine.call("guest.set_memory", json!({ "kib": (ALL_MIB << 10) + 1 }));
    ensure!(too_much.is_err());
    machine.call("guest.set_memory", json!({ "kib": ALL_MIB << 10 }))?;
    has(&mut machine, ALL_MIB, free_before)?;
    // The pages are the kernel's when it has them from the host, and counted a moment later.
    ensure!(shell(&mut machine, &reached(all))? == "is");
    ensure!(shell(&mut machine, "cksum < /tmp/file")? == sum);
    let use_all = "dd if=/dev/zero of=/tmp/zeroes bs=1M count=60 2>/dev/null; rm /tmp/zeroes";
    shell(&mut machine, use_all)?;
    if backend == Backend::Svm {
        // It is to have as much when it starts again, and gives back the rest once more.
        machine.call("guest.set_memory", json!({ "kib": (ALL_MIB - 28) << 10 }))?;
        machine.serial().write(b"reboot -f\n")?;
        machine.expect_serial(RESTARTED)?;
        machine.expect_serial(LINUX_PROMPT)?;
        ensure!(shell(&mut machine, &reached(all - (28 << 10)))? == "is");
        // RAM that it has never touched is the host's, too.
        ensure!(free(&mut machine)? >= free_before + 28 * MIB);
    }
    let complaints =
        shell(&mut machine, "dmesg | grep -E 'alloon.*(fail|error)|BUG|WARNING|page alloc'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}

/// As drivers of old kernels do, that have no vector for events.
#[test]
fn linux_is_told_of_events_by_an_interrupt_line() -> Result<()> {
    let content = vec![0x5a; 1 << 20];
    let mut machine = with_platform(Backend::Svm, Guest::LinuxAmd64PvLine, 128, 1, Some(&content))?;
    ensure!(shell(&mut machine, LOAD)? == "loaded");
    ensure!(shell(&mut machine, "tr -d Z < /dev/xvda | wc -c; wc -c < /dev/xvda")? == "0\n1048576");
    let events = "grep xen-platform-pci /proc/interrupts | awk '{ print ($2 > 20) }'";
    ensure!(shell(&mut machine, events)? == "1");
    // No timer of Xen's: those need a vector.
    ensure!(shell(&mut machine, "grep -c virq /proc/interrupts")? == "0");
    let complaints = shell(&mut machine, "dmesg | grep -iE 'nobody cared|xen.*fail'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}

/// A kernel that another one has started (kexec) finds a platform as new: its events, its clock,
/// XenStore and its disk, on all virtual CPUs. The kernel wants twice the memory that it needs.
#[test]
fn a_kernel_started_by_another_finds_the_platform_as_new() -> Result<()> {
    let guest = Guest::LinuxAmd64PvKexec;
    let iso = std::fs::read(guest.iso()?)?;
    let mut machine = with_platform(Backend::Svm, guest, 256, 2, Some(&iso))?;
    ensure!(shell(&mut machine, LOAD)? == "loaded");
    let sum = shell(&mut machine, "sha256sum < /dev/xvda")?;
    shell(&mut machine, "mount -o ro /dev/xvda /mnt; echo first > /tmp/kernel")?;
    machine.serial().write(b"kexec /mnt/linux /mnt/initrd.gz; echo error $?\n")?;
    machine.expect_serial(LINUX_MARKER)?;
    machine.expect_serial(LINUX_PROMPT)?;
    ensure!(shell(&mut machine, "cat /tmp/kernel 2>/dev/null; nproc")? == "2");
    ensure!(!machine.serial().text().contains(RESTARTED), "the firmware started it");
    ensure!(shell(&mut machine, LOAD)? == "loaded");
    ensure!(shell(&mut machine, "sha256sum < /dev/xvda")? == sum);
    let complaints =
        shell(&mut machine, "dmesg | grep -iE 'xen.*(fail|error|bug)|rcu.*stall|lockup|unstable'")?;
    ensure!(complaints.is_empty(), "{complaints}");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("powered off: Destroy")
}

/// The kernel runs by Xen's clock, timers and events, on all of its virtual CPUs. In Bochs a
/// machine with one CPU does: several take minutes.
fn linux_finds_xen(backend: Backend) -> Result<()> {
    let cpus = if backend == Backend::Svm { 2 } else { 1 };
    let mut machine = with_platform(backend, Guest::LinuxAmd64, 128, cpus, None)?;
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
