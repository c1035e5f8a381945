//! The local APIC's timer in TSC-deadline mode (Intel SDM volume 3, section 11.5.4.1).

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, is_set, read, register::*, write};
use conformance::arrivals;
use conformance::clock::until;
use conformance::cpu::{self, rdmsr, rdtsc, wrmsr};
use conformance::interrupts::handle;
use conformance::pic;
use conformance::report::{check, equal, skip_topic};

conformance::topic!(run);

const IA32_TSC_DEADLINE: u32 = 0x6e0;
const VECTOR: u8 = 0x61;
const ENTRY: u32 = VECTOR as u32;
const TSC_DEADLINE: u32 = 2 << 17;
/// A count of the other modes.
const SHORT: u32 = 100_000;

fn is_requested() -> bool {
    is_set(IRR, VECTOR)
}

fn run() {
    pic::set_up();
    apic::enable();
    handle(VECTOR, Some(arrivals::note_and_end));
    if !cpu::has_feature(1, 2, 24) {
        skip_topic("the timer has no deadlines");
    }
    write(LVT_TIMER, ENTRY);
    wrmsr(IA32_TSC_DEADLINE, 1);
    equal("ignored-in-other-modes", rdmsr(IA32_TSC_DEADLINE), 0);
    check("ignored-requests-nothing", !is_requested());

    write(LVT_TIMER, TSC_DEADLINE | ENTRY);
    write(INITIAL_COUNT, SHORT);
    equal("mode-counts-nothing", read(CURRENT_COUNT), 0);
    let deadline = rdtsc() + 1_000_000;
    wrmsr(IA32_TSC_DEADLINE, deadline);
    check("deadline", until(is_requested));
    check("not-before", rdtsc() >= deadline);
    equal("disarms-itself", rdmsr(IA32_TSC_DEADLINE), 0);
    equal("delivered", arrivals::let_in().vectors(), &[VECTOR]);
    wrmsr(IA32_TSC_DEADLINE, 1);
    check("in-the-past", until(is_requested));
    arrivals::let_in();
    let far = rdtsc() + (1 << 40);
    wrmsr(IA32_TSC_DEADLINE, far);
    equal("reads-back", rdmsr(IA32_TSC_DEADLINE), far);
    wrmsr(IA32_TSC_DEADLINE, 0);
    equal("disarmed", rdmsr(IA32_TSC_DEADLINE), 0);
    wrmsr(IA32_TSC_DEADLINE, far);
    write(LVT_TIMER, MASKED | ENTRY);
    equal("gone-with-its-mode", rdmsr(IA32_TSC_DEADLINE), 0);
    check("requests-no-more", !is_requested());
}
