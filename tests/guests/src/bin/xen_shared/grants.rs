//! The grant table: its frames, put and moved.

use conformance::cpu::{peek, poke};
use conformance::report::{check, equal};
use conformance::xen::bytes::{Bytes, is_filled};
use conformance::xen::mode::call;
use conformance::xen::shared::{GRANTS, SPACE_GRANT_TABLE, add_to_physmap, remove_from_physmap};
use conformance::xen::{DOMAIN_SELF, PAGE_BYTES, arguments, error, number};

const PERMIT_ACCESS: u16 = 1;
/// A frame's second place.
const ELSEWHERE: u64 = 0x26_0000;
const LIST: u64 = 0x27_0000;
const ENTRY_BYTES: u64 = 8;

fn put(frame: u64, gpa: u64) -> i64 {
    add_to_physmap(SPACE_GRANT_TABLE, frame, gpa)
}

fn frames() -> u32 {
    Bytes::new().u16(DOMAIN_SELF).u32(0).u32(0).u32(0).put(arguments());
    assert_eq!(call(number::GRANT_TABLE_OP, [6, arguments(), 1, 0, 0]), 0);
    peek(arguments() + 4)
}

/// Flags, domain and frame of an entry.
fn entry(table: u64, reference: u64) -> (u16, u16, u32) {
    let at = table + reference * ENTRY_BYTES;
    (peek(at), peek(at + 2), peek(at + 4))
}

/// The numbers of the pages on which the first frames are.
fn setup(count: u32) -> i64 {
    Bytes::new().u16(DOMAIN_SELF).u32(count).u64(0).u64(LIST).put(arguments());
    call(number::GRANT_TABLE_OP, [2, arguments(), 1, 0, 0])
}

pub fn run() {
    let at_first = frames();
    check("grants-have-a-frame", at_first >= 1);
    // From high to low, as Linux and FreeBSD do: the table grows once.
    equal("grants-put-4", put(4, GRANTS + 4 * PAGE_BYTES), 0);
    equal("grants-grow", frames(), at_first.max(5));
    let rest = [3, 2, 1, 0].map(|frame| put(frame, GRANTS + frame * PAGE_BYTES));
    equal("grants-put-the-rest", rest, [0; 4]);
    equal("grants-grow-no-more", frames(), at_first.max(5));
    // Of the console's page and XenStore's.
    equal("grants-console", entry(GRANTS, 0), (PERMIT_ACCESS, 0, 0xf_efff));
    equal("grants-store", entry(GRANTS, 1), (PERMIT_ACCESS, 0, 0xf_effc));
    check("grants-are-free", is_filled(GRANTS + 2 * ENTRY_BYTES, 4096 - 16, 0));
    poke(GRANTS + 100 * ENTRY_BYTES, 0x0012_3456_0000_0001_u64);
    poke(GRANTS + 4 * PAGE_BYTES + 8, 0x0065_4321_0000_0001_u64);
    equal("grants-moved", (put(0, ELSEWHERE), put(4, ELSEWHERE + PAGE_BYTES)), (0, 0));
    equal("grants-moved-0", peek::<u64>(ELSEWHERE + 800), 0x0012_3456_0000_0001);
    equal("grants-moved-4", peek::<u64>(ELSEWHERE + PAGE_BYTES + 8), 0x0065_4321_0000_0001);
    equal("grants-setup", setup(5), 0);
    let listed = [0, 1, 2, 3, 4].map(|frame| peek::<u64>(LIST + frame * 8) * PAGE_BYTES);
    let page = |frame| GRANTS + frame * PAGE_BYTES;
    let expected = [ELSEWHERE, page(1), page(2), page(3), ELSEWHERE + PAGE_BYTES];
    equal("grants-setup-list", listed, expected);
    // The call asks for more frames than there are.
    equal("grants-setup-grows", (setup(7), frames()), (0, at_first.max(7)));
    equal("grants-setup-7", peek::<u64>(LIST + 48), u64::MAX);
    equal("grants-removed", remove_from_physmap(ELSEWHERE + PAGE_BYTES), 0);
    equal("grants-setup-after", (setup(5), peek::<u64>(LIST + 32)), (0, u64::MAX));
    equal("grants-put-back", (put(4, page(4)), put(0, GRANTS)), (0, 0));
    equal("grants-kept", peek::<u64>(page(4) + 8), 0x0065_4321_0000_0001);
    equal("grants-last", put(63, page(4)), 0);
    equal("grants-grow-to-the-end", frames(), 64);
    equal("grants-beyond", put(64, page(4)), error::INVAL);
    poke(GRANTS + 100 * ENTRY_BYTES, 0u64);
}
