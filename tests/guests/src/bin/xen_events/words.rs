//! The words of pending and masked ports, and of virtual CPUs with an upcall.

use conformance::report::{check, equal};
use conformance::xen::error;
use conformance::xen::event::{
    alloc_unbound, bind_ipi, close, has_upcall, is_masked, is_pending, send, set_masked, state,
    status, take_pending, take_upcall, unmask,
};

/// Pending, upcall of the first virtual CPU, and its words with pending ports.
fn words(port: u32) -> (bool, bool, u64) {
    let upcall = has_upcall(0);
    (is_pending(port), upcall, take_upcall(0))
}

pub fn run() {
    let port = bind_ipi(0).unwrap_or(0);
    check("port", port != 0);
    let word = 1 << (port / 64);
    equal("nothing-yet", words(port), (false, false, 0));
    equal("masked-is-kept", (send(port), words(port)), (0, (true, false, 0)));
    equal("unmasked-is-told", (unmask(port), words(port)), (0, (true, true, word)));
    check("unmasked", !is_masked(port));
    equal("pending-is-told-once", (send(port), words(port)), (0, (true, false, 0)));
    check("taken", take_pending(port));
    equal("sent-again-is-told", (send(port), words(port)), (0, (true, true, word)));
    take_pending(port);
    equal("unmask-without-event", (unmask(port), words(port)), (0, (false, false, 0)));
    set_masked(port, true);
    equal("masked-again", (send(port), words(port)), (0, (true, false, 0)));
    // Only the call looks for an event that has come before.
    set_masked(port, false);
    equal("unmasked-by-the-guest", words(port), (true, false, 0));
    equal("unmask-of-an-unmasked-one", (unmask(port), words(port)), (0, (true, false, 0)));
    equal("close-takes-the-event", (close(port), words(port)), (0, (false, false, 0)));
    check("close-leaves-the-mask", !is_masked(port));

    // The one leads to nothing yet, the other to the second virtual CPU.
    let (unbound, others) = (alloc_unbound(0).unwrap_or(0), bind_ipi(1).unwrap_or(0));
    set_masked(unbound, false);
    set_masked(others, false);
    equal("sent-to-nothing", (send(unbound), words(unbound)), (0, (false, false, 0)));
    equal("sent-to-the-second", (send(others), words(others)), (0, (true, false, 0)));
    equal("told-to-the-second", (has_upcall(1), take_upcall(1)), (true, 1 << (others / 64)));
    equal("close-both", (close(unbound), close(others)), (0, 0));
    set_masked(unbound, true);
    set_masked(others, true);
    many();
}

/// All numbers up to the limit of a guest, 1023.
fn many() {
    let (mut last, mut count) = (0, 0);
    let failure = loop {
        match bind_ipi(0) {
            Ok(port) => (last, count) = (last.max(port), count + 1),
            Err(failure) => break failure,
        }
    };
    equal("ports-end", failure, error::NOSPC);
    check("ports-are-many", last == 1023 && count > 1000);
    set_masked(last, false);
    let word = 1 << (last / 64);
    equal("highest-port", (send(last), words(last)), (0, (true, true, word)));
    set_masked(last, true);
    // Those of XenStore and the console stay.
    let is_own = |port: &u32| matches!(status(*port), Ok((state::IPI, _)));
    let closed = (1..=last).filter(is_own).filter(|&port| close(port) == 0).count();
    equal("ports-close", closed, count);
}
