//! The consoles: the guest's COM1, screen, keyboard and mouse joined to the machine's, the
//! hypervisor's prompt, and the management port.
//!
//! [`Consoles`] lives as long as the hypervisor; a guest is attached and detached. It works between
//! two exits of a guest, without ever waiting, and has an alarm among the guest's devices to be
//! called in time. As the part of the hypervisor that is always attended to, it also looks for
//! errors that the machine has corrected.

mod answer;
mod deflate;
mod escapes;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod housekeeping;
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

use control::output::{DebugLines, OutputRing};

use crate::host::machine_check_watch::MachineCheckWatch;
use crate::host::platform::Platform;
use crate::vcpu::debug::DebugTarget;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::CommandLine;
use config::command_line::{ComPort, ConsoleDevice};
use control::budget::Budget;
use control::host::{Display, SerialPort, host_ns};
use devices::console::ByteSink;
use devices::i8042::I8042;
use devices::time::{Alarm, Clock, GuestTime, ns_to_ticks};
use devices::uart::Uart;
use devices::vga::{FrameKind, Vga};
use keyboard::Keyboard;
use mirror::Mirror;
use rpc::{RpcPort, Services};
use terminal::Terminal;

/// Until the next try when something did not go at once: a port was busy, a queue was full.
const RETRY_NS: u64 = 1_000_000;

/// The same for the log, which also waits for a guest to end its line.
const LOG_RETRY_NS: u64 = 4_000_000;

/// What a guest did so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestStats {
    /// What it is doing, in one word.
    pub state: &'static str,
    /// All exits.
    pub total_exits: u64,
    /// Exits by reason.
    pub exits: Vec<(&'static str, u64)>,
    /// Guest time.
    pub guest_time_ns: u64,
}

/// What the consoles ask of a running guest.
pub trait GuestControl {
    /// What it did so far.
    fn stats(&self) -> GuestStats;
    /// Ends it before its next entry, as if its power were cut.
    fn power_off(&self);
    /// Resets it before its next entry.
    fn reset(&self);
    /// The state of its virtual CPUs, as text with line ends.
    fn dump(&self) -> String;
    /// The virtual CPU, if there is one that can be paused.
    fn debug_target(&mut self) -> Option<&mut dyn DebugTarget>;
}

/// Where a new guest's devices transmit to.
#[derive(Clone)]
pub struct OpenPorts {
    /// Of COM1.
    pub output: Arc<OutputRing>,
    /// Of the firmware's debug port.
    pub debug: Arc<dyn ByteSink>,
}

/// Where a guest is joined to the consoles.
#[derive(Clone)]
pub struct GuestPorts {
    /// Its name.
    pub name: String,
    /// COM1, which transmits to `output`.
    pub uart: Arc<Uart>,
    /// What COM1 transmits.
    pub output: Arc<OutputRing>,
    /// The screen.
    pub vga: Arc<Vga>,
    /// Keyboard and mouse.
    pub i8042: Arc<I8042>,
    /// Guest time.
    pub clock: Arc<dyn Clock>,
    /// An alarm of the guest's timer queue. Nothing need be done when it rings but to call
    /// [`Consoles::attend_guest`], as after each physical interrupt.
    pub alarm: Alarm,
}

/// The consoles.
pub struct Consoles {
    platform: &'static dyn Platform,
    display: Option<&'static dyn Display>,
    terminal: Terminal,
    keyboard: Keyboard,
    mirror: Mirror,
    rpc: Option<RpcPort>,
    guest: Option<GuestPorts>,
    /// Lines of the log wait for the ports.
    log_waits: bool,
    next_refresh_ns: u64,
    machine_checks: MachineCheckWatch,
    /// When to look at them again.
    next_look_ns: Option<u64>,
    armed: Armed,
}

/// What the alarm is set to: host time, and the guest time that it was computed to be.
#[derive(Clone, Copy, Debug)]
struct Armed {
    host_ns: u64,
    guest_time: GuestTime,
}

const NOT_ARMED: Armed = Armed { host_ns: u64::MAX, guest_time: GuestTime::ZERO };

const fn serial_port(port: ComPort) -> SerialPort {
    match port {
        ComPort::Com1 => SerialPort::Com1,
        ComPort::Com2 => SerialPort::Com2,
    }
}

impl Consoles {
    /// The consoles that the command line asks for; a port that is the management port is nothing
    /// else. The machine's display is the guest's in any case.
    pub fn new(platform: &'static dyn Platform, options: &CommandLine) -> Self {
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
            platform,
            display: platform.display(),
            terminal: Terminal::new(&ports, options.escapes),
            keyboard: Keyboard::default(),
            mirror: Mirror::new(),
            rpc: rpc.map(RpcPort::new),
            guest: None,
            log_waits: false,
            next_refresh_ns: 0,
            machine_checks: MachineCheckWatch::default(),
            next_look_ns: None,
            armed: NOT_ARMED,
        }
    }

    /// The ports of a guest called `name` that is being built; [`Consoles::attach`] takes them.
    pub fn open(&self, name: &str) -> OpenPorts {
        OpenPorts { output: Arc::new(OutputRing::new()), debug: Arc::new(DebugLines::new(name)) }
    }

    /// Joins a guest to the consoles, instead of the one before.
    pub fn attach(&mut self, guest: GuestPorts) {
        guest.output.connect(&guest.clock, &guest.alarm);
        self.terminal.attach(&guest.name);
        self.keyboard.clear();
        self.mirror.invalidate();
        self.next_refresh_ns = 0;
        self.armed = NOT_ARMED;
        self.guest = Some(guest);
    }

    /// Parts with the guest, once what it transmitted is shown as far as the ports take it.
    pub fn detach(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.terminal.take_last_output(&guest.output);
            self.terminal.send(self.platform);
            guest.alarm.set(None);
        }
        self.terminal.detach();
        self.keyboard.clear();
    }

    /// Does what is due. To be called after each physical interrupt, and before the CPU sleeps;
    /// short if there is nothing to do.
    pub fn attend_guest(&mut self, guest: &mut dyn GuestControl) {
        let now_ns = host_ns(self.platform);
        self.work(Some(guest), now_ns);
        self.refresh_display(now_ns);
        self.arm(now_ns);
    }

    /// Does what is due while there is no guest, and returns the time stamp counter at which to
    /// call again if no physical interrupt comes before.
    pub fn attend_alone(&mut self) -> u64 {
        self.terminal.use_prompt();
        self.attend_by_host_time(None)
    }

    /// The same while guest time stands still: the guest is paused, or between two lives. The input
    /// stays where it is.
    pub fn attend_by_host_time(&mut self, guest: Option<&mut dyn GuestControl>) -> u64 {
        let now_ns = host_ns(self.platform);
        self.work(guest, now_ns);
        self.refresh_display(now_ns);
        self.armed = NOT_ARMED;
        self.deadline_ns(now_ns).map_or(u64::MAX, |ns| ns_to_ticks(ns, self.platform.tsc_hz()))
    }

    /// Sends what still waits for the ports: for the last words before the machine is turned off.
    /// This waits, for a second at most.
    pub fn flush(&mut self) {
        const PATIENCE_NS: u64 = 1_000_000_000;
        let end_ns = host_ns(self.platform).saturating_add(PATIENCE_NS);
        while host_ns(self.platform) < end_ns {
            let log_waits = self.platform.drain_log();
            self.terminal.send(self.platform);
            let answers_wait = self.rpc.as_mut().is_some_and(|rpc| rpc.send(self.platform));
            if !log_waits && !answers_wait && !self.terminal.is_behind() {
                return;
            }
        }
    }

    fn work(&mut self, mut guest: Option<&mut dyn GuestControl>, now_ns: u64) {
        let platform = self.platform;
        let ports = self.guest.as_ref();
        self.next_look_ns = self.machine_checks.attend(platform, now_ns);
        self.log_waits = platform.drain_log();
        if self.keyboard.attend(platform, ports.map(|ports| &*ports.i8042), now_ns) {
            self.mirror.hurry();
            self.next_refresh_ns = self.next_refresh_ns.min(now_ns + self.mirror.period_ns());
        }
        while let Some(command) = self.terminal.receive(platform) {
            let budget = Budget::reserve(platform, prompt::heap_bytes(&command, ports));
            let answer = match &budget {
                Ok(_) => prompt::run(&command, platform, ports, reborrow(&mut guest)),
                Err(out_of_heap) => format!("{command}: {out_of_heap}\n"),
            };
            self.terminal.print(&answer);
            self.terminal.show_prompt();
        }
        if let Some(rpc) = &mut self.rpc {
            let (keyboard, terminal) = (&mut self.keyboard, &mut self.terminal);
            rpc.attend(&mut Services {
                platform,
                ports,
                guest: reborrow(&mut guest),
                keyboard,
                terminal,
            });
        }
        if let Some(ports) = ports {
            self.terminal.exchange(&ports.uart, &ports.output);
        }
        self.terminal.send(platform);
    }

    fn refresh_display(&mut self, now_ns: u64) {
        if let (Some(display), Some(guest)) = (self.display, &self.guest)
            && now_ns >= self.next_refresh_ns
        {
            self.mirror.refresh(&guest.vga, display, || host_ns(self.platform));
            self.next_refresh_ns = now_ns + self.mirror.period_ns();
        }
    }

    /// Host time at which there is something to do even if nothing happens.
    fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        let output_waits = self.guest.as_ref().is_some_and(|guest| !guest.output.is_empty());
        let busy = output_waits
            || self.terminal.is_behind()
            || self.terminal.has_guest_input()
            || self.rpc.as_ref().is_some_and(RpcPort::is_busy);
        let refreshes = self.display.is_some() && self.guest.is_some();
        let deadlines = [
            busy.then_some(now_ns + RETRY_NS),
            self.log_waits.then_some(now_ns + LOG_RETRY_NS),
            refreshes.then_some(self.next_refresh_ns),
            self.keyboard.deadline_ns(now_ns),
            self.next_look_ns,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Sets the alarm.
    fn arm(&mut self, now_ns: u64) {
        // A little late, so that it has come when the alarm rings.
        const SLACK_NS: u64 = 1_000;
        let Some(guest) = &self.guest else { return };
        let deadline_ns = self.deadline_ns(now_ns);
        if let Some(host_ns) = deadline_ns
            && host_ns != self.armed.host_ns
        {
            let guest_time = guest.clock.now() + host_ns.saturating_sub(now_ns) + SLACK_NS;
            self.armed = Armed { host_ns, guest_time };
        }
        let deadline = deadline_ns.map(|_| self.armed.guest_time);
        let retry = guest.clock.now() + RETRY_NS + SLACK_NS;
        guest.output.set_alarm(&guest.alarm, deadline, retry);
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

/// The guest, for a while.
fn reborrow<'a>(guest: &'a mut Option<&mut dyn GuestControl>) -> Option<&'a mut dyn GuestControl> {
    match guest {
        Some(guest) => Some(*guest),
        None => None,
    }
}
