//! The consoles: guests' COM1, screen, keyboard and mouse joined to the machine's, the hypervisor's
//! prompt, and the management port.
//!
//! [`Consoles`] lives as long as the hypervisor. It knows each guest by its [`Mailbox`], where it
//! asks and picks up answers, and by the devices of its present life ([`GuestPorts`]); it needs
//! neither a virtual CPU nor a processor's backend. It never waits: it is called when something may
//! have happened, and has an alarm to be called in time.
//!
//! ```
//! use config::CommandLine;
//! use console::Consoles;
//! use control::guest::GuestFacts;
//! use control::host::SerialPort;
//! use control::mailbox::{Answer, Mailbox, Request};
//! # use control::test_host::TestHost;
//! # use std::sync::Arc;
//!
//! # let machine = TestHost::leak();
//! let (options, _) = CommandLine::parse("rpc=com2");
//! let mut consoles = Consoles::new(machine, &options, Arc::new(Mailbox::of_machine()));
//! let guest = Arc::new(Mailbox::new(1, "small"));
//! consoles.introduce(guest.clone(), GuestFacts { memory_mib: 128, vcpus: 1 });
//! let call = br#"{"jsonrpc": "2.0", "id": 1, "method": "guest.reboot"}"#;
//! machine.type_at(SerialPort::Com2, call);
//! machine.type_at(SerialPort::Com2, b"\n");
//! consoles.attend();
//!
//! // The guest's vCPU looks into its mailbox between two exits.
//! let (client, request) = guest.take_request().expect("a request");
//! assert_eq!(request, Request::Reset);
//! guest.put_answer(client, Answer::Done);
//!
//! consoles.take_answers();
//! let sent = machine.take_sent(SerialPort::Com2);
//! assert_eq!(sent, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
//! ```
#![cfg_attr(not(any(test, feature = "fuzzing")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod chord;
mod command;
mod deflate;
mod escapes;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guests;
mod host_disks;
mod keyboard;
mod listed;
mod mirror;
mod panel;
mod png;
mod port;
mod prompt;
mod rpc;
mod seat;
mod serial;
mod terminal;
#[cfg(any(test, feature = "fuzzing"))]
mod test_guest;
#[cfg(test)]
mod tests;
mod triggers;
mod watch;
mod words;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use command::{Begun, Services, Waiting};
use config::CommandLine;
use config::command_line::{ComPort, ConsoleDevice};
use control::alarm::ConsoleAlarm;
use control::budget::Budget;
use control::guest::{GuestFacts, GuestPorts};
use control::host::{Host, SerialPort, host_ns};
use control::mailbox::{Client, Mailbox};
use devices::time::ns_to_ticks;
use devices::vga::{FrameKind, Vga};
use guests::{Guest, Guests};
use rpc::RpcPort;
use seat::Seat;
use terminal::Terminal;
use watch::{Shown, Watch};
use words::Typed;

/// Until the next try when something did not go at once: a port was busy, a queue was full.
const RETRY_NS: u64 = 1_000_000;

/// The same for the log, which also waits for a guest to end its line.
const LOG_RETRY_NS: u64 = 4_000_000;

/// The most heap that a command of the prompt takes, but for what it sets aside itself.
const COMMAND_HEAP_BYTES: u64 = 512 << 10;

/// The prompts: that of the serial ports, and that of the machine's own screen.
const PROMPTS: [Client; 2] = [Client::Prompt, Client::Screen];

/// A command of a prompt that is not done yet.
enum Running {
    /// It waits for its answer.
    Waiting(Waiting),
    /// It shows events, until it is ended.
    Watch(Watch),
}

/// The consoles.
pub struct Consoles {
    host: &'static dyn Host,
    machine: Arc<Mailbox>,
    guests: Guests,
    terminal: Terminal,
    seat: Seat,
    rpc: Option<RpcPort>,
    /// A command of each prompt that answers are owed to, and the heap that it takes.
    commands: [Option<(Running, Vec<Budget>)>; PROMPTS.len()],
    /// Lines of the log wait for the ports.
    log_waits: bool,
    alarm: Arc<ConsoleAlarm>,
}

const fn serial_port(port: ComPort) -> SerialPort {
    match port {
        ComPort::Com1 => SerialPort::Com1,
        ComPort::Com2 => SerialPort::Com2,
    }
}

impl Consoles {
    /// The consoles that the command line asks for; a port that is the management port is nothing
    /// else. The machine's display is a guest's in any case. Requests that concern no guest that
    /// exists go to `machine`.
    pub fn new(host: &'static dyn Host, options: &CommandLine, machine: Arc<Mailbox>) -> Self {
        let rpc = options.rpc.map(serial_port);
        let mut ports = Vec::new();
        for device in &options.console {
            let ConsoleDevice::Serial(port) = device else { continue };
            let port = serial_port(*port);
            if rpc == Some(port) {
                log::warn!("console: {port:?} is the management port, and no console");
            } else {
                ports.push(port);
            }
        }
        Self {
            host,
            machine,
            guests: Guests::default(),
            terminal: Terminal::new(&ports, options.escapes),
            seat: Seat::new(host),
            rpc: rpc.map(RpcPort::new),
            commands: [const { None }; PROMPTS.len()],
            log_waits: false,
            alarm: Arc::new(ConsoleAlarm::new(host)),
        }
    }

    /// A guest begins: it can be asked from now on, until its mailbox is closed.
    pub fn introduce(&mut self, guest: Arc<Mailbox>, facts: GuestFacts) {
        self.guests.introduce(guest, facts, self.host);
    }

    /// Joins the devices of a guest's new life to the consoles.
    pub fn attach(&mut self, number: u32, ports: GuestPorts) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        ports.output.iter().for_each(|output| output.connect(&self.alarm));
        guest.keyboard.clear();
        guest.ports = Some(ports);
        self.terminal.attach(number, &mut self.guests);
        self.seat.attach(number);
    }

    /// Parts with a guest's devices, once what it transmitted is shown as far as the ports take
    /// it, or kept.
    pub fn detach(&mut self, number: u32) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        self.terminal.detach(guest);
        guest.ports = None;
        guest.keyboard.clear();
        self.terminal.send(self.host);
    }

    /// Does what is due. To be called after each physical interrupt, and before the CPU sleeps;
    /// short if there is nothing to do. It may leave requests in the guests' mailboxes.
    pub fn attend(&mut self) {
        let now_ns = host_ns(self.host);
        self.forget_guests();
        self.work(now_ns);
        self.seat.refresh(self.host, &mut self.guests, now_ns);
    }

    /// Goes on with what was answered: prints and sends it.
    pub fn take_answers(&mut self) {
        self.take_commands();
        if let Some((rpc, mut services)) = self.management() {
            rpc.take_answers(&mut services);
        }
        self.terminal.send(self.host);
    }

    /// Sets the alarm to when [`Consoles::attend`] has something to do, or to `other_ns` of host
    /// time if that is earlier.
    pub fn set_alarm(&mut self, other_ns: Option<u64>) {
        let now_ns = host_ns(self.host);
        let due_ns = self.deadline_ns(now_ns, other_ns).unwrap_or(u64::MAX);
        let output_waits = || self.terminal.has_guest_output(&self.guests);
        self.alarm.set(due_ns, now_ns + RETRY_NS, output_waits);
    }

    /// The time stamp counter at which to call again if no physical interrupt comes before.
    pub fn due_tsc(&self) -> u64 {
        // A little late, so that it has come when the alarm rings.
        const SLACK_NS: u64 = 1_000;
        match self.alarm.due_ns() {
            u64::MAX => u64::MAX,
            due_ns => ns_to_ticks(due_ns.saturating_add(SLACK_NS), self.host.tsc_hz()),
        }
    }

    /// Sends what still waits for the ports: for the last words before the machine is turned off.
    /// This waits, for a second at most.
    pub fn flush(&mut self) {
        const PATIENCE_NS: u64 = 1_000_000_000;
        let end_ns = host_ns(self.host).saturating_add(PATIENCE_NS);
        while host_ns(self.host) < end_ns {
            let log_waits = self.host.drain_log();
            self.terminal.send(self.host);
            let answers_wait = self.rpc.as_mut().is_some_and(|rpc| rpc.send(self.host));
            if !log_waits && !answers_wait && !self.terminal.is_behind() {
                return;
            }
        }
    }

    fn work(&mut self, now_ns: u64) {
        self.log_waits = self.host.drain_log();
        self.seat.take_input(self.host, &mut self.guests, now_ns);
        for guest in self.guests.iter_mut() {
            guest.keyboard.attend(guest.ports.as_ref().map(|ports| &*ports.i8042), now_ns);
        }
        self.take_commands();
        if let Some((rpc, mut services)) = self.management() {
            rpc.attend(&mut services);
        }
        self.terminal.exchange(&mut self.guests);
        self.terminal.send(self.host);
    }

    /// Drops guests that are gone for good.
    fn forget_guests(&mut self) {
        while let Some(number) = self.guests.drop_closed() {
            self.terminal.forget(number, &mut self.guests);
            self.seat.forget(number, &self.guests);
        }
    }

    /// Carries out the commands that have been given at the prompts, until answers are owed.
    fn take_commands(&mut self) {
        for (place, client) in PROMPTS.into_iter().enumerate() {
            // Before more is fetched that would keep its end from being heard.
            self.interrupt_watch(place);
            self.finish_command(place);
            while self.commands[place].is_none()
                && let Some(line) = self.receive(client)
            {
                self.begin_command(place, &line);
                self.finish_command(place);
            }
        }
    }

    fn receive(&mut self, client: Client) -> Option<String> {
        match client {
            Client::Screen => self.seat.take_command(),
            _ => self.terminal.receive(self.host, &mut self.guests),
        }
    }

    fn begin_command(&mut self, place: usize, line: &str) {
        let client = PROMPTS[place];
        let budget = match Budget::reserve(self.host, COMMAND_HEAP_BYTES) {
            Ok(budget) => budget,
            Err(out_of_heap) => return self.print(client, &format!("{out_of_heap}\n")),
        };
        let command = match words::parse(line, &self.guests) {
            Typed::Command(command) => command,
            Typed::Watch { paths, count } => {
                let watch = Watch::begin(&self.machine, client, paths, count);
                self.commands[place] = Some((Running::Watch(watch), vec![budget]));
                return;
            }
            Typed::Text(text) => return self.print(client, &text),
        };
        let mut budgets = vec![budget];
        let mut services = Services {
            host: self.host,
            machine: &self.machine,
            guests: &mut self.guests,
            terminal: &mut self.terminal,
        };
        let outcome = match services.begin(command, client, &mut budgets) {
            Ok(Begun::Waiting(waiting)) => {
                self.commands[place] = Some((Running::Waiting(waiting), budgets));
                return;
            }
            Ok(Begun::Replied(reply)) => Ok(reply),
            Err(refusal) => Err(refusal),
        };
        self.print(client, &words::show(outcome, self.host));
    }

    /// Prints the outcome of a command that has waited for it, once it is there, or what a watch
    /// has to show.
    fn finish_command(&mut self, place: usize) {
        let client = PROMPTS[place];
        let may_show = self.may_show(client);
        match &mut self.commands[place] {
            None => {}
            Some((Running::Waiting(waiting), _)) => {
                if let Some(outcome) = waiting.take_reply(client) {
                    self.print(client, &words::show(outcome, self.host));
                    self.commands[place] = None;
                }
            }
            Some((Running::Watch(watch), _)) => {
                let Shown { text, is_last } = watch.attend(host_ns(self.host), may_show);
                if is_last {
                    self.print(client, &text);
                    self.commands[place] = None;
                } else if !text.is_empty() {
                    self.show(client, &text);
                }
            }
        }
    }

    /// Ends a watch if a line has been typed, or Ctrl-C.
    fn interrupt_watch(&mut self, place: usize) {
        let is_watching = matches!(
            &self.commands[place],
            Some((Running::Watch(watch), _)) if !watch.is_ending()
        );
        if is_watching
            && self.receive(PROMPTS[place]).is_some()
            && let Some((Running::Watch(watch), _)) = &mut self.commands[place]
        {
            watch.end();
        }
    }

    /// True if a prompt takes more text of a watch: not while its ports are behind.
    fn may_show(&self, client: Client) -> bool {
        client == Client::Screen || !self.terminal.holds_up()
    }

    /// Shows a part of what a command has to say.
    fn show(&mut self, client: Client, text: &str) {
        match client {
            Client::Screen => self.seat.show(text),
            _ => self.terminal.print(text),
        }
    }

    fn print(&mut self, client: Client, text: &str) {
        match client {
            Client::Screen => self.seat.print(text),
            _ => {
                self.terminal.print(text);
                self.terminal.show_prompt();
            }
        }
    }

    fn management(&mut self) -> Option<(&mut RpcPort, Services<'_>)> {
        let services = Services {
            host: self.host,
            machine: &self.machine,
            guests: &mut self.guests,
            terminal: &mut self.terminal,
        };
        Some((self.rpc.as_mut()?, services))
    }

    /// Host time at which there is something to do even if nothing happens.
    fn deadline_ns(&self, now_ns: u64, other_ns: Option<u64>) -> Option<u64> {
        let busy = self.terminal.has_guest_output(&self.guests)
            || self.terminal.is_behind()
            || self.guests.iter().any(Guest::has_input)
            || self.rpc.as_ref().is_some_and(RpcPort::is_busy);
        let commands = PROMPTS.into_iter().zip(&self.commands).filter_map(|(client, command)| {
            Some(match &command.as_ref()?.0 {
                Running::Waiting(_) => now_ns + RETRY_NS,
                Running::Watch(watch) => watch.due_ns(now_ns, self.may_show(client)),
            })
        });
        let typing = self.guests.iter().filter_map(|guest| guest.keyboard.deadline_ns(now_ns));
        let deadlines = [
            busy.then_some(now_ns + RETRY_NS),
            self.log_waits.then_some(now_ns + LOG_RETRY_NS),
            self.seat.deadline_ns(&self.guests),
            typing.min(),
            commands.min(),
            other_ns,
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// The most heap that the text on a guest's screen takes on its way to a serial port. A guest may
/// set a mode of 256 columns and 1024 rows.
fn text_heap_bytes(vga: &Vga) -> u64 {
    // The cell, its character in UTF-8, and two copies of that, each while it grows.
    const BYTES_PER_CELL: u64 = 16;
    match vga.frame().kind {
        FrameKind::Text { columns, rows } => u64::from(columns) * u64::from(rows) * BYTES_PER_CELL,
        FrameKind::Graphics | FrameKind::Blank => 0,
    }
}

/// A value in hexadecimal digits, with `0x` before them or not.
fn parse_value(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}
