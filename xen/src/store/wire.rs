//! Messages, as they are in the ring (xs_wire.h).

use alloc::vec::Vec;

use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest payload of a message, either way (`XENSTORE_PAYLOAD_MAX`).
pub const MAX_PAYLOAD_BYTES: usize = 4096;

/// The begin of a message (`struct xsd_sockmsg`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// The operation.
    pub kind: U32,
    /// The client's own mark, which the reply repeats.
    pub request: U32,
    /// The transaction, 0 for none.
    pub transaction: U32,
    /// Length of the payload that follows.
    pub length_bytes: U32,
}

/// Length of [`Header`].
pub const HEADER_BYTES: usize = size_of::<Header>();

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its begin.
    pub header: Header,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message of this kind, and of `request`'s marks.
    pub(super) fn answer(request: &Header, kind: Kind, payload: Vec<u8>) -> Self {
        let length_bytes = U32::new(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        Self { header: Header { kind: U32::new(kind as u32), length_bytes, ..*request }, payload }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.header.as_bytes(), self.payload.as_slice()].concat()
    }
}

/// The operations (`enum xsd_sockmsg_type`). 20 was RESTRICT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub enum Kind {
    Control = 0,
    Directory = 1,
    Read = 2,
    GetPerms = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Introduce = 8,
    Release = 9,
    GetDomainPath = 10,
    Write = 11,
    Mkdir = 12,
    Rm = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
    IsDomainIntroduced = 17,
    Resume = 18,
    SetTarget = 19,
    ResetWatches = 21,
    DirectoryPart = 22,
}

impl Kind {
    /// The kind by its number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Control,
            1 => Self::Directory,
            2 => Self::Read,
            3 => Self::GetPerms,
            4 => Self::Watch,
            5 => Self::Unwatch,
            6 => Self::TransactionStart,
            7 => Self::TransactionEnd,
            8 => Self::Introduce,
            9 => Self::Release,
            10 => Self::GetDomainPath,
            11 => Self::Write,
            12 => Self::Mkdir,
            13 => Self::Rm,
            14 => Self::SetPerms,
            15 => Self::WatchEvent,
            16 => Self::Error,
            17 => Self::IsDomainIntroduced,
            18 => Self::Resume,
            19 => Self::SetTarget,
            21 => Self::ResetWatches,
            22 => Self::DirectoryPart,
            _ => return None,
        })
    }
}

/// The one string that a payload consists of, without its NUL.
pub(super) fn one_string(payload: &[u8]) -> Option<&[u8]> {
    let (&last, string) = payload.split_last()?;
    (last == 0 && !string.contains(&0)).then_some(string)
}

/// The strings of a payload that have a NUL at their end, without the rest behind.
pub(super) fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = payload.iter().rposition(|&byte| byte == 0);
    let ended = end.map_or(&[][..], |end| &payload[..=end]);
    ended.split_inclusive(|&byte| byte == 0).map(|string| &string[..string.len() - 1])
}
