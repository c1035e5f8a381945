//! Two virtual CPUs at the same ports at once. Loops are bounded by their counts; what must hold
//! after them holds whichever was first.

use core::sync::atomic::{AtomicU32, Ordering};

use conformance::interrupts::{Frame, handle};
use conformance::report::{check, equal};
use conformance::xen::event::{
    VIRQ_DEBUG, bind_ipi, bind_virq, close, is_pending, send, set_masked, state, status,
    take_pending, take_upcall, unmask,
};
use conformance::xen::{CPUS, error};
use conformance::{Global, apic, smp};

use crate::callbacks::VECTOR;

const ROUNDS: u32 = 200;

/// The port that both are at.
static PORT: AtomicU32 = AtomicU32::new(0);
/// How often each has sent.
static SENT: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
/// The same, as the receiver of the last event has seen it.
static SEEN: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
/// The port whose events each virtual CPU answers, and the port to answer by.
static ANSWERS: [[AtomicU32; 2]; CPUS] = [const { [const { AtomicU32::new(0) }; 2] }; CPUS];

pub fn run() {
    handle(VECTOR, Some(receive));
    both_send();
    one_masks();
    ping_pong();
    handle(VECTOR, Some(|_| apic::end_of_interrupt()));
    both_close();
    both_bind();
    one_closes_while_the_other_sends();
}

/// Takes the events that have come for this virtual CPU, and notes what was sent until then.
fn receive(_: &mut Frame) {
    let index = smp::index();
    apic::end_of_interrupt();
    take_upcall(index as u32);
    if take_pending(PORT.load(Ordering::SeqCst)) {
        for (seen, sent) in SEEN.iter().zip(&SENT) {
            seen.store(sent.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
    let [from, by] = ANSWERS[index].each_ref().map(|port| port.load(Ordering::SeqCst));
    if from != 0 && take_pending(from) {
        SENT[index].fetch_add(1, Ordering::SeqCst);
        send(by);
    }
}

/// A port of the first virtual CPU's, unmasked, and nothing sent yet.
fn begin() -> u32 {
    let port = bind_ipi(0).unwrap_or(0);
    set_masked(port, false);
    PORT.store(port, Ordering::SeqCst);
    for counter in SENT.iter().chain(&SEEN) {
        counter.store(0, Ordering::SeqCst);
    }
    port
}

fn end(port: u32) {
    set_masked(port, true);
    close(port);
    take_upcall(0);
    take_upcall(1);
}

/// Sends once and counts it before; returns the failures.
fn count_and_send() -> u64 {
    SENT[smp::index()].fetch_add(1, Ordering::SeqCst);
    u64::from(send(PORT.load(Ordering::SeqCst)) != 0)
}

fn send_many(_: u64) -> u64 {
    (0..ROUNDS).map(|_| count_and_send()).sum()
}

fn counts(counters: &[AtomicU32; CPUS]) -> [u32; CPUS] {
    counters.each_ref().map(|counter| counter.load(Ordering::SeqCst))
}

/// No event is lost: the last one is seen after all were sent.
fn both_send() {
    let port = begin();
    smp::begin(1, send_many, 0);
    let mut failures = 0;
    for _ in 0..ROUNDS {
        failures += count_and_send();
        smp::let_in();
    }
    let second = smp::finish(1);
    smp::let_in();
    equal("both-send", (failures, second), (0, Some(0)));
    equal("both-send-and-all-is-seen", counts(&SEEN), [ROUNDS; 2]);
    check("both-send-and-nothing-is-left", !is_pending(port));
    end(port);
}

/// The receiver masks and unmasks meanwhile.
fn one_masks() {
    let port = begin();
    smp::begin(1, send_many, 0);
    let mut failures = 0;
    for _ in 0..ROUNDS {
        set_masked(port, true);
        smp::let_in();
        failures += u64::from(unmask(port) != 0);
        smp::let_in();
    }
    let second = smp::finish(1);
    smp::let_in();
    equal("one-masks", (failures, second), (0, Some(0)));
    equal("one-masks-and-all-is-seen", counts(&SEEN), [0, ROUNDS]);
    check("one-masks-and-nothing-is-left", !is_pending(port));
    end(port);
}

/// Each event is answered by one to the other virtual CPU.
fn ping_pong() {
    end(begin());
    PORT.store(0, Ordering::SeqCst);
    let ports = [0, 1].map(|vcpu| {
        let port = bind_ipi(vcpu).unwrap_or(0);
        set_masked(port, false);
        port
    });
    for (vcpu, [from, by]) in ANSWERS.iter().enumerate() {
        from.store(ports[vcpu], Ordering::SeqCst);
        by.store(ports[1 - vcpu], Ordering::SeqCst);
    }
    let first = send(ports[1]);
    let all = smp::until(|| {
        smp::let_in();
        counts(&SENT).iter().all(|&sent| sent >= ROUNDS)
    });
    check("ping-pong", first == 0 && all);
    let [one, other] = counts(&SENT);
    check("ping-pong-in-turn", one.abs_diff(other) <= 1);
    // The second answers no more, and the last event ends at the first.
    ANSWERS[1][0].store(0, Ordering::SeqCst);
    let _ = smp::call(1, |_| 0, 0);
    smp::let_in();
    ANSWERS[0][0].store(0, Ordering::SeqCst);
    ports.into_iter().for_each(end);
}

/// Runs `job` on both virtual CPUs as nearly at once as they come.
fn at_once(job: smp::Job) -> [i64; CPUS] {
    // Set before the second is told, and read by both.
    static JOB: Global<Option<smp::Job>> = Global::new(None);
    JOB.set(Some(job));
    let meet_first = |index: u64| {
        smp::meet(CPUS);
        JOB.get().map_or(u64::MAX, |job| job(index))
    };
    smp::ready();
    smp::call_all::<CPUS>(meet_first).map(|result| result.map_or(i64::MIN, |result| result as i64))
}

/// The one closes it, the other finds it closed.
fn both_close() {
    let mut wrong = None;
    for _ in 0..ROUNDS {
        let port = bind_ipi(0).unwrap_or(0);
        send(port);
        PORT.store(port, Ordering::SeqCst);
        let results = at_once(|_| close(PORT.load(Ordering::SeqCst)) as u64);
        let is_right = matches!(results, [0, error::INVAL] | [error::INVAL, 0]);
        let is_free = matches!(status(port), Ok((state::CLOSED, _))) && !is_pending(port);
        if !(is_right && is_free) {
            wrong = Some(results);
        }
    }
    equal("both-close", wrong, None);
}

/// Of one virtual interrupt there is one port, and no port is given twice.
fn both_bind() {
    let bind = |_| bind_virq(VIRQ_DEBUG, 0).map_or_else(|error| error as u64, u64::from);
    let mut wrong = None;
    for _ in 0..ROUNDS / 4 {
        match at_once(bind) {
            [port, error::EXIST] | [error::EXIST, port] if port > 0 => {
                close(port as u32);
            }
            results => wrong = Some(results),
        }
    }
    equal("both-bind-a-virq", wrong, None);
    let bind = |_| bind_ipi(0).map_or_else(|error| error as u64, u64::from);
    let mut wrong = None;
    for _ in 0..ROUNDS / 4 {
        let ports = at_once(bind);
        let closed = ports.map(|port| close(port as u32));
        if ports[0] == ports[1] || closed != [0, 0] {
            wrong = Some(ports);
        }
    }
    equal("both-bind", wrong, None);
}

/// An event finds the port or does not; a port that is closed has none.
fn one_closes_while_the_other_sends() {
    static STOP: AtomicU32 = AtomicU32::new(0);
    let send_on = |_| {
        let mut wrong = 0;
        while STOP.load(Ordering::SeqCst) == 0 {
            let result = send(PORT.load(Ordering::SeqCst));
            wrong += u64::from(result != 0 && result != error::INVAL);
        }
        wrong
    };
    STOP.store(0, Ordering::SeqCst);
    smp::begin(1, send_on, 0);
    let mut wrong = 0;
    for _ in 0..ROUNDS {
        let port = bind_ipi(0).unwrap_or(0);
        PORT.store(port, Ordering::SeqCst);
        wrong += u32::from(close(port) != 0);
    }
    STOP.store(1, Ordering::SeqCst);
    equal("one-closes-the-other-sends", (wrong, smp::finish(1)), (0, Some(0)));
    check("one-closes-and-nothing-is-left", !is_pending(PORT.load(Ordering::SeqCst)));
    take_upcall(0);
}
