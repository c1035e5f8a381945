//! Event channels (event_channel.h).

use core::sync::atomic::Ordering;

use super::bytes::Bytes;
use super::mode::op;
use super::shared::{self, LAYOUT_64, PENDING, SHARED_INFO, UPCALL_PENDING, VCPU_INFO_BYTES};
use super::{DOMAIN_SELF, arguments, number, param};
use crate::cpu::{peek, poke};

/// Sub-operations.
#[allow(missing_docs)]
pub mod sub {
    pub const BIND_INTERDOMAIN: u64 = 0;
    pub const BIND_VIRQ: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const SEND: u64 = 4;
    pub const STATUS: u64 = 5;
    pub const ALLOC_UNBOUND: u64 = 6;
    pub const BIND_IPI: u64 = 7;
    pub const BIND_VCPU: u64 = 8;
    pub const UNMASK: u64 = 9;
    pub const RESET: u64 = 10;
    pub const INIT_CONTROL: u64 = 11;
    pub const EXPAND_ARRAY: u64 = 12;
    pub const SET_PRIORITY: u64 = 13;
}

/// The states of a port that [`status`] tells.
#[allow(missing_docs)]
pub mod state {
    pub const CLOSED: u32 = 0;
    pub const UNBOUND: u32 = 1;
    pub const INTERDOMAIN: u32 = 2;
    pub const VIRQ: u32 = 4;
    pub const IPI: u32 = 5;
}

/// The virtual interrupt of the timer.
pub const VIRQ_TIMER: u32 = 0;
/// That of the debugger, which nothing raises.
pub const VIRQ_DEBUG: u32 = 1;
/// That of the console, one for the whole guest.
pub const VIRQ_CONSOLE: u32 = 2;

fn call(sub: u64, structure: Bytes) -> i64 {
    op(number::EVENT_CHANNEL_OP, sub, structure)
}

/// A call that yields a port, at `offset`.
fn bind(sub: u64, structure: Bytes, offset: u64) -> Result<u32, i64> {
    match call(sub, structure) {
        0 => Ok(peek(arguments() + offset)),
        error => Err(error),
    }
}

/// A port of the guest's own virtual CPUs.
///
/// # Errors
/// As the call.
pub fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    bind(sub::BIND_IPI, Bytes::new().u32(vcpu).u32(0), 4)
}

/// A port of a virtual interrupt.
///
/// # Errors
/// As the call.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32, i64> {
    bind(sub::BIND_VIRQ, Bytes::new().u32(virq).u32(vcpu).u32(0), 8)
}

/// A port for a domain to bind to.
///
/// # Errors
/// As the call.
pub fn alloc_unbound(remote: u16) -> Result<u32, i64> {
    bind(sub::ALLOC_UNBOUND, Bytes::new().u16(DOMAIN_SELF).u16(remote).u32(0), 4)
}

/// Closes a port.
pub fn close(port: u32) -> i64 {
    call(sub::CLOSE, Bytes::new().u32(port))
}

/// Sends by a port.
pub fn send(port: u32) -> i64 {
    call(sub::SEND, Bytes::new().u32(port))
}

/// Unmasks a port.
pub fn unmask(port: u32) -> i64 {
    call(sub::UNMASK, Bytes::new().u32(port))
}

/// Has a port told to another virtual CPU.
pub fn bind_vcpu(port: u32, vcpu: u32) -> i64 {
    call(sub::BIND_VCPU, Bytes::new().u32(port).u32(vcpu))
}

/// The state of a port, and its virtual CPU.
///
/// # Errors
/// As the call.
pub fn status(port: u32) -> Result<(u32, u32), i64> {
    match call(sub::STATUS, Bytes::new().u16(DOMAIN_SELF).u32(port).u32(0).u32(0).u32(0).u32(0)) {
        0 => Ok((peek(arguments() + 8), peek(arguments() + 12))),
        error => Err(error),
    }
}

/// Where the bits of pending words stand in a `vcpu_info` of 64-bit code.
const SELECTOR: u64 = 8;

/// Puts the shared info in its place, with 64-bit structures and all ports masked.
pub fn set_up() {
    super::latch_64();
    assert_eq!(shared::add_to_physmap(shared::SPACE_SHARED_INFO, 0, SHARED_INFO), 0);
    for word in 0..64 {
        poke(SHARED_INFO + LAYOUT_64.mask + word * 8, u64::MAX);
    }
}

/// The part of virtual CPU `vcpu` in the shared info.
pub const fn vcpu_info(vcpu: u32) -> u64 {
    SHARED_INFO + vcpu as u64 * VCPU_INFO_BYTES
}

/// Whether an event of a port waits.
pub fn is_pending(port: u32) -> bool {
    shared::bit(SHARED_INFO + PENDING, port)
}

/// Takes the event of a port, and says whether there was one.
pub fn take_pending(port: u32) -> bool {
    shared::clear_bit(SHARED_INFO + PENDING, port)
}

/// Whether a port is masked.
pub fn is_masked(port: u32) -> bool {
    shared::bit(SHARED_INFO + LAYOUT_64.mask, port)
}

/// Masks a port, or no more, without telling of its events.
pub fn set_masked(port: u32, masked: bool) {
    match masked {
        true => shared::set_bit(SHARED_INFO + LAYOUT_64.mask, port),
        false => {
            shared::clear_bit(SHARED_INFO + LAYOUT_64.mask, port);
        }
    }
}

/// Whether a virtual CPU has an upcall pending.
pub fn has_upcall(vcpu: u32) -> bool {
    shared::bit(vcpu_info(vcpu) + UPCALL_PENDING, 0)
}

/// Takes the upcall of a virtual CPU: the words that have pending ports.
pub fn take_upcall(vcpu: u32) -> u64 {
    shared::clear_bit(vcpu_info(vcpu) + UPCALL_PENDING, 0);
    let selector = (vcpu_info(vcpu) + SELECTOR) as usize;
    let selector = core::ptr::with_exposed_provenance_mut(selector);
    // SAFETY: the word is aligned, and both the guest and the platform access it by locked
    // instructions alone.
    unsafe { core::sync::atomic::AtomicU64::from_ptr(selector) }.swap(0, Ordering::SeqCst)
}

/// Sets how events are told (`HVM_PARAM_CALLBACK_IRQ`).
pub fn set_callback(value: u64) -> i64 {
    op(number::HVM_OP, 0, param(DOMAIN_SELF, 0, value))
}

/// Gives a virtual CPU a vector of its own for events.
pub fn set_upcall_vector(vcpu: u32, vector: u8) -> i64 {
    op(number::HVM_OP, 23, Bytes::new().u32(vcpu).u8(vector))
}
