//! The clock's state that the battery keeps while the machine around it is reset or built anew.

use super::clockwork::Clockwork;
use super::spec::BANK_BYTES;
use crate::time::GuestTime;

/// Time and memory.
#[derive(Clone, Debug)]
pub struct Battery {
    /// Out of an [`Rtc`](super::Rtc), guest time 0 is the moment that it shows.
    pub(super) clockwork: Clockwork,
    /// Bytes 0eh to 7fh, but for the century.
    pub(super) cmos: [u8; BANK_BYTES],
    pub(super) extended: [u8; BANK_BYTES],
}

impl Battery {
    /// A new one: the time is `unix_time_s` (seconds since 1970, in the zone that the guest
    /// expects), the memory empty.
    pub fn new(unix_time_s: u64) -> Self {
        Self {
            clockwork: Clockwork::new(GuestTime::ZERO, unix_time_s),
            cmos: [0; BANK_BYTES],
            extended: [0; BANK_BYTES],
        }
    }

    /// The same `ns` later.
    #[must_use]
    pub fn after_ns(mut self, ns: u64) -> Self {
        self.clockwork.pass_ns(ns);
        self
    }
}
