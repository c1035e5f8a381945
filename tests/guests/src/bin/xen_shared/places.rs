//! The shared info at any place.

use conformance::cpu::{peek, poke};
use conformance::pci::Function;
use conformance::report::{check, equal};
use conformance::xen::bytes::fill;
use conformance::xen::event::{bind_ipi, close, send};
use conformance::xen::shared::{
    PENDING, SHARED_INFO, SPACE_GRANT_TABLE, SPACE_SHARED_INFO, TIME, add_to_physmap, bit,
    clear_bit, remove_from_physmap,
};
use conformance::xen::{PAGE_BYTES, PLATFORM_DEVICE, RAM_END, error};

/// RAM and not.
const ELSEWHERE: u64 = 0x24_0000;
const HOLE: u64 = RAM_END + 0x100_0000;
/// In the shared info, and unused.
const SCRATCH: u64 = 0xff0;

const MEMORY_BAR: u8 = 0x14;

fn put(gpa: u64) -> i64 {
    add_to_physmap(SPACE_SHARED_INFO, 0, gpa)
}

/// Time is shown at `gpa`, as it has been since the guest's start.
fn has_time(gpa: u64) -> bool {
    let version: u32 = peek(gpa + TIME);
    let mul: u32 = peek(gpa + TIME + 24);
    version != 0 && version & 1 == 0 && mul != 0
}

/// The first place: RAM, the content of which is lost.
pub fn first() {
    fill(SHARED_INFO, PAGE_BYTES, 0xa5);
    equal("first-place", put(SHARED_INFO), 0);
    check("first-place-has-time", has_time(SHARED_INFO));
    equal("first-place-has-no-events", peek::<u64>(SHARED_INFO + PENDING), 0);
    equal("first-place-has-no-masks", peek::<u64>(SHARED_INFO + 2560), 0);
}

/// Whether an event shows at `gpa`.
fn shows_events(port: u32, gpa: u64) -> bool {
    clear_bit(gpa + PENDING, port);
    send(port) == 0 && bit(gpa + PENDING, port) && clear_bit(gpa + PENDING, port)
}

pub fn run() {
    let port = bind_ipi(0).unwrap_or(0);
    check("place", shows_events(port, SHARED_INFO));
    poke(SHARED_INFO + SCRATCH, 0x1234_5678_u32);
    // Each place in turn: other RAM, a hole, the device's memory.
    let device = Function::find(PLATFORM_DEVICE).map_or(0, |device| device.read(MEMORY_BAR));
    check("device-has-memory", device != 0);
    let bar = u64::from(device & !0xf);
    for (case, gpa) in
        [("ram", ELSEWHERE), ("hole", HOLE), ("bar", bar), ("bar-end", bar + 0xff_f000)]
    {
        use conformance::name;
        equal(&name!("{case}-put"), put(gpa), 0);
        equal(&name!("{case}-has-the-content"), peek::<u32>(gpa + SCRATCH), 0x1234_5678);
        check(&name!("{case}-has-time"), has_time(gpa));
        check(&name!("{case}-shows-events"), shows_events(port, gpa));
    }
    equal("bar-without-page", peek::<u64>(bar + 0x1000), 0);
    poke(bar + 0x1000, u64::MAX);
    equal("bar-without-page-ignores", peek::<u64>(bar + 0x1000), 0);
    equal("back", put(SHARED_INFO), 0);
    poke(ELSEWHERE + SCRATCH, 0u32);
    equal("back-and-not-elsewhere", peek::<u32>(SHARED_INFO + SCRATCH), 0x1234_5678);
    check("back-shows-events", shows_events(port, SHARED_INFO));
    equal("put-where-it-is", put(SHARED_INFO), 0);
    check("put-where-it-is-shows-events", shows_events(port, SHARED_INFO));

    // Taken away, it goes on where no one sees it.
    equal("removed", remove_from_physmap(SHARED_INFO), 0);
    equal("removed-and-sent", send(port), 0);
    equal("removed-and-put", put(SHARED_INFO), 0);
    check("removed-and-kept-the-event", clear_bit(SHARED_INFO + PENDING, port));
    equal("hole-put-again", put(HOLE), 0);
    equal("hole-removed", remove_from_physmap(HOLE), 0);
    equal("hole-removed-twice", remove_from_physmap(HOLE), error::NOENT);
    // Another page over it takes its place.
    equal("put-under", put(ELSEWHERE), 0);
    equal("put-over", add_to_physmap(SPACE_GRANT_TABLE, 1, ELSEWHERE), 0);
    equal("put-over-is-the-other", peek::<u64>(ELSEWHERE + PENDING), 0);
    send(port);
    equal("put-over-has-no-events", peek::<u64>(ELSEWHERE + PENDING), 0);
    equal("put-after", put(SHARED_INFO), 0);
    check("put-after-has-the-event", clear_bit(SHARED_INFO + PENDING, port));
    equal("port-closes", close(port), 0);
}
