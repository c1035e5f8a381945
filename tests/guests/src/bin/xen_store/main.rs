//! XenStore by the byte, over a guest's ring (io/xs_wire.h of Xen 4.17's public headers, and what
//! its xenstored does).

#![no_std]
#![no_main]

mod operations;
mod ring;
mod transactions;
mod watches;

use conformance::xen::store::Store;
use conformance::xen::{self, event};

conformance::topic!(run);

fn run() {
    xen::require();
    event::set_up();
    let store = Store::connect();
    operations::run(store);
    transactions::run(store);
    watches::run(store);
    ring::run(store);
}
