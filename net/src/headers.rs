//! Where the headers of a frame are.

use etherparse::{IpNumber, IpSlice, TcpHeaderSlice};

/// Destination, source and EtherType.
pub const HEADER_BYTES: usize = 14;
const ETHER_TYPE_AT: usize = 12;
pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

/// The protocol of a frame; 0, which is none, if it is too short to have one.
pub fn ether_type(frame: &[u8]) -> u16 {
    match frame.get(ETHER_TYPE_AT..HEADER_BYTES) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

/// The part behind the Ethernet header.
pub fn payload(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

/// The IP packet of a frame, if it has a sound one.
pub fn ip(frame: &[u8]) -> Option<IpSlice<'_>> {
    match ether_type(frame) {
        IPV4 | IPV6 => IpSlice::from_slice(payload(frame)).ok(),
        _ => None,
    }
}

/// A protocol over IP whose checksum covers addresses too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Offset of the checksum in the header.
    pub const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    const fn header_bytes(self) -> usize {
        match self {
            Self::Tcp => 20,
            Self::Udp => 8,
        }
    }

    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => IpNumber::TCP.0,
            Self::Udp => IpNumber::UDP.0,
        }
    }
}

/// The places in a frame with TCP or UDP that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub is_v6: bool,
    pub transport: Transport,
    /// Where the header of TCP or UDP begins.
    pub transport_at: usize,
    /// Where its data ends; behind it may be padding.
    pub end: usize,
}

impl Places {
    /// Those of `frame`, if it has them.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let ip = ip(frame)?;
        let headers_bytes = match &ip {
            IpSlice::Ipv4(it) => {
                it.header().slice().len() + it.extensions().auth.map_or(0, |it| it.slice().len())
            }
            IpSlice::Ipv6(it) => it.header().slice().len() + it.extensions().slice().len(),
        };
        let (is_v6, payload) = (ip.ipv6().is_some(), ip.payload());
        let transport = match payload.ip_number {
            IpNumber::TCP => Transport::Tcp,
            IpNumber::UDP => Transport::Udp,
            _ => return None,
        };
        if payload.fragmented || payload.payload.len() < transport.header_bytes() {
            return None;
        }
        let transport_at = HEADER_BYTES + headers_bytes;
        Some(Self { is_v6, transport, transport_at, end: transport_at + payload.payload.len() })
    }

    /// Where the data of a TCP segment begins.
    pub fn tcp_data_at(&self, frame: &[u8]) -> Option<usize> {
        let segment = frame.get(self.transport_at..self.end)?;
        let header = TcpHeaderSlice::from_slice(segment).ok()?;
        (self.transport == Transport::Tcp).then(|| self.transport_at + header.slice().len())
    }

    /// Source and destination addresses of IP, one after the other.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let (start, length) = if self.is_v6 { (8, 32) } else { (12, 8) };
        let start = HEADER_BYTES + start;
        frame.get(start..start + length).unwrap_or_default()
    }
}
