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

use conformance::report::check;
use conformance::xen::{self, event};
use conformance::{pic, smp};

conformance::topic!(run);

/// Virtual CPUs.
pub const CPUS: usize = 2;

fn run() {
    xen::require();
    pic::set_up();
    smp::set_up(None);
    check("the-second-starts", smp::start_others(CPUS - 1));
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
