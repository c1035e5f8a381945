//! Events by the thousand, from two virtual CPUs that bind, send by, move and close the same ports.

use conformance::interrupts::handle;
use conformance::report::check;
use conformance::xen::event::{
    alloc_unbound, bind_ipi, bind_vcpu, bind_virq, close, send, set_callback, set_masked,
    set_upcall_vector, state, status, take_upcall, unmask,
};
use conformance::{apic, smp};

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
        match below(10) {
            0 => drop(bind_ipi(below(3) as u32)),
            1 => drop(bind_virq(below(26) as u32, below(3) as u32)),
            2 => drop(alloc_unbound(below(3) as u16)),
            3 => drop(close(port)),
            4 => drop(bind_vcpu(port, below(3) as u32)),
            5 => drop(unmask(port)),
            6 => set_masked(port, below(2) == 0),
            7 => drop(take_upcall(vcpu as u32)),
            _ => drop(send(port)),
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
        let both = smp::call_all::<2>(storm);
        check(&conformance::name!("storm-{callback:x}"), both == [Some(0); 2]);
    }
    set_callback(0);
    for vcpu in 0..2 {
        set_upcall_vector(vcpu, OWN_VECTOR);
    }
    check("storm-vectors", smp::call_all::<2>(storm) == [Some(0); 2]);
    let left = (FIRST_FREE as u32..1024).filter(|&port| close(port) == 0).count();
    check("storm-ports-close", left <= PORTS as usize + 2000);
    let all_free = (FIRST_FREE as u32..1024)
        .all(|port| matches!(status(port), Ok((state::CLOSED, _)) | Err(_)));
    check("storm-leaves-nothing", all_free);
    survived("storm");
}
