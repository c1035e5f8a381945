//! Frames on their way into a guest's pages.

use alloc::sync::Arc;

use net::{Checksum, Frame, GsoKind, Port, Segments};
use zerocopy::byteorder::little_endian::{I16, U16};
use zerocopy::{FromZeros, IntoBytes};

use super::spec::{
    Extra, GSO_TCPV4, GSO_TCPV6, RX_CSUM_BLANK, RX_DATA_VALIDATED, RX_EXTRA_INFO, RX_MORE_DATA,
    RxRequest, RxResponse, STATUS_ERROR,
};
use crate::guest::{BadGrant, Guest};
use crate::ring::{BrokenRing, PAGE_BYTES, Ring};

/// The work that a front end leaves to the card when it sends takes it off others that receive: it
/// can receive so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Frames on several pages.
    pub sg: bool,
    /// Segments that are not cut.
    pub gso_v4: bool,
    pub gso_v6: bool,
    /// Checksums that are left out.
    pub blank_v4: bool,
    pub blank_v6: bool,
}

impl Abilities {
    const fn takes_blank(self, is_v6: bool) -> bool {
        if is_v6 { self.blank_v6 } else { self.blank_v4 }
    }

    const fn takes_whole(self, kind: GsoKind) -> bool {
        match kind {
            GsoKind::TcpV4 => self.sg && self.gso_v4 && self.blank_v4,
            GsoKind::TcpV6 => self.sg && self.gso_v6 && self.blank_v6,
        }
    }
}

/// The frame that is next, for one queue.
#[derive(Default)]
pub(super) struct Delivery {
    next: Option<Arc<Frame>>,
    /// Those behind it, of the same frame of the sender's.
    segments: Option<Segments>,
}

impl Delivery {
    /// The next frame as the front end can take it, which stays the next one until it is
    /// [delivered](Self::deliver).
    pub fn next(&mut self, port: &Port, queue: usize, abilities: Abilities) -> Option<&Arc<Frame>> {
        while self.next.is_none() {
            self.next = match self.segments.as_mut().and_then(Iterator::next) {
                Some(segment) => Some(Arc::new(segment)),
                None => {
                    let frame = port.take(queue)?;
                    match frame.gso() {
                        Some(gso) if !abilities.takes_whole(gso.kind) => {
                            self.segments = Segments::new(frame);
                            None
                        }
                        None if frame.checksum() == Checksum::Blank
                            && !abilities.takes_blank(frame.is_v6()) =>
                        {
                            Some(frame.completed())
                        }
                        _ => Some(frame),
                    }
                }
            };
            // The segments of others may be longer than the guest takes frames.
            let most = if abilities.sg { usize::MAX } else { PAGE_BYTES };
            let most = most.min(port.max_frame_bytes());
            self.next.take_if(|frame| frame.gso().is_none() && frame.bytes().len() > most);
        }
        self.next.as_ref()
    }

    /// Copies the next frame into the guest's pages, for which there are requests.
    ///
    /// # Errors
    /// [`BrokenRing`].
    pub fn deliver(&mut self, ring: &mut Ring, guest: &dyn Guest) -> Result<(), BrokenRing> {
        let Some(frame) = self.next.take() else { return Ok(()) };
        let mut flags = match frame.checksum() {
            Checksum::Complete => 0,
            Checksum::Validated => RX_DATA_VALIDATED,
            Checksum::Blank => RX_DATA_VALIDATED | RX_CSUM_BLANK,
        };
        let mut extra = frame.gso().map(|gso| {
            let kind = match gso.kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
            };
            Extra::with_gso(gso.segment_bytes, kind)
        });
        if extra.is_some() {
            flags |= RX_EXTRA_INFO;
        }
        let mut parts = frame.bytes().chunks(PAGE_BYTES).peekable();
        while let Some(part) = parts.next() {
            let request = take(ring)?;
            if parts.peek().is_some() {
                flags |= RX_MORE_DATA;
            }
            let status = match fill(guest, request.gref.get(), part) {
                Ok(()) => part.len() as i16,
                Err(BadGrant) => STATUS_ERROR,
            };
            let response = RxResponse {
                id: request.id,
                offset: U16::ZERO,
                flags: U16::new(flags),
                status: I16::new(status),
            };
            ring.respond(response.as_bytes())?;
            if let Some(extra) = extra.take() {
                take(ring)?;
                ring.respond(extra.as_bytes())?;
            }
            flags = 0;
        }
        Ok(())
    }
}

/// The requests that a frame takes.
pub(super) fn slots(frame: &Frame) -> u32 {
    (frame.bytes().len().div_ceil(PAGE_BYTES) + usize::from(frame.gso().is_some())) as u32
}

fn take(ring: &mut Ring) -> Result<RxRequest, BrokenRing> {
    let mut request = RxRequest::new_zeroed();
    if ring.take(request.as_mut_bytes())? { Ok(request) } else { Err(BrokenRing) }
}

fn fill(guest: &dyn Guest, reference: u32, data: &[u8]) -> Result<(), BadGrant> {
    let held = guest.hold(reference, true)?;
    let copied = guest.write(&held, 0, data);
    guest.release(held);
    copied
}
