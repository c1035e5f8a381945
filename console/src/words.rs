//! The prompt's commands as words: a line that was typed becomes a [`Command`], and its reply
//! becomes text. Names, operands and columns are those of Xen's `xl`, where it has the command.

use super::command::{Command, Dom, MemoryBound, Pin, Refusal, Reply};
use super::guests::Guests;
use super::host_disks;
use super::listed::{self, Columns};
use super::parse_value;
use super::triggers::Trigger;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use config::cpus::CpuList;
use control::cards::CardChange;
use control::disks::DiskChange;
use control::guest::ConsoleKind;
use control::host::Host;
use control::mailbox::{MAX_STEPS, Request};
use control::state::{GuestStats, Steps};
use core::fmt::Write;

/// Commands, their operands, and what they do.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("help", "", "this list"),
    ("list", "[DOM]", "the guests, or one"),
    ("create", "FILE [KEY=VALUE...]", "makes a guest from a boot module with its configuration"),
    ("destroy", "DOM", "ends a guest for good"),
    ("reboot", "DOM", "resets a guest"),
    ("shutdown", "[-F] -a|DOM", "asks guests to shut down; -F by their power buttons"),
    ("trigger", "DOM TRIGGER [VCPU]", "sends power, sleep, nmi, reset, init or s3resume"),
    ("button-press", "DOM BUTTON", "presses power or sleep"),
    ("vcpu-list", "[DOM...]", "the guests' virtual CPUs"),
    ("vcpu-set", "[-i] DOM N", "plugs virtual CPUs in, or asks the guest to give some up"),
    ("mem-set", "DOM SIZE", "asks a guest to have so much memory: MiB, or with k, m, g, t"),
    ("mem-max", "DOM SIZE", "lets a guest have no more memory than that"),
    ("vcpu-pin", "DOM VCPU|all HARD [SOFT]", "says on which CPUs they run; - leaves it"),
    ("sched-credit2", "[-s] [-d DOM [-w WEIGHT] [-c CAP]]", "shares of the machine"),
    ("pause", "DOM", "holds a guest, and its time"),
    ("unpause", "DOM", "lets it go on"),
    ("block-list", "[DOM...]", "the guests' disks"),
    ("network-list", "[DOM...]", "the guests' network cards"),
    ("network-attach", "DOM [KEY=VALUE...]", "plugs a network card in, as vif= has it"),
    ("network-detach", "DOM DEVID|MAC", "takes one from a guest, which is asked first"),
    ("block-attach", "DOM DISK", "plugs a disk in, as disk= has it: MODULE,,VDEV"),
    ("block-detach", "[--force] DOM VDEV", "takes a disk from a guest, which is asked first"),
    ("cd-insert", "DOM VDEV MODULE", "puts another disc into a CD-ROM drive"),
    ("cd-eject", "DOM VDEV", "takes the disc out of a CD-ROM drive"),
    ("console", "[-t pv|serial] DOM", "moves the serial input to a guest, or one of its consoles"),
    ("domid", "NAME", "the number of a guest"),
    ("domname", "NUMBER", "the name of a guest"),
    ("uptime", "[DOM...]", "the time since the guests began"),
    ("dmesg", "", "the hypervisor's log"),
    ("stats", "DOM", "a guest's exits"),
    ("dump", "DOM", "the state of its first virtual CPU"),
    ("registers", "DOM", "its registers, and the instruction where it is"),
    ("step", "DOM [N]", "runs N instructions of a guest that is paused"),
    ("set", "DOM REGISTER VALUE", "sets a register of such a guest, in hexadecimal"),
    ("catch", "DOM tables|off", "pauses it before each load or store of GDTR, IDTR, LDTR, TR"),
    ("screen", "DOM", "a guest's text screen"),
    ("xenstore-ls", "[-f] [-p] [PATH]", "XenStore: all nodes below, -f by whole paths"),
    ("xenstore-list", "[-p] PATH...", "the names below a node"),
    ("xenstore-read", "[-p] PATH...", "values of nodes"),
    ("xenstore-write", "PATH VALUE...", "sets values"),
    ("xenstore-watch", "[-n COUNT] PATH...", "shows changes until Ctrl-C, or so many"),
    ("xenstore-rm", "[-t] PATH...", "removes nodes; -t and those above that are empty then"),
    ("xenstore-chmod", "[-u] [-r] PATH MODE...", "sets permissions; -u above too, -r below"),
    ("host", "log|reboot|poweroff", "the hypervisor's log; resets the machine, turns it off"),
    ("host", "disks", "the machine's own disks, their partitions, and who has them"),
    ("host", "hang", "hangs the CPU of the consoles, for the watchdog to find it"),
    ("host", "crash", "crashes the hypervisor, to see what it says then"),
];

/// Before the names of the commands for XenStore.
const STORE_PREFIX: &str = "xenstore-";

/// Below the list of commands.
const HELP_END: &str = "\
DOM is a guest's name or number; it may be left out while there is one guest.
Ctrl-A three times moves the input round: the prompt, and each guest.
";

/// A line that was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A command.
    Command(Command),
    /// `xenstore-watch`.
    Watch {
        /// The nodes.
        paths: Vec<String>,
        /// So many changes are to be shown, or all.
        count: Option<u32>,
    },
    /// None: this is to be shown.
    Text(String),
}

/// Takes a line apart.
pub fn parse(line: &str, guests: &Guests) -> Typed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((&typed, operands)) = words.split_first() else { return Typed::Text(String::new()) };
    let Some(name) = command_name(typed) else {
        return Typed::Text(format!("{typed}: unknown command, try help\n"));
    };
    if name == "help" {
        return Typed::Text(help());
    }
    if name == "xenstore-watch" {
        return watch(operands).unwrap_or_else(|| Typed::Text(usage(name)));
    }
    let parsed = match name {
        "trigger" => trigger(operands),
        "button-press" => button_press(operands),
        "vcpu-set" => vcpu_set(operands),
        "mem-set" => memory(operands, MemoryBound::Target),
        "mem-max" => memory(operands, MemoryBound::Max),
        "vcpu-pin" => vcpu_pin(operands),
        "sched-credit2" => sched_credit2(operands),
        "block-attach" => block_attach(operands, guests).ok_or(None),
        "block-detach" => block_detach(operands).ok_or(None),
        _ => command(name, operands, guests.iter().count() == 1).ok_or(None),
    };
    match parsed {
        Ok(command) => Typed::Command(command),
        Err(text) => Typed::Text(text.unwrap_or_else(|| usage(name))),
    }
}

/// The command that `typed` begins, or is.
fn command_name(typed: &str) -> Option<&'static str> {
    let mut names: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    if typed == "?" {
        return Some("help");
    }
    if let Some(exact) = names.iter().find(|name| **name == typed) {
        return Some(exact);
    }
    let mut fitting = names.into_iter().filter(|name| name.starts_with(typed));
    fitting.next().filter(|_| fitting.next().is_none())
}

/// The command, unless the operands are not its own.
fn command(name: &str, operands: &[&str], is_only: bool) -> Option<Command> {
    let ask = |request| Some(Command::Ask(dom(operands)?, request));
    match (name, operands) {
        ("list", _) => Some(Command::List(dom(operands)?.into_iter().collect(), Columns::Guests)),
        ("block-list", []) => Some(Command::ListDisks([None].into())),
        ("block-list", _) => {
            Some(Command::ListDisks(doms(operands).into_iter().map(Some).collect()))
        }
        ("network-list", []) => Some(Command::ListCards([None].into())),
        ("network-list", _) => {
            Some(Command::ListCards(doms(operands).into_iter().map(Some).collect()))
        }
        ("network-attach", _) => network_attach(operands),
        ("network-detach", [dom @ .., device]) => {
            let change = CardChange::Detach { device: (*device).into() };
            Some(Command::ChangeCard(self::dom(dom)?, change))
        }
        ("cd-insert", [dom @ .., device, target]) => Some(insert(self::dom(dom)?, device, target)),
        ("cd-eject", [dom @ .., device]) => Some(insert(self::dom(dom)?, device, "")),
        ("uptime", _) => Some(Command::List(doms(operands), Columns::Uptime)),
        ("vcpu-list", _) => Some(Command::List(doms(operands), Columns::Vcpus)),
        ("create", [module, settings @ ..]) => {
            if !settings.iter().all(|setting| setting.contains('=')) {
                return None;
            }
            let settings = settings.iter().flat_map(|line| [*line, "\n"]).collect();
            Some(Command::Create { module: (*module).into(), settings })
        }
        (store, _) if store.starts_with(STORE_PREFIX) => Some(Command::Store {
            name: store.trim_start_matches(STORE_PREFIX).into(),
            words: operands.iter().map(|word| (*word).into()).collect(),
        }),
        ("destroy", _) => ask(Request::Destroy),
        ("reboot", _) => ask(Request::Reset),
        ("shutdown", _) => shutdown(operands),
        ("pause", _) => ask(Request::Pause),
        ("unpause", _) => ask(Request::Resume),
        ("stats", _) => ask(Request::Stats),
        ("dump", _) => ask(Request::Dump),
        ("registers", _) => ask(Request::Registers),
        ("console", _) => console(operands),
        ("screen", _) => Some(Command::Screen(dom(operands)?)),
        ("domid", [name]) => Some(Command::NumberOf((*name).into())),
        ("domname", [number]) => Some(Command::NameOf(number.parse().ok()?)),
        ("step", [dom @ .., count]) if count.parse::<u32>().is_ok() => match dom {
            // With several guests it would be a guest's number.
            [] if !is_only => Some(Command::Ask(Some((*count).into()), Request::Step(1))),
            _ => Some(Command::Ask(self::dom(dom)?, Request::Step(step_count(count)?))),
        },
        ("step", _) => ask(Request::Step(1)),
        ("set", [dom @ .., register, value]) => {
            let (name, value) = ((*register).into(), parse_value(value)?);
            Some(Command::Ask(self::dom(dom)?, Request::SetRegister { name, value }))
        }
        ("catch", [dom @ .., what @ ("tables" | "off")]) => {
            Some(Command::Ask(self::dom(dom)?, Request::CatchTables(*what == "tables")))
        }
        ("dmesg", []) | ("host", ["log"]) => Some(Command::Log),
        ("host", ["disks"]) => Some(Command::ListHostDisks),
        ("host", ["reboot"]) => Some(Command::Reboot),
        ("host", ["poweroff"]) => Some(Command::PowerOff),
        ("host", ["crash"]) => Some(Command::Crash),
        ("host", ["hang"]) => Some(Command::Hang),
        _ => None,
    }
}

/// The operands of `xenstore-watch`.
fn watch(operands: &[&str]) -> Option<Typed> {
    let (count, paths) = match operands {
        ["-n", count, paths @ ..] => (Some(count.parse().ok().filter(|&it| it > 0)?), paths),
        paths => (None, paths),
    };
    let is_right = !paths.is_empty() && !paths.iter().any(|path| path.starts_with('-'));
    let paths = paths.iter().map(|&path| path.into()).collect();
    is_right.then_some(Typed::Watch { paths, count })
}

/// The operands of `trigger`: a guest, the trigger's name, and perhaps a virtual CPU. The guest may
/// be left out.
///
/// # Errors
/// The text to show instead; none if the operands are not right.
fn trigger(operands: &[&str]) -> Result<Command, Option<String>> {
    let number = |text: &str| text.parse::<usize>().ok();
    let (dom, name, vcpu) = match *operands {
        [name] => (None, name, Some(0)),
        [name, vcpu] if Trigger::by_name(name, 0).is_some() && number(vcpu).is_some() => {
            (None, name, number(vcpu))
        }
        [dom, name] => (Some(dom.into()), name, Some(0)),
        [dom, name, vcpu] => (Some(dom.into()), name, number(vcpu)),
        _ => return Err(None),
    };
    let trigger = Trigger::by_name(name, vcpu.ok_or(None)?);
    let trigger = trigger.ok_or_else(|| format!("Invalid trigger \"{name}\"\n"))?;
    Ok(Command::Trigger(dom, trigger))
}

/// The operands of `button-press`: a guest, which may be left out, and the button's name.
///
/// # Errors
/// As [`trigger`].
fn button_press(operands: &[&str]) -> Result<Command, Option<String>> {
    let (dom, name) = match *operands {
        [name] => (None, name),
        [dom, name] => (Some(dom.into()), name),
        _ => return Err(None),
    };
    let trigger = Trigger::by_button(name);
    let trigger = trigger.ok_or_else(|| format!("{name} is an invalid button identifier\n"))?;
    Ok(Command::Press(dom, trigger))
}

/// The operands of `mem-set` and `mem-max`: a guest, which may be left out, and a size.
///
/// # Errors
/// As [`trigger`].
fn memory(operands: &[&str], bound: MemoryBound) -> Result<Command, Option<String>> {
    let (dom, size) = match *operands {
        [size] => (None, size),
        [dom, size] => (Some(dom.into()), size),
        _ => return Err(None),
    };
    let kib = size_kib(size).ok_or_else(|| format!("invalid memory size: {size}\n"))?;
    Ok(Command::SetMemory { dom, bound, kib, size: size.into() })
}

/// A size as xl takes it: in MiB, or with a letter for its unit.
fn size_kib(size: &str) -> Option<u64> {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &*size[digits.len()..].to_ascii_lowercase() {
        "t" => number.checked_mul(1 << 30),
        "g" => number.checked_mul(1 << 20),
        "" | "m" => number.checked_mul(1 << 10),
        "k" => Some(number),
        "b" => Some(number >> 10),
        _ => None,
    }
}

/// The operands of `vcpu-set`: perhaps an option, a guest, which may be left out, and a number.
///
/// # Errors
/// As [`trigger`].
fn vcpu_set(operands: &[&str]) -> Result<Command, Option<String>> {
    let (ignore_host, operands) = match operands {
        ["-i" | "--ignore-host", operands @ ..] => (true, operands),
        _ => (false, operands),
    };
    let (dom, count) = match *operands {
        [count] => (None, count),
        [dom, count] => (Some(dom.into()), count),
        _ => return Err(None),
    };
    let count = count.parse().map_err(|_| Some("Error: Invalid argument.\n".into()))?;
    Ok(Command::SetVcpus { dom, count, ignore_host })
}

/// The operands of `vcpu-pin`: a guest, a virtual CPU or `all`, and one or two lists of CPUs.
///
/// # Errors
/// As [`trigger`].
fn vcpu_pin(operands: &[&str]) -> Result<Command, Option<String>> {
    let operands = match operands {
        // The CPUs of no guest are set aside from others, which this would override.
        ["-f" | "--force", operands @ ..] => operands,
        _ => operands,
    };
    let (dom, vcpu, hard, soft) = match *operands {
        [dom, vcpu, hard] => (dom, vcpu, hard, "-"),
        [dom, vcpu, hard, soft] => (dom, vcpu, hard, soft),
        _ => return Err(None),
    };
    let wrong =
        |word: &str, what: &str| Some(format!("Error: Invalid argument {word} as {what}.\n"));
    let vcpu = match vcpu {
        "all" => None,
        number => Some(number.parse().map_err(|_| wrong(number, "VCPU"))?),
    };
    let list = |word: &str| match word {
        "-" => Ok(None),
        list => CpuList::parse(list).map(Some).ok_or_else(|| wrong(list, "CPUs")),
    };
    Ok(Command::Pin(Some(dom.into()), Pin { vcpu, hard: list(hard)?, soft: list(soft)? }))
}

/// The operands of `sched-credit2`.
///
/// # Errors
/// As [`trigger`].
fn sched_credit2(operands: &[&str]) -> Result<Command, Option<String>> {
    if let ["-s" | "--schedparam"] = operands {
        return Ok(Command::List(Vec::new(), Columns::Pool));
    }
    let (mut dom, mut weight, mut cap_percent): (Dom, _, _) = (None, None, None);
    let mut operands = operands.iter();
    while let Some(option) = operands.next() {
        let value = *operands.next().ok_or(None)?;
        let number = || value.parse::<u32>().map(Some).map_err(|_| None);
        match *option {
            "-d" | "--domain" => dom = Some(value.into()),
            "-w" | "--weight" => weight = number()?,
            "-c" | "--cap" => cap_percent = number()?,
            _ => return Err(None),
        }
    }
    match (dom, weight, cap_percent) {
        (None, None, None) => Ok(Command::List(Vec::new(), Columns::Shares)),
        (Some(dom), None, None) => Ok(Command::List([dom].into(), Columns::Share)),
        (None, ..) => Err(Some("Must specify a domain.\n".into())),
        (dom, weight, cap_percent) => Ok(Command::SetShare { dom, weight, cap_percent }),
    }
}

/// The operands of `shutdown`: options, and a guest or `-a`, which is all of them.
fn shutdown(operands: &[&str]) -> Option<Command> {
    let (mut all, mut fallback, mut dom) = (false, false, None);
    for &operand in operands {
        match operand {
            "-a" => all = true,
            "-F" => fallback = true,
            "-aF" | "-Fa" => (all, fallback) = (true, true),
            name if dom.is_none() && !name.starts_with('-') => dom = Some(name.into()),
            _ => return None,
        }
    }
    (!all || dom.is_none()).then_some(Command::Shutdown { all, dom, fallback })
}

/// The operands of `block-attach`: a guest, which may be left out before a disk that is one word,
/// and the disk, of one word or several.
fn block_attach(operands: &[&str], guests: &Guests) -> Option<Command> {
    let (dom, disk) = match operands {
        [disk] => (None, &[*disk][..]),
        [first, ..] if first.contains(['=', ',']) && guests.find(Some(first)).is_err() => {
            (None, operands)
        }
        [dom, disk @ ..] => (Some((*dom).into()), disk),
        [] => return None,
    };
    // A disk in quotes may have blanks; words without quotes are fields.
    let quotes = ['\'', '"'];
    let disk = match disk.first()?.strip_prefix(quotes) {
        Some(_) => disk.join(" ").trim_matches(quotes).into(),
        None => disk.join(","),
    };
    Some(Command::ChangeDisk(dom, DiskChange::Attach { disk }))
}

/// The operands of `network-attach`: a guest, which may be left out, and settings of the card. A
/// word that is no setting goes on with the one before: addresses have blanks between.
fn network_attach(operands: &[&str]) -> Option<Command> {
    let (dom, words) = match operands {
        [first, words @ ..] if !first.contains('=') => (Some((*first).into()), words),
        words => (None, words),
    };
    let mut card = String::new();
    for word in words {
        match (word.contains('='), card.is_empty()) {
            (true, true) => {}
            (true, false) => card.push(','),
            (false, true) => return None,
            (false, false) => card.push(' '),
        }
        card += word.trim_matches(['\'', '"']);
    }
    Some(Command::ChangeCard(dom, CardChange::Attach { card }))
}

/// The operands of `console`: options, and a guest, which may be left out. Of each kind there is
/// the console with number 0.
fn console(operands: &[&str]) -> Option<Command> {
    let (mut chosen, mut rest) = (None, operands);
    loop {
        (chosen, rest) = match rest {
            ["-t", kind, rest @ ..] => (Some(ConsoleKind::by_name(kind)?), rest),
            ["-n", "0", rest @ ..] => (chosen, rest),
            [] => return Some(Command::Console(None, chosen)),
            [dom] if !dom.starts_with('-') => {
                return Some(Command::Console(Some((*dom).into()), chosen));
            }
            _ => return None,
        };
    }
}

/// `cd-insert`, and without a target `cd-eject`.
fn insert(dom: Dom, device: &str, target: &str) -> Command {
    let change = DiskChange::Insert { device: device.into(), target: target.into() };
    Command::ChangeDisk(dom, change)
}

/// The operands of `block-detach`: a guest, which may be left out, the disk, and perhaps an option.
fn block_detach(operands: &[&str]) -> Option<Command> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        operands.iter().partition(|operand| operand.starts_with('-'));
    let is_forced = match options[..] {
        [] => false,
        ["--force"] => true,
        _ => return None,
    };
    let (device, dom) = names.split_last()?;
    let change = DiskChange::Detach { device: (*device).into(), is_forced };
    Some(Command::ChangeDisk(self::dom(dom)?, change))
}

/// The one operand that names a guest, or none.
fn dom(operands: &[&str]) -> Option<Dom> {
    match operands {
        [] => Some(None),
        [name] => Some(Some((*name).into())),
        _ => None,
    }
}

/// The operands, as the names of guests.
fn doms(operands: &[&str]) -> Vec<String> {
    operands.iter().map(|&name| name.into()).collect()
}

/// The number of steps that `step` is asked for.
fn step_count(operand: &str) -> Option<u32> {
    operand.parse().ok().filter(|count| (1..=MAX_STEPS).contains(count))
}

fn help() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for (name, operands, purpose) in COMMANDS {
        let _ = writeln!(text, "{:29} {purpose}", format!("{name} {operands}"));
    }
    text + HELP_END
}

fn usage(name: &str) -> String {
    let mut text = String::new();
    for (_, operands, _) in COMMANDS.iter().filter(|(other, ..)| *other == name) {
        let _ = writeln!(text, "Usage: {name} {operands}");
    }
    if name == "step" {
        let _ = writeln!(text, "N is from 1 to {MAX_STEPS}");
    }
    text
}

/// The text of an outcome.
pub fn show(outcome: Result<Reply, Refusal>, host: &dyn Host) -> String {
    match outcome {
        Err(refusal) => format!("{refusal}\n"),
        Ok(Reply::Done) => String::new(),
        Ok(Reply::List(guests, columns)) => columns.show(&guests),
        // Of the management port.
        Ok(Reply::Watching(_) | Reply::Events(_)) => String::new(),
        Ok(Reply::Disks(disks)) => listed::disks(&disks),
        Ok(Reply::Cards(cards)) => listed::cards(&cards),
        Ok(Reply::HostDisks(disks)) => host_disks::show(&disks),
        // As xl says it.
        Ok(Reply::Pressed) => {
            "WARNING: \"button-press\" is deprecated. Please use \"trigger\"\n".into()
        }
        Ok(Reply::ShuttingDown(guests)) => shutting_down(&guests),
        Ok(Reply::Screen(Some(screen))) => screen.to_string(),
        Ok(Reply::Screen(None)) => "the guest's screen shows graphics\n".into(),
        Ok(Reply::Number(number)) => format!("{number}\n"),
        Ok(Reply::Name(name)) => format!("{name}\n"),
        Ok(Reply::Log(text)) => String::from_utf8_lossy(&text).into(),
        Ok(Reply::Stats(stats)) => all_stats(&stats, host),
        Ok(Reply::Dump(text)) => text,
        Ok(Reply::Paused(location)) => format!("{location}\n"),
        Ok(Reply::Registers(registers, location)) => format!("{registers}{location}\n"),
        Ok(Reply::Steps(steps)) => all_steps(&steps),
    }
}

/// As `xl shutdown -F` says it.
fn shutting_down(guests: &[u32]) -> String {
    let mut text = String::new();
    for number in guests {
        let _ = writeln!(
            text,
            "Shutting down domain {number}\n\
             PV control interface not available: sending ACPI power button event."
        );
    }
    text
}

fn all_steps(steps: &Steps) -> String {
    let mut text = String::new();
    for location in &steps.done {
        let _ = writeln!(text, "  {location}");
    }
    let _ = writeln!(text, "> {}", steps.next);
    if let Some(end) = steps.end {
        let _ = writeln!(text, "after {} steps: {end}", steps.done.len());
    }
    text
}

fn all_stats(stats: &GuestStats, host: &dyn Host) -> String {
    let mut text = String::new();
    for (name, count) in stats.exits.iter().filter(|(_, count)| *count != 0) {
        let _ = writeln!(text, "{name:20} {count:>12}");
    }
    let _ = writeln!(text, "{:20} {:>12}", "all exits", stats.total_exits);
    let _ = writeln!(text, "{:20} {:>12} ms", "guest time", stats.guest_time_ns / 1_000_000);
    let _ = writeln!(text, "{:20} {:>12} MiB", "free host memory", host.free_bytes() >> 20);
    text
}
