//! Time: the same on all virtual CPUs.

use core::sync::atomic::{AtomicU64, Ordering};

use conformance::cpu::{peek, rdmsr, rdtsc, wrmsr};
use conformance::report::{check, equal};
use conformance::smp;
use conformance::xen::event::vcpu_info;
use conformance::xen::shared::{LAYOUT_64, SHARED_INFO, TIME, TSC_STABLE, Time};
use conformance::xen::{CPUS, now_ns};

const ROUNDS: u64 = 300;
const TSC: u32 = 0x10;

fn time(vcpu: usize) -> Time {
    Time::read(vcpu_info(vcpu as u32) + TIME)
}

/// Nanoseconds by the clock of the virtual CPU that asks.
fn clock_ns() -> u64 {
    time(smp::index()).at(rdtsc())
}

pub fn run() {
    let times = [0, 1].map(time);
    check("time-is-stable", times.iter().all(|time| time.flags & TSC_STABLE != 0));
    let tuple = |time: &Time| (time.tsc, time.system_ns, time.mul, time.shift);
    equal("time-is-the-same", tuple(&times[0]), tuple(&times[1]));
    in_order("time");
    one_after_the_other("time");
    let version: u32 = peek(SHARED_INFO + LAYOUT_64.wall_clock);
    check("date-is-written", version & 1 == 0);
    check("date-nanoseconds", peek::<u32>(SHARED_INFO + LAYOUT_64.wall_clock + 8) < 1_000_000_000);
    equal("date-high", peek::<u32>(SHARED_INFO + LAYOUT_64.wall_clock_high), 0);
}

/// The clock and the call tell of one time.
fn in_order(case: &str) {
    let in_order = |_| {
        let in_order = |_: &u64| {
            let (before, call, after) = (clock_ns(), now_ns(), clock_ns());
            before <= call && call <= after
        };
        (0..ROUNDS).filter(in_order).count() as u64
    };
    let counts = [0, 1].map(|index| smp::call(index, in_order, 0));
    equal(&conformance::name!("{case}-of-clock-and-call"), counts, [Some(ROUNDS); CPUS]);
}

/// The moment that the last one of the two has read; its lowest bit tells which it was.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Each reads after the other has, and finds no earlier time; returns how often.
fn take_turns(index: u64) -> u64 {
    let mut right = 0;
    for _ in 0..ROUNDS {
        let last = loop {
            let last = LAST.load(Ordering::SeqCst);
            if last & 1 != index {
                break last;
            }
            core::hint::spin_loop();
        };
        let now = clock_ns() << 1;
        right += u64::from(now >= last & !1);
        LAST.store(now | index, Ordering::SeqCst);
    }
    right
}

fn one_after_the_other(case: &str) {
    LAST.store(1, Ordering::SeqCst);
    let right = smp::call_all::<CPUS>(take_turns);
    equal(&conformance::name!("{case}-across-virtual-cpus"), right, [Some(ROUNDS); CPUS]);
}

/// A guest sets the counter of one virtual CPU: times are no longer the same, and still agree.
pub fn apart() {
    wrmsr(TSC, rdmsr(TSC) + (1 << 40));
    let times = [0, 1].map(time);
    check("apart-is-not-stable", times.iter().all(|time| time.flags & TSC_STABLE == 0));
    in_order("apart");
}
