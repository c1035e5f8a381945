//! The work that senders have left to the card: checksums, and the cutting of segments.

use crate::frame::{Checksum, Frame};
use crate::headers::{self, HEADER_BYTES, Places, Transport};
use alloc::sync::Arc;
use alloc::vec::Vec;
use etherparse::checksum::Sum16BitWords;

const IPV4_LENGTH: usize = HEADER_BYTES + 2;
const IPV4_ID: usize = HEADER_BYTES + 4;
const IPV4_CHECKSUM: usize = HEADER_BYTES + 10;
const IPV6_LENGTH: usize = HEADER_BYTES + 4;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
const FIN: u8 = 1;
const PSH: u8 = 1 << 3;
const CWR: u8 = 1 << 7;

/// Puts the checksum of TCP or UDP into a frame that has its headers at `places`.
fn complete(frame: &mut [u8], places: &Places) {
    let checksum_at = places.transport_at + places.transport.checksum_at();
    put(frame, checksum_at, &[0; 2]);
    let length = (places.end - places.transport_at) as u16;
    let sum = Sum16BitWords::new()
        .add_slice(places.addresses(frame))
        .add_2bytes(length.to_be_bytes())
        .add_2bytes([0, places.transport.number()])
        .add_slice(&frame[places.transport_at..places.end]);
    let sum = match places.transport {
        Transport::Tcp => sum.ones_complement(),
        Transport::Udp => sum.to_ones_complement_with_no_zero(),
    };
    // Words were summed up as they are in memory, and so is the result.
    put(frame, checksum_at, &sum.to_ne_bytes());
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

fn get_u16(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

impl Frame {
    /// The frame with its checksum.
    pub fn completed(self: Arc<Self>) -> Arc<Self> {
        let places = match self.checksum {
            Checksum::Blank => Places::of(&self.bytes),
            Checksum::Complete | Checksum::Validated => None,
        };
        let Some(places) = places else { return self };
        let mut frame = Arc::unwrap_or_clone(self);
        complete(&mut frame.bytes, &places);
        frame.checksum = Checksum::Validated;
        Arc::new(frame)
    }

    /// True if it is over IPv6.
    pub fn is_v6(&self) -> bool {
        headers::ether_type(&self.bytes) == headers::IPV6
    }
}

/// The segments that a frame is cut into, one at a time: each has its checksums.
#[derive(Debug)]
pub struct Segments {
    frame: Arc<Frame>,
    places: Places,
    data_at: usize,
    /// The data of the next segment begins here.
    next: usize,
    count: u16,
}

impl Segments {
    /// Those of a frame; none if it is not to be cut.
    pub fn new(frame: Arc<Frame>) -> Option<Self> {
        frame.gso?;
        let places = Places::of(&frame.bytes)?;
        let data_at = places.tcp_data_at(&frame.bytes)?;
        Some(Self { frame, places, data_at, next: data_at, count: 0 })
    }

    /// True if all have been taken.
    pub const fn is_empty(&self) -> bool {
        self.next >= self.places.end && self.count > 0
    }
}

impl Iterator for Segments {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.is_empty() {
            return None;
        }
        let whole = &self.frame.bytes;
        let most = usize::from(self.frame.gso?.segment_bytes);
        let (begin, end) = (self.next, self.places.end.min(self.next.saturating_add(most)));
        let mut bytes = Vec::with_capacity(self.data_at + end - begin);
        bytes.extend_from_slice(whole.get(..self.data_at)?);
        bytes.extend_from_slice(whole.get(begin..end)?);
        let length = bytes.len() - HEADER_BYTES;
        if self.places.is_v6 {
            put(&mut bytes, IPV6_LENGTH, &((length - IPV6_HEADER_BYTES) as u16).to_be_bytes());
        } else {
            put(&mut bytes, IPV4_LENGTH, &(length as u16).to_be_bytes());
            let id = get_u16(&bytes, IPV4_ID).wrapping_add(self.count);
            put(&mut bytes, IPV4_ID, &id.to_be_bytes());
            put(&mut bytes, IPV4_CHECKSUM, &[0; 2]);
            let header_bytes = usize::from(bytes[HEADER_BYTES] & 0xf) * 4;
            let header = &bytes[HEADER_BYTES..HEADER_BYTES + header_bytes];
            let sum = Sum16BitWords::new().add_slice(header).ones_complement();
            put(&mut bytes, IPV4_CHECKSUM, &sum.to_ne_bytes());
        }
        let tcp = self.places.transport_at;
        let sequence = &mut bytes[tcp + TCP_SEQUENCE..tcp + TCP_SEQUENCE + 4];
        let first = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
        let number = first.wrapping_add((begin - self.data_at) as u32);
        sequence.copy_from_slice(&number.to_be_bytes());
        if end < self.places.end {
            bytes[tcp + TCP_FLAGS] &= !(FIN | PSH);
        }
        if self.count > 0 {
            bytes[tcp + TCP_FLAGS] &= !CWR;
        }
        let places = Places { end: bytes.len(), ..self.places };
        complete(&mut bytes, &places);
        (self.next, self.count) = (end, self.count.wrapping_add(1));
        Some(Frame { bytes, checksum: Checksum::Validated, gso: None })
    }
}
