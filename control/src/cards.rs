//! Network cards of guests, as consoles list and change them.

use alloc::string::String;

/// A change of a guest's network cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardChange {
    /// To plug a card in.
    Attach {
        /// The card, as in the configuration's list `vif`.
        card: String,
    },
    /// To ask the guest to let one go, and to remove it then.
    Detach {
        /// Its number or its address.
        device: String,
    },
}

/// The frames and bytes that have passed a card in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardTraffic {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that did not pass.
    pub dropped: u64,
}

/// A network card in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFacts {
    /// The number of its guest.
    pub guest: u32,
    /// Its own number in that, from 0 on.
    pub id: u32,
    /// Its address, as text.
    pub mac: String,
    /// The bridge that it is plugged into.
    pub bridge: String,
    /// The state of the guest's front end (`enum xenbus_state`), 0 if there cannot be one.
    pub state: u32,
    /// The front end's event channel, that of what it sends if it has two.
    pub event_channel: Option<u32>,
    /// The grant of the ring of what it sends, if it has one queue.
    pub tx_ring_ref: Option<u32>,
    /// And of what it receives.
    pub rx_ring_ref: Option<u32>,
    /// The back end's directory in XenStore.
    pub back_end: String,
    /// From the guest, in this life of it.
    pub sent: CardTraffic,
    /// To the guest.
    pub received: CardTraffic,
}
