//! A guest's connection: its ring page (xs_wire.h, `struct xenstore_domain_interface`).

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use zerocopy::FromBytes;

use super::wire::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::{DomId, Peer, Store};

/// Length of the page.
pub const PAGE_BYTES: usize = 4096;

/// Length of each ring; an index modulo this is a place in it (`XENSTORE_RING_SIZE`).
const RING_BYTES: u32 = 1024;
/// Places in the page.
const REQUESTS: usize = 0;
const REPLIES: usize = 1024;
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;
const SERVER_FEATURES: usize = 2064;
const CONNECTION: usize = 2068;
const ERROR: usize = 2072;

/// `server_features`: [`ERROR`] is set when the connection dies.
const FEATURE_ERROR: u32 = 2;
/// `connection`: all is well (`XENSTORE_CONNECTED`).
const CONNECTED: u32 = 0;

/// The page is not the guest's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageGone;

/// The page that guest and hypervisor share. The guest may write it at any moment.
pub trait SharedPage {
    /// Copies from the page: an aligned number of 4 bytes in one access.
    ///
    /// # Errors
    /// [`PageGone`].
    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), PageGone>;

    /// Copies to the page: an aligned number of 4 bytes in one access.
    ///
    /// # Errors
    /// [`PageGone`].
    fn write(&self, offset: usize, data: &[u8]) -> Result<(), PageGone>;

    /// Reads an index.
    ///
    /// # Errors
    /// [`PageGone`].
    fn read_u32(&self, offset: usize) -> Result<u32, PageGone> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes an index.
    ///
    /// # Errors
    /// [`PageGone`].
    fn write_u32(&self, offset: usize, value: u32) -> Result<(), PageGone> {
        self.write(offset, &value.to_le_bytes())
    }
}

/// Why a connection died, as the page tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RingError {
    /// The page is gone (`XENSTORE_ERROR_COMM`).
    Communication = 1,
    /// An index is more than the ring away from the other (`XENSTORE_ERROR_RINGIDX`).
    Index = 2,
    /// A message is longer than is allowed (`XENSTORE_ERROR_PROTO`).
    Protocol = 3,
}

impl From<PageGone> for RingError {
    fn from(_: PageGone) -> Self {
        Self::Communication
    }
}

/// A guest's connection to the store.
#[derive(Debug)]
pub struct Connection {
    domain: DomId,
    /// As much of the next request as has come.
    input: Vec<u8>,
    /// The message that is being sent, and how much of it has been.
    output: Vec<u8>,
    sent_bytes: usize,
    error: Option<RingError>,
}

impl Connection {
    /// A connection of `domain`, on a page that is not yet the guest's, and will be as it was
    /// new.
    ///
    /// # Errors
    /// [`PageGone`].
    pub fn new(domain: DomId, page: &impl SharedPage) -> Result<Self, PageGone> {
        page.write(0, &[0; PAGE_BYTES])?;
        page.write_u32(SERVER_FEATURES, FEATURE_ERROR)?;
        page.write_u32(CONNECTION, CONNECTED)?;
        Ok(Self { domain, input: vec![], output: vec![], sent_bytes: 0, error: None })
    }

    /// Why the connection is dead, if it is.
    pub fn error(&self) -> Option<RingError> {
        self.error
    }

    /// Takes the requests that are in the ring, and puts replies and events into it as far as
    /// there is room. To be called when the guest signals its port, and when
    /// [`Store::take_ready`] names it. Returns true if the guest's port is to be signalled.
    ///
    /// A guest that breaks the protocol loses the connection, with its watches and transactions,
    /// until its next life.
    pub fn serve(&mut self, store: &mut Store, page: &impl SharedPage) -> bool {
        if self.error.is_some() {
            return false;
        }
        let mut has_moved = false;
        if let Err(error) = self.exchange(store, page, &mut has_moved) {
            self.error = Some(error);
            store.disconnect(Peer::Ring(self.domain));
            // A page that is gone has no field to tell it.
            has_moved = page.write_u32(ERROR, error as u32).is_ok();
        }
        has_moved
    }

    /// The requests that are there at the begin, each with its answer: the guest may add some
    /// meanwhile, but will signal again.
    fn exchange(
        &mut self,
        store: &mut Store,
        page: &impl SharedPage,
        has_moved: &mut bool,
    ) -> Result<(), RingError> {
        let mut consumed = page.read_u32(REQ_CONS)?;
        let produced = page.read_u32(REQ_PROD)?;
        if produced.wrapping_sub(consumed) > RING_BYTES {
            return Err(RingError::Index);
        }
        // The requests are read after the index that says that they are there.
        fence(Ordering::Acquire);
        *has_moved |= self.send(store, page)?;
        while consumed != produced && !store.is_congested(self.domain) {
            let wanted = self.missing_bytes()?;
            let offset = consumed % RING_BYTES;
            let available = produced.wrapping_sub(consumed).min(RING_BYTES - offset);
            let taken = available.min(u32::try_from(wanted).unwrap_or(u32::MAX));
            let begin = self.input.len();
            self.input.resize(begin + taken as usize, 0);
            page.read(REQUESTS + offset as usize, &mut self.input[begin..])?;
            consumed = consumed.wrapping_add(taken);
            // The guest may overwrite them once the index says that they have been read.
            fence(Ordering::Release);
            page.write_u32(REQ_CONS, consumed)?;
            *has_moved = true;
            if self.missing_bytes()? == 0 {
                self.deliver(store);
                *has_moved |= self.send(store, page)?;
            }
        }
        Ok(())
    }

    /// Bytes that the request lacks, or its header as long as that is not there.
    fn missing_bytes(&self) -> Result<usize, RingError> {
        let Ok((header, payload)) = Header::read_from_prefix(&self.input) else {
            return Ok(HEADER_BYTES - self.input.len());
        };
        let length_bytes = header.length_bytes.get() as usize;
        if length_bytes > MAX_PAYLOAD_BYTES {
            return Err(RingError::Protocol);
        }
        Ok(length_bytes - payload.len())
    }

    /// Hands the request over that is complete.
    fn deliver(&mut self, store: &mut Store) {
        if let Ok((header, payload)) = Header::read_from_prefix(&self.input) {
            store.request(self.domain, &header, payload);
        }
        self.input.clear();
    }

    /// Puts into the ring what waits and fits. Returns true if that was something.
    fn send(&mut self, store: &mut Store, page: &impl SharedPage) -> Result<bool, RingError> {
        let consumed = page.read_u32(RSP_CONS)?;
        let mut produced = page.read_u32(RSP_PROD)?;
        if produced.wrapping_sub(consumed) > RING_BYTES {
            return Err(RingError::Index);
        }
        let begin = produced;
        loop {
            if self.sent_bytes == self.output.len() {
                let Some(message) = store.next_message(self.domain) else { break };
                self.output = message.to_bytes();
                self.sent_bytes = 0;
            }
            let offset = produced % RING_BYTES;
            let room = RING_BYTES - produced.wrapping_sub(consumed);
            let room = room.min(RING_BYTES - offset) as usize;
            let rest = &self.output[self.sent_bytes..];
            let chunk = &rest[..rest.len().min(room)];
            if chunk.is_empty() {
                break;
            }
            page.write(REPLIES + offset as usize, chunk)?;
            self.sent_bytes += chunk.len();
            produced = produced.wrapping_add(u32::try_from(chunk.len()).unwrap_or(0));
        }
        if produced != begin {
            // The guest reads the replies once the index says that they are there.
            fence(Ordering::Release);
            page.write_u32(RSP_PROD, produced)?;
        }
        Ok(produced != begin)
    }
}
