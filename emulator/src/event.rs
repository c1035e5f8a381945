//! Events that a vCPU takes at its next entry.

use crate::registers::Fault;

/// An event for the guest to take at its next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An external interrupt.
    Interrupt(u8),
    /// An NMI.
    Nmi,
    /// An exception.
    Fault(Fault),
}
