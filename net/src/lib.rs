//! A virtual switch, on which guests' network cards meet.
//!
//! A card, whatever its kind, plugs a [`Port`] into a named bridge of the [`Switch`]. A frame that
//! it sends carries the work that its guest has left to the card ([`Checksum`], [`Gso`]), so that a
//! TCP segment of 64 KiB passes from guest to guest whole; the card of a receiver that cannot take
//! it so does that work ([`Frame::completed`], [`Segments`]).
//!
//! The switch holds no lock while it tells a card that frames wait: the sender does, when it has
//! let its own locks go ([`Calls`]).
//!
//! ```
//! use net::{Calls, Checksum, Clock, Frame, Mac, PortSettings, Receiver, SourceFilter, Switch};
//! use std::sync::{Arc, Weak};
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! #[derive(Default)]
//! struct Card(AtomicU32);
//!
//! impl Receiver for Card {
//!     fn frames_wait(&self) {
//!         self.0.fetch_add(1, Ordering::Relaxed);
//!     }
//! }
//!
//! struct Stopped;
//!
//! impl Clock for Stopped {
//!     fn now_ns(&self) -> u64 {
//!         0
//!     }
//! }
//!
//! let switch = Switch::new(Arc::new(Stopped));
//! let cards = [Arc::new(Card::default()), Arc::new(Card::default())];
//! let plug = |index: u8| {
//!     let mac = Mac([0, 0x16, 0x3e, 0, 0, index]);
//!     let receiver: Weak<Card> = Arc::downgrade(&cards[usize::from(index)]);
//!     let port = switch.plug("xenbr0", PortSettings {
//!         mac,
//!         filter: SourceFilter { mac: Some(mac), networks: vec![] },
//!         mtu: 1500,
//!         receiver,
//!     });
//!     port.set_queues(1);
//!     port
//! };
//! let (one, other) = (plug(0), plug(1));
//! let mut bytes = vec![0; 60];
//! bytes[..6].copy_from_slice(&other.mac().0);
//! bytes[6..12].copy_from_slice(&one.mac().0);
//! let frame = Frame::new(bytes, Checksum::Complete, None).unwrap();
//! let mut calls = Calls::default();
//! one.send(frame.clone(), &mut calls);
//! calls.call();
//! assert_eq!(cards[1].0.load(Ordering::Relaxed), 1);
//! assert_eq!(*other.take(0).unwrap(), frame);
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod bridge;
mod filter;
mod frame;
mod headers;
mod offload;
mod port;
mod rate;
mod switch;
#[cfg(test)]
mod tests;

pub use bridge::{AGEING_NS, MAX_ADDRESSES};
pub use filter::{Network, SourceFilter};
pub use frame::{Checksum, Frame, Gso, GsoKind, MAX_BYTES, Mac, Malformed};
pub use headers::HEADER_BYTES;
pub use offload::Segments;
pub use port::{
    Counters, MAX_GROUPS, MAX_WAITING_BYTES, MAX_WAITING_FRAMES, PortSettings, Receiver, Traffic,
};
pub use rate::{Credit, Rate};
pub use switch::{Calls, Clock, Port, Switch};
