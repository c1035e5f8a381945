//! The rings of a network card (`io/netif.h`): the same layout in both widths.

use zerocopy::byteorder::little_endian::{I16, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `NETTXF_csum_blank`: the checksum is not in the packet.
pub const TX_CSUM_BLANK: u16 = 1;
/// `NETTXF_data_validated`
pub const TX_DATA_VALIDATED: u16 = 2;
/// `NETTXF_more_data`: the packet goes on in the next request.
pub const TX_MORE_DATA: u16 = 4;
/// `NETTXF_extra_info`: the next entry says more about the packet.
pub const TX_EXTRA_INFO: u16 = 8;

/// `NETRXF_data_validated`: other numbers than a transmitter's.
pub const RX_DATA_VALIDATED: u16 = 1;
/// `NETRXF_csum_blank`
pub const RX_CSUM_BLANK: u16 = 2;
/// `NETRXF_more_data`
pub const RX_MORE_DATA: u16 = 4;
/// `NETRXF_extra_info`
pub const RX_EXTRA_INFO: u16 = 8;

/// `NETIF_RSP_OKAY`
pub const STATUS_OKAY: i16 = 0;
/// `NETIF_RSP_ERROR`
pub const STATUS_ERROR: i16 = -1;
/// `NETIF_RSP_NULL`: the answer to an entry that says more about a packet.
pub const STATUS_NULL: i16 = 1;

/// `XEN_NETIF_EXTRA_TYPE_GSO`
pub const EXTRA_GSO: u8 = 1;
/// `XEN_NETIF_EXTRA_TYPE_MCAST_ADD`
pub const EXTRA_MCAST_ADD: u8 = 2;
/// `XEN_NETIF_EXTRA_TYPE_MCAST_DEL`
pub const EXTRA_MCAST_DEL: u8 = 3;
/// Types from here on are none (`XEN_NETIF_EXTRA_TYPE_MAX`).
pub const EXTRA_END: u8 = 6;
/// `XEN_NETIF_EXTRA_FLAG_MORE`: another such entry follows.
pub const EXTRA_MORE: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV4`
pub const GSO_TCPV4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV6`
pub const GSO_TCPV6: u8 = 2;

/// Requests of a packet that every back end has taken (`XEN_NETIF_NR_SLOTS_MIN`): with more it is
/// dropped.
pub const MAX_SLOTS: usize = 18;
/// With so many a front end is broken, as Linux's back end has it (`fatal_skb_slots`).
pub const FATAL_SLOTS: usize = 20;

/// `struct netif_tx_request`
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
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct TxRequest {
    pub gref: U32,
    pub offset: U16,
    pub flags: U16,
    pub id: U16,
    /// Of the first: bytes of the whole packet.
    pub size: U16,
}

/// `struct netif_tx_response`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct TxResponse {
    pub id: U16,
    pub status: I16,
}

/// `struct netif_rx_request`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct RxRequest {
    pub id: U16,
    pub pad: U16,
    pub gref: U32,
}

/// `struct netif_rx_response`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of the header, and its documentation")]
pub struct RxResponse {
    pub id: U16,
    pub offset: U16,
    pub flags: U16,
    /// Bytes, or what has gone wrong.
    pub status: I16,
}

/// `struct netif_extra_info`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extra {
    /// Its type.
    pub kind: u8,
    /// [`EXTRA_MORE`]
    pub flags: u8,
    /// Its content: of a group its address.
    pub body: [u8; 6],
}

impl Extra {
    /// The size of segments, and their type (`u.gso`).
    pub const fn gso(self) -> (u16, u8) {
        let [low, high, kind, ..] = self.body;
        (u16::from_le_bytes([low, high]), kind)
    }

    /// The same to say.
    pub const fn with_gso(size: u16, kind: u8) -> Self {
        let [low, high] = size.to_le_bytes();
        Self { kind: EXTRA_GSO, flags: 0, body: [low, high, kind, 0, 0, 0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::entries;
    use core::mem::offset_of;

    #[test]
    fn structures_have_the_sizes_and_offsets_of_the_public_headers() {
        assert_eq!(size_of::<TxRequest>(), 12);
        assert_eq!(offset_of!(TxRequest, offset), 4);
        assert_eq!(offset_of!(TxRequest, flags), 6);
        assert_eq!(offset_of!(TxRequest, id), 8);
        assert_eq!(offset_of!(TxRequest, size), 10);
        assert_eq!((size_of::<TxResponse>(), offset_of!(TxResponse, status)), (4, 2));
        assert_eq!((size_of::<RxRequest>(), offset_of!(RxRequest, gref)), (8, 4));
        assert_eq!(size_of::<RxResponse>(), 8);
        assert_eq!(offset_of!(RxResponse, offset), 2);
        assert_eq!(offset_of!(RxResponse, flags), 4);
        assert_eq!(offset_of!(RxResponse, status), 6);
        assert_eq!((size_of::<Extra>(), offset_of!(Extra, body)), (8, 2));
        let rings = [size_of::<TxRequest>(), size_of::<RxRequest>()];
        assert_eq!(rings.map(|stride| entries(1, stride)), [256, 256]);
        assert_eq!(Extra::with_gso(1448, GSO_TCPV4).gso(), (1448, GSO_TCPV4));
    }
}
