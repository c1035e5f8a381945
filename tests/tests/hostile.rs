//! A guest that attacks the hypervisor from inside: it stays alive, loses no memory, and runs the
//! next guest. The image is the one that watches whose each frame of memory is, and stops at the
//! first that has two owners.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{
    Backend, Guest, LINUX_MARKER, LINUX_PROMPT, Machine, Result, Spec, focus, shell, start_for,
    unless_stalled,
};
use xtask::{build, conformance, paths};

/// The guest's line when it waits for a seed.
const READY: &str = "HOSTILE ready\n";
/// The guest's line when it has done all that the seed says.
const SURVIVED: &str = "HOSTILE survived";
/// Starts the next boot device instead.
const BOOT_NEXT: u32 = u32::MAX;

/// A guest that does nothing for this long of its own time hangs.
const HUNG_NS: u64 = 2_000_000_000;
/// A guest that has not ended by then never will.
const ENDLESS_NS: u64 = 20_000_000_000;

/// Each attack once, all modes in turn.
const ROUNDS: u32 = 16;
/// The same once more beside another guest, with half of the attacks.
const FEW_ROUNDS: u32 = 8;
/// Each attack in each mode with and without garbage in the page tables, eight times.
const MANY_ROUNDS: u32 = 1024;

/// The guest is started again whatever ends it. It can write to a disk of its own, and has a
/// healthy guest in its second drive.
fn config(healthy: Guest) -> String {
    let (hostile, healthy) = (Guest::Hostile.name(), healthy.name());
    format!(
        r#"
type = "hvm"
name = "hostile"
memory = 128
disk = [ '{hostile}.iso,raw,hda,rw', '{hostile}.iso,raw,hdc,ro,cdrom', '{healthy}.iso,raw,hdd,ro,cdrom' ]
boot = "d"
on_poweroff = "restart"
on_reboot = "restart"
on_crash = "restart"
"#
    )
}

/// The seed of a round: the attack in bits 3:0, the mode in bits 5:4, garbage in page tables in bit
/// 6.
fn seed(round: u32) -> u32 {
    round ^ (round & 3) << 4
}

/// How far a guest has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    guest_time_ns: u64,
    /// Exits of its own making.
    exits: u64,
}

/// The hypervisor's answer, which shows that it is alive.
fn progress(machine: &mut Machine) -> Result<Progress> {
    let stats = machine.call("guest.stats", json!({ "guest": "hostile" }))?;
    let number = |value: &Value| value.as_u64().with_context(|| format!("not a number in {stats}"));
    let by_host = stats["exits"]["host interrupt"].as_u64().unwrap_or(0);
    Ok(Progress {
        guest_time_ns: number(&stats["guest_time_ns"])?,
        exits: number(&stats["total_exits"])? - by_host,
    })
}

fn free_bytes(machine: &mut Machine) -> Result<u64> {
    machine.stats()?["host_free_bytes"].as_u64().context("no host_free_bytes in guest.stats")
}

/// Waits until the guest asks for a seed behind `from` in the serial text; resets it if it hangs.
fn await_ready(machine: &mut Machine, from: usize) -> Result<usize> {
    let mut last = Progress::default();
    loop {
        if let Some(end) = machine.serial().find(READY, from) {
            return Ok(end);
        }
        ensure!(!machine.time_left().is_zero(), "timed out");
        machine.serial().wait_for_change(Duration::from_millis(200));
        let now = progress(machine)?;
        let is_hung = now.exits == last.exits
            && now.guest_time_ns > last.guest_time_ns.saturating_add(HUNG_NS);
        if is_hung || now.guest_time_ns > ENDLESS_NS {
            machine.call("guest.reboot", json!({ "guest": "hostile" }))?;
        }
        if now.exits != last.exits || now.guest_time_ns < last.guest_time_ns {
            last = now;
        }
    }
}

/// Runs `rounds` attacks, then a healthy guest up to `marker`.
fn attack(
    backend: Backend,
    rounds: u32,
    healthy: Guest,
    marker: &str,
    patience: Duration,
) -> Result<()> {
    let file = paths::build(&format!("tests/hostile-{backend:?}-{rounds}.cfg"));
    std::fs::write(&file, config(healthy))?;
    let spec = Spec {
        backend,
        image: build::checked_image()?,
        iso: Some(Guest::Hostile.iso()?),
        disks: vec![healthy.iso()?],
        config: Some(file),
        ..Spec::default()
    };
    let mut machine = start_for(&spec, patience)?;
    let played = play(&mut machine, rounds, marker);
    played.with_context(|| machine.report())
}

fn play(machine: &mut Machine, rounds: u32, marker: &str) -> Result<()> {
    // The management port is not heard before the guest runs.
    machine.expect_serial(READY)?;
    let mut at = await_ready(machine, 0)?;
    let mut free = Vec::new();
    for round in 0..rounds {
        let seed = seed(round);
        free.push(free_bytes(machine)?);
        at = attacked_with(machine, seed, at).with_context(|| format!("seed {seed:#x}"))?;
    }
    free.push(free_bytes(machine)?);
    println!(
        "{rounds} rounds, {} survived by the guest",
        machine.serial().text().matches(SURVIVED).count()
    );
    ensure!(free.iter().all(|bytes| *bytes == free[0]), "free memory before each round: {free:?}");
    ensure!(!machine.serial().text().contains("PANIC"), "the hypervisor panicked");
    send(machine, BOOT_NEXT)?;
    machine.expect(marker)
}

/// The work of a guest beside the hostile one: it counts how often the same checksum comes out, and
/// notes if it does not.
const WORK: &str = "sum() { seq 1 3000 | md5sum; }; : > /tmp/right; first=$(sum); \
                    { while [ \"$(sum)\" = \"$first\" ]; do echo >> /tmp/right; done; \
                    echo wrong > /tmp/wrong; } & :";
/// The results, and the clock of its kernel, behind [`RESULT`] in one line: the log may come
/// between two.
const RESULTS: &str = "[ -e /tmp/wrong ] || \
                       echo RES'ULT' $(grep -c ^ /tmp/right) $(cut -d' ' -f1 /proc/uptime)";
const RESULT: &str = "RESULT ";
/// Its kernel's clock may be off by so much from guest time.
const MAX_DRIFT: f64 = 0.01;

/// A moment of the healthy guest: guest time before and after its kernel's clock was read, and how
/// often its work was right.
struct Moment {
    guest_time_s: [f64; 2],
    uptime_s: f64,
    right: u32,
}

impl Moment {
    fn now(machine: &mut Machine) -> Result<Self> {
        let guest_time_s = |machine: &mut Machine| {
            let stats = machine.call("guest.stats", json!({ "guest": "healthy" }))?;
            let ns = stats["guest_time_ns"].as_f64();
            Ok::<_, anyhow::Error>(ns.context("no guest_time_ns")? / 1e9)
        };
        focus(machine, "healthy")?;
        let before_s = guest_time_s(machine)?;
        let text = shell(machine, RESULTS)?;
        let after_s = guest_time_s(machine)?;
        let line = text.lines().find_map(|line| line.strip_prefix(RESULT));
        let (right, uptime) = line.and_then(|line| line.split_once(' ')).with_context(|| {
            format!("a checksum of the healthy guest is wrong, or there is none: {text}")
        })?;
        let (right, uptime_s) = (right.parse()?, uptime.trim().parse()?);
        Ok(Self { guest_time_s: [before_s, after_s], uptime_s, right })
    }

    /// Its work and its clock have gone on since `earlier`.
    fn check_since(&self, earlier: &Self) -> Result<()> {
        ensure!(self.right > earlier.right, "{} checksums, {} before", self.right, earlier.right);
        let least_s = self.guest_time_s[0] - earlier.guest_time_s[1];
        let most_s = self.guest_time_s[1] - earlier.guest_time_s[0];
        let by_kernel_s = self.uptime_s - earlier.uptime_s;
        let is_right =
            by_kernel_s >= least_s * (1.0 - MAX_DRIFT) && by_kernel_s <= most_s * (1.0 + MAX_DRIFT);
        ensure!(is_right, "{by_kernel_s} s by its clock, {least_s} to {most_s} s of guest time");
        Ok(())
    }
}

/// Runs `rounds` attacks beside a healthy guest that computes, on a machine with `smp` CPUs.
fn attack_beside(backend: Backend, smp: u32, rounds: u32, patience: Duration) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/beside-{backend:?}-{smp}-{rounds}"))?;
    let linux = Guest::LinuxAmd64Quiet;
    let [hostile, healthy] = ["hostile.cfg", "healthy.cfg"].map(|name| folder.join(name));
    std::fs::write(&hostile, config(linux))?;
    let text = format!(
        "type = 'hvm'\nname = 'healthy'\nmemory = 96\ndisk = [ '{}.iso,raw,hdc,ro,cdrom' ]\n",
        linux.name()
    );
    std::fs::write(&healthy, text)?;
    let spec = Spec {
        backend,
        smp,
        image: build::checked_image()?,
        iso: Some(Guest::Hostile.iso()?),
        disks: vec![linux.iso()?, healthy],
        config: Some(hostile),
        ..Spec::default()
    };
    let mut machine = start_for(&spec, patience)?;
    let played = play_beside(&mut machine, rounds);
    played.with_context(|| machine.report())
}

fn play_beside(machine: &mut Machine, rounds: u32) -> Result<()> {
    machine.expect_serial(READY)?;
    focus(machine, "healthy")?;
    machine.expect_serial(LINUX_PROMPT)?;
    shell(machine, &format!("dmesg -n 1; {WORK}"))?;
    let before = Moment::now(machine)?;
    focus(machine, "hostile")?;
    let mut at = await_ready(machine, 0)?;
    for round in 0..rounds {
        let seed = seed(round);
        at = attacked_with(machine, seed, at).with_context(|| format!("seed {seed:#x}"))?;
    }
    Moment::now(machine)?.check_since(&before)?;
    ensure!(!machine.serial().text().contains("PANIC"), "the hypervisor panicked");
    Ok(())
}

/// A front end of PV devices that breaks every rule, in two lives beside a healthy guest, which
/// computes on.
fn break_rules_beside(backend: Backend, patience: Duration) -> Result<()> {
    const TOPIC: &str = "xen_hostile";
    let folder = paths::empty_build_folder(&format!("tests/front-end-{backend:?}"))?;
    let linux = Guest::LinuxAmd64Quiet;
    let guest = conformance::guest(TOPIC)?;
    let healthy = folder.join("healthy.cfg");
    let text = format!(
        "type = 'hvm'\nname = 'healthy'\nmemory = 80\ndisk = [ '{}.iso,raw,hdc,ro,cdrom' ]\n",
        linux.name()
    );
    std::fs::write(&healthy, text)?;
    let mut disks = guest.hard_disks;
    disks.extend([linux.iso()?, healthy]);
    let spec = Spec {
        backend,
        smp: 2,
        image: build::checked_image()?,
        iso: Some(guest.iso),
        config: Some(guest.config),
        disks,
        ..Spec::default()
    };
    let mut machine = start_for(&spec, patience)?;
    let mut play = || {
        let end = format!("conf {TOPIC} done ");
        machine.expect_serial(&end)?;
        focus(&mut machine, "healthy")?;
        machine.expect_serial(LINUX_PROMPT)?;
        shell(&mut machine, &format!("dmesg -n 1; {WORK}"))?;
        let before = Moment::now(&mut machine)?;
        focus(&mut machine, TOPIC)?;
        machine.call("guest.reboot", json!({ "guest": TOPIC }))?;
        machine.expect_serial(&end)?;
        // In Bochs a checksum may take as long as the attacks.
        let after = loop {
            let now = Moment::now(&mut machine)?;
            if now.right > before.right || machine.time_left().is_zero() {
                break now;
            }
        };
        after.check_since(&before)?;
        let serial = machine.serial().text();
        let failures: Vec<_> = serial.lines().filter(|line| line.contains(" FAIL ")).collect();
        ensure!(failures.is_empty(), "{failures:?}");
        ensure!(!serial.contains("PANIC"), "the hypervisor panicked");
        Ok(())
    };
    let played = play();
    played.with_context(|| machine.report())
}

#[test]
fn a_hostile_front_end_does_not_hurt_another_guest() -> Result<()> {
    break_rules_beside(Backend::Svm, Duration::from_secs(600))
}

#[test]
#[ignore = "slow: attacks in Bochs, beside Linux"]
fn a_hostile_front_end_does_not_hurt_another_guest_on_vmx() -> Result<()> {
    unless_stalled("a_hostile_front_end_does_not_hurt_another_guest_on_vmx", || {
        break_rules_beside(Backend::Vmx, Duration::from_secs(3600))
    })
}

/// One round, up to the guest's next start.
fn attacked_with(machine: &mut Machine, seed: u32, from: usize) -> Result<usize> {
    send(machine, seed)?;
    await_ready(machine, from)
}

/// The guest reads the last digit first.
fn send(machine: &Machine, word: u32) -> Result<()> {
    let digits: String = format!("{word:08x}").chars().rev().collect();
    machine.serial().write(digits.as_bytes())
}

#[test]
fn a_hostile_guest_does_not_hurt_the_hypervisor() -> Result<()> {
    attack(Backend::Svm, ROUNDS, Guest::LinuxAmd64Quiet, LINUX_MARKER, Duration::from_secs(600))
}

#[test]
fn a_hostile_guest_does_not_hurt_the_hypervisor_on_vmx() -> Result<()> {
    attack(Backend::Vmx, ROUNDS, Guest::Ipxe, "No bootable device.", Duration::from_secs(1200))
}

#[test]
fn a_hostile_guest_does_not_hurt_one_on_the_same_cpu() -> Result<()> {
    attack_beside(Backend::Svm, 1, FEW_ROUNDS, Duration::from_secs(600))
}

#[test]
fn a_hostile_guest_does_not_hurt_one_on_two_cpus() -> Result<()> {
    attack_beside(Backend::Svm, 2, FEW_ROUNDS, Duration::from_secs(600))
}

#[test]
#[ignore = "slow: attacks in Bochs, beside Linux"]
fn a_hostile_guest_does_not_hurt_one_on_two_cpus_on_vmx() -> Result<()> {
    unless_stalled("a_hostile_guest_does_not_hurt_one_on_two_cpus_on_vmx", || {
        attack_beside(Backend::Vmx, 2, FEW_ROUNDS, Duration::from_secs(3600))
    })
}

#[test]
#[ignore = "slow: a thousand attacks"]
fn a_hostile_guest_does_not_hurt_the_hypervisor_in_a_thousand_rounds() -> Result<()> {
    attack(
        Backend::Svm,
        MANY_ROUNDS,
        Guest::LinuxAmd64Quiet,
        LINUX_MARKER,
        Duration::from_secs(7200),
    )
}
