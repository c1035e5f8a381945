//! The hypervisor's prompt: a line editor and its commands.

use super::guests::{Guests, Unclear};
use super::{parse_value, text_heap_bytes};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::host::Host;
use control::mailbox::{Answer, MAX_STEPS, Request};
use control::state::{GuestStats, Steps};
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
    /// The prompt's text, which asks for a command.
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

/// A command's name, and what follows it.
fn parts(command: &str) -> (&str, &str) {
    command.trim().split_once(' ').unwrap_or((command.trim(), ""))
}

/// The most heap that `command` and what it shows take.
pub fn heap_bytes(command: &str, guests: &Guests) -> u64 {
    let guest = guests.find(None).ok().and_then(|number| guests.get(number)?.ports.as_ref());
    match (parts(command), guest) {
        (("screen", _), Some(ports)) => HEAP_BYTES + text_heap_bytes(&ports.vga),
        _ => HEAP_BYTES,
    }
}

/// The outcome of a command.
#[derive(Debug)]
pub enum Outcome {
    /// This is to be shown.
    Text(String),
    /// The guest with this number is to be asked; [`show`] makes text of its answer.
    Ask(u32, Request),
}

impl<T: Into<String>> From<T> for Outcome {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// Does what `command` says, as far as that needs no guest.
pub fn run(command: &str, host: &dyn Host, guests: &Guests) -> Outcome {
    let (name, argument) = parts(command);
    let request = match name {
        "" => return "".into(),
        "help" | "?" => return HELP.into(),
        "log" => return String::from_utf8_lossy(&host.log_text()).into(),
        "crash" => panic!("asked for at the prompt"),
        "reboot" => host.reboot(),
        "poweroff" => {
            host.power_off();
            return "this machine cannot be turned off\n".into();
        }
        "screen" => Ok(None),
        "list" | "stats" => Ok(Some(Request::Stats)),
        "dump" => Ok(Some(Request::Dump)),
        "registers" => Ok(Some(Request::Registers)),
        "pause" => Ok(Some(Request::Pause)),
        "step" => step(argument.trim()).map(Some),
        "set" => set(argument.trim()).map(Some),
        "resume" => Ok(Some(Request::Resume)),
        "catch" => catch(argument.trim()).map(Some),
        // Also between two lives of a guest, when it has no devices.
        "reset" => Ok(Some(Request::Reset)),
        "destroy" => Ok(Some(Request::PowerOff)),
        unknown => return format!("{unknown}: unknown command, try help\n").into(),
    };
    let number = match guests.find(None) {
        Ok(number) => number,
        Err(unclear) => return format!("{unclear}\n").into(),
    };
    match request {
        Err(wrong) => wrong.into(),
        Ok(Some(request)) => Outcome::Ask(number, request),
        Ok(None) => match guests.get(number).and_then(|guest| guest.ports.as_ref()) {
            None => format!("{}\n", Unclear::NoGuest).into(),
            Some(ports) => match ports.vga.text_screen() {
                Some(screen) => screen.to_string().into(),
                None => "the guest's screen shows graphics\n".into(),
            },
        },
    }
}

fn catch(what: &str) -> Result<Request, String> {
    match what {
        "tables" => Ok(Request::CatchTables(true)),
        "off" => Ok(Request::CatchTables(false)),
        _ => Err("catch takes tables or off\n".into()),
    }
}

fn set(arguments: &str) -> Result<Request, String> {
    let parsed = arguments
        .split_once(' ')
        .and_then(|(name, value)| Some((name, parse_value(value.trim())?)));
    let (name, value) = parsed.ok_or("set takes a register and a hexadecimal value\n")?;
    Ok(Request::SetRegister { name: name.into(), value })
}

/// The number of steps that `step` is asked for.
fn step_count(argument: &str) -> Option<u32> {
    let count = if argument.is_empty() { Ok(1) } else { argument.parse() };
    count.ok().filter(|count| (1..=MAX_STEPS).contains(count))
}

fn step(argument: &str) -> Result<Request, String> {
    let count = step_count(argument);
    Ok(Request::Step(count.ok_or_else(|| format!("step takes a number from 1 to {MAX_STEPS}\n"))?))
}

/// The text that the answer of the guest called `guest` to `command` becomes.
pub fn show(command: &str, guest: &str, answer: Answer, host: &dyn Host) -> String {
    let (name, argument) = parts(command);
    match answer {
        Answer::Done => String::new(),
        Answer::NoGuest => format!("{}\n", Unclear::NoGuest),
        Answer::Runs => "the guest runs: pause it first\n".into(),
        Answer::Impossible => "this processor cannot\n".into(),
        Answer::NoRegister(register) => format!("no register {register} can be set\n"),
        Answer::Stats(stats) if name == "list" => list(guest, &stats),
        Answer::Stats(stats) => all_stats(&stats, host),
        Answer::Dump(text) => text,
        Answer::Paused(location) => format!("{location}\n"),
        Answer::Registers(registers, location) => format!("{registers}{location}\n"),
        Answer::Steps(steps) => all_steps(&steps, step_count(argument.trim()).unwrap_or(1)),
        Answer::Created { number } => format!("guest {number}\n"),
        Answer::Failed(reason) => format!("{reason}\n"),
    }
}

fn all_steps(steps: &Steps, count: u32) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for location in &steps.done {
        let _ = writeln!(text, "  {location}");
    }
    let _ = writeln!(text, "> {}", steps.next);
    if let Some(end) = steps.end {
        let _ = writeln!(text, "{} of {count} steps: {end}", steps.done.len());
    }
    text
}

fn list(guest: &str, stats: &GuestStats) -> String {
    format!(
        "{:24} {:8} {:>12}\n{:24} {:8} {:>12}\n",
        "name", "state", "exits", guest, stats.state, stats.total_exits
    )
}

fn all_stats(stats: &GuestStats, host: &dyn Host) -> String {
    let mut text = String::new();
    for (name, count) in stats.exits.iter().filter(|(_, count)| *count != 0) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:20} {count:>12}");
    }
    let _ = writeln!(text, "{:20} {:>12}", "all exits", stats.total_exits);
    let _ = writeln!(text, "{:20} {:>12} ms", "guest time", stats.guest_time_ns / 1_000_000);
    let _ = writeln!(text, "{:20} {:>12} MiB", "free host memory", host.free_bytes() >> 20);
    text
}
