//! The consoles: guests' COM1, screen, keyboard and mouse joined to the machine's, the hypervisor's
//! prompt, and the management port.
//!
//! [`Consoles`] lives as long as the hypervisor. It knows a guest by its [`Mailbox`], where it asks
//! and picks up answers, and by the devices of its present life ([`GuestPorts`]); it needs neither
//! a virtual CPU nor a processor's backend. It never waits: it is called when something may have
//! happened, and has an alarm to be called in time.
//!
//! ```
//! use config::CommandLine;
//! use console::Consoles;
//! use control::host::SerialPort;
//! use control::mailbox::{Answer, Mailbox, Request};
//! # use control::test_host::TestHost;
//! # use std::sync::Arc;
//!
//! # let machine = TestHost::leak();
//! let mut consoles = Consoles::new(machine, &CommandLine::parse("rpc=com2").0);
//! let guest = Arc::new(Mailbox::new("small"));
//! consoles.introduce(guest.clone());
//! let call = br#"{"jsonrpc": "2.0", "id": 1, "method": "guest.reset"}"#;
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
mod deflate;
mod escapes;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod keyboard;
mod mirror;
mod png;
mod prompt;
mod rpc;
mod terminal;
#[cfg(any(test, feature = "fuzzing"))]
mod test_guest;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::CommandLine;
use config::command_line::{ComPort, ConsoleDevice};
use control::alarm::ConsoleAlarm;
use control::budget::Budget;
use control::guest::GuestPorts;
use control::host::{Display, Host, SerialPort, host_ns};
use control::mailbox::{Client, Mailbox};
use devices::time::ns_to_ticks;
use devices::vga::{FrameKind, Vga};
use keyboard::Keyboard;
use mirror::Mirror;
use rpc::{RpcPort, Services};
use terminal::Terminal;

/// Until the next try when something did not go at once: a port was busy, a queue was full.
const RETRY_NS: u64 = 1_000_000;

/// The same for the log, which also waits for a guest to end its line.
const LOG_RETRY_NS: u64 = 4_000_000;

/// The consoles.
pub struct Consoles {
    host: &'static dyn Host,
    display: Option<&'static dyn Display>,
    terminal: Terminal,
    keyboard: Keyboard,
    mirror: Mirror,
    rpc: Option<RpcPort>,
    /// The guest, until its mailbox is closed.
    guest: Option<Arc<Mailbox>>,
    /// Its devices, while it has any.
    ports: Option<GuestPorts>,
    /// A command of the prompt that the guest owes an answer to.
    command: Option<Command>,
    /// Lines of the log wait for the ports.
    log_waits: bool,
    next_refresh_ns: u64,
    alarm: Arc<ConsoleAlarm>,
}

/// A command that the guest was asked for.
struct Command {
    text: String,
    guest: Arc<Mailbox>,
    /// The heap that it takes.
    _budget: Budget,
}

const fn serial_port(port: ComPort) -> SerialPort {
    match port {
        ComPort::Com1 => SerialPort::Com1,
        ComPort::Com2 => SerialPort::Com2,
    }
}

impl Consoles {
    /// The consoles that the command line asks for; a port that is the management port is nothing
    /// else. The machine's display is the guest's in any case.
    pub fn new(host: &'static dyn Host, options: &CommandLine) -> Self {
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
            display: host.display(),
            terminal: Terminal::new(&ports, options.escapes),
            keyboard: Keyboard::default(),
            mirror: Mirror::new(),
            rpc: rpc.map(RpcPort::new),
            guest: None,
            ports: None,
            command: None,
            log_waits: false,
            next_refresh_ns: 0,
            alarm: Arc::new(ConsoleAlarm::new(host)),
        }
    }

    /// A guest begins: it can be asked from now on, until its mailbox is closed. It takes the place
    /// of the guest before.
    pub fn introduce(&mut self, guest: Arc<Mailbox>) {
        self.guest = Some(guest);
    }

    /// Joins the devices of the guest's new life to the consoles.
    pub fn attach(&mut self, ports: GuestPorts) {
        ports.output.connect(&self.alarm);
        self.terminal.attach(&ports.name);
        self.keyboard.clear();
        self.mirror.invalidate();
        self.next_refresh_ns = 0;
        self.ports = Some(ports);
    }

    /// Parts with the guest's devices, once what it transmitted is shown as far as the ports take
    /// it.
    pub fn detach(&mut self) {
        if let Some(ports) = self.ports.take() {
            self.terminal.take_last_output(&ports.output);
            self.terminal.send(self.host);
        }
        self.terminal.detach();
        self.keyboard.clear();
    }

    /// No guest is left: the input goes to the prompt.
    pub fn use_prompt(&mut self) {
        self.terminal.use_prompt();
    }

    /// Does what is due. To be called after each physical interrupt, and before the CPU sleeps;
    /// short if there is nothing to do. It may leave requests in the guest's mailbox.
    pub fn attend(&mut self) {
        let now_ns = host_ns(self.host);
        self.work(now_ns);
        self.refresh_display(now_ns);
    }

    /// Goes on with what the guest has answered: prints and sends it.
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
        let output_waits = || self.ports.iter().any(|ports| !ports.output.is_empty());
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
        let i8042 = self.ports.as_ref().map(|ports| &*ports.i8042);
        if self.keyboard.attend(self.host, i8042, now_ns) {
            self.mirror.hurry();
            self.next_refresh_ns = self.next_refresh_ns.min(now_ns + self.mirror.period_ns());
        }
        self.take_commands();
        if let Some((rpc, mut services)) = self.management() {
            rpc.attend(&mut services);
        }
        if let Some(ports) = &self.ports {
            self.terminal.exchange(&ports.uart, &ports.output);
        }
        self.terminal.send(self.host);
    }

    /// Carries out the commands that have been given at the prompt, until the guest owes an answer.
    fn take_commands(&mut self) {
        self.finish_command();
        while self.command.is_none()
            && let Some(text) = self.terminal.receive(self.host)
        {
            self.begin_command(text);
            self.finish_command();
        }
    }

    fn begin_command(&mut self, text: String) {
        let heap_bytes = prompt::heap_bytes(&text, self.ports.as_ref());
        let budget = match Budget::reserve(self.host, heap_bytes) {
            Ok(budget) => budget,
            Err(out_of_heap) => return self.print(&format!("{text}: {out_of_heap}\n")),
        };
        match prompt::run(&text, self.host, self.ports.as_ref()) {
            prompt::Outcome::Text(answer) => self.print(&answer),
            prompt::Outcome::Ask(request) => match &self.guest {
                Some(guest) if guest.post(Client::Prompt, request) => {
                    let guest = guest.clone();
                    self.command = Some(Command { text, guest, _budget: budget });
                }
                _ => self.print(prompt::NO_GUEST),
            },
        }
    }

    /// Prints the guest's answer, once it is there.
    fn finish_command(&mut self) {
        let Some(command) = &self.command else { return };
        let Some(answer) = command.guest.take_answer(Client::Prompt) else { return };
        let text = prompt::show(&command.text, command.guest.name(), answer, self.host);
        self.print(&text);
        self.command = None;
    }

    fn print(&mut self, text: &str) {
        self.terminal.print(text);
        self.terminal.show_prompt();
    }

    fn management(&mut self) -> Option<(&mut RpcPort, Services<'_>)> {
        let services = Services {
            host: self.host,
            ports: self.ports.as_ref(),
            guest: self.guest.as_ref(),
            keyboard: &mut self.keyboard,
            terminal: &mut self.terminal,
        };
        Some((self.rpc.as_mut()?, services))
    }

    fn refresh_display(&mut self, now_ns: u64) {
        if let (Some(display), Some(guest)) = (self.display, &self.ports)
            && now_ns >= self.next_refresh_ns
        {
            self.mirror.refresh(&guest.vga, display, || host_ns(self.host));
            self.next_refresh_ns = now_ns + self.mirror.period_ns();
        }
    }

    /// Host time at which there is something to do even if nothing happens.
    fn deadline_ns(&self, now_ns: u64, other_ns: Option<u64>) -> Option<u64> {
        let output_waits = self.ports.as_ref().is_some_and(|guest| !guest.output.is_empty());
        let busy = output_waits
            || self.command.is_some()
            || self.terminal.is_behind()
            || self.terminal.has_guest_input()
            || self.rpc.as_ref().is_some_and(RpcPort::is_busy);
        let refreshes = self.display.is_some() && self.ports.is_some();
        let deadlines = [
            busy.then_some(now_ns + RETRY_NS),
            self.log_waits.then_some(now_ns + LOG_RETRY_NS),
            refreshes.then_some(self.next_refresh_ns),
            self.keyboard.deadline_ns(now_ns),
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
