//! The console's serial ports, shared by the guests' consoles and the hypervisor's prompt.

use super::guests::{Guest, Guests};
use super::port::send_some;
use super::prompt::Prompt;
use super::serial::{CHUNK_BYTES, SerialSide};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use config::command_line::Escapes;
use control::guest::ConsoleKind;
use control::host::{Host, SerialPort};
use control::printable::Printable;
use core::fmt::Write;

/// Pressed so many times, it moves the input.
const SWITCH_COUNT: u8 = 3;
/// Ctrl-A.
const SWITCH_KEY: u8 = 1;

/// Bytes taken from one port at once.
const RECEIVE_AT_ONCE: usize = 256;
/// Bytes sent to one port at once.
const SEND_AT_ONCE: usize = 512;
/// A port that is behind by so much holds the guest's output and the prompt's input up.
const MAX_BEHIND: usize = 2048;
/// The last words of guests that wait at most. A guest that restarts for ever says more than a port
/// can take; what is too much is lost.
const MAX_LAST_WORDS: usize = 64 << 10;

/// Where the input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Focus {
    /// The hypervisor's prompt.
    Prompt,
    /// The guest with this number.
    Guest(u32),
}

/// A port, and what it has not yet taken.
#[derive(Debug)]
struct Line {
    port: SerialPort,
    behind: VecDeque<u8>,
}

/// The console.
#[derive(Debug)]
pub struct Terminal {
    lines: Vec<Line>,
    focus: Focus,
    /// The input is at the prompt because a person moved it there.
    prompt_chosen: bool,
    /// Switch keys that are not yet passed on.
    switch_keys: u8,
    prompt: Prompt,
    /// The guest whose output is shown: the one that had the input last.
    shown: Option<u32>,
    escapes: Escapes,
    /// The last byte shown ended a line.
    at_line_start: bool,
}

impl Terminal {
    /// A console on `ports`, with the input at the prompt.
    pub fn new(ports: &[SerialPort], escapes: Escapes) -> Self {
        Self {
            lines: ports.iter().map(|&port| Line { port, behind: VecDeque::new() }).collect(),
            focus: Focus::Prompt,
            prompt_chosen: false,
            switch_keys: 0,
            prompt: Prompt::default(),
            shown: None,
            escapes,
            at_line_start: true,
        }
    }

    /// A guest has devices: the input goes to it, unless another guest has it or a person chose the
    /// prompt.
    pub fn attach(&mut self, number: u32, guests: &mut Guests) {
        match self.focus {
            Focus::Prompt if !self.prompt_chosen => self.set_focus(Focus::Guest(number), guests),
            Focus::Prompt if self.shown.is_none() => self.shown = Some(number),
            _ => {}
        }
    }

    /// A guest is about to lose its devices. It may come back: the input stays where it is.
    pub fn detach(&mut self, guest: &mut Guest) {
        guest.sides.iter_mut().for_each(SerialSide::clear_input);
        for console in ConsoleKind::ALL {
            if self.shows(guest, console) {
                self.take_last_output(guest, console);
            } else {
                guest.keep_output(console);
            }
        }
        if self.lines.is_empty() || self.shown == Some(guest.number()) {
            self.take_terminal_back(guest);
        }
        guest.last_writer = ConsoleKind::Serial;
    }

    /// A guest is gone: the input, if it had it, goes to the prompt.
    pub fn forget(&mut self, number: u32, guests: &mut Guests) {
        if self.shown == Some(number) {
            self.shown = None;
        }
        if self.focus == Focus::Guest(number) {
            self.set_focus(Focus::Prompt, guests);
        }
    }

    /// Shows text of the hypervisor, on lines of its own.
    pub fn print(&mut self, text: &str) {
        if !self.at_line_start {
            self.show(b"\r\n");
        }
        let mut printable = String::with_capacity(text.len());
        // Writing to a string does not fail.
        let _ = Printable(&mut printable).write_str(text);
        let text = printable;
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(line) => {
                    self.show(line.as_bytes());
                    self.show(b"\r\n");
                }
                None => self.show(part.as_bytes()),
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.at_line_start = last == b'\n';
        for line in &mut self.lines {
            line.behind.extend(bytes);
        }
    }

    /// Shows what a guest transmitted.
    fn show_of_guest(&mut self, side: &mut SerialSide, bytes: &[u8]) {
        let escapes = match (self.escapes, self.focus) {
            // The guest is not to draw over what is typed at the prompt.
            (Escapes::Filter, Focus::Prompt) => Escapes::Mark,
            (escapes, _) => escapes,
        };
        let mut shown = Vec::with_capacity(bytes.len());
        side.filter(bytes, escapes, &mut shown);
        self.show(&shown);
    }

    /// Undoes what a guest did to the terminal.
    fn take_terminal_back(&mut self, guest: &mut Guest) {
        let mut sequences = Vec::new();
        guest.sides.iter_mut().for_each(|side| side.restore(&mut sequences));
        for line in &mut self.lines {
            line.behind.extend(&sequences);
        }
    }

    /// Shows the prompt, ready for a command.
    pub fn show_prompt(&mut self) {
        if self.focus == Focus::Prompt {
            self.print(Prompt::TEXT);
        }
    }

    /// Moves the input to a guest: to one of its consoles, or both.
    pub fn give_input(&mut self, number: u32, chosen: Option<ConsoleKind>, guests: &mut Guests) {
        self.prompt_chosen = false;
        if let Some(guest) = guests.get_mut(number) {
            guest.chosen = chosen;
        }
        self.set_focus(Focus::Guest(number), guests);
    }

    fn set_focus(&mut self, focus: Focus, guests: &mut Guests) {
        if let Some(guest) = self.shown.and_then(|number| guests.get_mut(number)) {
            self.take_terminal_back(guest);
        }
        self.focus = focus;
        let mut lost = 0;
        let mut message = String::from("*** Serial input to ");
        match focus {
            Focus::Guest(number) => {
                self.shown = Some(number);
                if let Some(guest) = guests.get_mut(number) {
                    message += guest.name();
                    message += match guest.chosen {
                        None => "",
                        Some(ConsoleKind::Serial) => " at COM1",
                        Some(ConsoleKind::Pv) => " at its PV console",
                    };
                    let shown = ConsoleKind::ALL.into_iter().filter(|&it| guest.shows(it));
                    let shown: Vec<_> = shown.map(|console| console as usize).collect();
                    lost = shown.into_iter().map(|side| guest.sides[side].take_lost()).sum();
                }
            }
            Focus::Prompt => message += "Bulkhead",
        }
        message += " (type 'CTRL-a' three times to switch input)\n";
        if lost != 0 {
            message += &format!("*** The oldest {lost} bytes of its output are lost\n");
        }
        self.print(&message);
        self.show_prompt();
    }

    /// Takes what was typed, until a command has been given at the prompt. While the ports are
    /// behind with answers no command is taken: they would fill the heap.
    pub fn receive(&mut self, host: &dyn Host, guests: &mut Guests) -> Option<String> {
        for index in 0..self.lines.len() {
            let port = self.lines[index].port;
            for _ in 0..RECEIVE_AT_ONCE {
                if self.focus == Focus::Prompt && self.holds_up() {
                    return None;
                }
                let Some(byte) = host.serial_read(port) else { break };
                if let Some(command) = self.typed(byte, guests) {
                    return Some(command);
                }
            }
        }
        None
    }

    fn typed(&mut self, byte: u8, guests: &mut Guests) -> Option<String> {
        if byte == SWITCH_KEY {
            self.switch_keys += 1;
            if self.switch_keys == SWITCH_COUNT {
                self.switch_keys = 0;
                self.switch(guests);
            }
            return None;
        }
        for _ in 0..core::mem::take(&mut self.switch_keys) {
            self.pass_on(SWITCH_KEY, guests);
        }
        self.pass_on(byte, guests)
    }

    /// Moves the input round: the prompt, the guests by their numbers, the prompt.
    fn switch(&mut self, guests: &mut Guests) {
        let number = match self.focus {
            Focus::Prompt => 0,
            Focus::Guest(number) => number,
        };
        let focus = guests.after(number).map_or(Focus::Prompt, Focus::Guest);
        self.prompt_chosen = focus == Focus::Prompt;
        self.set_focus(focus, guests);
    }

    fn pass_on(&mut self, byte: u8, guests: &mut Guests) -> Option<String> {
        match self.focus {
            Focus::Guest(number) => {
                let guest = guests.get_mut(number).filter(|guest| guest.ports.is_some());
                if let Some(guest) = guest {
                    guest.type_at(None, &[byte]);
                }
                None
            }
            Focus::Prompt => {
                let mut echo = Vec::new();
                let command = self.prompt.typed(byte, &mut echo);
                self.show(&echo);
                command
            }
        }
    }

    /// Moves bytes both ways between the guests and the console, as far as both take them. Output
    /// that is not shown is kept.
    pub fn exchange(&mut self, guests: &mut Guests) {
        for guest in guests.iter_mut() {
            guest.pass_input();
            for console in guest.consoles_in_turn() {
                if !self.shows(guest, console) {
                    guest.keep_output(console);
                } else if !self.holds_up() {
                    self.show_output(guest, console);
                }
            }
        }
    }

    /// True if the output of a guest's console is shown. Without a port nothing needs to be kept
    /// for later.
    fn shows(&self, guest: &Guest, console: ConsoleKind) -> bool {
        self.lines.is_empty() || self.shown == Some(guest.number()) && guest.shows(console)
    }

    /// Shows the next of a guest's output; false if there is none.
    fn show_output(&mut self, guest: &mut Guest, console: ConsoleKind) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        let count = guest.take_output(console, &mut chunk);
        self.show_of_guest(&mut guest.sides[console as usize], &chunk[..count]);
        count != 0
    }

    /// Takes what the guest still had to say, whether the ports are behind or not, up to a limit.
    fn take_last_output(&mut self, guest: &mut Guest, console: ConsoleKind) {
        while self.most_behind() < MAX_LAST_WORDS && self.show_output(guest, console) {}
    }

    fn most_behind(&self) -> usize {
        self.lines.iter().map(|line| line.behind.len()).max().unwrap_or(0)
    }

    /// True while the ports are so far behind that whatever can wait does.
    pub fn holds_up(&self) -> bool {
        self.most_behind() > MAX_BEHIND
    }

    /// Sends what the ports take without waiting.
    pub fn send(&mut self, host: &dyn Host) {
        for line in &mut self.lines {
            send_some(host, line.port, &mut line.behind, SEND_AT_ONCE);
        }
    }

    /// True if a port has not yet taken everything.
    pub fn is_behind(&self) -> bool {
        self.lines.iter().any(|line| !line.behind.is_empty())
    }

    /// True if a guest has output that can be shown or kept.
    pub fn has_guest_output(&self, guests: &Guests) -> bool {
        let waits = |guest: &Guest| {
            ConsoleKind::ALL.into_iter().any(|console| {
                let has_kept = guest.sides[console as usize].has_kept();
                has_kept && self.shows(guest, console)
                    || guest.ring(console).is_some_and(|ring| !ring.is_empty())
            })
        };
        guests.iter().any(waits)
    }
}
