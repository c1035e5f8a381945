//! Disks: the seam between the devices that guests see (IDE, PV disks, the boot ROM) and what
//! stores their data (boot modules, memory, the machine's own disks, parts of these).
//!
//! A [`Medium`] stores bytes. A device opens it, which gives it a [`Queue`] of its own, and puts
//! [`Request`]s into that: each completes at once ([`Submitted::Done`]) or later, through the
//! device's [`Client`]. A request owns the memory that it is about ([`Data`]) on the way there and
//! back, so that nothing of a guest's goes away while a disk works on it.
//!
//! **Order.** Requests of a queue that are on their way together may be carried out in any order. A
//! flush covers the writes that were answered before it was submitted, and no others: a device that
//! promises its guest more submits one after the other.
//!
//! **Bounds.** A device bounds what it has on its way; a medium takes what it is given, and shares
//! its time among [`User`]s by their weights.
//!
//! **Locks.** A device may submit with its own lock held. A medium therefore completes no pending
//! request from inside [`Queue::submit`] or [`Queue::cancel`], and holds no lock when it calls a
//! client.
//!
//! ```
//! use block::{Data, HeapDisk, Medium, NoClient, Op, Request, Submitted, User};
//! use std::sync::Arc;
//!
//! let disk = Arc::new(HeapDisk::new(b"eight by".to_vec(), true));
//! let queue = disk.open(NoClient::weak(), User { id: 1, weight: 256 });
//! let read = Request { tag: 7, op: Op::Read, offset_bytes: 6, data: Data::zeroed(2) };
//! let Submitted::Done(done) = queue.submit(read) else { panic!("a heap disk never waits") };
//! assert_eq!((done.request.tag, done.result), (7, Ok(())));
//! assert_eq!(done.request.data.heap(), b"by");
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "fuzzing"))]
extern crate std;

mod data;
mod fair;
mod file_system;
mod heap_disk;
mod host_disk;
mod part;
pub mod partitions;
mod reader;
mod slow_disk;
#[cfg(test)]
mod stack_tests;
#[cfg(any(test, feature = "fuzzing"))]
mod test_disk;
mod text;
mod watched;

use alloc::sync::{Arc, Weak};
use core::fmt;

pub use data::{Buffer, Data, Gone};
pub use fair::{FairQueue, Served};
pub use file_system::FileSystem;
pub use heap_disk::HeapDisk;
pub use host_disk::HostDisk;
pub use part::Part;
pub use reader::Reader;
pub use slow_disk::SlowDisk;
pub use text::link_name;
pub use watched::Watched;

/// An operation on a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the data from the medium.
    Read,
    /// Write the data to the medium; with `is_durable` (force unit access) it is answered when it
    /// would be there after a loss of power.
    Write {
        /// Not before it would outlast a loss of power.
        is_durable: bool,
    },
    /// Make durable whatever was answered before; without data.
    Flush,
    /// The content of the range is of no use any more: afterwards each of its sectors reads as
    /// before or as zeroes.
    Discard,
    /// Afterwards the range reads as zeroes.
    WriteZeroes,
}

impl Op {
    /// A write that a flush makes durable.
    pub const WRITE: Self = Self::Write { is_durable: false };

    /// True if the medium's content may be another afterwards.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard | Self::WriteZeroes)
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// The device's own mark, returned unchanged. Of two that are on their way in one queue none is
    /// the other's.
    pub tag: u64,
    /// The operation.
    pub op: Op,
    /// Where on the medium, in bytes: a multiple of the medium's [`Geometry::sector_bytes`].
    pub offset_bytes: u64,
    /// The memory that is read or written, or for [`Op::Discard`] and [`Op::WriteZeroes`] the
    /// length of the range alone. Its length is a multiple of the sector's too.
    pub data: Data,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The range passes the end of the medium, or is not made of whole sectors.
    OutOfRange,
    /// A change of a medium that is read-only.
    ReadOnly,
    /// An operation that this medium does not have.
    NotSupported,
    /// The memory that it is about is gone.
    Memory,
    /// The medium failed.
    Io,
    /// The medium is gone: pulled out, or dead.
    Gone,
    /// It was cancelled in time: nothing was done, or a part.
    Cancelled,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "the range is not on the medium",
            Self::ReadOnly => "the medium is read-only",
            Self::NotSupported => "the medium cannot do this",
            Self::Memory => "the guest's memory is gone",
            Self::Io => "the medium failed",
            Self::Gone => "the medium is gone",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A request that is over, with its memory.
#[derive(Debug)]
pub struct Completion {
    /// The request that was submitted, with its tag and memory. Its offset may be the one on the
    /// medium that this one is a part of.
    pub request: Request,
    /// How it went.
    pub result: Result<(), Error>,
}

/// The result of [`Queue::submit`].
#[derive(Debug)]
pub enum Submitted {
    /// It is complete.
    Done(Completion),
    /// The client of the queue will be told.
    Pending,
}

/// Size, sectors and abilities of a medium. They may change while the medium is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its length.
    pub size_bytes: u64,
    /// The unit of its requests: a power of two from 512 on, or 1 for memory.
    pub sector_bytes: u32,
    /// The unit that is best for it, a multiple of the sector.
    pub physical_sector_bytes: u32,
    /// Changes fail.
    pub is_read_only: bool,
    /// It has [`Op::Discard`]. [`Op::WriteZeroes`] every medium has that can be written.
    pub has_discard: bool,
}

impl Geometry {
    /// Where a range ends.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn end_of(&self, offset_bytes: u64, length_bytes: u64) -> Result<u64, Error> {
        let end = offset_bytes.checked_add(length_bytes).ok_or(Error::OutOfRange)?;
        let is_whole = (offset_bytes | length_bytes).is_multiple_of(self.sector_bytes.into());
        if is_whole && end <= self.size_bytes { Ok(end) } else { Err(Error::OutOfRange) }
    }

    /// Looks whether a request is one for such a medium.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::NotSupported`].
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        if request.op == Op::Flush {
            return Ok(());
        }
        self.end_of(request.offset_bytes, request.data.length_bytes())?;
        match request.op {
            op if op.is_change() && self.is_read_only => Err(Error::ReadOnly),
            Op::Discard if !self.has_discard => Err(Error::NotSupported),
            _ => Ok(()),
        }
    }
}

/// For whom a queue is, as far as others have to share with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The guest's number: all queues of a guest share its part. 0 is the hypervisor.
    pub id: u32,
    /// The guest's part of the medium's time beside others, from 1 to 65535: `cpu_weight`.
    pub weight: u32,
}

/// A disk, a CD image, a part of one: something that stores bytes.
pub trait Medium: Send + Sync {
    /// Its size, sectors and abilities.
    fn geometry(&self) -> Geometry;
    /// Opens it for a device: pending requests are told to `client`, or to nobody once that is
    /// gone.
    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn Queue>;
}

/// A device's way to a medium.
pub trait Queue: Send + Sync {
    /// Starts a request.
    fn submit(&self, request: Request) -> Submitted;
    /// The device is not interested any more in the request with this tag. It is completed all the
    /// same, with [`Error::Cancelled`] or as if nothing had been.
    fn cancel(&self, tag: u64);
}

/// A medium, and a device's way to it.
#[derive(Clone)]
pub struct Opened {
    /// The medium.
    pub medium: Arc<dyn Medium>,
    /// The device's queue.
    pub queue: Arc<dyn Queue>,
}

impl Opened {
    /// Opens a medium for a device.
    pub fn new(medium: Arc<dyn Medium>, client: Weak<dyn Client>, user: User) -> Self {
        Self { queue: medium.clone().open(client, user), medium }
    }
}

/// A device, as it is told of its requests.
pub trait Client: Send + Sync {
    /// A pending request is complete.
    fn complete(&self, completion: Completion);
}

/// The client of a device that uses media only that complete at once, as tests do.
#[derive(Debug)]
pub enum NoClient {}

impl NoClient {
    /// A reference to nobody.
    pub const fn weak() -> Weak<dyn Client> {
        Weak::<Self>::new()
    }
}

impl Client for NoClient {
    fn complete(&self, _completion: Completion) {
        match *self {}
    }
}
