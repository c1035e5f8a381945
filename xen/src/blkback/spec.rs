//! The ring of a block device (`io/ring.h`, `io/blkif.h`, `io/protocols.h`), in the layouts of both
//! widths.

use zerocopy::byteorder::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ring::{self, PAGE_BYTES};
use crate::width::Width;

/// The unit of sector numbers, whatever the disk's sectors are.
pub const SECTOR_BYTES: u64 = 512;
/// Sectors in a page.
pub const SECTORS_PER_PAGE: u8 = 8;

/// Segments of a request without indirection (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 11;
/// Segments of one with it, as Linux's back end has it.
pub const MAX_INDIRECT_SEGMENTS: usize = 256;
/// Segments in a page of them.
pub const SEGMENTS_PER_PAGE: usize = PAGE_BYTES / size_of::<Segment>();
/// Pages of segments in a request (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
pub const MAX_INDIRECT_PAGES: usize = 8;

/// `BLKIF_OP_READ`.
pub const OP_READ: u8 = 0;
/// `BLKIF_OP_WRITE`.
pub const OP_WRITE: u8 = 1;
/// `BLKIF_OP_WRITE_BARRIER`.
pub const OP_WRITE_BARRIER: u8 = 2;
/// `BLKIF_OP_FLUSH_DISKCACHE`.
pub const OP_FLUSH: u8 = 3;
/// `BLKIF_OP_DISCARD`.
pub const OP_DISCARD: u8 = 5;
/// `BLKIF_OP_INDIRECT`.
pub const OP_INDIRECT: u8 = 6;

/// `BLKIF_RSP_OKAY`.
pub const STATUS_OKAY: i16 = 0;
/// `BLKIF_RSP_ERROR`.
pub const STATUS_ERROR: i16 = -1;
/// `BLKIF_RSP_EOPNOTSUPP`.
pub const STATUS_NOT_SUPPORTED: i16 = -2;

/// `VDISK_CDROM`.
pub const INFO_CDROM: u32 = 1;
/// `VDISK_REMOVABLE`.
pub const INFO_REMOVABLE: u32 = 2;
/// `VDISK_READONLY`.
pub const INFO_READ_ONLY: u32 = 4;

/// The layout of a ring's entries (`XEN_IO_PROTO_ABI_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `x86_32-abi`: 64-bit fields are aligned to 4 bytes.
    X86_32,
    /// `x86_64-abi`.
    X86_64,
}

impl Protocol {
    /// The protocol by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "x86_32-abi" => Some(Self::X86_32),
            "x86_64-abi" => Some(Self::X86_64),
            _ => None,
        }
    }

    /// Bytes from one entry to the next.
    pub const fn stride_bytes(self) -> usize {
        match self {
            Self::X86_32 => size_of::<Request32>(),
            Self::X86_64 => size_of::<Request64>(),
        }
    }

    /// Entries of a ring of so many pages.
    pub const fn entries(self, pages: usize) -> u32 {
        ring::entries(pages, self.stride_bytes())
    }

    /// The layout of a front end that does not name it, in a guest of this width.
    pub const fn native(width: Width) -> Self {
        match width {
            Width::Bits32 => Self::X86_32,
            Width::Bits64 => Self::X86_64,
        }
    }
}

/// `struct blkif_request_segment`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Segment {
    /// The page.
    pub reference: U32,
    /// Its first sector that is meant.
    pub first_sector: u8,
    /// The last.
    pub last_sector: u8,
    /// Nothing.
    pub padding: [u8; 2],
}

/// `struct blkif_request` of `x86_32-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Request32 {
    pub operation: u8,
    pub nr_segments: u8,
    pub handle: U16,
    pub id: U64,
    pub sector_number: U64,
    pub seg: [Segment; MAX_SEGMENTS],
}

/// `struct blkif_request` of `x86_64-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Request64 {
    pub operation: u8,
    pub nr_segments: u8,
    pub handle: U16,
    pub padding: [u8; 4],
    pub id: U64,
    pub sector_number: U64,
    pub seg: [Segment; MAX_SEGMENTS],
}

/// `struct blkif_request_discard` of `x86_32-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Discard32 {
    pub operation: u8,
    pub flag: u8,
    pub handle: U16,
    pub id: U64,
    pub sector_number: U64,
    pub nr_sectors: U64,
}

/// `struct blkif_request_discard` of `x86_64-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Discard64 {
    pub operation: u8,
    pub flag: u8,
    pub handle: U16,
    pub padding: [u8; 4],
    pub id: U64,
    pub sector_number: U64,
    pub nr_sectors: U64,
}

/// `struct blkif_request_indirect` of `x86_32-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Indirect32 {
    pub operation: u8,
    pub indirect_op: u8,
    pub nr_segments: U16,
    pub id: U64,
    pub sector_number: U64,
    pub handle: U16,
    pub padding: [u8; 2],
    pub indirect_grefs: [U32; MAX_INDIRECT_PAGES],
}

/// `struct blkif_request_indirect` of `x86_64-abi`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Indirect64 {
    pub operation: u8,
    pub indirect_op: u8,
    pub nr_segments: U16,
    pub padding1: [u8; 4],
    pub id: U64,
    pub sector_number: U64,
    pub handle: U16,
    pub padding2: [u8; 2],
    pub indirect_grefs: [U32; MAX_INDIRECT_PAGES],
}

/// `struct blkif_response`, of which `x86_32-abi` has the first 12 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct Response {
    pub id: U64,
    pub operation: u8,
    pub padding: u8,
    pub status: I16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn structures_have_the_sizes_and_offsets_of_the_public_headers() {
        assert_eq!((size_of::<Segment>(), SEGMENTS_PER_PAGE), (8, 512));
        assert_eq!(offset_of!(Segment, first_sector), 4);
        assert_eq!(offset_of!(Segment, last_sector), 5);
        assert_eq!(size_of::<Request64>(), 112);
        assert_eq!(offset_of!(Request64, handle), 2);
        assert_eq!(offset_of!(Request64, id), 8);
        assert_eq!(offset_of!(Request64, sector_number), 16);
        assert_eq!(offset_of!(Request64, seg), 24);
        assert_eq!(size_of::<Request32>(), 108);
        assert_eq!(offset_of!(Request32, id), 4);
        assert_eq!(offset_of!(Request32, sector_number), 12);
        assert_eq!(offset_of!(Request32, seg), 20);
        assert_eq!(offset_of!(Discard64, id), 8);
        assert_eq!(offset_of!(Discard64, sector_number), 16);
        assert_eq!(offset_of!(Discard64, nr_sectors), 24);
        assert_eq!(offset_of!(Discard32, id), 4);
        assert_eq!(offset_of!(Discard32, sector_number), 12);
        assert_eq!(offset_of!(Discard32, nr_sectors), 20);
        assert_eq!(offset_of!(Indirect64, indirect_op), 1);
        assert_eq!(offset_of!(Indirect64, nr_segments), 2);
        assert_eq!(offset_of!(Indirect64, id), 8);
        assert_eq!(offset_of!(Indirect64, sector_number), 16);
        assert_eq!(offset_of!(Indirect64, handle), 24);
        assert_eq!(offset_of!(Indirect64, indirect_grefs), 28);
        assert_eq!(offset_of!(Indirect32, id), 4);
        assert_eq!(offset_of!(Indirect32, sector_number), 12);
        assert_eq!(offset_of!(Indirect32, handle), 20);
        assert_eq!(offset_of!(Indirect32, indirect_grefs), 24);
        assert_eq!(offset_of!(Response, operation), 8);
        assert_eq!(offset_of!(Response, status), 10);
        assert_eq!(size_of::<Response>(), 12);
    }

    #[test]
    fn rings_have_as_many_entries_as_fit() {
        for protocol in [Protocol::X86_32, Protocol::X86_64] {
            let entries = [1, 2, 4, 8, 16].map(|pages| protocol.entries(pages));
            assert_eq!(entries, [32, 64, 128, 256, 512]);
        }
    }
}
