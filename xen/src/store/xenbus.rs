//! How the two ends of a device connect: `state` in the directory of each (`io/xenbus.h`).

use alloc::string::String;

use super::path::join;
use super::{Error, Store};

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

/// Writes the state.
///
/// # Errors
/// [`Error::Invalid`] if the directory has no valid path.
pub fn set_state(store: &mut Store, directory: &str, state: State) -> Result<(), Error> {
    store.write(&join(directory, "state"), &[b'0' + state as u8])
}

/// The text of a node, if it is there and is one.
pub fn text(store: &Store, directory: &str, name: &str) -> Option<String> {
    String::from_utf8(store.read(&join(directory, name)).ok()?).ok()
}

/// The number that a node holds, if it is there and holds one.
pub fn number(store: &Store, directory: &str, name: &str) -> Option<u32> {
    text(store, directory, name)?.trim().parse().ok()
}
