//! The hypervisor's prompt: a line editor and its commands.

use super::{GuestControl, GuestPorts};
use crate::platform::Platform;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

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

    /// Takes a byte and adds to `echo` what the terminal shall show; returns the command that it completes.
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

/// Does what `command` says; returns what to show.
pub fn run(
    command: &str,
    platform: &dyn Platform,
    ports: Option<&GuestPorts>,
    guest: Option<&dyn GuestControl>,
) -> String {
    let with_guest = |answer: &dyn Fn(&GuestPorts, &dyn GuestControl) -> String| match (ports, guest) {
        (Some(ports), Some(guest)) => answer(ports, guest),
        _ => NO_GUEST.into(),
    };
    // Also between two lives of a guest, when it has no devices.
    let with_control = |act: &dyn Fn(&dyn GuestControl)| match guest {
        Some(guest) => {
            act(guest);
            String::new()
        }
        None => NO_GUEST.into(),
    };
    match command.trim() {
        "" => String::new(),
        "help" | "?" => HELP.into(),
        "list" => with_guest(&|ports, guest| {
            format!("{:24} {:8} {:>12}\n{:24} {}\n", "name", "state", "exits", ports.name, list_entry(guest))
        }),
        "stats" => with_guest(&|_, guest| stats(guest, platform)),
        "dump" => with_guest(&|_, guest| guest.dump()),
        "screen" => with_guest(&|ports, _| match ports.vga.text_screen() {
            Some(screen) => screen.to_string(),
            None => "the guest's screen shows graphics\n".into(),
        }),
        "reset" => with_control(&|guest| guest.reset()),
        "destroy" => with_control(&|guest| guest.power_off()),
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

fn list_entry(guest: &dyn GuestControl) -> String {
    let stats = guest.stats();
    format!("{:8} {:>12}", stats.state, stats.total_exits)
}

fn stats(guest: &dyn GuestControl, platform: &dyn Platform) -> String {
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
