//! Virtual CPUs: how they sleep, their timers, and places of the guest's choice for parts of them
//! (sched.h and vcpu.h).

use super::bytes::Bytes;
use super::mode::{self, op};
use super::{arguments, now_ns, number};
use crate::cpu::poke;

/// Commands of [`call`].
#[allow(missing_docs)]
pub mod command {
    pub const GET_RUN_STATE: u64 = 4;
    pub const REGISTER_RUN_STATE: u64 = 5;
    pub const SET_PERIODIC: u64 = 6;
    pub const STOP_PERIODIC: u64 = 7;
    pub const SET_SINGLE_SHOT: u64 = 8;
    pub const STOP_SINGLE_SHOT: u64 = 9;
    pub const REGISTER_INFO: u64 = 10;
    pub const REGISTER_TIME: u64 = 13;
}

/// The run state of a virtual CPU that has nothing to run.
pub const BLOCKED: u32 = 2;

/// Sub-operations of `sched_op`.
#[allow(missing_docs)]
pub mod sched {
    pub const BLOCK: u64 = 1;
    pub const SHUTDOWN: u64 = 2;
    pub const POLL: u64 = 3;
    pub const WATCHDOG: u64 = 6;
}

/// `vcpu_op`.
pub fn call(command: u64, vcpu: u64, structure: Bytes) -> i64 {
    structure.put(arguments());
    mode::call(number::VCPU_OP, [command, vcpu, arguments(), 0, 0])
}

/// Has the run state of the virtual CPU that calls shown at an address: its first word is the
/// state.
pub fn show_run_state(address: u64) -> i64 {
    call(command::REGISTER_RUN_STATE, crate::smp::index() as u64, Bytes::new().u64(address))
}

/// Sleeps until an upcall.
pub fn block() -> i64 {
    op(number::SCHED_OP, sched::BLOCK, Bytes::new())
}

/// Sleeps until one of `ports` has an event, or until `until_ns`, unless that is 0.
pub fn poll(ports: &[u32], until_ns: u64) -> i64 {
    let list = arguments() + 0x100;
    for (index, &port) in ports.iter().enumerate() {
        poke(list + 4 * index as u64, port);
    }
    let poll = Bytes::new().u64(list).u32(ports.len() as u32).u64(until_ns);
    op(number::SCHED_OP, sched::POLL, poll)
}

/// Sleeps for a moment.
pub fn nap() {
    let result = poll(&[], now_ns() + 1_000_000);
    assert_eq!(result, 0);
}
