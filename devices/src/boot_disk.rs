//! Reads of CD sectors for the guest's firmware: one access for what a BIOS does by a dozen for
//! each sector.
//!
//! The boot ROM, 16-bit code that takes over the BIOS's INT 13h, writes a [`Request`] to the port:
//! a drive, and where a disk address packet of INT 13h function 42h (extended read) lies. Reads of
//! the port then say how far it is; when it is done the sectors are in memory. A request that is
//! not handled, the ROM leaves to the BIOS.

use crate::bus::{Access, PioDevice, Region};
use crate::ide::Ide;
use crate::ide::spec::CD_SECTOR_BYTES;
use crate::lock::DeviceLock;
use crate::memory::GuestMemory;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use block::{Client, Completion, Data, Op, Queue, Submitted, User};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The port: 32 bits are written, 8 bits are read.
pub const PORT: u16 = 0x5b0;
/// The BIOS's number of the first CD-ROM drive.
pub const FIRST_DRIVE: u8 = 0xe0;

/// The value that is read from the port while the disc still works on a request.
pub const BUSY: u8 = Outcome::Busy as u8;

/// As in IDE's own transfers.
const CHUNK_BYTES: usize = 64 << 10;

/// The value that the ROM writes to the port. The request before is forgotten.
#[bitfield(u32)]
pub struct Request {
    /// Guest-physical address of the packet.
    #[bits(24)]
    pub packet_gpa: u32,
    /// The BIOS's number of the drive.
    pub drive: u8,
}

/// The disk address packet (BIOS Enhanced Disk Drive Specification 3.0, section 4.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Packet {
    size_bytes: u8,
    reserved: u8,
    sectors: U16,
    buffer_offset: U16,
    buffer_segment: U16,
    first_sector: U64,
}

impl Packet {
    const SIZE_BYTES: usize = size_of::<Self>();
    /// The specification's limit.
    const MAX_SECTORS: u16 = 127;

    /// Where the sectors go, if the packet says it in the old way.
    fn buffer_gpa(&self) -> Option<u64> {
        let (segment, offset) = (self.buffer_segment.get(), self.buffer_offset.get());
        // FFFF:FFFF: a 64-bit address follows.
        let flat = segment == u16::MAX && offset == u16::MAX;
        (!flat).then_some((u64::from(segment) << 4) + u64::from(offset))
    }
}

/// How the last request went, as read from the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Outcome {
    /// The sectors are in memory.
    Done = 0,
    /// Nothing to rely on happened.
    #[default]
    NotHandled = 1,
    /// Not known yet.
    Busy = 2,
}

/// A read, chunk by chunk.
struct Job {
    queue: Arc<dyn Queue>,
    /// Where the next chunk is, and where it goes.
    offset_bytes: u64,
    gpa: u64,
    left_bytes: usize,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    /// The read that the disc works on.
    job: Option<Job>,
    /// Marks its chunk.
    tag: u64,
}

/// The device: CD-ROM drives as the BIOS numbers them.
pub struct BootDisk {
    /// The places of the drives, as the BIOS numbers them.
    drives: Vec<usize>,
    ide: Arc<Ide>,
    memory: Arc<dyn GuestMemory>,
    user: User,
    itself: Weak<Self>,
    state: DeviceLock<State>,
}

impl BootDisk {
    /// A device that reads the discs in drives of `ide` into `memory`, as `user`: those at the
    /// places `drives`, from [`FIRST_DRIVE`] on.
    pub fn new(
        drives: Vec<usize>,
        ide: Arc<Ide>,
        memory: Arc<dyn GuestMemory>,
        user: User,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            drives,
            ide,
            memory,
            user,
            itself: itself.clone(),
            state: DeviceLock::default(),
        })
    }

    /// The read that the packet asks for; `None` if that is left to the BIOS.
    fn extended_read(&self, request: Request) -> Option<Job> {
        let drive = usize::from(request.drive().checked_sub(FIRST_DRIVE)?);
        let disc = self.ide.disc(*self.drives.get(drive)?)?;
        let mut packet = Packet::new_zeroed();
        self.memory.read(request.packet_gpa().into(), packet.as_mut_bytes()).ok()?;
        let sectors = packet.sectors.get();
        if usize::from(packet.size_bytes) < Packet::SIZE_BYTES
            || !(1..=Packet::MAX_SECTORS).contains(&sectors)
        {
            return None;
        }
        let offset_bytes = packet.first_sector.get().checked_mul(CD_SECTOR_BYTES.into())?;
        let length_bytes = u64::from(sectors) * u64::from(CD_SECTOR_BYTES);
        disc.geometry().end_of(offset_bytes, length_bytes).ok()?;
        let gpa = packet.buffer_gpa()?;
        let client: Weak<Self> = self.itself.clone();
        let queue = disc.open(client, self.user);
        // The count in the packet is that of the sectors read: all of them.
        Some(Job { queue, offset_bytes, gpa, left_bytes: length_bytes as usize })
    }

    /// Reads what is left, until the disc takes its time.
    fn go_on(&self, state: &mut State, mut job: Job) {
        let mut buffer = Vec::new();
        state.outcome = loop {
            if job.left_bytes == 0 {
                break Outcome::Done;
            }
            buffer.resize(job.left_bytes.min(CHUNK_BYTES), 0);
            state.tag += 1;
            let read = block::Request {
                tag: state.tag,
                op: Op::Read,
                offset_bytes: job.offset_bytes,
                data: Data::Heap(buffer),
            };
            match job.queue.submit(read) {
                Submitted::Done(completion) => match self.take(&mut job, completion) {
                    Some(taken) => buffer = taken,
                    None => break Outcome::NotHandled,
                },
                Submitted::Pending => {
                    state.job = Some(job);
                    break Outcome::Busy;
                }
            }
        };
    }

    /// Copies a chunk that was read to memory, and returns its buffer; `None` if that failed.
    fn take(&self, job: &mut Job, Completion { request, result }: Completion) -> Option<Vec<u8>> {
        result.ok()?;
        let buffer = request.data.into_heap();
        self.memory.write(job.gpa, &buffer).ok()?;
        job.offset_bytes += buffer.len() as u64;
        job.gpa += buffer.len() as u64;
        job.left_bytes = job.left_bytes.checked_sub(buffer.len())?;
        Some(buffer)
    }
}

impl Client for BootDisk {
    fn complete(&self, completion: Completion) {
        let state = &mut *self.state.lock();
        if completion.request.tag != state.tag {
            return;
        }
        let Some(mut job) = state.job.take() else { return };
        match self.take(&mut job, completion) {
            Some(_) => self.go_on(state, job),
            None => state.outcome = Outcome::NotHandled,
        }
    }
}

impl PioDevice for BootDisk {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, PORT.into(), 1)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        Some(self.state.lock().outcome as u32)
    }

    fn pio_write(&self, access: Access, value: u32) {
        let is_request = access.size_bytes == 4;
        let job = is_request.then(|| self.extended_read(Request::from_bits(value))).flatten();
        let state = &mut *self.state.lock();
        if let Some(forgotten) = state.job.take() {
            forgotten.queue.cancel(state.tag);
        }
        match job {
            Some(job) => self.go_on(state, job),
            None => state.outcome = Outcome::NotHandled,
        }
    }
}

#[cfg(test)]
mod tests;
