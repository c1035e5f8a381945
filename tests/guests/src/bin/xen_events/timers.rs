//! Timers, polls and sleeps.

use core::sync::atomic::{AtomicU32, Ordering};

use conformance::clock::HZ;
use conformance::cpu::peek;
use conformance::report::{check, equal};
use conformance::xen::bytes::Bytes;
use conformance::xen::event::{
    VIRQ_TIMER, bind_ipi, bind_virq, close, is_pending, send, set_masked, take_pending, take_upcall,
};
use conformance::xen::mode::{Mode, call};
use conformance::xen::vcpu::command::*;
use conformance::xen::vcpu::{self, BLOCKED, block, poll};
use conformance::xen::{arguments, error, now_ns, number};
use conformance::{clock, name, smp};

const MS: u64 = 1_000_000;
/// A moment, and an hour.
const SOON: u64 = MS;
const LATE: u64 = 3_600_000 * MS;

/// Where the run state of the first virtual CPU is shown.
const RUN_STATE: u64 = 0x29_0000;

pub fn show_run_state() {
    equal("run-state", vcpu::show_run_state(RUN_STATE), 0);
}

pub fn run() {
    let port = bind_virq(VIRQ_TIMER, 0).unwrap_or(0);
    check("timer-port", port != 0);
    by_set_timer_op(port);
    by_vcpu_op(port);
    of_the_second();
    polls(port);
    equal("timer-close", close(port), 0);
    take_upcall(0);
}

/// Sleeps that an upcall ends, with interrupts off.
pub fn blocks(case: &str) {
    let (timer, port) = (bind_virq(VIRQ_TIMER, 0).unwrap_or(0), bind_ipi(0).unwrap_or(0));
    set_masked(timer, false);
    set_masked(port, false);
    equal(&name!("{case}-block-is-ended"), woken(port, block), (0, Some(0)));
    check(&name!("{case}-block-ended-by-its-port"), take_pending(port));
    take_upcall(0);
    let at = now_ns() + SOON;
    equal(&name!("{case}-block-with-timer"), (set_single_shot(at, 0), block()), (0, 0));
    check(&name!("{case}-block-ended-by-timer"), take_pending(timer));
    take_upcall(0);
    set_masked(timer, true);
    set_masked(port, true);
    equal(&name!("{case}-block-ports-close"), (close(timer), close(port)), (0, 0));
}

fn set_timer(at_ns: u64) -> i64 {
    call(number::SET_TIMER_OP, [at_ns, 0, 0, 0, 0])
}

fn vcpu_op(command: u64, structure: Bytes) -> i64 {
    vcpu::call(command, smp::index() as u64, structure)
}

fn set_single_shot(at_ns: u64, flags: u32) -> i64 {
    vcpu_op(SET_SINGLE_SHOT, Bytes::new().u64(at_ns).u32(flags).u32(0))
}

/// Whether the timer rings, and not before `at_ns`.
fn rings(port: u32, at_ns: u64) -> bool {
    clock::until(|| is_pending(port)) && now_ns() >= at_ns && take_pending(port)
}

/// Whether the timer is silent for a while.
fn is_silent(port: u32) -> bool {
    clock::wait(HZ / 50);
    !is_pending(port)
}

fn by_set_timer_op(port: u32) {
    let at = now_ns() + SOON;
    check("set-timer", set_timer(at) == 0 && rings(port, at));
    check("set-timer-rings-once", is_silent(port));
    check("set-timer-in-the-past", set_timer(1) == 0 && rings(port, 0));
    // Too far to be meant: it rings soon.
    check("set-timer-negative", set_timer(u64::MAX) == 0 && rings(port, 0));
    check("set-timer-too-far", set_timer(now_ns() + (2 << 50)) == 0 && rings(port, 0));
    let off = set_timer(now_ns() + LATE) | set_timer(0);
    check("set-timer-off", off == 0 && is_silent(port));
    for mode in [Mode::Bits32, Mode::Bits16, Mode::Real] {
        // In two registers.
        let at = now_ns() + SOON;
        let result = mode.call(number::SET_TIMER_OP, [at & 0xffff_ffff, at >> 32, 0, 0, 0]);
        check(&name!("set-timer-{mode}"), result == 0 && rings(port, at));
    }
    let later = Mode::Bits32.call(number::SET_TIMER_OP, [0, LATE >> 32, 0, 0, 0]);
    check("set-timer-32-high", later == 0 && is_silent(port));
    equal("set-timer-32-off", Mode::Bits32.call(number::SET_TIMER_OP, [0; 5]), 0);
}

fn by_vcpu_op(port: u32) {
    const FUTURE: u32 = 1;
    let at = now_ns() + SOON;
    check("single-shot", set_single_shot(at, 0) == 0 && rings(port, at));
    check("single-shot-rings-once", is_silent(port));
    check("single-shot-in-the-past", set_single_shot(1, 0) == 0 && rings(port, 0));
    check("single-shot-flag-is-ignored", set_single_shot(1, FUTURE) == 0 && rings(port, 0));
    let off = set_single_shot(now_ns() + LATE, 0) | vcpu_op(STOP_SINGLE_SHOT, Bytes::new());
    check("single-shot-off", off == 0 && is_silent(port));
    // It is the same timer as that of set_timer_op.
    let moved = set_single_shot(now_ns() + LATE, 0) | set_timer(now_ns() + SOON);
    check("single-shot-moved-by-set-timer", moved == 0 && rings(port, 0));
    let of_another = call(number::VCPU_OP, [SET_SINGLE_SHOT, 1, arguments(), 0, 0]);
    equal("single-shot-of-another", of_another, error::INVAL);
    for mode in [Mode::Bits32, Mode::Real] {
        let at = now_ns() + SOON;
        Bytes::new().loose_u64(mode, at).u32(0).put(arguments());
        let result = mode.call(number::VCPU_OP, [SET_SINGLE_SHOT, 0, arguments(), 0, 0]);
        check(&name!("single-shot-{mode}"), result == 0 && rings(port, at));
    }
    equal("periodic", vcpu_op(SET_PERIODIC, Bytes::new().u64(2 * MS)), 0);
    check("periodic-rings", (0..5).all(|_| rings(port, 0)));
    equal("periodic-off", vcpu_op(STOP_PERIODIC, Bytes::new()), 0);
    take_pending(port);
    check("periodic-is-off", is_silent(port));
}

/// The second virtual CPU's own timer.
fn of_the_second() {
    let port = bind_virq(VIRQ_TIMER, 1).unwrap_or(0);
    check("timer-of-the-second", port != 0);
    let set = smp::call(1, |_| set_single_shot(now_ns() + SOON, 0) as u64, 0);
    check("timer-of-the-second-rings", set == Some(0) && rings(port, 0));
    equal("timer-of-the-second-closes", close(port), 0);
}

/// The port by which the second virtual CPU ends the first one's sleep.
static PORT: AtomicU32 = AtomicU32::new(0);

/// Sends the event once the first one sleeps: an error if it never does.
fn wake(_: u64) -> u64 {
    let sleeps = clock::until(|| peek::<u32>(RUN_STATE) == BLOCKED);
    let sent = send(PORT.load(Ordering::SeqCst)) as u64;
    if sleeps { sent } else { u64::MAX }
}

/// The result of `sleep`, which the second virtual CPU ends by a port.
fn woken(port: u32, sleep: impl Fn() -> i64) -> (i64, Option<u64>) {
    PORT.store(port, Ordering::SeqCst);
    smp::begin(1, wake, 0);
    let result = sleep();
    (result, smp::finish(1))
}

fn polls(timer: u32) {
    let (masked, other) = (bind_ipi(0).unwrap_or(0), bind_ipi(0).unwrap_or(0));
    let at = now_ns() + SOON;
    check("poll-until", poll(&[masked], at) == 0 && now_ns() >= at && !is_pending(masked));
    let at = now_ns() + SOON;
    check("poll-nothing-until", poll(&[], at) == 0 && now_ns() >= at);
    send(masked);
    equal("poll-of-a-pending-port", (poll(&[masked], 0), take_pending(masked)), (0, true));
    send(other);
    equal("poll-of-two", (poll(&[masked, other], 0), take_pending(other)), (0, true));
    // Masked ports end a poll as well.
    equal("poll-is-ended", woken(masked, || poll(&[masked], 0)), (0, Some(0)));
    check("poll-is-ended-by-its-port", take_pending(masked));
    equal("poll-of-two-is-ended", woken(other, || poll(&[masked, other], 0)), (0, Some(0)));
    take_pending(other);
    // The timer's port, as spinlocks of guests have it.
    equal("poll-with-timer", (set_single_shot(now_ns() + SOON, 0), poll(&[timer], 0)), (0, 0));
    check("poll-ended-by-timer", take_pending(timer));
    equal("poll-ports-close", (close(masked), close(other)), (0, 0));
}
