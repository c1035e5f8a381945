use super::*;
use core::net::Ipv4Addr;
use etherparse::{ArpOperation, ArpPacket, EtherType};

fn filter(networks: &[(&str, u8)], own: Option<Mac>) -> SourceFilter {
    let network = |&(address, prefix_bits): &(&str, u8)| Network {
        address: address.parse().unwrap(),
        prefix_bits,
    };
    SourceFilter { mac: own, networks: networks.iter().map(network).collect() }
}

fn permits(filter: &SourceFilter, bytes: Vec<u8>) -> bool {
    filter.permits(&Frame::new(bytes, Checksum::Complete, None).unwrap())
}

fn arp(hardware: Mac, address: [u8; 4]) -> Vec<u8> {
    let packet = ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REPLY,
        &hardware.0,
        &address,
        &[0; 6],
        &[10, 0, 0, 9],
    );
    let mut bytes = vec![];
    PacketBuilder::ethernet2(mac(1).0, Mac::BROADCAST.0)
        .arp(packet.unwrap())
        .write(&mut bytes)
        .unwrap();
    bytes
}

/// ICMPv6 from an address; the target is that of an advertisement.
fn icmp_v6(source: &str, kind: u8, target: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap().octets();
    let mut body = octets(target).to_vec();
    body.splice(0..0, [0; 4]);
    let mut bytes = vec![];
    let ip =
        PacketBuilder::ethernet2(mac(1).0, mac(2).0).ipv6(octets(source), octets("fd00::2"), 255);
    ip.icmpv6_raw(kind, 0, [0; 4]).write(&mut bytes, &body[4..]).unwrap();
    bytes
}

#[test]
fn without_a_filter_all_passes() {
    let filter = filter(&[], None);
    assert!(permits(&filter, arp(mac(9), [1, 2, 3, 4])));
    assert!(permits(&filter, udp_v4([1; 4], (1, 2), b"")));
    assert!(permits(&filter, plain(mac(9), mac(2), 60).bytes().to_vec()));
    // Not even one that is no sound packet is kept back.
    let mut odd = arp(mac(9), [1, 2, 3, 4]);
    odd.truncate(20);
    assert!(permits(&filter, odd));
}

#[test]
fn addresses_of_ipv4_are_those_of_the_list() {
    let filter = filter(&[("10.0.0.1", 32), ("192.168.4.0", 22)], None);
    for (source, passes) in [
        ([10, 0, 0, 1], true),
        ([10, 0, 0, 2], false),
        ([192, 168, 7, 255], true),
        ([192, 168, 8, 0], false),
        ([0; 4], false),
    ] {
        assert_eq!(permits(&filter, udp_v4(source, (1, 2), b"")), passes, "{source:?}");
        let probe = passes || Ipv4Addr::from(source).is_unspecified();
        assert_eq!(permits(&filter, arp(mac(1), source)), probe, "{source:?}");
    }
    // It may ask for an address.
    assert!(permits(&filter, udp_v4([0; 4], (68, 67), b"")));
    let mut fragment = udp_v4([0; 4], (68, 67), &[0; 64]);
    fragment[14 + 6] |= 0x20;
    assert!(!permits(&filter, fragment));
    // IPv6 is another list's.
    assert!(!permits(&filter, icmp_v6("fe80::1", 135, "::")));
    // Others cannot be judged: another protocol, a tag in front, half a header.
    assert!(!permits(&filter, plain(mac(1), mac(2), 60).bytes().to_vec()));
    let mut tagged = udp_v4([10, 0, 0, 1], (1, 2), b"");
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert!(!permits(&filter, tagged));
    let mut cut = udp_v4([10, 0, 0, 1], (1, 2), b"");
    cut.truncate(30);
    assert!(!permits(&filter, cut));
    let mut cut = arp(mac(1), [10, 0, 0, 1]);
    cut.truncate(30);
    assert!(!permits(&filter, cut));
}

#[test]
fn addresses_of_ipv6_are_those_of_the_list_and_neighbours_are_found() {
    let filter = filter(&[("fd00::10", 124)], None);
    for (source, kind, target, passes) in [
        ("fd00::1f", 128, "::", true),
        ("fd00::20", 128, "::", false),
        ("fe80::1", 135, "::", true),
        ("::", 135, "::", true),
        ("fe80::1", 136, "fd00::11", true),
        ("fe80::1", 136, "fd00::21", false),
        ("fd00::11", 136, "fd00::21", false),
        ("fd00::11", 136, "fe80::7", true),
    ] {
        let frame = icmp_v6(source, kind, target);
        assert_eq!(permits(&filter, frame), passes, "{source} {kind} {target}");
    }
    assert!(!permits(&filter, udp_v4([10, 0, 0, 1], (1, 2), b"")));
    assert!(!permits(&filter, udp_v4([0; 4], (68, 67), b"")));
}

#[test]
fn a_card_that_may_use_its_own_address_uses_it_in_arp_too() {
    let filter = filter(&[], Some(mac(1)));
    assert!(permits(&filter, arp(mac(1), [1, 2, 3, 4])));
    assert!(!permits(&filter, arp(mac(3), [1, 2, 3, 4])));
    assert!(!permits(&filter, plain(mac(3), mac(2), 60).bytes().to_vec()));
    assert!(permits(&filter, plain(mac(1), mac(2), 60).bytes().to_vec()));
}
