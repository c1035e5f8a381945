//! Event channels of a guest with two virtual CPUs: the words that tell of events, the four ways in
//! which a virtual CPU is told, timers, polls, and two virtual CPUs at the same ports
//! (event_channel.h, hvm/params.h, vcpu.h and sched.h of Xen 4.17's public headers).

#![no_std]
#![no_main]

mod callbacks;
mod races;
mod timers;
mod words;

use conformance::xen::{self, event};

conformance::topic!(run);

fn run() {
    xen::begin_with_two();
    event::set_up();
    timers::show_run_state();
    words::run();
    callbacks::lines();
    callbacks::past_the_apic();
    timers::run();
    // Vectors of virtual CPUs come last: they stay.
    callbacks::vectors_of_their_own();
    races::run();
}
