//! Errors of XenStore: an ERROR reply names its errno.

use core::fmt;

/// Why a request is refused (xs_wire.h, `xsd_errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// EINVAL: the request is malformed, or a path in it.
    Invalid,
    /// EACCES: the node's permissions do not allow it, or the operation is domain 0's.
    Access,
    /// EEXIST: the same watch again.
    Exists,
    /// ENOENT: no such node, watch or transaction.
    NotFound,
    /// ENOMEM: over the memory quota.
    NoMemory,
    /// ENOSPC: over another quota.
    NoSpace,
    /// ENOSYS: no such operation.
    NotImplemented,
    /// EBUSY: a transaction inside a transaction.
    Busy,
    /// EAGAIN: the transaction met a change by others, and is to be tried again.
    Again,
    /// E2BIG: too many watches, or a reply of more than 4096 bytes.
    TooBig,
    /// EPERM: only domain 0 may change the owner of a node.
    NotPermitted,
}

impl Error {
    /// The errno's name, as it is sent.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "EINVAL",
            Self::Access => "EACCES",
            Self::Exists => "EEXIST",
            Self::NotFound => "ENOENT",
            Self::NoMemory => "ENOMEM",
            Self::NoSpace => "ENOSPC",
            Self::NotImplemented => "ENOSYS",
            Self::Busy => "EBUSY",
            Self::Again => "EAGAIN",
            Self::TooBig => "E2BIG",
            Self::NotPermitted => "EPERM",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl core::error::Error for Error {}
