//! A PV disk under a front end that does anything.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use block::{Medium, Op};
use emulator::fuzzing::Input;

use super::spec::Protocol;
use super::test_front::{DATA, Front, RING, SETTINGS, TestDisk};
use crate::store::xenbus::State;

/// Steps in one run, at most.
const MAX_STEPS: usize = 200;
/// Sectors of the disk.
const SECTORS: u64 = 64;

/// Sectors of another one, which takes its place at times.
const OTHER_SECTORS: u64 = 8;

/// A disk, and a front end that has connected once.
///
/// # Panics
/// If the disk is asked for what it has not, or something of the guest's is held at the end.
pub fn blkback(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8().unwrap_or(0);
    let protocol = if choice & 1 == 0 { Protocol::X86_64 } else { Protocol::X86_32 };
    let disk = TestDisk::new(SECTORS as usize, choice & 4 != 0);
    let other = Arc::new(TestDisk::new(OTHER_SECTORS as usize, choice & 4 != 0));
    let mut front = Front::new(SETTINGS, disk);
    let pages = if choice & 8 == 0 { 1 } else { 2 };
    front.connect(protocol, pages);
    (DATA..DATA + 2).for_each(|page| front.guest.grant(page, false));
    for _ in 0..MAX_STEPS {
        if step(&mut front, &other, &mut input).is_none() {
            break;
        }
        front.vbd.serve();
        front.set("touched", "1");
        for (op, offset, length) in front.disk.log.lock().drain(..) {
            assert!(op == Op::Flush || length > 0);
            assert!(offset + length <= SECTORS * 512);
        }
    }
    front.disk.complete_all();
    other.complete_all();
    front.set("state", "6");
    assert_eq!(front.back(), State::Closed);
    assert!(front.guest.held().is_empty());
    assert_eq!(front.guest.bound.load(Ordering::Relaxed), 0);
}

/// One step; none if the input has run out.
fn step(front: &mut Front, other: &Arc<TestDisk>, input: &mut Input) -> Option<()> {
    let has_ring = (RING..).take(front.pages).all(|page| front.guest.has(page));
    match input.u8()? % 26 {
        0..=8 if has_ring => {
            let (op, sector) = (input.u8()? % 8, sector(input)?);
            let count = input.u8()? % 13;
            let segments: Option<Vec<_>> = (0..count)
                .map(|_| Some((reference(input)?, input.u8()? % 9, input.u8()? % 9)))
                .collect();
            let mut entry = front.entry_of(op, 1, sector, &segments?);
            entry.truncate(front.protocol.stride_bytes());
            front.put(&entry);
            front.push();
        }
        9 | 10 if has_ring => {
            let (op, count) = (input.u8()? % 4, input.u16()? % 300);
            front.put_indirect(op, 1, sector(input)?, count, &[reference(input)?]);
            front.push();
        }
        // An index, mostly near those that are right.
        11 if has_ring => {
            let (offset, choice) = (input.pick(&[0, 4, 8, 12])?, input.u8()?);
            let near = front.index(8).wrapping_add(u32::from(choice)).wrapping_sub(70);
            front.set_index(offset, if choice < 140 { near } else { input.u32()? });
        }
        12 if has_ring => {
            let place = usize::from(input.u16()? % 512) * 8;
            front.guest.fill(RING, place, input.bytes(8)?);
        }
        13 if has_ring => front.skip_responses(),
        14 | 15 => {
            let (reference, is_read_only) = (reference(input)?, input.flag()?);
            if !front.guest.has(reference) {
                front.guest.grant(reference, is_read_only);
            }
        }
        16 => front.guest.revoke(reference(input)?),
        17..=20 => {
            front.disk.complete_one();
            other.complete_one();
        }
        21 | 22 => {
            let state = (input.u8()? % 9).to_string();
            front.set("state", &state);
        }
        // `xl cd-insert`, `cd-eject` and `block-detach`.
        23 => {
            let medium: Option<Arc<dyn Medium>> = match input.u8()? % 3 {
                0 => None,
                1 => Some(Arc::<TestDisk>::clone(&front.disk)),
                _ => Some(Arc::<TestDisk>::clone(other)),
            };
            front.vbd.change_medium(&mut front.store, medium, "disc").unwrap();
        }
        24 => front.vbd.unplug(&mut front.store).unwrap(),
        _ => {
            let name = input.pick(&[
                "ring-ref",
                "ring-page-order",
                "event-channel",
                "multi-queue-num-queues",
                "queue-0/ring-ref",
                "queue-1/ring-ref",
                "queue-0/event-channel",
                "queue-1/event-channel",
            ])?;
            let value = match input.u8()? {
                small @ 0..=9 => small.into(),
                10..=200 => RING,
                _ => input.u32()?,
            };
            front.set(name, &value.to_string());
        }
    }
    Some(())
}

/// A reference, mostly of a page that there may be.
fn reference(input: &mut Input) -> Option<u32> {
    match input.u8()? {
        choice @ 0..=199 => Some(DATA + u32::from(choice % 4)),
        choice @ 200..=229 => Some(RING + u32::from(choice % 2)),
        _ => input.u32(),
    }
}

fn sector(input: &mut Input) -> Option<u64> {
    match input.u8()? {
        255 => input.u64(),
        near => Some(u64::from(near) % (SECTORS + 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::blkback;
    use emulator::fuzzing::replay;
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        replay("blkback", blkback);
    }

    proptest! {
        #[test]
        fn random_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..1500)) {
            blkback(&data);
        }
    }
}
