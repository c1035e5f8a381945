//! A CPU's run queue: units in the order of their virtual time.
//!
//! A ring of slots, each half a millisecond of virtual time wide and first in, first out; a bitmap
//! says which hold any. To put a unit in, to take one out and to find the first costs the same
//! however many there are, and nothing is allocated. The price is the order within a slot.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::virtual_time::VirtualTime;

/// Slots of the ring: 2.1 s of virtual time. A unit that has run further ahead, which takes a
/// weight below 2 beside one of 256, waits in the last.
const SLOTS: u16 = 4096;

/// A slot is 2^19 ns.
const SLOT_BITS: u32 = 19 + 4;

/// Slots that are kept for those that come with more credit than the clock's: 16.8 ms.
const BEHIND: i64 = 32;

const NONE: u16 = u16::MAX;

/// Neighbours of units in queues, by their numbers. A unit is in one queue at most.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u16,
    previous: u16,
    slot: u16,
}

impl Links {
    /// Makes room for units of numbers below `count`.
    pub fn reserve(&mut self, count: usize) {
        let length = self.0.len().max(count);
        self.0.resize(length, Link { next: NONE, previous: NONE, slot: NONE });
    }
}

/// A ring of slots.
#[derive(Debug)]
pub(super) struct Queue {
    /// How far the queue has come: no unit in it is earlier by more than [`BEHIND`].
    clock: VirtualTime,
    /// The last unit of each slot. Its next is the slot's first.
    tails: Box<[u16]>,
    /// A bit a slot.
    occupied: [u64; SLOTS as usize / 64],
    /// A bit a word of these.
    words: u64,
    count: u16,
    /// The unit of the earliest time, which is asked for more often than it changes, and its slot.
    first: u16,
    first_slot: u16,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            clock: VirtualTime::default(),
            tails: vec![NONE; SLOTS.into()].into(),
            occupied: [0; SLOTS as usize / 64],
            words: 0,
            count: 0,
            first: NONE,
            first_slot: NONE,
        }
    }

    pub fn clock(&self) -> VirtualTime {
        self.clock
    }

    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// Puts a unit in behind those of about the same time.
    pub fn insert(&mut self, links: &mut Links, unit: u16, time: VirtualTime) {
        let slot = self.slot_of(time);
        let tail = core::mem::replace(&mut self.tails[usize::from(slot)], unit);
        if tail == NONE {
            let word = usize::from(slot / 64);
            self.occupied[word] |= 1 << (slot % 64);
            self.words |= 1 << word;
            links.0[usize::from(unit)] = Link { next: unit, previous: unit, slot };
            if self.first == NONE || self.distance(slot) < self.distance(self.first_slot) {
                (self.first, self.first_slot) = (unit, slot);
            }
        } else {
            let next = core::mem::replace(&mut links.0[usize::from(tail)].next, unit);
            links.0[usize::from(next)].previous = unit;
            links.0[usize::from(unit)] = Link { next, previous: tail, slot };
        }
        self.count += 1;
    }

    /// Takes a unit out that is in this queue.
    pub fn remove(&mut self, links: &mut Links, unit: u16) {
        let Link { next, previous, slot } = links.0[usize::from(unit)];
        if next == unit {
            self.tails[usize::from(slot)] = NONE;
            let word = usize::from(slot / 64);
            self.occupied[word] &= !(1 << (slot % 64));
            if self.occupied[word] == 0 {
                self.words &= !(1 << word);
            }
            if self.first == unit {
                self.find_first(links);
            }
        } else {
            links.0[usize::from(previous)].next = next;
            links.0[usize::from(next)].previous = previous;
            if self.tails[usize::from(slot)] == unit {
                self.tails[usize::from(slot)] = previous;
            }
            if self.first == unit {
                self.first = next;
            }
        }
        self.count -= 1;
    }

    /// The unit of the earliest time.
    pub fn first(&self) -> Option<u16> {
        (self.first != NONE).then_some(self.first)
    }

    /// The one that was the first is gone, and its slot is empty.
    fn find_first(&mut self, links: &Links) {
        let slot = self.occupied_from(self.first_slot);
        let first = slot.map(|slot| links.0[usize::from(self.tails[usize::from(slot)])].next);
        (self.first, self.first_slot) = (first.unwrap_or(NONE), slot.unwrap_or(NONE));
    }

    /// All units in their order.
    pub fn iter(&self, links: &Links) -> impl Iterator<Item = u16> {
        let mut next = self.first();
        core::iter::from_fn(move || {
            let unit = next?;
            let link = links.0[usize::from(unit)];
            next = Some(link.next);
            if self.tails[usize::from(link.slot)] == unit {
                let after = self.occupied_from((link.slot + 1) % SLOTS);
                // Not later than this one: the ring has come round.
                let later = after.filter(|slot| self.distance(*slot) > self.distance(link.slot));
                next = later.map(|slot| links.0[usize::from(self.tails[usize::from(slot)])].next);
            }
            Some(unit)
        })
    }

    /// Moves the clock on to `time`, but not past the first slot with a unit.
    pub fn advance(&mut self, time: VirtualTime) {
        let mut clock = time;
        if self.first != NONE {
            let slots = i64::from(self.distance(self.first_slot)) - BEHIND;
            clock = clock.min(self.clock_slot().plus((slots << SLOT_BITS) + (1 << SLOT_BITS) - 1));
        }
        self.clock = self.clock.max(clock);
    }

    /// Where the clock's slot begins.
    fn clock_slot(&self) -> VirtualTime {
        VirtualTime(self.clock.0 >> SLOT_BITS << SLOT_BITS)
    }

    /// The ring's first slot.
    fn start(&self) -> u16 {
        self.nth_slot(-BEHIND)
    }

    /// The slot so many after the clock's.
    fn nth_slot(&self, slots: i64) -> u16 {
        let slot = (self.clock.0 >> SLOT_BITS).wrapping_add_signed(slots);
        (slot % u64::from(SLOTS)) as u16
    }

    fn slot_of(&self, time: VirtualTime) -> u16 {
        let slots = time.since(self.clock_slot()) >> SLOT_BITS;
        self.nth_slot(slots.clamp(-BEHIND, i64::from(SLOTS) - 1 - BEHIND))
    }

    /// How many slots one is from the ring's first.
    fn distance(&self, slot: u16) -> u16 {
        slot.wrapping_sub(self.start()) % SLOTS
    }

    /// The first slot with a unit from one on, and round.
    fn occupied_from(&self, slot: u16) -> Option<u16> {
        let word = slot / 64;
        let rest = self.occupied[usize::from(word)] & (u64::MAX << (slot % 64));
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros() as u16);
        }
        if self.words == 0 {
            return None;
        }
        // The words that follow; this one's lower slots come last.
        let skipped = self.words.rotate_right(u32::from(word) + 1).trailing_zeros() as u16;
        let word = (word + 1 + skipped) % 64;
        Some(word * 64 + self.occupied[usize::from(word)].trailing_zeros() as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = VirtualTime::from_ns(1_000_000);

    fn with(times: &[i64]) -> (Queue, Links) {
        let (mut queue, mut links) = (Queue::new(), Links::default());
        links.reserve(times.len());
        for (unit, time) in (0..).zip(times) {
            queue.insert(&mut links, unit, VirtualTime::default().plus(*time));
        }
        (queue, links)
    }

    #[test]
    fn units_come_in_the_order_of_their_time() {
        let (queue, links) = with(&[5 * MS, -9 * MS, 1_900 * MS, 40 * MS, 5 * MS + 1, 0]);
        assert_eq!(queue.iter(&links).collect::<Vec<_>>(), [1, 5, 0, 4, 3, 2]);
    }

    #[test]
    fn a_time_out_of_range_waits_at_the_ring_s_end() {
        let (queue, links) = with(&[1 << 50, -(1 << 50), 0, 1 << 40]);
        assert_eq!(queue.iter(&links).collect::<Vec<_>>(), [1, 2, 0, 3]);
    }

    #[test]
    fn the_clock_stops_at_the_first_unit() {
        let (mut queue, mut links) = with(&[20 * MS]);
        queue.advance(VirtualTime::default().plus(90 * MS));
        let slot = 1 << SLOT_BITS;
        assert!((20 * MS..20 * MS + slot).contains(&queue.clock().since(VirtualTime::default())));
        queue.remove(&mut links, 0);
        queue.advance(VirtualTime::default().plus(90 * MS));
        assert_eq!(queue.clock(), VirtualTime::default().plus(90 * MS));
        queue.advance(VirtualTime::default());
        assert_eq!(queue.clock(), VirtualTime::default().plus(90 * MS));
    }

    proptest! {
        // The first is taken out and comes back later, as units do that run, for many rounds of the
        // ring; the order stays that of a sorted list but for those of one slot.
        #[test]
        fn a_turning_queue_is_sorted(steps in vec((0_i64..300, 0_usize..4), 1..600)) {
            let mut times = [0, 3 * MS, 700 * MS, -8 * MS];
            let (mut queue, mut links) = with(&times);
            for (step, other) in steps {
                let first = queue.first().expect("four units");
                let earliest = *times.iter().min().expect("four units");
                prop_assert!(times[usize::from(first)] < earliest + (1 << SLOT_BITS));
                queue.remove(&mut links, first);
                queue.advance(VirtualTime::default().plus(times[usize::from(first)]));
                times[usize::from(first)] += step * MS;
                let time = VirtualTime::default().plus(times[usize::from(first)]);
                queue.insert(&mut links, first, time);
                let unit = other as u16;
                queue.remove(&mut links, unit);
                queue.insert(&mut links, unit, VirtualTime::default().plus(times[other]));
                let all: Vec<_> = queue.iter(&links).collect();
                prop_assert_eq!((all.len(), queue.count()), (4, 4));
                let time = |index: usize| times[usize::from(all[index])];
                let sorted = (1..4).all(|next| time(next - 1) < time(next) + (1 << SLOT_BITS));
                prop_assert!(sorted);
            }
        }
    }
}
