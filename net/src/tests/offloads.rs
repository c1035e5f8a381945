use super::*;
use etherparse::{SlicedPacket, TransportSlice};
use proptest::prelude::*;

/// The checksums of a frame are right, as another implementation computes them.
fn is_sound(bytes: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let net = packet.net.unwrap();
    let ip_is_sound = net.ipv4_ref().is_none_or(|ip| {
        let header = ip.header().to_header();
        header.header_checksum == header.calc_header_checksum()
    });
    let transport_is_sound = match (packet.transport.unwrap(), net.ipv4_ref(), net.ipv6_ref()) {
        (TransportSlice::Tcp(tcp), Some(ip), _) => {
            tcp.checksum()
                == tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap()
        }
        (TransportSlice::Tcp(tcp), _, Some(ip)) => {
            let ip = ip.header();
            tcp.checksum() == tcp.calc_checksum_ipv6(ip.source(), ip.destination()).unwrap()
        }
        (TransportSlice::Udp(udp), Some(ip), _) => {
            let header = ip.header().to_header();
            let calculated = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            udp.checksum() == calculated
        }
        _ => false,
    };
    ip_is_sound && transport_is_sound
}

fn spoil(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x55;
    bytes
}

#[test]
fn blank_checksums_are_completed() {
    let cases = [
        (tcp(false, b"abc"), 34 + 16),
        (tcp(true, b"abcd"), 54 + 16),
        (tcp(false, b""), 34 + 16),
        (udp_v4([10, 0, 0, 1], (5, 6), b"odd"), 34 + 6),
    ];
    for (bytes, checksum_at) in cases {
        assert!(is_sound(&bytes));
        let spoilt = spoil(bytes.clone(), checksum_at);
        assert!(!is_sound(&spoilt));
        let frame = Arc::new(Frame::new(spoilt, Checksum::Blank, None).unwrap());
        let completed = frame.completed();
        assert_eq!((completed.bytes(), completed.checksum()), (&bytes[..], Checksum::Validated));
    }
}

#[test]
fn padding_is_no_part_of_the_sum() {
    let short = tcp(false, b"");
    let padded = [&short[..], &[0xff; 6]].concat();
    let frame = Frame::new(spoil(padded.clone(), 34 + 16), Checksum::Blank, None).unwrap();
    assert_eq!(Arc::new(frame).completed().bytes(), padded);
}

#[test]
fn only_what_has_a_checksum_can_leave_it_out() {
    let other = plain(mac(1), mac(2), 60);
    assert_eq!(Frame::new(other.bytes().to_vec(), Checksum::Blank, None), Err(Malformed));
    let complete = Arc::new(other);
    assert_eq!(complete.clone().completed(), complete);
    // A fragment's sum is in the first of them, over all.
    let mut fragment = udp_v4([10, 0, 0, 1], (5, 6), &[0; 64]);
    fragment[14 + 6] |= 0x20;
    assert_eq!(Frame::new(fragment, Checksum::Blank, None), Err(Malformed));
}

#[test]
fn a_zero_sum_of_udp_is_all_ones() {
    // This datagram's words add up to ffffh.
    let make = |word: u16| udp_v4([10, 0, 0, 1], (5, 6), &word.to_be_bytes());
    let sum = |bytes: &[u8]| u16::from_be_bytes([bytes[40], bytes[41]]);
    let zero = make(sum(&make(0)));
    let frame = Frame::new(zero.clone(), Checksum::Blank, None).unwrap();
    assert_eq!(sum(Arc::new(frame).completed().bytes()), 0xffff);
}

fn segments(bytes: Vec<u8>, segment_bytes: u16, kind: GsoKind) -> Result<Segments, Malformed> {
    let gso = Some(Gso { segment_bytes, kind });
    let frame = Frame::new(bytes, Checksum::Complete, gso)?;
    assert_eq!(frame.checksum(), Checksum::Blank);
    Ok(Segments::new(Arc::new(frame)).unwrap())
}

#[test]
fn only_tcp_of_the_right_kind_is_cut() {
    assert!(segments(tcp(false, b"abc"), 1, GsoKind::TcpV4).is_ok());
    assert!(segments(tcp(false, b"abc"), 1, GsoKind::TcpV6).is_err());
    assert!(segments(tcp(true, b"abc"), 1, GsoKind::TcpV4).is_err());
    assert!(segments(udp_v4([1; 4], (5, 6), b"abc"), 1, GsoKind::TcpV4).is_err());
    let mut bad = tcp(false, b"abc");
    bad[34 + 12] = 0x40;
    assert!(segments(bad, 1, GsoKind::TcpV4).is_err());
    assert!(segments(tcp(false, b"abc"), 0, GsoKind::TcpV4).is_err());
    assert!(Segments::new(Arc::new(plain(mac(1), mac(2), 60))).is_none());
}

proptest! {
    #[test]
    fn segments_have_all_data_once(
        is_v6: bool,
        length in prop_oneof![0..5_usize, 0..40_000_usize],
        segment_bytes in 100..3000_u16,
        seed: u8,
    ) {
        let data: Vec<u8> = (0..length).map(|at| (at / 3) as u8 ^ seed).collect();
        let whole = tcp(is_v6, &data);
        let kind = if is_v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
        let headers_bytes = whole.len() - data.len();
        let (mut joined, mut sequence) = (vec![], 0xffff_ff00_u32);
        let mut left = segments(whole.clone(), segment_bytes, kind).unwrap();
        let count = length.div_ceil(segment_bytes.into()).max(1);
        for index in 0..count {
            prop_assert!(!left.is_empty());
            let segment = left.next().unwrap();
            prop_assert!(is_sound(segment.bytes()));
            prop_assert_eq!((segment.checksum(), segment.gso()), (Checksum::Validated, None));
            let packet = SlicedPacket::from_ethernet(segment.bytes()).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!() };
            prop_assert_eq!(tcp.sequence_number(), sequence);
            let is_last = index + 1 == count;
            prop_assert_eq!((tcp.psh(), tcp.fin(), tcp.ack()), (is_last, is_last, true));
            prop_assert!(tcp.payload().len() == usize::from(segment_bytes) || is_last);
            sequence = sequence.wrapping_add(tcp.payload().len() as u32);
            joined.extend_from_slice(&segment.bytes()[headers_bytes..]);
        }
        prop_assert!(left.is_empty() && left.next().is_none());
        prop_assert_eq!(joined, data);
    }

    #[test]
    fn any_bytes_are_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 14..300),
        kind: u8,
        length in 0..200_u16,
    ) {
        let is_v4 = kind & 1 == 0;
        let (ether_type, version) = if is_v4 { (0x800_u16, 0x45) } else { (0x86dd, 0x60) };
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        if kind & 2 == 0 && bytes.len() > 60 {
            bytes[14] = version;
            let length_at = if is_v4 { 16 } else { 18 };
            bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            bytes[if is_v4 { 23 } else { 20 }] = if kind & 4 == 0 { 6 } else { 17 };
        }
        for kind in [GsoKind::TcpV4, GsoKind::TcpV6] {
            if let Ok(segments) = segments(bytes.clone(), 7, kind) {
                prop_assert!(segments.count() <= bytes.len());
            }
        }
        let networks = vec![Network { address: [10, 0, 0, 1].into(), prefix_bits: 33 }];
        let frame = Frame::new(bytes.clone(), Checksum::Complete, None).unwrap();
        SourceFilter { mac: None, networks }.permits(&frame);
        if let Ok(frame) = Frame::new(bytes, Checksum::Blank, None) {
            let length = frame.bytes().len();
            prop_assert_eq!(Arc::new(frame).completed().bytes().len(), length);
        }
    }
}
