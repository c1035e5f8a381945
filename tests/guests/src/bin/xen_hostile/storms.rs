//! Events by the thousand, from two virtual CPUs that bind, send by, move and close the same ports.

use conformance::interrupts::handle;
use conformance::report::equal;
use conformance::xen::CPUS;
use conformance::xen::event::{
    alloc_unbound, bind_ipi, bind_vcpu, bind_virq, close, send, set_callback, set_masked,
    set_upcall_vector, state, status, take_upcall, unmask,
};
use conformance::{apic, name, smp};

use crate::{below, survived};

const PAST_THE_APIC: u8 = 0x51;
const OWN_VECTOR: u8 = 0x52;
const ROUNDS: u32 = 2000;
const PORTS: u64 = 24;
/// Ports of XenStore and the console, which stay.
const FIRST_FREE: u64 = 3;

fn any_port() -> u32 {
    (FIRST_FREE + below(PORTS)) as u32
}

/// Does anything to any port.
fn storm(vcpu: u64) -> u64 {
    for _ in 0..ROUNDS {
        let port = any_port();
        // Whether one succeeds depends on the other virtual CPU.
        match below(10) {
            0 => _ = bind_ipi(below(3) as u32),
            1 => _ = bind_virq(below(26) as u32, below(3) as u32),
            2 => _ = alloc_unbound(below(3) as u16),
            3 => _ = close(port),
            4 => _ = bind_vcpu(port, below(3) as u32),
            5 => _ = unmask(port),
            6 => set_masked(port, below(2) == 0),
            7 => _ = take_upcall(vcpu as u32),
            _ => _ = send(port),
        }
    }
    0
}

pub fn run() {
    // A level: an upcall that nothing takes would not let the virtual CPU go on.
    handle(
        PAST_THE_APIC,
        Some(|_| {
            take_upcall(smp::index() as u32);
        }),
    );
    handle(OWN_VECTOR, Some(|_| apic::end_of_interrupt()));
    let callbacks = [0, 2 << 56 | u64::from(PAST_THE_APIC), 1 << 56 | 3 << 11, 9, 3 << 56];
    for callback in callbacks {
        set_callback(callback);
        equal(&name!("storm-{callback:x}"), smp::call_all::<CPUS>(storm), [Some(0); CPUS]);
    }
    set_callback(0);
    for vcpu in 0..2 {
        set_upcall_vector(vcpu, OWN_VECTOR);
    }
    equal("storm-vectors", smp::call_all::<CPUS>(storm), [Some(0); CPUS]);
    let is_used = |port: &u32| !matches!(status(*port), Ok((state::CLOSED, _)) | Err(_));
    let all = || FIRST_FREE as u32..1024;
    let refused = all().filter(is_used).find(|&port| close(port) != 0);
    equal("storm-ports-close", refused, None);
    equal("storm-leaves-nothing", all().find(is_used), None);
    survived("storm");
}
