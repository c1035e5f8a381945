//! A front end that breaks every rule: wrong ring indices, grants that vanish in the middle,
//! requests that point everywhere, a store that is filled up, watches by the hundred, event storms
//! by two virtual CPUs that close one port, calls with any arguments, and memory that is given away
//! and taken back. Nothing of it may hurt anything but the guest itself, and calls are answered all
//! the while. Its doings are the same in each run but for the races, and bounded by counts.

#![no_std]
#![no_main]

mod calls;
mod disk;
mod memory;
mod store;
mod storms;

use conformance::report::equal;
use conformance::xen::mode::call;
use conformance::xen::shared::{GRANTS, SPACE_GRANT_TABLE, add_to_physmap};
use conformance::xen::store::Store;
use conformance::xen::{self, CPUS, PAGE_BYTES, event, number};
use conformance::{Global, name, smp};

conformance::topic!(run);

fn run() {
    xen::begin_with_two();
    event::set_up();
    equal("grant-table", add_to_physmap(SPACE_GRANT_TABLE, 0, GRANTS), 0);
    let connection = Store::connect();
    disk::run(connection);
    storms::run();
    store::run(connection);
    calls::run();
    memory::run();
}

/// The case is that the hypervisor answers after an attack.
fn survived(attack: &str) {
    let version = call(number::XEN_VERSION, [0; 5]);
    equal(&name!("{attack}-and-calls-are-answered"), version, 0x0004_0011);
}

/// Of each virtual CPU, so that what it does is its own whatever the other does.
static SEEDS: [Global<u64>; CPUS] =
    [Global::new(0x9e37_79b9_7f4a_7c15), Global::new(0xbf58_476d_1ce4_e5b9)];

/// Numbers without an order (xorshift).
fn random() -> u64 {
    let own = &SEEDS[smp::index()];
    let mut seed = own.get();
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    own.set(seed);
    seed
}

/// A number below `limit`.
fn below(limit: u64) -> u64 {
    (random() >> 16) % limit
}

/// A page number: of RAM without the program, of pages that the platform shares, of devices, of
/// nothing.
fn any_page() -> u32 {
    match below(6) {
        0 => (memory::SPARE.start / PAGE_BYTES + below(0x3000)) as u32,
        1 => 0x0021_0000 / 4096 + below(0x40) as u32,
        2 => 0xf_eff0 + below(0x10) as u32,
        3 => 0xa0 + below(0x60) as u32,
        4 => 0xf_ee00,
        _ => random() as u32,
    }
}
