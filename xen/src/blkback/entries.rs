//! Requests and responses of a disk's ring.

use zerocopy::byteorder::little_endian::{I16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::spec::{
    Discard32, Discard64, Indirect32, Indirect64, MAX_INDIRECT_PAGES, MAX_SEGMENTS, OP_DISCARD,
    OP_INDIRECT, Protocol, Request32, Request64, Response, Segment,
};
use crate::ring::{BrokenRing, Ring};

/// A request, whatever the layout.
#[derive(Debug)]
pub(super) struct Request {
    pub operation: u8,
    pub id: u64,
    pub sector: u64,
    pub segments: Segments,
}

impl Request {
    /// The operation that the response names: of an indirect request that which it is about, as
    /// Linux's front end demands.
    pub const fn answered_operation(&self) -> u8 {
        match self.segments {
            Segments::Direct { .. } | Segments::Discard { .. } => self.operation,
            Segments::Indirect { operation, .. } => operation,
        }
    }
}

/// Where the segments of a request are.
#[derive(Debug)]
pub(super) enum Segments {
    Direct {
        count: usize,
        segments: [Segment; MAX_SEGMENTS],
    },
    Indirect {
        operation: u8,
        count: usize,
        pages: [u32; MAX_INDIRECT_PAGES],
    },
    /// None, but so many sectors.
    Discard {
        flag: u8,
        sectors: u64,
    },
}

/// Takes the next request; none if there is none at this moment.
///
/// # Errors
/// [`BrokenRing`].
pub(super) fn take(ring: &mut Ring, protocol: Protocol) -> Result<Option<Request>, BrokenRing> {
    let mut bytes = [0; size_of::<Request64>()];
    let bytes = &mut bytes[..protocol.stride_bytes()];
    if !ring.take(bytes)? {
        return Ok(None);
    }
    parse(protocol, bytes).map(Some).ok_or(BrokenRing)
}

/// Puts a response behind the others.
///
/// # Errors
/// [`BrokenRing`].
pub(super) fn respond(
    ring: &mut Ring,
    id: u64,
    operation: u8,
    status: i16,
) -> Result<(), BrokenRing> {
    let response = Response { id: U64::new(id), operation, padding: 0, status: I16::new(status) };
    ring.respond(response.as_bytes())
}

/// Reads an entry.
fn parse(protocol: Protocol, bytes: &[u8]) -> Option<Request> {
    // The structures differ in their padding, and have the same fields.
    macro_rules! direct {
        ($layout:ty) => {{
            let (request, _) = <$layout>::read_from_prefix(bytes).ok()?;
            let segments =
                Segments::Direct { count: request.nr_segments.into(), segments: request.seg };
            (request.id.get(), request.sector_number.get(), segments)
        }};
    }
    macro_rules! indirect {
        ($layout:ty) => {{
            let (request, _) = <$layout>::read_from_prefix(bytes).ok()?;
            let segments = Segments::Indirect {
                operation: request.indirect_op,
                count: request.nr_segments.get().into(),
                pages: request.indirect_grefs.map(u32::from),
            };
            (request.id.get(), request.sector_number.get(), segments)
        }};
    }
    macro_rules! discard {
        ($layout:ty) => {{
            let (request, _) = <$layout>::read_from_prefix(bytes).ok()?;
            let segments =
                Segments::Discard { flag: request.flag, sectors: request.nr_sectors.get() };
            (request.id.get(), request.sector_number.get(), segments)
        }};
    }
    let operation = *bytes.first()?;
    let (id, sector, segments) = match (protocol, operation) {
        (Protocol::X86_32, OP_INDIRECT) => indirect!(Indirect32),
        (Protocol::X86_64, OP_INDIRECT) => indirect!(Indirect64),
        (Protocol::X86_32, OP_DISCARD) => discard!(Discard32),
        (Protocol::X86_64, OP_DISCARD) => discard!(Discard64),
        (Protocol::X86_32, _) => direct!(Request32),
        (Protocol::X86_64, _) => direct!(Request64),
    };
    Some(Request { operation, id, sector, segments })
}
