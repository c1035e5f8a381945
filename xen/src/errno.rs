//! The errors of hypercalls.

use core::fmt;

/// Why a hypercall failed: Linux's numbers, negative in the result (errno.h of the public headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Errno {
    /// Not allowed.
    Perm = 1,
    /// There is no such virtual CPU, page or port.
    NoEnt = 2,
    /// There is no such domain.
    Srch = 3,
    /// An address that is not, or not wholly, in one page.
    NxIo = 6,
    /// A pointer that leads nowhere.
    Fault = 14,
    /// It exists already.
    Exist = 17,
    /// An argument makes no sense.
    Inval = 22,
    /// No more room.
    NoSpc = 28,
    /// Not in this interface.
    NoSys = 38,
}

impl Errno {
    /// The result of a call that failed so.
    pub const fn result(self) -> i64 {
        -(self as i64)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.result())
    }
}
