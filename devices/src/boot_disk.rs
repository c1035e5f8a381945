//! Reads of CD sectors for the guest's firmware: one access for what a BIOS does by a dozen for
//! each sector.
//!
//! The boot ROM, 16-bit code that takes over the BIOS's INT 13h, writes a [`Request`] to the port:
//! a drive, and where a disk address packet of INT 13h function 42h (extended read) lies. The
//! sectors are in memory when the write is done. A read then says how it went; whatever was not
//! handled, the ROM leaves to the BIOS.

use crate::block::{BlockBackend, BlockOp, BlockRequest, Submitted};
use crate::bus::{Access, PioDevice, Region};
use crate::ide::Ide;
use crate::ide::spec::CD_SECTOR_BYTES;
use crate::memory::GuestMemory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The port: 32 bits are written, 8 bits are read.
pub const PORT: u16 = 0x5b0;
/// The BIOS's number of the first CD-ROM drive.
pub const FIRST_DRIVE: u8 = 0xe0;

/// As in IDE's own transfers.
const CHUNK_BYTES: usize = 64 << 10;
/// Marks requests whose answer comes too late: the IDE channel, which is the back end's client,
/// ignores it.
const TAG: u64 = u64::MAX;

/// The value that the ROM writes to the port.
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
}

#[derive(Clone, Debug, Default)]
struct State {
    outcome: Outcome,
}

/// The device: CD-ROM drives as the BIOS numbers them.
pub struct BootDisk {
    /// The places of the drives, as the BIOS numbers them.
    drives: Vec<usize>,
    ide: Arc<Ide>,
    memory: Arc<dyn GuestMemory>,
    state: crate::lock::DeviceLock<State>,
}

impl BootDisk {
    /// A device that reads the discs in drives of `ide` into `memory`: those at the places
    /// `drives`, from [`FIRST_DRIVE`] on.
    pub fn new(drives: Vec<usize>, ide: Arc<Ide>, memory: Arc<dyn GuestMemory>) -> Self {
        Self { drives, ide, memory, state: crate::lock::DeviceLock::default() }
    }

    /// Does what the packet asks for; `None` if it is left to the BIOS.
    fn extended_read(&self, request: Request) -> Option<()> {
        let drive = usize::from(request.drive().checked_sub(FIRST_DRIVE)?);
        let disc = &*self.ide.disc(*self.drives.get(drive)?)?;
        let mut packet = Packet::new_zeroed();
        self.memory.read(request.packet_gpa().into(), packet.as_mut_bytes()).ok()?;
        let sectors = packet.sectors.get();
        if usize::from(packet.size_bytes) < Packet::SIZE_BYTES
            || !(1..=Packet::MAX_SECTORS).contains(&sectors)
        {
            return None;
        }
        let from = packet.first_sector.get().checked_mul(CD_SECTOR_BYTES.into())?;
        let length = u64::from(sectors) * u64::from(CD_SECTOR_BYTES);
        if from.checked_add(length)? > disc.size_bytes() {
            return None;
        }
        // The count in the packet is that of the sectors read: all of them.
        self.transfer(disc, from, packet.buffer_gpa()?, length as usize)
    }

    /// Copies from the disc to memory, piece by piece.
    fn transfer(&self, disc: &dyn BlockBackend, from: u64, gpa: u64, length: usize) -> Option<()> {
        let mut buffer = alloc::vec![0; length.min(CHUNK_BYTES)];
        for start in (0..length).step_by(CHUNK_BYTES) {
            buffer.truncate(length - start);
            let request = BlockRequest {
                tag: TAG,
                op: BlockOp::Read,
                offset_bytes: from + start as u64,
                buffer,
            };
            let Submitted::Done((request, Ok(()))) = disc.submit(request) else { return None };
            self.memory.write(gpa + start as u64, &request.buffer).ok()?;
            buffer = request.buffer;
        }
        Some(())
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
        let done = is_request.then(|| self.extended_read(Request::from_bits(value))).flatten();
        self.state.lock().outcome =
            if done.is_some() { Outcome::Done } else { Outcome::NotHandled };
    }
}

#[cfg(test)]
mod tests;
