//! The guests that the consoles know.

use super::keyboard::Keyboard;
use super::serial::SerialSide;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::guest::{ConsoleKind, GuestFacts, GuestPorts};
use control::host::Host;
use control::mailbox::Mailbox;
use control::output::OutputRing;
use core::fmt;

/// A guest, from its beginning to its end.
pub struct Guest {
    /// Where it is asked.
    pub mailbox: Arc<Mailbox>,
    /// Its size when it starts.
    pub facts: GuestFacts,
    /// Its devices, while it has any.
    pub ports: Option<GuestPorts>,
    /// Keys on their way to it.
    pub keyboard: Keyboard,
    /// Bytes on their way from and to its consoles.
    pub sides: [SerialSide; ConsoleKind::ALL.len()],
    /// The console that is shown and gets the input; without it both are shown, and the input goes
    /// to the one that has written last.
    pub chosen: Option<ConsoleKind>,
    /// The one that has.
    pub last_writer: ConsoleKind,
}

impl Guest {
    fn new(mailbox: Arc<Mailbox>, facts: GuestFacts, host: &'static dyn Host) -> Self {
        let sides = ConsoleKind::ALL.map(|_| SerialSide::new(mailbox.name(), host));
        Self {
            mailbox,
            facts,
            ports: None,
            keyboard: Keyboard::default(),
            sides,
            chosen: None,
            last_writer: ConsoleKind::Serial,
        }
    }

    /// True if this console is shown while the guest is.
    pub fn shows(&self, console: ConsoleKind) -> bool {
        self.chosen.is_none_or(|chosen| chosen == console)
    }

    /// Its consoles, the one that has written last behind the other: neither takes the whole of a
    /// slow port.
    pub fn consoles_in_turn(&self) -> [ConsoleKind; ConsoleKind::ALL.len()] {
        let mut consoles = ConsoleKind::ALL;
        consoles.sort_by_key(|&console| console == self.last_writer);
        consoles
    }

    /// The output of a console, while there is one.
    pub fn ring(&self, console: ConsoleKind) -> Option<&OutputRing> {
        self.ports.as_ref().map(|ports| &*ports.output[console as usize])
    }

    /// Bytes typed for the console that gets the input, or for another; false if there is no room
    /// for them all.
    pub fn type_at(&mut self, console: Option<ConsoleKind>, bytes: &[u8]) -> bool {
        let console = console.or(self.chosen).unwrap_or(self.last_writer);
        self.sides[console as usize].write(bytes)
    }

    /// True if the guest has not yet taken all that was typed for it.
    pub fn has_input(&self) -> bool {
        self.sides.iter().any(SerialSide::has_input)
    }

    /// Moves typed bytes on, as many as the guest takes.
    pub fn pass_input(&mut self) {
        let Some(ports) = &self.ports else { return };
        for (console, side) in ConsoleKind::ALL.into_iter().zip(&mut self.sides) {
            side.pass_input(|bytes| ports.type_at(console, bytes));
        }
    }

    /// Keeps what a console has transmitted that is not shown.
    pub fn keep_output(&mut self, console: ConsoleKind) {
        let Some(ports) = &self.ports else { return };
        let index = console as usize;
        if self.sides[index].keep_output(&ports.output[index]) {
            self.last_writer = console;
        }
    }

    /// Takes the oldest bytes of a console's output.
    pub fn take_output(&mut self, console: ConsoleKind, into: &mut [u8]) -> usize {
        let index = console as usize;
        let ring = self.ports.as_ref().map(|ports| &*ports.output[index]);
        let count = self.sides[index].take_output(ring, into);
        if count > 0 {
            self.last_writer = console;
        }
        count
    }

    /// The virtual CPUs that it may have.
    pub fn max_vcpus(&self) -> u64 {
        self.ports.as_ref().map_or(0, |ports| ports.sockets.max().into())
    }

    /// Its size at this moment.
    pub fn facts_now(&self) -> GuestFacts {
        let Some(ports) = &self.ports else { return self.facts };
        let memory_kib = ports.pv.as_ref().and_then(|pv| pv.memory_kib());
        let memory_mib = memory_kib.map_or(self.facts.memory_mib, |kib| kib / 1024);
        GuestFacts { memory_mib, vcpus: ports.sockets.count() }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.mailbox.number()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.mailbox.name()
    }
}

/// Why no guest is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// There is none.
    NoGuest,
    /// None has this name or number.
    Unknown(String),
    /// There are several, these, and none was named.
    Several(String),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGuest => f.write_str("no guest runs"),
            // As xl says it.
            Self::Unknown(name) if is_number(name) => {
                write!(f, "Error: Domain '{name}' does not exist.")
            }
            Self::Unknown(name) => write!(f, "{name} is an invalid domain identifier (rc=-6)"),
            Self::Several(names) => write!(f, "several guests run, say which: {names}"),
        }
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// All guests, by their numbers.
#[derive(Default)]
pub struct Guests(Vec<Guest>);

impl Guests {
    /// Adds a guest.
    pub fn introduce(&mut self, mailbox: Arc<Mailbox>, facts: GuestFacts, host: &'static dyn Host) {
        let place = self.0.partition_point(|guest| guest.number() < mailbox.number());
        self.0.insert(place, Guest::new(mailbox, facts, host));
    }

    /// Drops a guest whose mailbox is closed; returns its number. To be called until there is none.
    pub fn drop_closed(&mut self) -> Option<u32> {
        let place = self.0.iter().position(|guest| guest.mailbox.is_closed())?;
        Some(self.0.remove(place).number())
    }

    /// All, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.0.iter()
    }

    /// All, by their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Guest> {
        self.0.iter_mut()
    }

    /// The guest with this number.
    pub fn get(&self, number: u32) -> Option<&Guest> {
        self.iter().find(|guest| guest.number() == number)
    }

    /// The guest with this number.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Guest> {
        self.iter_mut().find(|guest| guest.number() == number)
    }

    /// The first guest that has devices, of those with a higher number than `number`.
    pub fn after(&self, number: u32) -> Option<u32> {
        let is_next = |guest: &&Guest| guest.number() > number && guest.ports.is_some();
        self.iter().find(is_next).map(Guest::number)
    }

    /// The last guest that has devices, of those with a lower number than `number`.
    pub fn before(&self, number: u32) -> Option<u32> {
        let is_previous = |guest: &&Guest| guest.number() < number && guest.ports.is_some();
        self.iter().filter(is_previous).last().map(Guest::number)
    }

    /// The number of the guest that `name` means: a number if it is all digits. Without a name, the
    /// only guest is meant.
    ///
    /// # Errors
    /// Why none is.
    pub fn find(&self, name: Option<&str>) -> Result<u32, Unclear> {
        let found = match (name, &self.0[..]) {
            (None, []) => return Err(Unclear::NoGuest),
            (None, [guest]) => Some(guest),
            (None, several) => {
                let names: Vec<String> = several
                    .iter()
                    .map(|guest| format!("{} ({})", guest.name(), guest.number()))
                    .collect();
                return Err(Unclear::Several(names.join(", ")));
            }
            (Some(name), _) if is_number(name) => {
                name.parse().ok().and_then(|number| self.get(number))
            }
            (Some(name), _) => self.iter().find(|guest| guest.name() == name),
        };
        let name = || name.unwrap_or_default().into();
        found.map(Guest::number).ok_or_else(|| Unclear::Unknown(name()))
    }
}
