//! Disk back ends: what IDE and later disks store their data in.
//!
//! A back end is asynchronous: a request either completes at once, or is [`Submitted::Pending`] and
//! completes later through [`BlockClient::complete`]. A request owns its buffer on the way there
//! and back.

use alloc::sync::Weak;
use alloc::vec::Vec;

/// An operation on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOp {
    /// Fill the buffer from the medium.
    Read,
    /// Write the buffer to the medium.
    Write,
    /// Make everything written so far durable; the buffer is empty.
    Flush,
}

/// One request, and its answer.
#[derive(Clone, Debug)]
pub struct BlockRequest {
    /// The client's own mark, returned unchanged.
    pub tag: u64,
    /// The operation.
    pub op: BlockOp,
    /// Where on the medium, in bytes.
    pub offset_bytes: u64,
    /// The data; its length is the length of the transfer.
    pub buffer: Vec<u8>,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The range passes the end of the medium.
    OutOfRange,
    /// A write to a medium that is read-only.
    ReadOnly,
    /// The medium failed.
    Io,
}

/// A completed request: the request (with its buffer), and how it went.
pub type BlockCompletion = (BlockRequest, Result<(), BlockError>);

/// The result of a submitted request.
#[derive(Debug)]
pub enum Submitted {
    /// It is complete.
    Done(BlockCompletion),
    /// The client given to [`BlockBackend::connect`] will be told.
    Pending,
}

/// The device that uses a back end.
pub trait BlockClient: Send + Sync {
    /// A pending request is complete. Never called from inside [`BlockBackend::submit`].
    fn complete(&self, completion: BlockCompletion);
}

/// A disk, a CD image: something that stores bytes.
///
/// ```
/// use devices::block::{BlockBackend, BlockOp, BlockRequest, HeapDisk, Submitted};
///
/// let disk = HeapDisk::new(b"eight by".to_vec(), true);
/// let read = BlockRequest { tag: 7, op: BlockOp::Read, offset_bytes: 6, buffer: vec![0; 2] };
/// let Submitted::Done((read, result)) = disk.submit(read) else { panic!("it waits") };
/// assert_eq!((read.tag, read.buffer.as_slice(), result), (7, b"by".as_slice(), Ok(())));
/// ```
pub trait BlockBackend: Send + Sync {
    /// Size of the medium in bytes.
    fn size_bytes(&self) -> u64;
    /// True if writes fail.
    fn is_read_only(&self) -> bool;
    /// Names the device to tell of pending requests.
    fn connect(&self, client: Weak<dyn BlockClient>);
    /// Starts a request.
    fn submit(&self, request: BlockRequest) -> Submitted;
}

/// A disk in the hypervisor's own heap, for tests.
#[derive(Debug)]
pub struct HeapDisk {
    data: spin::Mutex<Vec<u8>>,
    read_only: bool,
}

impl HeapDisk {
    /// A disk that holds `data`.
    pub fn new(data: Vec<u8>, read_only: bool) -> Self {
        Self { data: spin::Mutex::new(data), read_only }
    }

    fn transfer(&self, request: &mut BlockRequest) -> Result<(), BlockError> {
        if request.op == BlockOp::Flush {
            return Ok(());
        }
        let start = usize::try_from(request.offset_bytes).map_err(|_| BlockError::OutOfRange)?;
        let end = start.checked_add(request.buffer.len()).ok_or(BlockError::OutOfRange)?;
        let mut data = self.data.lock();
        let range = data.get_mut(start..end).ok_or(BlockError::OutOfRange)?;
        match request.op {
            BlockOp::Read => request.buffer.copy_from_slice(range),
            BlockOp::Write if self.read_only => return Err(BlockError::ReadOnly),
            BlockOp::Write => range.copy_from_slice(&request.buffer),
            BlockOp::Flush => {}
        }
        Ok(())
    }
}

impl BlockBackend for HeapDisk {
    fn size_bytes(&self) -> u64 {
        self.data.lock().len() as u64
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn connect(&self, _client: Weak<dyn BlockClient>) {}

    fn submit(&self, mut request: BlockRequest) -> Submitted {
        let result = self.transfer(&mut request);
        Submitted::Done((request, result))
    }
}
