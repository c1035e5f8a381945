//! The commands that the prompt and the management port share: each parses its operands and shows
//! the reply in its own way, and here they are carried out.

use super::guests::{Guest, Guests, Unclear};
use super::listed::{Columns, Listed};
use super::terminal::Terminal;
use super::text_heap_bytes;
use super::triggers::{NoVcpu, Trigger};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::cpus::CpuList;
use control::budget::{Budget, OutOfHeap};
use control::cards::{CardChange, CardFacts};
use control::disks::{DiskChange, DiskFacts, HostDiskFacts};
use control::guest::{ConsoleKind, GuestPorts};
use control::host::Host;
use control::mailbox::{
    Answer, Client, MAX_STORE_TEXT_BYTES, MAX_WATCH_EVENTS, Mailbox, Request, WatchRequest,
};
use control::scheduling::Share;
use control::state::{GuestStats, Location, Registers, Steps};
use core::fmt;
use devices::vga::TextScreen;

/// The most that an instruction of a step takes, on its way through either console.
const HEAP_BYTES_PER_STEP: u64 = 3 << 10;
/// The same of a byte of the log or of the store: one becomes six characters at the most.
const HEAP_BYTES_PER_LOG_BYTE: u64 = 16;
/// The same of a guest in a list.
const HEAP_BYTES_PER_GUEST: u64 = 4 << 10;

/// The same of a virtual CPU in a list, with the CPUs that it may be on.
const HEAP_BYTES_PER_VCPU: u64 = 24 << 10;

/// The same of an event of XenStore: the longest path.
const HEAP_BYTES_PER_EVENT: u64 = 3 << 10 << 4;

/// The same of all disks of a guest in a list.
const HEAP_BYTES_PER_DISKS: u64 = 64 << 10;

/// The same of its network cards, of which a configuration never has more than eight.
const HEAP_BYTES_PER_CARDS: u64 = 16 << 10;

/// The same of the list of the machine's disks, which has a bounded number of partitions.
const HEAP_BYTES_OF_HOST_DISKS: u64 = 4 << 20;

/// The greatest weight of a guest.
const MAX_WEIGHT: u32 = 65_535;

/// A guest as a command names it: by name or number, or the only one.
pub type Dom = Option<String>;

/// A command with its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// These guests, or all if none is named: what is shown of them.
    List(Vec<String>, Columns),
    /// To make a guest.
    Create {
        /// As in [`Request::Create`].
        module: String,
        /// As in [`Request::Create`].
        settings: String,
    },
    /// One of Xen's commands for XenStore.
    Store {
        /// As in [`Request::Store`].
        name: String,
        /// As in [`Request::Store`].
        words: Vec<String>,
    },
    /// To watch nodes of XenStore.
    Watch(WatchRequest),
    /// The disks of these guests.
    ListDisks(Vec<Dom>),
    /// The network cards of these guests.
    ListCards(Vec<Dom>),
    /// The machine's own disks.
    ListHostDisks,
    /// To change a guest's disks.
    ChangeDisk(Dom, DiskChange),
    /// To change its network cards.
    ChangeCard(Dom, CardChange),
    /// To ask a guest.
    Ask(Dom, Request),
    /// A guest's text screen.
    Screen(Dom),
    /// To move the serial input to a guest: to one of its consoles, or both.
    Console(Dom, Option<ConsoleKind>),
    /// To send a guest an event.
    Trigger(Dom, Trigger),
    /// To plug virtual CPUs into a guest, or ask it to give some up.
    SetVcpus {
        /// The guest.
        dom: Dom,
        /// How many are to be there.
        count: u32,
        /// More than the machine has CPUs, too.
        ignore_host: bool,
    },
    /// To say how much memory a guest is to have, or may have.
    SetMemory {
        /// The guest.
        dom: Dom,
        /// Which of the two.
        bound: MemoryBound,
        /// The amount.
        kib: u64,
        /// As it was written.
        size: String,
    },
    /// To say where a guest's virtual CPUs run.
    Pin(Dom, Pin),
    /// To change a guest's share of the machine.
    SetShare {
        /// The guest.
        dom: Dom,
        /// Its weight, if that changes.
        weight: Option<u32>,
        /// Its cap, if that changes.
        cap_percent: Option<u32>,
    },
    /// To press a guest's button.
    Press(Dom, Trigger),
    /// To have a guest shut down.
    Shutdown {
        /// Every guest, and not one.
        all: bool,
        /// The one.
        dom: Dom,
        /// By the ACPI power button, if it has no driver to be asked by.
        fallback: bool,
    },
    /// The number of the guest of this name.
    NumberOf(String),
    /// The name of the guest of this number.
    NameOf(u32),
    /// The machine's log.
    Log,
    /// To turn the machine off.
    PowerOff,
    /// To reset the machine.
    Reboot,
    /// To crash the hypervisor.
    Crash,
    /// To let the CPU of the consoles hang.
    Hang,
}

/// An amount of memory that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBound {
    /// The guest is asked to have it.
    Target,
    /// The guest can have no more.
    Max,
}

/// Where virtual CPUs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The virtual CPU with this number; else all.
    pub vcpu: Option<usize>,
    /// The CPUs that it may be on; else as they were.
    pub hard: Option<CpuList>,
    /// Those that it had better; else as they were.
    pub soft: Option<CpuList>,
}

/// The outcome of a command that was carried out.
#[derive(Debug)]
pub enum Reply {
    /// There is nothing to say.
    Done,
    /// To [`Command::List`].
    List(Vec<Listed>, Columns),
    /// To [`WatchRequest::Begin`].
    Watching(u32),
    /// To [`WatchRequest::Take`].
    Events(Vec<String>),
    /// To [`Command::ListDisks`].
    Disks(Vec<DiskFacts>),
    /// To [`Command::ListCards`].
    Cards(Vec<CardFacts>),
    /// To [`Command::ListHostDisks`].
    HostDisks(Vec<HostDiskFacts>),
    /// To [`Command::Press`].
    Pressed,
    /// To [`Command::Shutdown`]: the power buttons of these guests are pressed.
    ShuttingDown(Vec<u32>),
    /// To [`Command::Screen`]; none in graphics modes.
    Screen(Option<TextScreen>),
    /// To [`Command::NumberOf`], and the number of a guest that was made.
    Number(u32),
    /// To [`Command::NameOf`].
    Name(String),
    /// To [`Command::Log`].
    Log(Vec<u8>),
    /// To [`Request::Stats`].
    Stats(GuestStats),
    /// To [`Request::Dump`], and to [`Command::Store`].
    Dump(String),
    /// To [`Request::Pause`].
    Paused(Location),
    /// To [`Request::Registers`].
    Registers(Registers, Location),
    /// To [`Request::Step`].
    Steps(Steps),
}

/// Why a command could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not clear which guest is meant.
    Unclear(Unclear),
    /// No guest has this name.
    NoName(String),
    /// No guest has this number.
    NoNumber(u32),
    /// The hypervisor's heap is short.
    OutOfHeap(OutOfHeap),
    /// The guest would have to be paused.
    Runs,
    /// The processor cannot.
    Impossible,
    /// No register of this name can be set.
    NoRegister(String),
    /// The guest with this number has no such virtual CPU for this trigger.
    NoVcpu {
        /// The guest's number.
        number: u32,
        /// The trigger's name.
        trigger: &'static str,
    },
    /// A guest can have so many virtual CPUs at the most.
    MaxVcpus {
        /// The guest's number.
        number: u32,
        /// The virtual CPUs that were asked for.
        count: u32,
        /// The most.
        max: u32,
    },
    /// The guest with this number cannot be asked for memory, or not for so much.
    Memory {
        /// The guest's number.
        number: u32,
        /// The amount that was to be set.
        bound: MemoryBound,
        /// As it was written.
        size: String,
        /// It has PV drivers.
        has_drivers: bool,
    },
    /// So many virtual CPUs are more than the machine's CPUs.
    Overcommitted {
        /// The machine's CPUs.
        cpus: usize,
        /// The virtual CPUs that were asked for.
        count: u32,
    },
    /// There is no virtual CPU of this number, or no CPU for it; or for any.
    CannotPin(Option<usize>),
    /// The weight is none that the guest with this number can have.
    Weight(u32),
    /// The cap is more than its virtual CPUs can use.
    Cap {
        /// The guest's number.
        number: u32,
        /// The most.
        max: u32,
    },
    /// The guest with this number has no driver that it could be asked by to shut down.
    NoDriver(u32),
    /// The machine stays on.
    CannotPowerOff,
    /// For this reason.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclear(unclear) => unclear.fmt(f),
            // As xl says it, and the next.
            Self::NoName(name) => write!(
                f,
                "Can't get domid of domain name '{name}', maybe this domain does not exist."
            ),
            Self::NoNumber(number) => write!(
                f,
                "Can't get domain name of domain id '{number}', maybe this domain does not exist."
            ),
            Self::OutOfHeap(out_of_heap) => out_of_heap.fmt(f),
            Self::Runs => f.write_str("the guest runs: pause it first"),
            Self::Impossible => f.write_str("this processor cannot"),
            Self::NoRegister(name) => write!(f, "no register {name} can be set"),
            // As libxl and xl say it, and the next two.
            Self::NoVcpu { number, trigger } => {
                write!(f, "Domain {number}:Send trigger '{trigger}' failed: Invalid argument")
            }
            Self::MaxVcpus { number, count, max } => {
                match count {
                    0 => writeln!(f, "Domain {number}:Requested 0 VCPUs!")?,
                    _ => writeln!(
                        f,
                        "Domain {number}:Requested {count} VCPUs, however maxcpus is {max}!"
                    )?,
                }
                let failed = "libxl_set_vcpuonline failed";
                write!(f, "{failed} domid={number} max_vcpus={count}, rc: -3")
            }
            Self::Memory { number, bound, size, has_drivers } => {
                let (reason, set) = match bound {
                    MemoryBound::Target => (
                        "memory_dynamic_max must be less than or equal to memory_static_max",
                        "dynamic max",
                    ),
                    MemoryBound::Max => (
                        "memory_static_max must be greater than or or equal to memory_dynamic_max",
                        "static max",
                    ),
                };
                match has_drivers {
                    true => writeln!(f, "Domain {number}:{reason}")?,
                    false => writeln!(
                        f,
                        "Domain {number}:Cannot get target memory info from \
                         /local/domain/{number}/memory/target"
                    )?,
                }
                write!(f, "cannot set domid {number} {set} memory to : {size}")
            }
            // As xl says it, with its third m.
            Self::Overcommitted { cpus, count } => write!(
                f,
                "You are overcommmitting! You have {cpus} physical CPUs and want {count} vCPUs! \
                 Aborting, use --ignore-host to continue"
            ),
            Self::CannotPin(Some(vcpu)) => write!(f, "Could not set affinity for vcpu `{vcpu}'."),
            Self::CannotPin(None) => f.write_str("Could not set affinity."),
            Self::Weight(number) => write!(
                f,
                "Domain {number}:Cpu weight out of range, valid values are within range from 1 to \
                 {MAX_WEIGHT}\nlibxl_domain_sched_params_set failed."
            ),
            Self::Cap { number, max } => write!(
                f,
                "Domain {number}:Cpu cap out of range, valid range is from 0 to {max} for \
                 specified number of vcpus\nlibxl_domain_sched_params_set failed."
            ),
            Self::NoDriver(number) => write!(
                f,
                "Shutting down domain {number}\n\
                 PV control interface not available: external graceful shutdown not possible.\n\
                 Use \"-F\" to fallback to ACPI power event.\n\
                 shutdown failed (rc=-10)"
            ),
            Self::CannotPowerOff => f.write_str("this machine cannot be turned off"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl From<Unclear> for Refusal {
    fn from(unclear: Unclear) -> Self {
        Self::Unclear(unclear)
    }
}

impl From<OutOfHeap> for Refusal {
    fn from(out_of_heap: OutOfHeap) -> Self {
        Self::OutOfHeap(out_of_heap)
    }
}

/// A command that was begun.
#[derive(Debug)]
pub enum Begun {
    /// It is carried out.
    Replied(Reply),
    /// A guest or the machine owes an answer.
    Waiting(Waiting),
}

/// An answer that is owed.
#[derive(Debug)]
pub struct Waiting(Arc<Mailbox>);

impl Waiting {
    /// The outcome, once the answer is there.
    pub fn take_reply(&self, client: Client) -> Option<Result<Reply, Refusal>> {
        self.0.take_answer(client).map(reply)
    }
}

/// The outcome that an answer is.
fn reply(answer: Answer) -> Result<Reply, Refusal> {
    match answer {
        Answer::Done => Ok(Reply::Done),
        Answer::Created { number } => Ok(Reply::Number(number)),
        Answer::NoGuest => Err(Unclear::NoGuest.into()),
        Answer::Runs => Err(Refusal::Runs),
        Answer::Impossible => Err(Refusal::Impossible),
        Answer::NoRegister(name) => Err(Refusal::NoRegister(name)),
        Answer::Failed(reason) => Err(Refusal::Failed(reason)),
        Answer::Watching(watch) => Ok(Reply::Watching(watch)),
        Answer::Events(paths) => Ok(Reply::Events(paths)),
        Answer::Disks(disks) => Ok(Reply::Disks(disks)),
        Answer::Cards(cards) => Ok(Reply::Cards(cards)),
        Answer::HostDisks(disks) => Ok(Reply::HostDisks(disks)),
        Answer::Stats(stats) => Ok(Reply::Stats(stats)),
        Answer::Dump(text) | Answer::Text(text) => Ok(Reply::Dump(text)),
        Answer::Paused(location) => Ok(Reply::Paused(location)),
        Answer::Registers(registers, location) => Ok(Reply::Registers(registers, location)),
        Answer::Steps(steps) => Ok(Reply::Steps(steps)),
    }
}

/// The parties that commands act upon.
pub struct Services<'a> {
    /// The machine.
    pub host: &'static dyn Host,
    /// Its mailbox.
    pub machine: &'a Arc<Mailbox>,
    /// The guests.
    pub guests: &'a mut Guests,
    /// The serial console.
    pub terminal: &'a mut Terminal,
}

impl Services<'_> {
    /// Begins `command` for `client`. The heap that its reply takes is set aside in `budgets`.
    ///
    /// # Errors
    /// Why it cannot be carried out.
    pub fn begin(
        &mut self,
        command: Command,
        client: Client,
        budgets: &mut Vec<Budget>,
    ) -> Result<Begun, Refusal> {
        let mut reserve = |bytes| -> Result<(), OutOfHeap> {
            budgets.push(Budget::reserve(self.host, bytes)?);
            Ok(())
        };
        let reply = match command {
            Command::List(doms, columns) => {
                let rounds = doms.len().max(1) as u64;
                let vcpus = rounds * self.guests.iter().map(Guest::max_vcpus).sum::<u64>();
                let guests = rounds * self.guests.iter().count() as u64;
                reserve(guests * HEAP_BYTES_PER_GUEST + vcpus * HEAP_BYTES_PER_VCPU)?;
                Reply::List(self.listed(&doms)?, columns)
            }
            Command::Pin(dom, pin) => {
                self.pin(self.guests.find(dom.as_deref())?, &pin)?;
                Reply::Done
            }
            Command::SetShare { dom, weight, cap_percent } => {
                let number = self.guests.find(dom.as_deref())?;
                let GuestPorts { scheduling, sockets, .. } = self.devices(number)?;
                let max_cap = sockets.max() * 100;
                if weight.is_some_and(|weight| weight == 0 || weight > MAX_WEIGHT) {
                    return Err(Refusal::Weight(number));
                }
                if cap_percent.is_some_and(|cap| cap > max_cap) {
                    return Err(Refusal::Cap { number, max: max_cap });
                }
                let old = scheduling.share();
                scheduling.set_share(Share {
                    weight: weight.unwrap_or(old.weight),
                    cap_percent: cap_percent.unwrap_or(old.cap_percent),
                });
                Reply::Done
            }
            Command::Create { module, settings } => {
                return ask(self.machine, client, Request::Create { module, settings });
            }
            Command::Store { name, words } => {
                reserve(MAX_STORE_TEXT_BYTES as u64 * HEAP_BYTES_PER_LOG_BYTE)?;
                return ask(self.machine, client, Request::Store { name, words });
            }
            Command::Watch(request) => {
                reserve(u64::from(MAX_WATCH_EVENTS) * HEAP_BYTES_PER_EVENT)?;
                return ask(self.machine, client, Request::Watch(request));
            }
            Command::ListDisks(doms) => {
                let numbers = self.numbers(&doms)?;
                reserve(numbers.len() as u64 * HEAP_BYTES_PER_DISKS)?;
                return ask(self.machine, client, Request::ListDisks(numbers));
            }
            Command::ListCards(doms) => {
                let numbers = self.numbers(&doms)?;
                reserve(numbers.len() as u64 * HEAP_BYTES_PER_CARDS)?;
                return ask(self.machine, client, Request::ListCards(numbers));
            }
            Command::ListHostDisks => {
                reserve(HEAP_BYTES_OF_HOST_DISKS)?;
                return ask(self.machine, client, Request::ListHostDisks);
            }
            Command::ChangeDisk(dom, change) => {
                let guest = self.guests.find(dom.as_deref())?;
                return ask(self.machine, client, Request::ChangeDisk { guest, change });
            }
            Command::ChangeCard(dom, change) => {
                let guest = self.guests.find(dom.as_deref())?;
                return ask(self.machine, client, Request::ChangeCard { guest, change });
            }
            Command::Ask(dom, request) => {
                if let Request::Step(count) = request {
                    reserve(u64::from(count) * HEAP_BYTES_PER_STEP)?;
                }
                let number = self.guests.find(dom.as_deref())?;
                let guest = self.guests.get(number).ok_or(Unclear::NoGuest)?;
                return ask(&guest.mailbox, client, request);
            }
            Command::Screen(dom) => {
                let vga = &self.ports(&dom)?.vga;
                reserve(text_heap_bytes(vga))?;
                Reply::Screen(vga.text_screen())
            }
            Command::Console(dom, chosen) => {
                let number = self.guests.find(dom.as_deref())?;
                let has_pv = || self.devices(number).is_ok_and(|ports| ports.pv.is_some());
                if chosen == Some(ConsoleKind::Pv) && !has_pv() {
                    return Err(Refusal::Failed("the guest has no PV console".into()));
                }
                self.terminal.give_input(number, chosen, self.guests);
                Reply::Done
            }
            Command::Trigger(dom, Trigger::Reset) => {
                return self.begin(Command::Ask(dom, Request::Reset), client, budgets);
            }
            Command::Trigger(dom, trigger) => {
                let number = self.guests.find(dom.as_deref())?;
                self.send(number, trigger)?;
                Reply::Done
            }
            Command::Press(dom, button) => {
                self.send(self.guests.find(dom.as_deref())?, button)?;
                Reply::Pressed
            }
            Command::SetVcpus { dom, count, ignore_host } => {
                let number = self.guests.find(dom.as_deref())?;
                let GuestPorts { sockets, scheduling, pv, .. } = self.devices(number)?;
                let cpus = scheduling.cpus();
                if !ignore_host && count > sockets.count() && count as usize > cpus {
                    return Err(Refusal::Overcommitted { cpus, count });
                }
                if !sockets.set_count(count) {
                    let max = sockets.max();
                    return Err(Refusal::MaxVcpus { number, count, max });
                }
                if let Some(pv) = pv {
                    pv.set_vcpus(count);
                }
                Reply::Done
            }
            Command::SetMemory { dom, bound, kib, size } => {
                let number = self.guests.find(dom.as_deref())?;
                let pv = self.devices(number)?.pv.clone();
                let has_drivers = pv.is_some();
                let is_set = pv.is_some_and(|pv| match bound {
                    MemoryBound::Target => pv.set_memory_target(kib),
                    MemoryBound::Max => pv.set_max_memory(kib),
                });
                if !is_set {
                    return Err(Refusal::Memory { number, bound, size, has_drivers });
                }
                Reply::Done
            }
            Command::Shutdown { all, dom, fallback } => {
                let numbers: Vec<u32> = match all {
                    true => self.guests.iter().map(Guest::number).collect(),
                    false => [self.guests.find(dom.as_deref())?].into(),
                };
                for &number in &numbers {
                    let pv = self.devices(number)?.pv.clone();
                    if pv.is_some_and(|pv| pv.ask_to_shut_down()) {
                        continue;
                    }
                    if !fallback {
                        return Err(Refusal::NoDriver(number));
                    }
                    self.send(number, Trigger::Power)?;
                }
                Reply::ShuttingDown(numbers)
            }
            Command::NumberOf(name) => {
                let guest = self.guests.iter().find(|guest| guest.name() == name);
                Reply::Number(guest.ok_or(Refusal::NoName(name))?.number())
            }
            Command::NameOf(number) => {
                let guest = self.guests.get(number).ok_or(Refusal::NoNumber(number))?;
                Reply::Name(guest.name().into())
            }
            Command::Log => {
                reserve(self.host.log_bytes() * HEAP_BYTES_PER_LOG_BYTE)?;
                Reply::Log(self.host.log_text())
            }
            Command::PowerOff => {
                self.host.power_off();
                return Err(Refusal::CannotPowerOff);
            }
            Command::Reboot => self.host.reboot(),
            Command::Crash => panic!("asked for at a console"),
            Command::Hang => loop {
                core::hint::spin_loop();
            },
        };
        Ok(Begun::Replied(reply))
    }

    /// Sends an event to a guest.
    fn send(&self, number: u32, trigger: Trigger) -> Result<(), Refusal> {
        let sent = trigger.send(self.devices(number)?);
        sent.map_err(|NoVcpu(trigger)| Refusal::NoVcpu { number, trigger })
    }

    /// The devices of the guest that is meant.
    ///
    /// # Errors
    /// [`Unclear`], also if it has none now.
    pub fn ports(&self, dom: &Dom) -> Result<&GuestPorts, Unclear> {
        self.devices(self.guests.find(dom.as_deref())?)
    }

    /// The devices of the guest with this number.
    fn devices(&self, number: u32) -> Result<&GuestPorts, Unclear> {
        let guest = self.guests.get(number);
        guest.and_then(|guest| guest.ports.as_ref()).ok_or(Unclear::NoGuest)
    }

    /// The numbers of the guests that are meant.
    fn numbers(&self, doms: &[Dom]) -> Result<Vec<u32>, Unclear> {
        doms.iter().map(|dom| self.guests.find(dom.as_deref())).collect()
    }

    /// The guests that are meant, or all, as they are now.
    fn listed(&self, doms: &[String]) -> Result<Vec<Listed>, Unclear> {
        if doms.is_empty() {
            return Ok(self.guests.iter().map(Listed::new).collect());
        }
        let listed = |dom: &String| {
            let guest = self.guests.get(self.guests.find(Some(dom))?);
            guest.map(Listed::new).ok_or(Unclear::NoGuest)
        };
        doms.iter().map(listed).collect()
    }

    /// The virtual CPUs with these numbers, or all, of a guest that runs.
    fn pin(&self, number: u32, pin: &Pin) -> Result<(), Refusal> {
        let scheduling = &self.devices(number)?.scheduling;
        let (cpus, count) = (scheduling.cpus(), scheduling.vcpus().len());
        let set = |list: &CpuList| -> Vec<usize> {
            (0..cpus).filter(|&cpu| list.contains(cpu as u32)).collect()
        };
        let (hard, soft) = (pin.hard.as_ref().map(set), pin.soft.as_ref().map(set));
        let vcpus = pin.vcpu.map_or(0..count, |vcpu| vcpu..vcpu.saturating_add(1));
        if vcpus.end > count || hard.as_ref().is_some_and(Vec::is_empty) {
            return Err(Refusal::CannotPin(pin.vcpu));
        }
        vcpus.for_each(|vcpu| scheduling.pin(vcpu, hard.as_deref(), soft.as_deref()));
        Ok(())
    }
}

/// Leaves a request in a mailbox.
fn ask(mailbox: &Arc<Mailbox>, client: Client, request: Request) -> Result<Begun, Refusal> {
    if mailbox.post(client, request) {
        Ok(Begun::Waiting(Waiting(mailbox.clone())))
    } else {
        // Not while a client waits for the answer to each of its requests.
        Err(Refusal::Failed("the last request was not answered yet".into()))
    }
}
