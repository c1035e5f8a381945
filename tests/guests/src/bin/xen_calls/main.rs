//! Hypercalls of a guest with the PV-on-HVM platform, from code of every mode, by the numbers,
//! structures and errors of Xen 4.17's public headers (`xen/include/public`) and its code.

#![no_std]
#![no_main]

mod entry;
mod groups;
mod multicall;
mod pointers;
mod ports;

use conformance::xen::{self, mode::Mode};

conformance::topic!(run);

fn run() {
    xen::require();
    entry::run();
    for mode in Mode::ALL {
        groups::run(mode);
        ports::run(mode);
        pointers::run(mode);
        multicall::run(mode);
    }
    pointers::paged();
    multicall::paged();
}
