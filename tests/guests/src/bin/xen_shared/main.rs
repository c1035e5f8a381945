//! Pages and places that the platform shares with a guest: the shared info in both layouts and
//! wherever it is put, parts of virtual CPUs, run states, time, and the grant table (xen.h, vcpu.h,
//! memory.h, grant_table.h of Xen 4.17's public headers).

#![no_std]
#![no_main]

mod areas;
mod grants;
mod layout;
mod places;
mod time;

use conformance::xen::{self, event};

conformance::topic!(run);

fn run() {
    xen::begin_with_two();
    places::first();
    event::set_up();
    places::run();
    layout::run();
    grants::run();
    time::run();
    areas::run();
    // The counters of the two virtual CPUs are apart from here on.
    time::apart();
    areas::parts();
}
