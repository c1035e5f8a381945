//! The hypervisor's prompt: a line editor and its commands.

use super::{GuestControl, GuestPorts, text_heap_bytes};
use crate::vcpu::debug::{DebugTarget, MAX_STEPS, parse_value, steps};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::host::Host;
use core::fmt::Write;

/// The most heap that a command and what it shows take, but for the screen: the log, and two copies
/// of it, are the longest.
const HEAP_BYTES: u64 = 1 << 20;

/// Longer commands are cut off.
const MAX_COMMAND_BYTES: usize = 120;

const CTRL_C: u8 = 3;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 0x7f;

/// A command that is being typed.
#[derive(Debug, Default)]
pub struct Prompt {
    line: String,
    after_return: bool,
}

impl Prompt {
    /// What asks for a command.
    pub const TEXT: &str = "bulkhead> ";

    /// Takes a byte and adds to `echo` what the terminal shall show; returns the command that it
    /// completes.
    pub fn typed(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<String> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                echo.extend_from_slice(b"\r\n");
                return Some(core::mem::take(&mut self.line));
            }
            BACKSPACE | DELETE => {
                let taken = self.line.pop();
                echo.extend_from_slice(taken.map_or(b"", |_| b"\x08 \x08"));
            }
            CTRL_C | CTRL_U => {
                for _ in self.line.drain(..) {
                    echo.extend_from_slice(b"\x08 \x08");
                }
            }
            b' '..=b'~' if self.line.len() < MAX_COMMAND_BYTES => {
                self.line.push(char::from(byte));
                echo.push(byte);
            }
            _ => {}
        }
        None
    }
}

const HELP: &str = "\
help      this list
list      the guests
stats     the guest's exits
dump      the state of the guest's virtual CPU
registers its registers, and the instruction where it is
pause     holds the guest, and its time
step [N]  runs N instructions of a guest that is paused
set REGISTER VALUE  sets a register of a guest that is paused, in hexadecimal
resume    lets it go on
catch tables  pauses the guest before each load or store of GDTR, IDTR, LDTR, TR
catch off     does not
screen    the guest's text screen
reset     resets the guest
destroy   ends the guest, as if its power were cut
log       the hypervisor's log
crash     crashes the hypervisor, to see what it says then
reboot    reboots the machine
poweroff  turns the machine off
Ctrl-A three times moves the input to the guest and back.
";

const NO_GUEST: &str = "no guest\n";
const RUNS: &str = "the guest runs: pause it first\n";

/// A command's name, and what follows it.
fn parts(command: &str) -> (&str, &str) {
    command.trim().split_once(' ').unwrap_or((command.trim(), ""))
}

/// The most heap that `command` and what it shows take.
pub fn heap_bytes(command: &str, ports: Option<&GuestPorts>) -> u64 {
    match (parts(command), ports) {
        (("screen", _), Some(ports)) => HEAP_BYTES + text_heap_bytes(&ports.vga),
        _ => HEAP_BYTES,
    }
}

/// Does what `command` says; returns what to show.
pub fn run(
    command: &str,
    platform: &dyn Host,
    ports: Option<&GuestPorts>,
    guest: Option<&mut dyn GuestControl>,
) -> String {
    let (name, argument) = parts(command);
    match name {
        "" => String::new(),
        "help" | "?" => HELP.into(),
        "list" => with_guest(ports, guest, |ports, guest| {
            format!(
                "{:24} {:8} {:>12}\n{:24} {}\n",
                "name",
                "state",
                "exits",
                ports.name,
                list_entry(guest)
            )
        }),
        "stats" => with_guest(ports, guest, |_, guest| stats(guest, platform)),
        "dump" => with_guest(ports, guest, |_, guest| guest.dump()),
        "registers" => with_target(guest, registers),
        "pause" => with_target(guest, pause),
        "step" => with_target(guest, |target| step(argument.trim(), target)),
        "set" => with_target(guest, |target| set(argument.trim(), target)),
        "resume" => with_target(guest, resume),
        "catch" => with_target(guest, |target| catch(argument.trim(), target)),
        "screen" => with_guest(ports, guest, |ports, _| match ports.vga.text_screen() {
            Some(screen) => screen.to_string(),
            None => "the guest's screen shows graphics\n".into(),
        }),
        "reset" => with_control(guest, |guest| guest.reset()),
        "destroy" => with_control(guest, |guest| guest.power_off()),
        "log" => String::from_utf8_lossy(&platform.log_text()).into_owned(),
        "crash" => panic!("asked for at the prompt"),
        "reboot" => platform.reboot(),
        "poweroff" => {
            platform.power_off();
            "this machine cannot be turned off\n".into()
        }
        unknown => format!("{unknown}: unknown command, try help\n"),
    }
}

fn with_guest(
    ports: Option<&GuestPorts>,
    guest: Option<&mut dyn GuestControl>,
    answer: impl FnOnce(&GuestPorts, &dyn GuestControl) -> String,
) -> String {
    match (ports, guest) {
        (Some(ports), Some(guest)) => answer(ports, guest),
        _ => NO_GUEST.into(),
    }
}

/// Also between two lives of a guest, when it has no devices.
fn with_control(
    guest: Option<&mut dyn GuestControl>,
    act: impl FnOnce(&dyn GuestControl),
) -> String {
    match guest {
        Some(guest) => {
            act(guest);
            String::new()
        }
        None => NO_GUEST.into(),
    }
}

fn with_target(
    guest: Option<&mut dyn GuestControl>,
    answer: impl FnOnce(&mut dyn DebugTarget) -> String,
) -> String {
    guest.and_then(|guest| guest.debug_target()).map_or_else(|| NO_GUEST.into(), answer)
}

fn registers(target: &mut dyn DebugTarget) -> String {
    format!("{}{}\n", target.registers(), target.location())
}

fn pause(target: &mut dyn DebugTarget) -> String {
    target.pause();
    format!("{}\n", target.location())
}

fn resume(target: &mut dyn DebugTarget) -> String {
    target.resume();
    String::new()
}

fn catch(what: &str, target: &mut dyn DebugTarget) -> String {
    let on = match what {
        "tables" => true,
        "off" => false,
        _ => return "catch takes tables or off\n".into(),
    };
    if target.catch_tables(on) { String::new() } else { "this processor cannot\n".into() }
}

fn set(arguments: &str, target: &mut dyn DebugTarget) -> String {
    let parsed = arguments
        .split_once(' ')
        .and_then(|(name, value)| Some((name, parse_value(value.trim())?)));
    match parsed {
        None => "set takes a register and a hexadecimal value\n".into(),
        Some(_) if !target.is_paused() => RUNS.into(),
        Some((name, value)) if target.set_register(name, value) => String::new(),
        Some((name, _)) => format!("no register {name} can be set\n"),
    }
}

fn step(count: &str, target: &mut dyn DebugTarget) -> String {
    let count = if count.is_empty() { Ok(1) } else { count.parse() };
    let Some(count) = count.ok().filter(|count| (1..=MAX_STEPS).contains(count)) else {
        return format!("step takes a number from 1 to {MAX_STEPS}\n");
    };
    if !target.is_paused() {
        return RUNS.into();
    }
    let steps = steps(target, count);
    let mut text = String::new();
    // Writing to a string does not fail.
    for location in &steps.done {
        let _ = writeln!(text, "  {location}");
    }
    let _ = writeln!(text, "> {}", target.location());
    if let Some(end) = steps.end {
        let _ = writeln!(text, "{} of {count} steps: {end}", steps.done.len());
    }
    text
}

fn list_entry(guest: &dyn GuestControl) -> String {
    let stats = guest.stats();
    format!("{:8} {:>12}", stats.state, stats.total_exits)
}

fn stats(guest: &dyn GuestControl, platform: &dyn Host) -> String {
    let stats = guest.stats();
    let mut text = String::new();
    for (name, count) in stats.exits.iter().filter(|(_, count)| *count != 0) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:20} {count:>12}");
    }
    let _ = writeln!(text, "{:20} {:>12}", "all exits", stats.total_exits);
    let _ = writeln!(text, "{:20} {:>12} ms", "guest time", stats.guest_time_ns / 1_000_000);
    let _ = writeln!(text, "{:20} {:>12} MiB", "free host memory", platform.free_bytes() >> 20);
    text
}
