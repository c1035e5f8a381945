//! PCI (PCI Local Bus Specification 3.0, PCI Express Base Specification 3.0): which devices there
//! are, where their registers are, and how they interrupt. All that a device says is bounded here.
//!
//! Addresses are those that the firmware has assigned: a device without is left alone.

mod function;
mod message;

use alloc::vec;
use alloc::vec::Vec;

pub use crate::hardware::{Address, ConfigSpace};
pub(crate) use function::capability;
pub use function::{Bar, Function};
pub(crate) use message::Signal;

/// Registers of all functions.
mod register {
    pub const ID: u8 = 0x00;
    pub const COMMAND: u8 = 0x04;
    pub const CLASS: u8 = 0x08;
    pub const HEADER: u8 = 0x0c;
    pub const BAR_0: u8 = 0x10;
    pub const BUSES: u8 = 0x18;
    pub const CAPABILITIES: u8 = 0x34;
}

const BUSES: usize = 256;
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// All functions, by bus: bus 0, and those that bridges lead to as the firmware has numbered them.
/// No bus is looked at twice, whatever the bridges say.
pub fn functions(config: &dyn ConfigSpace) -> Vec<Address> {
    let mut found = Vec::new();
    let mut is_seen = [false; BUSES];
    let mut waiting = vec![0_u8];
    while let Some(bus) = waiting.pop() {
        if core::mem::replace(&mut is_seen[usize::from(bus)], true) {
            continue;
        }
        for address in functions_of(config, bus) {
            found.push(address);
            waiting.extend(Function::new(config, address).secondary_bus());
        }
    }
    found.sort_unstable();
    found
}

/// The functions on one bus.
fn functions_of(config: &dyn ConfigSpace, bus: u8) -> Vec<Address> {
    let mut found = Vec::new();
    for device in 0..DEVICES {
        let first = Address { bus, device, function: 0 };
        if !Function::new(config, first).is_there() {
            continue;
        }
        let count = if Function::new(config, first).is_multiple() { FUNCTIONS } else { 1 };
        let all = (0..count).map(|function| Address { function, ..first });
        found.extend(all.filter(|&address| Function::new(config, address).is_there()));
    }
    found
}

#[cfg(test)]
mod tests;
