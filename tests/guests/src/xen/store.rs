//! XenStore by its ring (io/xs_wire.h): requests, replies and events by the byte.

use core::sync::atomic::{Ordering, fence};

use super::{PAGE_BYTES, event, get_param};
use crate::clock;
use crate::cpu::{peek, poke};
use crate::global::Global;

/// Operations (`enum xsd_sockmsg_type`).
#[allow(missing_docs)]
pub mod kind {
    pub const DIRECTORY: u32 = 1;
    pub const READ: u32 = 2;
    pub const GET_PERMS: u32 = 3;
    pub const WATCH: u32 = 4;
    pub const UNWATCH: u32 = 5;
    pub const TRANSACTION_START: u32 = 6;
    pub const TRANSACTION_END: u32 = 7;
    pub const GET_DOMAIN_PATH: u32 = 10;
    pub const WRITE: u32 = 11;
    pub const MKDIR: u32 = 12;
    pub const RM: u32 = 13;
    pub const SET_PERMS: u32 = 14;
    pub const WATCH_EVENT: u32 = 15;
    pub const ERROR: u32 = 16;
    pub const RESET_WATCHES: u32 = 21;
    pub const DIRECTORY_PART: u32 = 22;
}

/// Places in the page.
#[allow(missing_docs)]
pub mod field {
    pub const REQUESTS: u64 = 0;
    pub const REPLIES: u64 = 1024;
    pub const REQ_CONS: u64 = 2048;
    pub const REQ_PROD: u64 = 2052;
    pub const RSP_CONS: u64 = 2056;
    pub const RSP_PROD: u64 = 2060;
    pub const SERVER_FEATURES: u64 = 2064;
    pub const CONNECTION: u64 = 2068;
    pub const ERROR: u64 = 2072;
}

/// Bytes of each of the two rings.
pub const RING_BYTES: u32 = 1024;
/// The longest payload.
pub const MAX_PAYLOAD: usize = 4096;
const HEADER_BYTES: usize = 16;

/// A message, reply or event.
#[derive(Clone, Copy)]
pub struct Message {
    /// The operation.
    pub kind: u32,
    /// The mark of the request.
    pub request: u32,
    /// Its transaction.
    pub transaction: u32,
    payload: [u8; MAX_PAYLOAD],
    length: usize,
}

impl Message {
    const NONE: Self =
        Self { kind: 0, request: 0, transaction: 0, payload: [0; MAX_PAYLOAD], length: 0 };

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload[..self.length]
    }
}

/// The last messages, so that a few replies can be compared at once.
const KEPT: usize = 8;
static LAST: Global<[Message; KEPT]> = Global::new([Message::NONE; KEPT]);
static NEXT: Global<usize> = Global::new(0);

/// The store's connection.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    page: u64,
    port: u32,
}

impl Store {
    /// The connection that the guest begins with.
    pub fn connect() -> Self {
        let param = |index| get_param(index).unwrap_or(0);
        Self { page: param(1) * PAGE_BYTES, port: param(2) as u32 }
    }

    /// Its port.
    pub const fn port(self) -> u32 {
        self.port
    }

    /// Reads a field of the page.
    pub fn get(self, field: u64) -> u32 {
        peek(self.page + field)
    }

    /// Writes a field of the page.
    pub fn set(self, field: u64, value: u32) {
        fence(Ordering::SeqCst);
        poke(self.page + field, value);
        fence(Ordering::SeqCst);
    }

    /// Tells the store that the page has changed.
    pub fn notify(self) -> i64 {
        event::send(self.port)
    }

    /// Puts bytes into the ring, and tells of them when it is full; false if no room is made.
    pub fn put(self, bytes: &[u8]) -> bool {
        let mut producer = self.get(field::REQ_PROD);
        for &byte in bytes {
            let is_full = || producer.wrapping_sub(self.get(field::REQ_CONS)) >= RING_BYTES;
            if is_full() {
                self.set(field::REQ_PROD, producer);
                self.notify();
                if !clock::until(|| !is_full()) {
                    return false;
                }
            }
            poke(self.page + field::REQUESTS + u64::from(producer % RING_BYTES), byte);
            producer = producer.wrapping_add(1);
        }
        self.set(field::REQ_PROD, producer);
        true
    }

    /// Takes bytes out of the ring; false if they do not come.
    pub fn take(self, into: &mut [u8]) -> bool {
        let mut consumer = self.get(field::RSP_CONS);
        for byte in into {
            if self.get(field::RSP_PROD) == consumer {
                self.set(field::RSP_CONS, consumer);
                self.notify();
                if !clock::until(|| self.get(field::RSP_PROD) != consumer) {
                    return false;
                }
            }
            *byte = peek(self.page + field::REPLIES + u64::from(consumer % RING_BYTES));
            consumer = consumer.wrapping_add(1);
        }
        self.set(field::RSP_CONS, consumer);
        true
    }

    /// Whether bytes wait.
    pub fn has_bytes(self) -> bool {
        self.notify();
        self.get(field::RSP_PROD) != self.get(field::RSP_CONS)
    }

    /// The next message, if one comes. It is overwritten some messages later.
    pub fn receive(self) -> Option<&'static Message> {
        let mut header = [0; HEADER_BYTES];
        if !self.take(&mut header) {
            return None;
        }
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let place = NEXT.get();
        NEXT.set((place + 1) % KEPT);
        // SAFETY: the topic's own CPU alone receives, and it has done with the message that was
        // here `KEPT` messages ago.
        let message = unsafe { &mut *LAST.address().cast::<Message>().add(place) };
        (message.kind, message.request, message.transaction) = (word(0), word(4), word(8));
        message.length = (word(12) as usize).min(MAX_PAYLOAD);
        let length = message.length;
        self.take(&mut message.payload[..length]).then_some(message)
    }

    /// Puts a request into the ring: its payload in parts.
    pub fn request(self, kind: u32, mark: u32, transaction: u32, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let words = [kind, mark, transaction, length as u32];
        words.iter().all(|word| self.put(&word.to_le_bytes()))
            && parts.iter().all(|part| self.put(part))
    }

    /// Begins a transaction, and returns its number; none if the store begins no more.
    pub fn begin(self) -> Option<u32> {
        let number = self.ask(kind::TRANSACTION_START, 0, &[b"\0"]).ok()?;
        core::str::from_utf8(number).ok()?.strip_suffix('\0')?.parse().ok()
    }

    /// A request's reply; events before it are dropped. An error is its name.
    pub fn ask(
        self,
        kind: u32,
        transaction: u32,
        parts: &[&[u8]],
    ) -> Result<&'static [u8], &'static str> {
        const MARK: u32 = 0x1234_5678;
        if !self.request(kind, MARK, transaction, parts) || self.notify() != 0 {
            return Err("no room");
        }
        loop {
            let reply = self.receive().ok_or("no reply")?;
            if reply.kind == self::kind::WATCH_EVENT {
                continue;
            }
            if (reply.request, reply.transaction) != (MARK, transaction) {
                return Err("another's reply");
            }
            return match reply.kind {
                self::kind::ERROR => Err(core::str::from_utf8(reply.payload())
                    .map_or("no text", |name| name.trim_end_matches('\0'))),
                same if same == kind => Ok(reply.payload()),
                _ => Err("a reply of another kind"),
            };
        }
    }
}
