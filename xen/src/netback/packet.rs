//! A packet in the ring of what a guest sends: requests, one a part, and entries that say more.

use alloc::vec;
use alloc::vec::Vec;

use net::{Checksum, Frame, Gso, GsoKind, HEADER_BYTES, Mac};
use zerocopy::byteorder::little_endian::{I16, U16};
use zerocopy::{FromZeros, IntoBytes};

use super::spec::{
    EXTRA_END, EXTRA_GSO, EXTRA_MCAST_ADD, EXTRA_MCAST_DEL, EXTRA_MORE, Extra, FATAL_SLOTS,
    GSO_TCPV4, GSO_TCPV6, MAX_SLOTS, STATUS_NULL, TX_CSUM_BLANK, TX_DATA_VALIDATED, TX_EXTRA_INFO,
    TX_MORE_DATA, TxRequest, TxResponse,
};
use crate::guest::{BadGrant, Guest};
use crate::ring::{BrokenRing, PAGE_BYTES, Ring};

/// The guest asks for the frames of a group, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupChange {
    pub group: Mac,
    pub is_wanted: bool,
}

/// A packet that was taken from the ring.
#[derive(Debug)]
pub(super) struct Packet {
    /// Its parts.
    slots: Vec<TxRequest>,
    /// Entries that say more; they are behind the first part.
    extras: usize,
    gso: Option<Gso>,
    pub group: Option<GroupChange>,
    is_wrong: bool,
}

impl Packet {
    /// Takes the packet whose first part, `first`, has been taken.
    ///
    /// # Errors
    /// [`BrokenRing`] for what a front end never does, as Linux's back end has it: a packet that is
    /// not all there, parts that leave their pages, many of them, or entries of no type.
    pub fn take(ring: &mut Ring, first: TxRequest) -> Result<Self, BrokenRing> {
        let (slots, is_wrong) = (vec![first], false);
        let mut packet = Self { slots, extras: 0, gso: None, group: None, is_wrong };
        if first.flags.get() & TX_EXTRA_INFO != 0 {
            packet.take_extras(ring)?;
        }
        if packet.group.is_none() {
            packet.take_parts(ring)?;
        }
        Ok(packet)
    }

    /// The bytes that [`Packet::copy`] copies.
    pub fn length_bytes(&self) -> usize {
        match self.is_wrong {
            true => 0,
            false => self.slots.iter().map(|part| usize::from(part.size.get())).sum(),
        }
    }

    fn take_extras(&mut self, ring: &mut Ring) -> Result<(), BrokenRing> {
        loop {
            let mut extra = Extra::new_zeroed();
            if !ring.take(extra.as_mut_bytes())? {
                return Err(BrokenRing);
            }
            self.extras += 1;
            let group = Mac(extra.body);
            match extra.kind {
                0 | EXTRA_END.. => return Err(BrokenRing),
                EXTRA_GSO => self.gso = Some(gso(extra)?),
                EXTRA_MCAST_ADD => self.group = Some(GroupChange { group, is_wanted: true }),
                EXTRA_MCAST_DEL => self.group = Some(GroupChange { group, is_wanted: false }),
                // Hashes, and room in front for programs of Linux's.
                _ => {}
            }
            if extra.flags & EXTRA_MORE == 0 {
                return Ok(());
            }
        }
    }

    fn take_parts(&mut self, ring: &mut Ring) -> Result<(), BrokenRing> {
        let mut flags = self.slots[0].flags.get();
        let mut first_bytes = self.slots[0].size.get();
        while flags & TX_MORE_DATA != 0 {
            let mut part = TxRequest::new_zeroed();
            if self.slots.len() == FATAL_SLOTS || !ring.take(part.as_mut_bytes())? {
                return Err(BrokenRing);
            }
            if !is_in_page(&part) {
                return Err(BrokenRing);
            }
            match first_bytes.checked_sub(part.size.get()) {
                Some(left) => first_bytes = left,
                None => self.is_wrong = true,
            }
            flags = part.flags.get();
            self.slots.push(part);
        }
        self.is_wrong |= self.slots.len() > MAX_SLOTS;
        self.is_wrong |= usize::from(self.slots[0].size.get()) < HEADER_BYTES;
        self.slots[0].size = U16::new(first_bytes);
        if !self.is_wrong && !is_in_page(&self.slots[0]) {
            return Err(BrokenRing);
        }
        Ok(())
    }

    /// Copies the packet out of the guest's pages; none if it is no frame.
    ///
    /// # Errors
    /// [`BadGrant`] if that cannot be.
    pub fn copy(&self, guest: &dyn Guest) -> Result<Option<Frame>, BadGrant> {
        if self.is_wrong {
            return Err(BadGrant);
        }
        let mut bytes = vec![0; self.length_bytes()];
        let mut rest = &mut bytes[..];
        for part in &self.slots {
            let (data, later) =
                rest.split_at_mut_checked(part.size.get().into()).ok_or(BadGrant)?;
            let held = guest.hold(part.gref.get(), false)?;
            let copied = guest.read(&held, part.offset.get().into(), data);
            guest.release(held);
            copied?;
            rest = later;
        }
        let flags = self.slots[0].flags.get();
        let checksum = if flags & TX_CSUM_BLANK != 0 {
            Checksum::Blank
        } else if flags & TX_DATA_VALIDATED != 0 {
            Checksum::Validated
        } else {
            Checksum::Complete
        };
        // The guest is not told of what is no frame, as in Linux's back end.
        Ok(Frame::new(bytes, checksum, self.gso).ok())
    }

    /// Answers all of its requests.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn respond(&self, ring: &mut Ring, status: i16) -> Result<(), BrokenRing> {
        for (index, part) in self.slots.iter().enumerate() {
            let response = TxResponse { id: part.id, status: I16::new(status) };
            ring.respond(response.as_bytes())?;
            let extras = if index == 0 { self.extras } else { 0 };
            for _ in 0..extras {
                let null = TxResponse { id: U16::ZERO, status: I16::new(STATUS_NULL) };
                ring.respond(null.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn is_in_page(part: &TxRequest) -> bool {
    usize::from(part.offset.get()) + usize::from(part.size.get()) <= PAGE_BYTES
}

fn gso(extra: Extra) -> Result<Gso, BrokenRing> {
    let (segment_bytes, kind) = extra.gso();
    let kind = match kind {
        GSO_TCPV4 => GsoKind::TcpV4,
        GSO_TCPV6 => GsoKind::TcpV6,
        _ => return Err(BrokenRing),
    };
    if segment_bytes == 0 { Err(BrokenRing) } else { Ok(Gso { segment_bytes, kind }) }
}
