//! Pages put everywhere, given away and taken back.

use core::ops::Range;

use conformance::cpu::{peek, poke};
use conformance::report::equal;
use conformance::smp;
use conformance::xen::bytes::Bytes;
use conformance::xen::mode::call;
use conformance::xen::shared::{
    SHARED_INFO, SPACE_SHARED_INFO, add_to_physmap, remove_from_physmap,
};
use conformance::xen::{CPUS, DOMAIN_SELF, PAGE_BYTES, arguments, number};

use crate::{below, random, survived};

/// Commands of `memory_op`.
pub const INCREASE: u64 = 0;
pub const DECREASE: u64 = 1;
pub const POPULATE: u64 = 6;

/// RAM that nothing else uses.
pub const SPARE: Range<u64> = 0x100_0000..0x200_0000;
/// RAM that nothing uses and no attack goes for.
const KEPT: u64 = 0x240_0000;

/// Bytes for the structure of any call: there is a list in one of these, and the longest answer is
/// 1 KiB.
pub const STRUCTURE_BYTES: u64 = 0x500;
const LIST_OFFSET: u64 = 0x80;
const MAX_EXTENTS: u64 = 12;

/// Puts a reservation to `place`: spare pages, and now and then some that cannot be. Returns the
/// command, with the extent from which the call goes on.
pub fn put_reservation(command: u64, place: u64) -> u64 {
    let first_gfn = SPARE.start / PAGE_BYTES;
    let (order, count) = (below(12), below(MAX_EXTENTS));
    let list = place + LIST_OFFSET;
    for extent in 0..count {
        let gfn = match below(8) {
            0 => random().max(SPARE.end / PAGE_BYTES),
            _ => first_gfn + (below((SPARE.end - SPARE.start) / PAGE_BYTES) >> order << order),
        };
        poke(list + extent * 8, gfn);
    }
    let count = if below(16) == 0 { random() | MAX_EXTENTS } else { count };
    let flags = if below(4) == 0 { random() as u32 } else { 0 };
    let owner = if below(8) == 0 { random() as u16 } else { DOMAIN_SELF };
    let start = if below(8) == 0 { below(1 << 20) << 6 } else { 0 };
    reservation(list, count, order as u32, flags, owner).put(place);
    command | start
}

/// `xen_memory_reservation`.
fn reservation(list: u64, count: u64, order: u32, flags: u32, owner: u16) -> Bytes {
    Bytes::new().u64(list).u64(count).u32(order).u32(flags).u16(owner)
}

/// Puts pages that are shared anywhere in the spare ones.
fn put_pages(_: u64) -> u64 {
    for _ in 0..200 {
        let gpa = SPARE.start + below((SPARE.end - SPARE.start) / PAGE_BYTES) * PAGE_BYTES;
        add_to_physmap(below(2) as u32, below(4), gpa);
        remove_from_physmap(gpa);
    }
    add_to_physmap(SPACE_SHARED_INFO, 0, SHARED_INFO) as u64
}

/// Pages of this virtual CPU's are given back and taken again, by one page and by all; those of the
/// other one are let alone.
fn give_and_take(index: u64) -> u64 {
    const PAGES: u64 = 64;
    let (first_gpa, list) = (KEPT + index * PAGES * PAGE_BYTES, arguments() + LIST_OFFSET);
    let change = |command, pages: Range<u64>| {
        for (entry, page) in pages.clone().enumerate() {
            poke(list + entry as u64 * 8, first_gpa / PAGE_BYTES + page);
        }
        reservation(list, pages.end - pages.start, 0, 0, DOMAIN_SELF).put(arguments());
        call(number::MEMORY_OP, [command, arguments(), 0, 0, 0]) as u64
    };
    let mut wrong = 0;
    for round in 0..20 {
        let count = 1 + below(PAGES);
        let pages = || (0..count).map(|page| first_gpa + page * PAGE_BYTES);
        pages().for_each(|gpa| poke(gpa, gpa | round | 1));
        wrong += u64::from(change(DECREASE, 0..count) != count);
        wrong += u64::from(change(DECREASE, 0..count) != 0);
        wrong += u64::from(change(POPULATE, 0..count) != count);
        // They are others, which hold nothing.
        wrong += pages().filter(|&gpa| peek::<u64>(gpa) != 0).count() as u64;
    }
    wrong
}

pub fn run() {
    equal("two-put-pages-at-once", smp::call_all::<CPUS>(put_pages), [Some(0); CPUS]);
    survived("pages");
    let wrong = smp::call_all::<CPUS>(give_and_take);
    equal("two-give-and-take-at-once", wrong, [Some(0); CPUS]);
    survived("give-and-take");
}
