//! A PV network card under a front end that does anything, and another that receives.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use emulator::fuzzing::Input;
use net::{MAX_BYTES, Mac, Rate};
use zerocopy::IntoBytes;

use super::spec::Extra;
use super::test_front::{BUFFERS, Bench, DATA, LINUX, RX, TX, mac, plain, tcp};
use crate::store::xenbus::State;

/// Steps in one run, at most.
const MAX_STEPS: usize = 200;

/// Two cards on a bridge, of which the first one's front end has connected once.
///
/// # Panics
/// If the other gets what is no packet, or something of the guest's is held at the end.
pub fn netback(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8().unwrap_or(0);
    let rate = (choice & 1 != 0).then_some(Rate { interval_bytes: 4000, interval_us: 100 });
    let mut bench = Bench::with([rate, None]);
    bench.connect(0, &LINUX);
    if choice & 2 == 0 {
        bench.connect(1, &LINUX);
    } else {
        bench.connect(1, &[("request-rx-copy", "1"), ("feature-no-csum-offload", "1")]);
    }
    bench.fronts[1].give_buffers(256);
    (DATA..DATA + 2).for_each(|page| bench.fronts[0].guest.grant(page, false));
    for _ in 0..MAX_STEPS {
        if step(&mut bench, &mut input).is_none() {
            break;
        }
        bench.clock.0.fetch_add(10_000, Ordering::Relaxed);
        bench.fronts[0].vif.serve();
        bench.set(0, "touched", "1");
        bench.work();
        let packets = bench.fronts[1].receive();
        for packet in &packets {
            assert!((14..=MAX_BYTES).contains(&packet.bytes.len()) && !packet.is_failed);
        }
        let slots: usize = packets.iter().map(|packet| packet.slots).sum();
        bench.fronts[1].give_buffers(slots as u32);
    }
    assert_eq!(bench.back(1), State::Connected);
    bench.set(0, "state", "6");
    assert_eq!(bench.back(0), State::Closed);
    assert!(bench.fronts[0].guest.held().is_empty());
    assert_eq!(bench.fronts[0].guest.bound.load(Ordering::Relaxed), 0);
}

/// One step; none if the input has run out.
fn step(bench: &mut Bench, input: &mut Input) -> Option<()> {
    let front = &mut bench.fronts[0];
    let has_rings = [TX, RX].iter().all(|&ring| front.guest.has(ring));
    match input.u8()? % 22 {
        0..=4 if has_rings => {
            let count = input.u8()? % 22;
            for _ in 0..count {
                let (flags, size) = (input.u8()?, input.u16()?);
                let offset = if input.flag()? { 0 } else { input.u16()? % 4200 };
                front.put_part(reference(input)?, offset, u16::from(flags), size.into());
            }
            push(front);
        }
        5 | 6 if has_rings => {
            let (kind, flags) = (input.u8()? % 7, input.u8()? & 1);
            let body: [u8; 6] = input.bytes(6)?.try_into().ok()?;
            front.put(Extra { kind, flags, body }.as_bytes());
        }
        // A packet that is right.
        7..=9 if has_rings => {
            let length = usize::from(input.u16()?) % (MAX_BYTES - 60);
            let gso = input.flag()?.then_some((input.u16()? % 3000, input.u8()? % 3));
            front.put_packet(&tcp(length), u16::from(input.u8()? & 3), gso);
            push(front);
        }
        10 if has_rings => {
            let to = input.pick(&[mac(2), Mac::BROADCAST, Mac([1, 2, 3, 4, 5, 6])])?;
            front.put_packet(&plain(mac(input.u8()?.into()), to, 60), 0, None);
            push(front);
        }
        // An index, mostly near those that are right.
        11 if has_rings => {
            let (offset, choice) = (input.pick(&[0, 4, 8, 12])?, input.u8()?);
            let ring = input.pick(&[TX, RX])?;
            let near = front.index(ring, 8).wrapping_add(u32::from(choice)).wrapping_sub(70);
            front.set_index(ring, offset, if choice < 140 { near } else { input.u32()? });
        }
        12 if has_rings => {
            let place = usize::from(input.u16()? % 512) * 8;
            let ring = input.pick(&[TX, RX])?;
            front.guest.fill(ring, place, input.bytes(8)?);
        }
        13 => {
            let (reference, is_read_only) = (reference(input)?, input.flag()?);
            if !front.guest.has(reference) {
                front.guest.grant(reference, is_read_only);
            }
        }
        14 => front.guest.revoke(reference(input)?),
        15 => {
            // A page that is there has anything in it.
            let (reference, place) = (DATA, usize::from(input.u16()? % 512) * 8);
            let bytes: Vec<u8> = input.bytes(8)?.to_vec();
            if front.guest.has(reference) {
                front.guest.fill(reference, place, &bytes);
            }
        }
        16 => {
            let kind = input.u8()? % 3;
            let bytes = plain(mac(2), if kind == 0 { mac(1) } else { Mac::BROADCAST }, 60);
            bench.fronts[1].put_packet(&bytes, 0, None);
            bench.fronts[1].push();
            bench.fronts[1].responses();
        }
        17 | 18 => {
            let state = (input.u8()? % 9).to_string();
            bench.set(0, "state", &state);
        }
        _ => {
            let name = input.pick(&[
                "tx-ring-ref",
                "rx-ring-ref",
                "event-channel",
                "event-channel-tx",
                "event-channel-rx",
                "request-rx-copy",
                "request-multicast-control",
                "multi-queue-num-queues",
                "queue-0/tx-ring-ref",
                "queue-0/rx-ring-ref",
                "queue-1/tx-ring-ref",
                "queue-0/event-channel",
                "feature-sg",
            ])?;
            let value = match input.u8()? {
                small @ 0..=16 => small.into(),
                17..=110 => TX,
                111..=200 => RX,
                _ => input.u32()?,
            };
            bench.set(0, name, &value.to_string());
        }
    }
    Some(())
}

/// Tells of what was put, also where the back end has not asked for it.
fn push(front: &mut super::test_front::Front) {
    if !front.push() {
        front.vif.serve();
    }
}

/// A reference, mostly of a page that there may be.
fn reference(input: &mut Input) -> Option<u32> {
    match input.u8()? {
        choice @ 0..=199 => Some(DATA + u32::from(choice % 4)),
        choice @ 200..=229 => Some(TX + u32::from(choice % 2)),
        choice @ 230..=240 => Some(BUFFERS + u32::from(choice % 2)),
        _ => input.u32(),
    }
}

#[cfg(test)]
mod tests {
    use super::netback;
    use emulator::fuzzing::replay;
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        replay("netback", netback);
    }

    proptest! {
        #[test]
        fn random_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..1500)) {
            netback(&data);
        }
    }
}
