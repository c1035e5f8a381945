//! Results, a line each:
//!
//! ```text
//! conf TOPIC CASE ok
//! conf TOPIC CASE FAIL DETAIL
//! conf TOPIC CASE = VALUE          a fact that must be the same on every machine
//! conf TOPIC CASE skip REASON      this processor lacks what the case is about;
//!                                  the case * is the whole topic
//! conf TOPIC done N passed, M failed
//! ```
//!
//! The name of a case has no blanks and is used once.

use core::fmt::{Debug, Display, Write};

use crate::cpu;
use crate::global::Global;
use crate::interrupts::{self, Event, Fault};
use crate::serial::Com1;

static TOPIC: Global<&str> = Global::new("");
static PASSED: Global<u32> = Global::new(0);
static FAILED: Global<u32> = Global::new(0);

/// Called by [`topic!`](crate::topic).
pub fn begin(topic: &'static str) {
    TOPIC.set(topic);
    Com1::set_up();
    interrupts::set_up();
}

/// Called by [`topic!`](crate::topic) and after what leaves no way to go on.
pub fn end() -> ! {
    let (passed, failed) = (PASSED.get(), FAILED.get());
    let _ = writeln!(Com1, "conf {} done {passed} passed, {failed} failed", TOPIC.get());
    Com1::drain();
    loop {
        cpu::cli();
        cpu::hlt();
    }
}

fn line(case: &str, what: core::fmt::Arguments) {
    let _ = writeln!(Com1, "conf {} {case} {what}", TOPIC.get());
}

/// The case holds.
pub fn pass(case: &str) {
    PASSED.set(PASSED.get() + 1);
    line(case, format_args!("ok"));
}

/// The case does not hold.
pub fn fail(case: &str, detail: impl Display) {
    FAILED.set(FAILED.get() + 1);
    line(case, format_args!("FAIL {detail}"));
}

/// This processor lacks what the case is about.
pub fn skip(case: &str, reason: &str) {
    line(case, format_args!("skip {reason}"));
}

/// This processor lacks what the whole topic is about.
pub fn skip_topic(reason: &str) -> ! {
    skip("*", reason);
    end()
}

/// A fact that the manuals leave open, or that is longer than a yes: the same on every machine.
pub fn value(case: &str, value: impl Display) {
    line(case, format_args!("= {value}"));
}

/// The case is that `holds`.
pub fn check(case: &str, holds: bool) {
    match holds {
        true => pass(case),
        false => fail(case, "does not hold"),
    }
}

/// The case is that a result is what the manuals say.
pub fn equal<T: PartialEq + Debug>(case: &str, got: T, want: T) {
    match got == want {
        true => pass(case),
        false => fail(case, format_args!("got {got:x?}, want {want:x?}")),
    }
}

/// The case is that `body` runs to its end.
pub fn runs(case: &str, body: impl FnOnce()) {
    match interrupts::catch(body) {
        Ok(()) => pass(case),
        Err(fault) => fail(case, format_args!("got {fault}, want none")),
    }
}

/// The case is that `body` ends in `event`. Returns what it ended in.
pub fn faults(case: &str, event: Event, body: impl FnOnce()) -> Option<Fault> {
    let fault = interrupts::catch(body).err();
    compare_fault(case, event, fault.as_ref());
    fault
}

fn compare_fault(case: &str, event: Event, fault: Option<&Fault>) {
    match fault {
        Some(fault) if fault.event == event => pass(case),
        Some(fault) => fail(case, format_args!("got {fault}, want {event}")),
        None => fail(case, format_args!("got none, want {event}")),
    }
}
