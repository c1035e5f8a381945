//! The seam to what drives a controller.

use arrayvec::ArrayVec;
use block::{Error, Op};

use super::pages::MAX_PAGES;
use crate::dma::PAGE_BYTES;
use crate::hardware::Fault;

/// The number of a disk among those behind one controller, from 0.
pub type Unit = usize;

/// Limits of the commands that a controller takes. The same after each reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commands that may be under way at once, at least 1: their slots are numbered from 0.
    pub depth: usize,
    /// The most pages that a read or a write has, at least 1.
    pub max_pages: usize,
    /// The most bytes of an [`Op::Discard`], if it has that.
    pub max_discard_bytes: Option<u64>,
    /// The most bytes of an [`Op::WriteZeroes`], if it has that; zeroes are written otherwise.
    pub max_zeroes_bytes: Option<u64>,
    /// It has a cache that power takes away, and needs flushes.
    pub has_cache: bool,
    /// It does not interrupt.
    pub is_polled: bool,
}

/// A command: a part of a request that the controller takes in one.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The disk.
    pub unit: Unit,
    /// The operation; of a write `is_durable` means nothing: a flush follows by itself.
    pub op: Op,
    /// Where on the disk; whole sectors, as is the length.
    pub offset_bytes: u64,
    /// How much, 0 for a flush.
    pub length_bytes: u64,
    /// The addresses of the pages that a read fills and a write takes its data from; all but the
    /// last one are used whole.
    pub pages: &'a [u64],
}

impl Command<'_> {
    /// Addresses and lengths of its data.
    pub fn data(&self) -> ArrayVec<(u64, u32), MAX_PAGES> {
        let mut rest = self.length_bytes;
        let piece = |&page: &u64| {
            let length_bytes = rest.min(PAGE_BYTES as u64);
            rest -= length_bytes;
            (page, length_bytes as u32)
        };
        self.pages.iter().map(piece).collect()
    }
}

/// A command that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The slot as the device names it, which may be none that has a command.
    pub slot: usize,
    /// Bytes that the device has written, if it tells: for a read they must be all.
    pub written_bytes: Option<u64>,
    /// How it went.
    pub result: Result<(), Error>,
}

/// The driver of a controller, which knows nothing of requests, users and time.
pub trait Controller: Send {
    /// Its limits.
    fn limits(&self) -> Limits;
    /// Puts a command into a slot that has none, within the limits.
    fn start(&mut self, slot: usize, command: &Command<'_>);
    /// Tells the device of the commands that were started.
    fn notify(&mut self);
    /// Takes the next command that is over; none of them twice.
    ///
    /// # Errors
    /// The device does what none of its kind does: it is not to be used any more.
    fn take(&mut self) -> Result<Option<Taken>, Fault>;
    /// Looks whether the device is there and well.
    ///
    /// # Errors
    /// It is not.
    fn check(&mut self) -> Result<(), Fault>;
    /// Begins a reset, after which the device knows of no commands.
    fn begin_reset(&mut self);
    /// Goes on with the reset; true when the device works again.
    ///
    /// # Errors
    /// It never will.
    fn finish_reset(&mut self) -> Result<bool, Fault>;
    /// Tells a device without commands that power may go; true when it is ready for that. To be
    /// called again until then.
    fn shut_down(&mut self) -> bool {
        true
    }
    /// The device is given up: it is kept from memory as far as that can be done.
    fn abandon(&mut self);
}
