//! The console's serial ports, shared by the guest's COM1 and the hypervisor's prompt.

use super::escapes::EscapeFilter;
use super::prompt::Prompt;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use config::command_line::Escapes;
use control::host::{Host, SerialPort};
use control::output::OutputRing;
use control::printable::Printable;
use core::fmt::Write;
use devices::uart::Uart;

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
/// Bytes for the guest that wait at most; what is typed beyond is lost.
const MAX_GUEST_INPUT: usize = 64 << 10;

/// Where the input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Focus {
    /// The hypervisor's prompt.
    Prompt,
    /// The guest's COM1.
    Guest,
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
    /// The last guest that was there, and whether it still is.
    guest_name: Option<String>,
    attached: bool,
    guest_input: VecDeque<u8>,
    escapes: Escapes,
    filter: EscapeFilter,
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
            guest_name: None,
            attached: false,
            guest_input: VecDeque::new(),
            escapes,
            filter: EscapeFilter::default(),
            at_line_start: true,
        }
    }

    /// A guest is there: the input goes to it, unless a person chose the prompt.
    pub fn attach(&mut self, name: &str) {
        let has_input = self.focus == Focus::Guest && self.guest_name.as_deref() == Some(name);
        self.guest_name = Some(name.into());
        self.attached = true;
        if !self.prompt_chosen && !has_input {
            self.set_focus(Focus::Guest);
        }
    }

    /// The guest is gone. It may come back: the input stays where it is.
    pub fn detach(&mut self) {
        self.attached = false;
        self.guest_input.clear();
        self.take_terminal_back();
    }

    /// The prompt alone is on this terminal.
    pub fn use_prompt(&mut self) {
        if !self.attached && self.focus == Focus::Guest {
            self.set_focus(Focus::Prompt);
        }
    }

    /// Bytes for the guest's COM1; false if there is no room for them all.
    pub fn write_to_guest(&mut self, bytes: &[u8]) -> bool {
        let fits = self.guest_input.len() + bytes.len() <= MAX_GUEST_INPUT;
        if fits {
            self.guest_input.extend(bytes);
        }
        fits
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

    /// Shows what the guest transmitted.
    fn show_of_guest(&mut self, bytes: &[u8]) {
        let escapes = match (self.escapes, self.focus) {
            // The guest is not to draw over what is typed at the prompt.
            (Escapes::Filter, Focus::Prompt) => Escapes::Mark,
            (escapes, _) => escapes,
        };
        let mut shown = Vec::with_capacity(bytes.len());
        self.filter.take(bytes, escapes, &mut shown);
        self.show(&shown);
    }

    /// Undoes what the guest did to the terminal.
    fn take_terminal_back(&mut self) {
        let mut sequences = Vec::new();
        self.filter.restore(&mut sequences);
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

    fn set_focus(&mut self, focus: Focus) {
        self.focus = focus;
        self.take_terminal_back();
        let name = match (&self.guest_name, focus) {
            (Some(name), Focus::Guest) => name.as_str(),
            _ => "Bulkhead",
        };
        let message =
            format!("*** Serial input to {name} (type 'CTRL-a' three times to switch input)\n");
        self.print(&message);
        self.show_prompt();
    }

    /// Takes what was typed, until a command has been given at the prompt. While the ports are
    /// behind with answers no command is taken: they would fill the heap.
    pub fn receive(&mut self, host: &dyn Host) -> Option<String> {
        for index in 0..self.lines.len() {
            let port = self.lines[index].port;
            for _ in 0..RECEIVE_AT_ONCE {
                if self.focus == Focus::Prompt && self.most_behind() > MAX_BEHIND {
                    return None;
                }
                let Some(byte) = host.serial_read(port) else { break };
                if let Some(command) = self.typed(byte) {
                    return Some(command);
                }
            }
        }
        None
    }

    fn typed(&mut self, byte: u8) -> Option<String> {
        if byte == SWITCH_KEY {
            self.switch_keys += 1;
            if self.switch_keys == SWITCH_COUNT {
                self.switch_keys = 0;
                self.switch();
            }
            return None;
        }
        for _ in 0..core::mem::take(&mut self.switch_keys) {
            self.pass_on(SWITCH_KEY);
        }
        self.pass_on(byte)
    }

    fn switch(&mut self) {
        let focus = match self.focus {
            Focus::Prompt if self.attached => Focus::Guest,
            _ => Focus::Prompt,
        };
        self.prompt_chosen = focus == Focus::Prompt;
        self.set_focus(focus);
    }

    fn pass_on(&mut self, byte: u8) -> Option<String> {
        match self.focus {
            Focus::Guest => {
                if self.attached {
                    self.write_to_guest(&[byte]);
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

    /// Moves bytes both ways between the guest's COM1 and the console, as far as both take them.
    pub fn exchange(&mut self, uart: &Uart, output: &OutputRing) {
        while let Some(&byte) = self.guest_input.front()
            && uart.receive(byte)
        {
            self.guest_input.pop_front();
        }
        if output.is_empty() || self.most_behind() > MAX_BEHIND {
            return;
        }
        let mut chunk = [0; SEND_AT_ONCE];
        let count = output.take(&mut chunk);
        self.show_of_guest(&chunk[..count]);
    }

    /// Takes what the guest still had to say, whether the ports are behind or not, up to a limit.
    pub fn take_last_output(&mut self, output: &OutputRing) {
        let mut chunk = [0; SEND_AT_ONCE];
        while self.most_behind() < MAX_LAST_WORDS {
            match output.take(&mut chunk) {
                0 => return,
                count => self.show_of_guest(&chunk[..count]),
            }
        }
    }

    fn most_behind(&self) -> usize {
        self.lines.iter().map(|line| line.behind.len()).max().unwrap_or(0)
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

    /// True if the guest has not yet taken everything.
    pub fn has_guest_input(&self) -> bool {
        !self.guest_input.is_empty()
    }
}

/// Sends at most `limit` bytes of `queue` to `port`, as far as it takes them.
pub fn send_some(host: &dyn Host, port: SerialPort, queue: &mut VecDeque<u8>, limit: usize) {
    let mut left = limit;
    loop {
        let (first, _) = queue.as_slices();
        let part = &first[..first.len().min(left)];
        if part.is_empty() {
            return;
        }
        let wanted = part.len();
        let sent = host.serial_write(port, part).min(wanted);
        queue.drain(..sent);
        left -= sent;
        if sent < wanted {
            return;
        }
    }
}
