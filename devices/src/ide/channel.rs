//! One channel: its two devices' registers, and the phases of the command that runs.
//!
//! A command moves its data as a stream, in chunks of up to [`CHUNK_BYTES`] between the medium and
//! a buffer, and in DRQ blocks (PIO) or memory regions (DMA) between the buffer and the guest. A
//! request to the medium is put into `outbox`; [`Channel::pump`] submits it, and
//! [`Channel::completed`] goes on, at once or later.

use super::DoorLocked;
use super::atapi::Sense;
use super::busmaster::BusMaster;
use super::spec::{
    CD_RAW_SECTOR_BYTES, CD_SECTOR_BYTES, DIAGNOSTICS_PASSED, DeviceControl, DeviceHead, Error,
    PACKET_BYTES, Status, command, register,
};
use super::taskfile::TaskFile;
use super::unit::{Unit, UnitKind};
use crate::irq::IrqLine;
use crate::memory::GuestMemory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Completion, Data, Medium, Op, Opened, Queue, Request, Submitted};

/// Reads of a channel without devices: the data lines float high, but DD7, which hosts pull down
/// so that nobody waits for BSY (ATA/ATAPI-6, 9.2). Systems take it for "no drive" at once.
const FLOATING_BUS: u8 = 0x7f;

/// How much is asked from the medium at once: a multiple of every sector size and of every DRQ
/// block of a disk.
pub(super) const CHUNK_BYTES: u32 = 0x1_0000;
/// Sectors of a chunk that is turned into raw CD sectors.
const RAW_CHUNK_BYTES: u32 = 16 * CD_SECTOR_BYTES;

/// How a command's data reaches the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transport {
    /// Through the data register, in DRQ blocks of at most so many bytes.
    Pio { block_bytes: u32 },
    /// Through the bus master.
    #[default]
    Dma,
}

/// A range of the medium that is yet to be read or written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub offset_bytes: u64,
    pub left_bytes: u64,
}

/// The running command's phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Job {
    #[default]
    Idle,
    /// Hands the buffer to the guest.
    Reply,
    /// Reads the medium; `raw` adds what surrounds the user data of a CD sector.
    Read { extent: Extent, raw: bool },
    /// Writes the medium: each chunk so that it would outlast a loss of power, or not.
    Write { extent: Extent, is_durable: bool },
    /// Waits for a command packet.
    Packet,
    /// Makes the medium durable.
    Flush,
}

/// The state of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub units: [Unit; 2],
    pub selected: usize,
    control: DeviceControl,
    pub job: Job,
    pub transport: Transport,
    /// The running command is a packet command.
    pub is_packet: bool,
    pub buffer: Vec<u8>,
    /// The next byte of the buffer to move, and where the DRQ block ends.
    position: usize,
    block_end: usize,
    pub bus_master: BusMaster,
    /// The device waits for the bus master.
    pub wants_dma: bool,
    /// Marks the request that the running command waits for.
    tag: u64,
}

/// A channel and its wires.
pub(super) struct Channel {
    pub state: State,
    outbox: Option<Request>,
    /// The request that the medium works on, by its tag, even if its command was abandoned: no
    /// other is submitted before that is over, lest an old write overwrite a new one.
    on_its_way: Option<(Arc<dyn Queue>, u64)>,
    interrupt: IrqLine,
    pub(super) memory: Arc<dyn GuestMemory>,
    media: [Option<Opened>; 2],
}

impl Channel {
    pub fn new(
        units: [Unit; 2],
        media: [Option<Opened>; 2],
        interrupt: IrqLine,
        memory: Arc<dyn GuestMemory>,
    ) -> Self {
        let mut channel = Self {
            state: State { units, ..State::default() },
            outbox: None,
            on_its_way: None,
            interrupt,
            memory,
            media,
        };
        channel.reset();
        channel
    }

    /// As after power-on.
    fn reset(&mut self) {
        self.cancel();
        self.interrupt.set(false);
        let state = &mut self.state;
        (state.selected, state.control, state.bus_master) =
            (0, DeviceControl::new(), BusMaster::default());
        for unit in &mut state.units {
            unit.power_on();
        }
    }

    /// Takes the hard disks away but for those of which `keeps` is true. A command of one that is
    /// gone never ends.
    pub fn remove_disks(&mut self, keeps: impl Fn(&Unit) -> bool) {
        for place in 0..self.state.units.len() {
            let unit = &self.state.units[place];
            if !matches!(unit.kind, UnitKind::Disk(_)) || keeps(unit) {
                continue;
            }
            if self.state.selected == place {
                self.cancel();
            }
            self.state.units[place].kind = UnitKind::Absent;
            self.media[place] = None;
        }
    }

    /// The disc in the CD-ROM drive at `place`, if the tray is closed.
    pub fn disc(&self, place: usize) -> Option<Arc<dyn Medium>> {
        match &self.state.units[place].kind {
            UnitKind::Cdrom(cd) if !cd.tray_open => {
                self.media[place].as_ref().map(|disc| disc.medium.clone())
            }
            _ => None,
        }
    }

    /// Puts another disc of so many sectors into the CD-ROM drive at `place`, if there is one, or
    /// takes the one out that is in it. A read that is on its way fails.
    pub fn change_disc(
        &mut self,
        place: usize,
        sectors: u32,
        disc: Option<Opened>,
    ) -> Result<(), DoorLocked> {
        let UnitKind::Cdrom(cd) = &mut self.state.units[place].kind else { return Ok(()) };
        cd.change_disc(sectors)?;
        self.media[place] = disc;
        if self.state.selected == place && matches!(self.state.job, Job::Read { .. }) {
            self.cancel();
            self.fail_packet(Sense::NO_MEDIUM);
        }
        Ok(())
    }

    pub fn task(&mut self) -> &mut TaskFile {
        &mut self.unit().task
    }

    pub fn unit(&mut self) -> &mut Unit {
        let selected = self.state.selected & 1;
        &mut self.state.units[selected]
    }

    fn status(&self) -> Status {
        if self.is_empty() {
            return Status::from(FLOATING_BUS);
        }
        let unit = &self.state.units[self.state.selected & 1];
        // The present device answers for an absent one, with zeroes.
        if unit.is_absent() { Status::new() } else { unit.task.status }
    }

    /// Nothing is attached to the channel.
    fn is_empty(&self) -> bool {
        self.state.units.iter().all(Unit::is_absent)
    }

    /// Status without side effects: the control block's only readable register.
    pub fn alternate_status(&self) -> u8 {
        self.status().into()
    }

    pub fn read_register(&mut self, offset: u64) -> u8 {
        if offset == register::STATUS_COMMAND {
            self.interrupt.set(false);
            return self.status().into();
        }
        if self.is_empty() {
            return FLOATING_BUS;
        }
        let previous = self.state.control.high_order();
        let is_absent = self.unit().is_absent();
        let task = &self.state.units[self.state.selected & 1].task;
        match offset {
            register::ERROR_FEATURE if is_absent => 0,
            register::ERROR_FEATURE if previous => task.feature.previous,
            register::ERROR_FEATURE => task.error,
            register::COUNT => task.count.read(previous),
            register::LBA_LOW => task.lba_low.read(previous),
            register::LBA_MID => task.lba_mid.read(previous),
            register::LBA_HIGH => task.lba_high.read(previous),
            register::DEVICE => task.device.into(),
            _ => 0xff,
        }
    }

    pub fn write_register(&mut self, offset: u64, value: u8) {
        self.state.control.set_high_order(false);
        if offset == register::STATUS_COMMAND {
            self.interrupt.set(false);
            self.command(value);
            return;
        }
        let status = self.status();
        if status.busy() || status.data_request() {
            return;
        }
        for unit in &mut self.state.units {
            let task = &mut unit.task;
            match offset {
                register::ERROR_FEATURE => task.feature.write(value),
                register::COUNT => task.count.write(value),
                register::LBA_LOW => task.lba_low.write(value),
                register::LBA_MID => task.lba_mid.write(value),
                register::LBA_HIGH => task.lba_high.write(value),
                // The two obsolete bits read as ones.
                register::DEVICE => task.device = (value | u8::from(DeviceHead::new())).into(),
                _ => {}
            }
        }
        if offset == register::DEVICE {
            self.state.selected = usize::from(DeviceHead::from(value).device());
        }
    }

    pub fn write_control(&mut self, value: u8) {
        let (old, new) = (self.state.control, DeviceControl::from(value));
        self.state.control = new;
        if new.reset() && !old.reset() {
            self.cancel();
            self.interrupt.set(false);
            for unit in &mut self.state.units {
                unit.task.status = Status::BUSY;
            }
        } else if !new.reset() && old.reset() {
            self.state.selected = 0;
            for unit in &mut self.state.units {
                unit.soft_reset();
            }
        }
    }

    fn command(&mut self, code: u8) {
        let status = self.status();
        let is_busy = status.busy() || status.data_request();
        let is_packet_device = matches!(self.unit().kind, UnitKind::Cdrom(_));
        if self.unit().is_absent()
            || is_busy && !(code == command::DEVICE_RESET && is_packet_device)
        {
            return;
        }
        self.task().error = 0;
        self.task().status = Status::BUSY;
        self.state.is_packet = false;
        match code {
            command::EXECUTE_DIAGNOSTIC => self.execute_diagnostic(),
            command::DEVICE_RESET if is_packet_device => {
                self.cancel();
                self.unit().soft_reset();
            }
            _ if is_packet_device => self.execute_atapi(code),
            _ => self.execute_ata(code),
        }
    }

    /// Both devices test themselves; device 0 reports for both.
    fn execute_diagnostic(&mut self) {
        for unit in &mut self.state.units {
            unit.soft_reset();
            unit.task.error = DIAGNOSTICS_PASSED;
        }
        self.state.selected = 0;
        self.raise();
    }

    /// Forgets the running command. A completion that the medium still sends for it is ignored.
    pub(super) fn cancel(&mut self) {
        if let Some((queue, tag)) = &self.on_its_way {
            queue.cancel(*tag);
        }
        self.state.job = Job::Idle;
        self.state.wants_dma = false;
        self.state.tag = self.state.tag.wrapping_add(1);
        (self.state.position, self.state.block_end) = (0, 0);
        self.outbox = None;
    }

    fn raise(&mut self) {
        if !self.state.control.interrupt_disable() {
            self.state.bus_master.status.set_interrupt(true);
            self.interrupt.set(true);
        }
    }

    /// Ends a command without data, successfully.
    pub fn succeed(&mut self) {
        self.state.job = Job::Idle;
        self.task().status = Status::READY;
        if self.state.is_packet {
            self.task().set_reason(true, true);
        }
        self.raise();
    }

    /// Ends a command with an error.
    pub fn fail(&mut self, error: Error) {
        self.state.job = Job::Idle;
        self.task().fail(error);
        self.raise();
    }

    /// Ends a command that the device does not support.
    pub fn abort(&mut self) {
        self.fail(Error::new().with_aborted(true));
    }

    /// Starts to hand the buffer to the guest.
    pub fn reply(&mut self, transport: Transport) {
        self.state.job = Job::Reply;
        self.state.transport = transport;
        self.offer();
    }

    /// Starts to read `extent`, which lies on the medium and is not empty.
    pub fn read_medium(&mut self, extent: Extent, raw: bool, transport: Transport) {
        self.state.job = Job::Read { extent, raw };
        self.state.transport = transport;
        match transport {
            Transport::Pio { .. } => self.fetch(extent, raw),
            Transport::Dma => self.want_dma(),
        }
    }

    /// Starts to write `extent`, which lies on the medium and is not empty.
    pub fn write_medium(&mut self, extent: Extent, is_durable: bool, transport: Transport) {
        self.state.job = Job::Write { extent, is_durable };
        self.state.transport = transport;
        match transport {
            Transport::Pio { block_bytes } => self.accept_block(extent, block_bytes),
            Transport::Dma => self.want_dma(),
        }
    }

    /// Waits for a command packet.
    pub fn accept_packet(&mut self) {
        self.state.job = Job::Packet;
        self.state.is_packet = true;
        self.task().set_reason(true, false);
        self.open_block(PACKET_BYTES);
    }

    pub fn flush_medium(&mut self) {
        self.state.job = Job::Flush;
        self.request(Op::Flush, 0);
    }

    pub(super) fn request(&mut self, op: Op, offset_bytes: u64) {
        self.task().status = Status::BUSY;
        self.state.tag = self.state.tag.wrapping_add(1);
        let buffer = core::mem::take(&mut self.state.buffer);
        let data = if op == Op::Flush { Data::NONE } else { Data::Heap(buffer) };
        self.outbox = Some(Request { tag: self.state.tag, op, offset_bytes, data });
    }

    pub(super) fn fetch(&mut self, extent: Extent, raw: bool) {
        let largest = if raw { RAW_CHUNK_BYTES } else { CHUNK_BYTES };
        let bytes = extent.left_bytes.min(largest.into()) as usize;
        self.state.buffer.resize(bytes, 0);
        self.request(Op::Read, extent.offset_bytes);
    }

    /// Submits what the medium is asked for, until it takes its time or nothing more is asked.
    pub fn pump(&mut self) {
        while self.on_its_way.is_none()
            && let Some(request) = self.outbox.take()
        {
            let Some(Opened { queue, .. }) = &self.media[self.state.selected & 1] else { return };
            let tag = request.tag;
            match queue.submit(request) {
                Submitted::Done(completion) => self.completed(completion),
                Submitted::Pending => self.on_its_way = Some((queue.clone(), tag)),
            }
        }
    }

    /// Goes on after the medium. The caller pumps.
    pub fn completed(&mut self, Completion { request, result }: Completion) {
        self.on_its_way.take_if(|(_, tag)| *tag == request.tag);
        if request.tag != self.state.tag {
            return;
        }
        let moved_bytes = request.data.length_bytes() as usize;
        self.state.buffer = request.data.into_heap();
        if let Err(error) = result {
            self.fail_medium(request.op, error);
            return;
        }
        match &mut self.state.job {
            Job::Read { extent, raw } => {
                extent.advance(moved_bytes);
                if *raw {
                    let first_sector = extent.offset_bytes.saturating_sub(moved_bytes as u64)
                        / u64::from(CD_SECTOR_BYTES);
                    self.state.buffer = super::atapi::raw_sectors(&self.state.buffer, first_sector);
                }
                self.offer();
            }
            Job::Write { extent, .. } => {
                extent.advance(moved_bytes);
                let extent = *extent;
                self.continue_write(extent);
            }
            Job::Flush => self.succeed(),
            Job::Idle | Job::Reply | Job::Packet => {}
        }
    }

    fn continue_write(&mut self, extent: Extent) {
        match self.state.transport {
            Transport::Dma => self.run_dma(),
            Transport::Pio { .. } if extent.left_bytes == 0 => self.succeed(),
            Transport::Pio { block_bytes } => {
                self.accept_block(extent, block_bytes);
                self.raise();
            }
        }
    }

    fn fail_medium(&mut self, op: Op, error: block::Error) {
        if self.state.transport == Transport::Dma && self.state.wants_dma {
            self.state.wants_dma = false;
            self.state.bus_master.stop(false);
            self.state.bus_master.status.set_interrupt(true);
        }
        if self.state.is_packet {
            self.fail_packet_medium(error);
            return;
        }
        self.fail(match error {
            block::Error::OutOfRange => Error::new().with_id_not_found(true),
            // Reads alone can be uncorrectable (ATA/ATAPI-6, the commands' error outputs).
            block::Error::Io if op == Op::Read => Error::new().with_uncorrectable(true),
            _ => Error::new().with_aborted(true),
        });
    }

    /// Hands the buffer, from its start, to the guest.
    fn offer(&mut self) {
        match self.state.transport {
            Transport::Pio { block_bytes } => {
                self.state.position = 0;
                self.offer_block(block_bytes);
            }
            Transport::Dma if self.state.wants_dma => self.offer_dma(),
            Transport::Dma => self.want_dma(),
        }
    }

    fn offer_block(&mut self, block_bytes: u32) {
        let rest = self.state.buffer.len().saturating_sub(self.state.position);
        let mut bytes = rest.min(block_bytes as usize);
        if self.state.is_packet {
            if bytes < rest {
                bytes = self.whole_sectors(bytes);
            }
            self.task().set_byte_count(bytes as u16);
            self.task().set_reason(false, true);
        }
        self.state.block_end = self.state.position + bytes;
        self.task().status = Status::DATA;
        self.raise();
    }

    /// A DRQ block that is not the last has an even length, and whole sectors where they fit.
    fn whole_sectors(&self, bytes: usize) -> usize {
        let sector_bytes = match self.state.job {
            Job::Read { raw: true, .. } => CD_RAW_SECTOR_BYTES as usize,
            Job::Read { .. } => CD_SECTOR_BYTES as usize,
            _ => 2,
        };
        if bytes >= sector_bytes {
            bytes / sector_bytes * sector_bytes
        } else {
            (bytes & !1).max(1)
        }
    }

    fn accept_block(&mut self, extent: Extent, block_bytes: u32) {
        self.open_block(extent.left_bytes.min(block_bytes.into()) as usize);
    }

    fn open_block(&mut self, bytes: usize) {
        self.state.buffer.resize(bytes, 0);
        (self.state.position, self.state.block_end) = (0, bytes);
        self.task().status = Status::DATA;
    }

    /// Reads the data register: as many bytes as are there, through as many DRQ blocks as open at
    /// once. The rest of `data` is zeroes.
    pub fn data_in(&mut self, data: &mut [u8]) {
        let mut rest = data;
        while !rest.is_empty()
            && self.is_open()
            && matches!(self.state.job, Job::Reply | Job::Read { .. })
        {
            let state = &mut self.state;
            let bytes = rest.len().min(state.block_end.saturating_sub(state.position));
            let (now, later) = rest.split_at_mut(bytes);
            if let Some(source) = state.buffer.get(state.position..state.position + bytes) {
                now.copy_from_slice(source);
            }
            rest = later;
            state.position += bytes;
            if state.position >= state.block_end {
                self.block_taken();
                self.pump();
            }
        }
        rest.fill(0);
    }

    /// Writes the data register; what no DRQ block waits for is dropped.
    pub fn data_out(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty()
            && self.is_open()
            && matches!(self.state.job, Job::Packet | Job::Write { .. })
        {
            let state = &mut self.state;
            let bytes = rest.len().min(state.block_end.saturating_sub(state.position));
            let (now, later) = rest.split_at(bytes);
            if let Some(target) = state.buffer.get_mut(state.position..state.position + bytes) {
                target.copy_from_slice(now);
            }
            rest = later;
            state.position += bytes;
            if state.position >= state.block_end {
                self.block_filled();
                self.pump();
            }
        }
    }

    fn is_open(&self) -> bool {
        self.status().data_request() && !self.state.wants_dma
    }

    fn block_taken(&mut self) {
        if self.state.position < self.state.buffer.len()
            && let Transport::Pio { block_bytes } = self.state.transport
        {
            self.offer_block(block_bytes);
            return;
        }
        match self.state.job {
            Job::Read { extent, raw } if extent.left_bytes > 0 => self.fetch(extent, raw),
            _ if self.state.is_packet => self.succeed(),
            // The last block of a disk's data is not followed by an interrupt.
            _ => {
                self.state.job = Job::Idle;
                self.task().status = Status::READY;
            }
        }
    }

    fn block_filled(&mut self) {
        match self.state.job {
            Job::Packet => {
                let mut packet = [0; PACKET_BYTES];
                for (byte, sent) in packet.iter_mut().zip(&self.state.buffer) {
                    *byte = *sent;
                }
                self.task().status = Status::BUSY;
                self.execute_packet(&packet);
            }
            Job::Write { extent, is_durable } => {
                self.request(Op::Write { is_durable }, extent.offset_bytes)
            }
            _ => {}
        }
    }
}

impl Extent {
    fn advance(&mut self, bytes: usize) {
        self.offset_bytes = self.offset_bytes.saturating_add(bytes as u64);
        self.left_bytes = self.left_bytes.saturating_sub(bytes as u64);
    }
}
