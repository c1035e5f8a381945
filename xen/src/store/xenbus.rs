//! How the two ends of a device connect: `state` in the directory of each (`io/xenbus.h`).

use alloc::string::{String, ToString};

use super::path::join;
use super::{DomId, Error, Local, Store, tree};

/// The token of a back end's watch.
const TOKEN: &[u8] = b"front";

/// The state of a front end or a back end (`enum xenbus_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Unknown = 0,
    /// It begins.
    Initialising = 1,
    /// The back end is ready, and waits for the front end.
    InitWait = 2,
    /// The front end has written what the back end needs.
    Initialised = 3,
    /// It works.
    Connected = 4,
    /// It ends.
    Closing = 5,
    /// It has ended.
    Closed = 6,
    /// Its configuration changes.
    Reconfiguring = 7,
    /// Its configuration has changed.
    Reconfigured = 8,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];
}

/// The state in a directory: unknown if there is none, or no number.
pub fn state(store: &Store, directory: &str) -> State {
    let number = number(store, directory, "state").and_then(|number| usize::try_from(number).ok());
    number.and_then(|number| State::ALL.get(number).copied()).unwrap_or(State::Unknown)
}

/// The text of a node, if it is there and is one.
pub fn text(store: &Store, directory: &str, name: &str) -> Option<String> {
    String::from_utf8(store.read(&join(directory, name)).ok()?).ok()
}

/// The number that a node holds, if it is there and holds one.
pub fn number(store: &Store, directory: &str, name: &str) -> Option<u32> {
    text(store, directory, name)?.trim().parse().ok()
}

/// A back end's place in the store: its directory with its state, and its watch of the front end's.
pub struct BackEndNodes {
    domain: DomId,
    class: &'static str,
    id: u32,
    local: Local,
    state: State,
    /// The device is gone, or another has its place: nothing is written any more.
    has_ended: bool,
}

impl BackEndNodes {
    /// The place of a device whose nodes are in the store ([`tree::add_device`]).
    ///
    /// # Errors
    /// None, if the class is a name of a node.
    pub fn new(
        store: &mut Store,
        domain: DomId,
        class: &'static str,
        id: u32,
    ) -> Result<Self, Error> {
        let (local, state) = (store.open(), State::Initialising);
        let nodes = Self { domain, class, id, local, state, has_ended: false };
        store.watch(local, &join(&nodes.front(), "state"), TOKEN)?;
        Ok(nodes)
    }

    /// Its name in the store, under which its events wait.
    pub const fn local(&self) -> Local {
        self.local
    }

    /// The back end's state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The front end's directory.
    pub fn front(&self) -> String {
        tree::front_path(self.domain, self.class, self.id)
    }

    fn back(&self) -> String {
        tree::back_path(self.domain, self.class, self.id)
    }

    /// The state that the front end has now, whatever events say; none once the device has ended.
    pub fn front_state(&self, store: &mut Store) -> Option<State> {
        if self.has_ended {
            return None;
        }
        while store.next_event(self.local).is_some() {}
        Some(state(store, &self.front()))
    }

    /// False once the front end was asked to let the device go.
    pub fn is_online(&self, store: &Store) -> bool {
        number(store, &self.back(), "online") != Some(0)
    }

    /// Writes a node of the back end's.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `name` is none of a node.
    pub fn write(&self, store: &mut Store, name: &str, value: impl ToString) -> Result<(), Error> {
        if self.has_ended {
            return Ok(());
        }
        store.write(&join(&self.back(), name), value.to_string().as_bytes())
    }

    /// Changes the back end's state.
    ///
    /// # Errors
    /// None, as the path is valid.
    pub fn set_state(&mut self, store: &mut Store, state: State) -> Result<(), Error> {
        if self.state == state {
            return Ok(());
        }
        self.state = state;
        self.show_state(store)
    }

    /// Writes the state once more, on which a front end looks at the other nodes again.
    ///
    /// # Errors
    /// None, as the path is valid.
    pub fn show_state(&self, store: &mut Store) -> Result<(), Error> {
        self.write(store, "state", self.state as u8)
    }

    /// The front end is connected.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn connected(&mut self, store: &mut Store) -> Result<(), Error> {
        self.set_error(store, None)?;
        self.set_state(store, State::Connected)
    }

    /// Says why the front end cannot be served, and asks it to close.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn give_up(&mut self, store: &mut Store, reason: &str) -> Result<(), Error> {
        self.set_error(store, Some(reason))?;
        self.set_state(store, State::Closing)
    }

    fn set_error(&self, store: &mut Store, reason: Option<&str>) -> Result<(), Error> {
        if self.has_ended {
            return Ok(());
        }
        tree::set_error(store, self.domain, self.class, self.id, reason)
    }

    /// Another front end is to come, to nodes that are made anew.
    pub const fn start_over(&mut self) {
        self.state = State::Initialising;
    }

    /// The device ends: from now on nothing is heard or written.
    pub fn end(&mut self, store: &mut Store) {
        store.close(self.local);
        self.has_ended = true;
    }
}
