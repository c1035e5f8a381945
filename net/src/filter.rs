//! The addresses that a port may send from: MAC addresses and, by `ip=`, those of ARP, IPv4 and
//! IPv6.

use crate::frame::{Frame, Mac};
use crate::headers::{self, ARP, IPV4, IPV6};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use etherparse::{ArpPacketSlice, IpNumber, IpSlice};

const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// The bits that are alike.
    pub prefix_bits: u8,
}

impl Network {
    /// True if it has the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix_bits);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= prefix.min(u32::BITS)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= prefix.min(u128::BITS)
            }
            _ => false,
        }
    }
}

/// The addresses that frames may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFilter {
    /// This MAC address alone, if it is given.
    pub mac: Option<Mac>,
    /// These networks, if there are any. Nothing but ARP and IP is let through then, untagged, and
    /// sound as far as it has addresses.
    pub networks: Vec<Network>,
}

impl SourceFilter {
    /// True if a frame may pass.
    pub fn permits(&self, frame: &Frame) -> bool {
        self.mac.is_none_or(|mac| mac == frame.source()) && self.permits_protocol(frame.bytes())
    }

    fn permits_protocol(&self, frame: &[u8]) -> bool {
        match headers::ether_type(frame) {
            ARP => self.permits_arp(headers::payload(frame)),
            _ if self.networks.is_empty() => true,
            IPV4 | IPV6 => headers::ip(frame).is_some_and(|ip| self.permits_ip(&ip)),
            _ => false,
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    fn permits_arp(&self, packet: &[u8]) -> bool {
        let Ok(arp) = ArpPacketSlice::from_slice(packet) else { return self.networks.is_empty() };
        let is_own = self.mac.is_none_or(|mac| arp.sender_hw_addr() == mac.0);
        let Ok(address) = <[u8; 4]>::try_from(arp.sender_protocol_addr()) else {
            return is_own && self.networks.is_empty();
        };
        let address = Ipv4Addr::from(address);
        // A probe names no sender (RFC 5227).
        is_own && (self.networks.is_empty() || address.is_unspecified() || self.has(address.into()))
    }

    fn permits_ip(&self, ip: &IpSlice<'_>) -> bool {
        let (source, payload) = (ip.source_addr(), ip.payload());
        if self.has(source) {
            return ip.ipv6().is_none() || self.permits_advertisement(ip);
        }
        if !self.networks.iter().any(|network| network.address.is_ipv4() == source.is_ipv4()) {
            return false;
        }
        match source {
            // To get an address.
            IpAddr::V4(source) => {
                source.is_unspecified()
                    && payload.ip_number == IpNumber::UDP
                    && !payload.fragmented
                    && ports(payload.payload) == Some((DHCP_CLIENT, DHCP_SERVER))
            }
            // To find neighbours.
            IpAddr::V6(source) => {
                let is_local = source.is_unspecified() || is_link_local(source);
                is_local
                    && payload.ip_number == IpNumber::IPV6_ICMP
                    && self.permits_advertisement(ip)
            }
        }
    }

    /// False for the advertisement of an address that is not the guest's (RFC 4861, 4.4).
    fn permits_advertisement(&self, ip: &IpSlice<'_>) -> bool {
        let payload = ip.payload();
        if payload.ip_number != IpNumber::IPV6_ICMP
            || payload.payload.first() != Some(&NEIGHBOR_ADVERTISEMENT)
        {
            return true;
        }
        let target = payload.payload.get(8..24).and_then(|it| <[u8; 16]>::try_from(it).ok());
        let target = target.map(Ipv6Addr::from);
        target.is_some_and(|target| is_link_local(target) || self.has(target.into()))
    }
}

/// fe80::/10.
const fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Source and destination ports.
fn ports(segment: &[u8]) -> Option<(u16, u16)> {
    match *segment {
        [a, b, c, d, ..] => Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        _ => None,
    }
}
