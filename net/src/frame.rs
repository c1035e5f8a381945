//! Ethernet frames as they pass between network cards of guests: with the work that a real card
//! would do on them (checksums, segmentation) left undone where nobody needs it.

use crate::headers::{HEADER_BYTES, Places};
use alloc::vec::Vec;
use core::fmt;

/// The longest frame: its length has 16 bits wherever it is told.
pub const MAX_BYTES: usize = 0xffff;

/// The address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// To all.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for addresses of groups, broadcast among them.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True if a card may send from it.
    pub const fn is_source(self) -> bool {
        !self.is_group() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// True for what ends at the next bridge: pause frames, LLDP and such (IEEE 802.1Q, table 8-1).
    /// The first of these, of spanning trees, is for bridges that build one; this one does not, and
    /// passes it on, as Linux's does, so that guests find loops that they have made.
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0, 0, 1..=0x0f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The state of the checksum of a frame's TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the frame; the sender says nothing about it.
    Complete,
    /// It is in the frame, and the data is as it was sent.
    Validated,
    /// It is not in the frame, and the data is as it was sent.
    Blank,
}

/// The protocol of a segment that is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// A segment that is to be cut into several for a receiver that cannot take it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// The data that each of these has at most.
    pub segment_bytes: u16,
    /// Its protocol.
    pub kind: GsoKind,
}

/// A frame cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: Checksum,
    pub(crate) gso: Option<Gso>,
}

impl Frame {
    /// A frame, without its check sequence. One that is to be cut has its checksum computed then.
    ///
    /// # Errors
    /// [`Malformed`] if it is too short or too long, or has not the headers for the work that is
    /// left undone on it.
    pub fn new(bytes: Vec<u8>, checksum: Checksum, gso: Option<Gso>) -> Result<Self, Malformed> {
        if !(HEADER_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            return Err(Malformed);
        }
        let checksum = if gso.is_some() { Checksum::Blank } else { checksum };
        if checksum == Checksum::Blank {
            let places = Places::of(&bytes).ok_or(Malformed)?;
            let can_be_cut = |gso: Gso| {
                let has_data = places.tcp_data_at(&bytes).is_some();
                has_data && gso.segment_bytes > 0 && places.is_v6 == (gso.kind == GsoKind::TcpV6)
            };
            if !gso.is_none_or(can_be_cut) {
                return Err(Malformed);
            }
        }
        Ok(Self { bytes, checksum, gso })
    }

    /// Its bytes, from the destination on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The state of its checksum.
    pub const fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// How it is to be cut, if so.
    pub const fn gso(&self) -> Option<Gso> {
        self.gso
    }

    /// The address that it is for.
    pub fn destination(&self) -> Mac {
        self.address(0)
    }

    /// The address that it is from.
    pub fn source(&self) -> Mac {
        self.address(6)
    }

    fn address(&self, offset: usize) -> Mac {
        let mut address = [0; 6];
        address.copy_from_slice(&self.bytes[offset..offset + 6]);
        Mac(address)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, {} bytes", self.source(), self.destination(), self.bytes.len())?;
        write!(f, ", {:?}, {:?}", self.checksum, self.gso)
    }
}
