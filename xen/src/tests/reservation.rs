//! Memory that a guest gives back and takes again.

use super::*;
use crate::hypercall::Outcome;
use crate::machine::Machine;
use std::sync::atomic::Ordering;

const WIDTHS: [Width; 2] = [Width::Bits32, Width::Bits64];
const DECREASE: u64 = 1;
const POPULATE: u64 = 6;
/// Where the numbers of the extents are.
const LIST: u64 = 0x9_0000;
const ALL_PAGES: i64 = (RAM_BYTES / 4096) as i64;
const POPULATE_ON_DEMAND: u32 = 1 << 16;

/// A `xen_memory_reservation`.
#[derive(Clone, Copy)]
struct Call {
    extents: u64,
    count: u32,
    order: u32,
    flags: u32,
    domain: u16,
}

impl Call {
    const fn new(count: u32) -> Self {
        Self { extents: LIST, count, order: 0, flags: 0, domain: SELF }
    }

    fn poke(self, guest: &Guest) {
        let Self { extents, count, order, flags, domain } = self;
        let mut bytes = Vec::new();
        for long in [extents, count.into()] {
            bytes.extend(&long.to_le_bytes()[..guest.width.long_bytes()]);
        }
        bytes.extend(order.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(u64::from(domain).to_le_bytes());
        guest.poke(ARGUMENT, &bytes);
    }

    /// Makes the call as often as it takes; its result, and how often that was.
    fn make(self, guest: &mut Guest, command: u64) -> (i64, usize) {
        self.poke(guest);
        let mut arguments = [command, ARGUMENT];
        for times in 1.. {
            match guest.call_on(0, 12, &arguments).outcome {
                Outcome::Done(result) => return (result, times),
                Outcome::Again { first, second } => arguments = [first, second],
            }
        }
        unreachable!()
    }
}

/// The numbers of the extents.
fn list(guest: &Guest, gfns: impl IntoIterator<Item = u64>) {
    let bytes: Vec<u8> = gfns
        .into_iter()
        .flat_map(|gfn| gfn.to_le_bytes()[..guest.width.long_bytes()].to_vec())
        .collect();
    guest.poke(LIST, &bytes);
}

fn pages(guest: &mut Guest) -> [i64; 2] {
    guest.poke(ARGUMENT, &SELF.to_le_bytes());
    [3, 4].map(|command| guest.call(12, &[command, ARGUMENT]))
}

#[test]
fn a_balloon_swells_and_shrinks_in_both_layouts() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        guest.poke(0x2_0000, &[7; 16]);
        list(&guest, 0x20..0x23);
        assert_eq!(Call::new(3).make(&mut guest, DECREASE), (3, 1));
        assert_eq!(pages(&mut guest), [ALL_PAGES - 3, ALL_PAGES]);
        assert!(!guest.machine.is_ram(0x2_1000));
        list(&guest, [0x22, 0x20, 0x21]);
        assert_eq!(Call::new(3).make(&mut guest, POPULATE), (3, 1));
        assert_eq!(pages(&mut guest), [ALL_PAGES; 2]);
        assert_eq!(guest.u64_at(0x2_0000), 0, "they are new");
    }
}

#[test]
fn a_call_for_many_pages_is_made_in_parts() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        list(&guest, (0x10..0x80).chain(0xa0..0x100));
        assert_eq!(Call::new(208).make(&mut guest, DECREASE), (208, 4));
        assert_eq!(Call::new(208).make(&mut guest, POPULATE), (208, 4));
        guest.machine.waits_at.store(1, Ordering::Relaxed);
        assert_eq!(Call::new(1).make(&mut guest, DECREASE), (1, 2), "others flush first");
    }
}

#[test]
fn the_result_says_how_many_were_done_before_one_failed() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        list(&guest, [0x20, 0x21, 0x100, 0x22]);
        assert_eq!(Call::new(4).make(&mut guest, DECREASE), (2, 1), "no RAM is there");
        assert_eq!(Call::new(2).make(&mut guest, DECREASE), (0, 1), "they are gone");
        list(&guest, [0x20, 0x30, 0x21]);
        assert_eq!(Call::new(3).make(&mut guest, POPULATE), (1, 1), "there is RAM");
        list(&guest, [0x21]);
        *guest.machine.host_pages.lock().unwrap() = 0;
        assert_eq!(Call::new(1).make(&mut guest, POPULATE), (0, 1), "the host has none");
        // The list ends where nothing can be read.
        let end = RAM_BYTES - width.long_bytes() as u64;
        guest.poke(end, &0x40_u64.to_le_bytes()[..width.long_bytes()]);
        let call = Call { extents: end, ..Call::new(2) };
        assert_eq!(call.make(&mut guest, DECREASE), (1, 2));
    }
}

#[test]
fn extents_are_whole() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        list(&guest, [0x10, 0x20, 0x30]);
        let call = Call { order: 4, ..Call::new(3) };
        assert_eq!(call.make(&mut guest, DECREASE), (3, 1));
        assert_eq!(pages(&mut guest)[0], ALL_PAGES - 48);
        *guest.machine.host_pages.lock().unwrap() = 40;
        assert_eq!(call.make(&mut guest, POPULATE), (2, 1));
        assert_eq!(pages(&mut guest)[0], ALL_PAGES - 16, "a part of the third is none");
        let call = Call { order: 9, ..Call::new(1) };
        list(&guest, [0]);
        assert_eq!(call.make(&mut guest, DECREASE), (0, 1), "the RAM ends before");
    }
}

#[test]
fn calls_that_make_no_sense_do_nothing() {
    let call = Call::new(1);
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        list(&guest, [0x20]);
        let wrong = [
            Call { count: 0, ..call },
            Call { count: u32::MAX, ..call },
            Call { order: 10, ..call },
            Call { order: u32::MAX, ..call },
            Call { flags: 12, ..call },
            Call { domain: DOMAIN + 1, ..call },
            Call { extents: RAM_BYTES, ..call },
        ];
        for (index, call) in wrong.into_iter().enumerate() {
            for command in [0, DECREASE, POPULATE] {
                assert_eq!(call.make(&mut guest, command), (0, 1), "{index} {command}");
            }
            assert_eq!(pages(&mut guest), [ALL_PAGES; 2], "{index}");
        }
        assert_eq!(call.make(&mut guest, 0), (0, 1), "a page that lies nowhere");
        assert_eq!(call.make(&mut guest, DECREASE | 1 << 6), (1, 1), "it begins behind the end");
        assert_eq!(guest.call(12, &[DECREASE | 5 << 6, RAM_BYTES]), 5, "nothing to be read");
        assert_eq!(Call { flags: 40, ..call }.make(&mut guest, DECREASE), (1, 1));
        let on_demand = Call { flags: POPULATE_ON_DEMAND, ..call };
        assert_eq!(on_demand.make(&mut guest, POPULATE), (0, 1));
    }
}

#[test]
fn a_list_of_calls_goes_on_where_one_was_interrupted() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        let long = width.long_bytes() as u64;
        list(&guest, 0x10..0x70);
        Call::new(96).poke(&guest);
        const CALLS: u64 = 0xb_0000;
        for (entry, command) in [3, DECREASE, 3].into_iter().enumerate() {
            let at = CALLS + entry as u64 * 8 * long;
            for (place, value) in [(0, 12), (2, command), (3, ARGUMENT)] {
                guest.poke(at + place * long, &value.to_le_bytes()[..long as usize]);
            }
        }
        // The first and last entry read the domain from another place.
        guest.poke(0xc_0000, &SELF.to_le_bytes());
        for entry in [0, 2] {
            let place = CALLS + (entry * 8 + 3) * long;
            guest.poke(place, &0xc_0000_u64.to_le_bytes()[..long as usize]);
        }
        let first = guest.call_on(0, 13, &[CALLS, 3]);
        let again = Outcome::Again { first: CALLS + 8 * long, second: 2 };
        assert_eq!(first.outcome, again);
        assert_eq!(guest.call(13, &[CALLS + 8 * long, 2]), 0);
        let results = [0, 1, 2].map(|entry| guest.u32_at(CALLS + (entry * 8 + 1) * long));
        assert_eq!(results.map(i64::from), [ALL_PAGES, 96, ALL_PAGES - 96]);
    }
}

/// A page of the platform's is between those of RAM, and is taken out with the second step.
#[test]
fn a_call_that_has_to_come_again_loses_no_page() {
    for order in [0, 3] {
        for waits_at in [1, 3] {
            let mut guest = Guest::new(Width::Bits64, 1);
            assert_eq!(guest.put(0, 0, 0x13), 0);
            list(&guest, (0..16).map(|extent| 0x10 + (extent << order)));
            guest.machine.waits_at.store(waits_at, Ordering::Relaxed);
            let call = Call { order, ..Call::new(16) };
            assert_eq!(call.make(&mut guest, DECREASE).0, 16, "{order} {waits_at}");
            assert_eq!(pages(&mut guest)[0], ALL_PAGES - (16 << order));
        }
    }
    // A page that is named twice is there once.
    let mut guest = Guest::new(Width::Bits64, 1);
    assert_eq!(guest.put(0, 0, 0x13), 0);
    list(&guest, [0x12, 0x13, 0x13, 0x14]);
    assert_eq!(Call::new(4).make(&mut guest, DECREASE), (2, 1));
    assert_eq!(pages(&mut guest)[0], ALL_PAGES - 2);
}

/// Windows makes a hole, and puts the shared info there.
#[test]
fn a_page_of_the_platforms_goes_into_a_hole_and_leaves_one() {
    let mut guest = Guest::new(Width::Bits64, 1);
    list(&guest, [0x50]);
    assert_eq!(Call::new(1).make(&mut guest, DECREASE), (1, 1));
    assert_eq!(guest.put(0, 0, 0x50), 0);
    const MULTIPLIER: u64 = 32 + 24;
    assert_ne!(guest.u32_at(0x5_0000 + MULTIPLIER), 0, "the first virtual CPU's time");
    // Elsewhere: where it was is a hole, as on Xen.
    assert_eq!(guest.put(0, 0, 0x51), 0);
    assert!(!guest.machine.is_ram(0x5_0000) && guest.machine.is_ram(0x5_1000));
    // It is taken out by its address: the platform goes on without it.
    list(&guest, [0x51]);
    assert_eq!(Call::new(1).make(&mut guest, DECREASE), (1, 1));
    assert!(!guest.machine.is_ram(0x5_1000));
    assert_eq!(pages(&mut guest)[0], ALL_PAGES - 2);
    list(&guest, [0x50, 0x51]);
    assert_eq!(Call::new(2).make(&mut guest, POPULATE), (2, 1));
}

#[test]
fn a_granted_page_that_is_a_hole_is_no_grant() {
    let mut guest = Guest::new(Width::Bits64, 1);
    assert_eq!(guest.put(1, 0, 0x40), 0);
    // Reference 8: page 60h, for domain 0.
    guest.poke(0x4_0000 + 8 * 8, &[1, 0, 0, 0, 0x60, 0, 0, 0]);
    assert_eq!(guest.platform.hold_one(8, true).ok(), Some(0x6_0000));
    list(&guest, [0x60]);
    assert_eq!(Call::new(1).make(&mut guest, DECREASE), (1, 1));
    assert!(guest.machine.memory().read(0x6_0000, &mut [0]).is_err(), "a copy to it fails");
    guest.platform.release_grants([(8, true)]);
    assert!(guest.platform.hold_one(8, true).is_err());
}

#[test]
fn the_map_is_the_ram_as_libxl_tells_of_it() {
    for width in WIDTHS {
        let mut guest = Guest::new(width, 1);
        let at = if width == Width::Bits64 { 8 } else { 4 };
        let mut map = [0; 16];
        map[0] = 9;
        map[at..at + 4].copy_from_slice(&(LIST as u32).to_le_bytes());
        let (result, left) = guest.op(12, 9, map);
        assert_eq!((result, left[0]), (0, 1));
        assert_eq!([0, 8].map(|offset| guest.u64_at(LIST + offset)), [1 << 20, 0]);
        assert_eq!(guest.u32_at(LIST + 16), 1, "RAM");
        map[0] = 0;
        assert_eq!(guest.op(12, 9, map).1[0], 0, "there is room for none");
        map[0] = 1;
        map[at..at + 4].copy_from_slice(&(RAM_BYTES as u32).to_le_bytes());
        assert_eq!(guest.op(12, 9, map).0, -14);
    }
}
