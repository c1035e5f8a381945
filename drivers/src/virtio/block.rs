//! The block device (5.2), by one queue.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use block::{Error, Geometry, Op};

use super::ring::{self, DESCRIPTOR_BYTES, Descriptor, Ring, flag};
use super::transport::{Transport, feature, status};
use crate::disk::{Command, Controller, Found, FoundDisk, Limits, MAX_PAGES, Pages, Place, Taken};
use crate::dma::{DmaMemory, PAGE_BYTES};
use crate::hardware::{Bell, Fault, Hardware, Window, wait_for};
use crate::names::{self, printable};
use crate::pci::{Function, Signal};

const VENDOR: u16 = 0x1af4;
/// Of version 1, and transitional (4.1.2.1).
const DEVICES: [u16; 2] = [0x1042, 0x1001];

/// Features (5.2.3).
mod bit {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

const WANTED: u64 = bit::SIZE_MAX
    | bit::SEG_MAX
    | bit::RO
    | bit::BLK_SIZE
    | bit::FLUSH
    | bit::TOPOLOGY
    | bit::DISCARD
    | bit::WRITE_ZEROES
    | feature::INDIRECT;

/// Requests (5.2.6).
mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// The unit of capacity and positions, whatever the block size is.
const SECTOR_BYTES: u64 = 512;
const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// A status that no device writes.
const STATUS_NONE: u8 = 0xff;
const ID_BYTES: usize = 20;

/// The largest queue: each of its requests has a record in memory.
const MAX_QUEUE: u16 = 256;
/// The record of a request: header, status, the range of a discard, a table of descriptors.
const RECORD_BYTES: usize = 1024;
const STATUS_AT: usize = 16;
const RANGE_AT: usize = 32;
const RANGE_BYTES: u32 = 16;
const TABLE_AT: usize = 48;
/// Descriptors beside those of the data.
const OWN_DESCRIPTORS: usize = 2;
const _: () = assert!(
    TABLE_AT + (MAX_PAGES + OWN_DESCRIPTORS) * DESCRIPTOR_BYTES <= RECORD_BYTES,
    "a table does not fit"
);

/// At the start it has so long to answer.
const START_NS: u64 = 2_000_000_000;

/// The device's configuration (5.2.4), as far as its features say that it is there.
#[derive(Clone, Copy, Debug)]
struct Config {
    capacity: u64,
    size_max: u32,
    seg_max: u32,
    block_bytes: u32,
    physical_exponent: u8,
    max_discard: u32,
    max_zeroes: u32,
}

impl Config {
    fn read(window: &Window) -> Self {
        Self {
            capacity: window.read_u64(0),
            size_max: window.read_u32(8),
            seg_max: window.read_u32(12),
            block_bytes: window.read_u32(20),
            physical_exponent: window.read_u8(24),
            max_discard: window.read_u32(36),
            max_zeroes: window.read_u32(48),
        }
    }
}

/// A device.
#[derive(Debug)]
pub struct Block {
    function: Function<'static>,
    transport: Transport,
    signal: Signal,
    ring: Ring,
    queue_size: u16,
    /// Of each slot.
    records: DmaMemory,
    features: u64,
    limits: Limits,
}

/// True if a function is such a device.
pub fn is_block(function: &Function<'_>) -> bool {
    let (vendor, device) = function.id();
    vendor == VENDOR && DEVICES.contains(&device)
}

/// Starts a device.
///
/// # Errors
/// Why it cannot be used; it is kept from memory then.
pub fn start(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    place: Place,
) -> Result<Option<Found>, Fault> {
    let transport = Transport::new(hardware, &function)?;
    let found = start_by(hardware, function, transport, place.disk);
    if found.is_err() {
        function.stop();
    }
    found.map(Some)
}

fn start_by(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    transport: Transport,
    number: usize,
) -> Result<Found, Fault> {
    let bell = Arc::new(Bell::default());
    let mut memory = hardware.allocate_dma().ok_or(Fault("there is no memory for it"))?;
    function.enable();
    transport.reset();
    wait_for(hardware, START_NS, || is_reset(&transport))?;
    let signal = Signal::connect(hardware, &function, &bell);
    let features = transport.negotiate(WANTED)?;
    let queue_size = queue_size(&transport)?;
    let ring = Ring::new(memory.take(ring::length_bytes(queue_size)), queue_size);
    let records = memory.take(usize::from(queue_size) * RECORD_BYTES);
    let mut pages = Pages::new(memory);
    let config = transport.read_config(Config::read);
    let limits = limits(&config, features, queue_size)?;
    let geometry = geometry(&config, features, &limits)?;
    let mut block =
        Block { function, transport, signal, ring, queue_size, records, features, limits };
    block.run()?;
    let serial = block.serial(hardware, &mut pages)?;
    let name = format!("vd{}", names::letters(number));
    let ids = names::by_id("virtio", &[&serial]);
    Ok(Found {
        controller: Box::new(block),
        name: name.clone(),
        disks: vec![FoundDisk { name, ids, model: String::new(), serial, geometry }],
        pages,
        bell,
    })
}

/// # Errors
/// Nothing answers.
fn is_reset(transport: &Transport) -> Result<bool, Fault> {
    match transport.status() {
        status::ABSENT => Err(Fault("it is not there any more")),
        status => Ok(status == 0),
    }
}

/// # Errors
/// There is no queue.
fn queue_size(transport: &Transport) -> Result<u16, Fault> {
    match transport.queue_size() {
        0 => Err(Fault("it has no queue")),
        // A size that is no power of two is none; the largest one below is.
        size => Ok(1 << size.min(MAX_QUEUE).ilog2()),
    }
}

/// # Errors
/// No disk can have it.
fn geometry(config: &Config, features: u64, limits: &Limits) -> Result<Geometry, Fault> {
    let has = |bit: u64| features & bit != 0;
    let sector_bytes = if has(bit::BLK_SIZE) { config.block_bytes } else { SECTOR_BYTES as u32 };
    if !sector_bytes.is_power_of_two() || !(512..=PAGE_BYTES as u32).contains(&sector_bytes) {
        return Err(Fault("its blocks have a size that is not supported"));
    }
    let exponent = if has(bit::TOPOLOGY) { config.physical_exponent.min(8) } else { 0 };
    let size_bytes = config.capacity.checked_mul(SECTOR_BYTES).ok_or(Fault("it has no end"))?;
    Ok(Geometry {
        size_bytes: size_bytes - size_bytes % u64::from(sector_bytes),
        sector_bytes,
        physical_sector_bytes: sector_bytes << exponent,
        is_read_only: has(bit::RO),
        has_discard: limits.max_discard_bytes.is_some() && !has(bit::RO),
    })
}

/// # Errors
/// Its limits leave no room for a page.
fn limits(config: &Config, features: u64, queue_size: u16) -> Result<Limits, Fault> {
    let has = |bit: u64| features & bit != 0;
    if has(bit::SIZE_MAX) && config.size_max < PAGE_BYTES as u32 {
        return Err(Fault("it takes no whole pages"));
    }
    let seg_max = if has(bit::SEG_MAX) { config.seg_max.max(1) as usize } else { 1 };
    let queue_size = usize::from(queue_size);
    let max_pages = seg_max.min(MAX_PAGES);
    let (depth, max_pages) = if has(feature::INDIRECT) {
        (queue_size, max_pages)
    } else {
        // Each request has its own share of the queue's descriptors.
        let max_pages = max_pages.min((queue_size / 16).saturating_sub(OWN_DESCRIPTORS).max(1));
        (queue_size / (max_pages + OWN_DESCRIPTORS), max_pages)
    };
    if depth == 0 {
        return Err(Fault("its queue is too small"));
    }
    // Whole pages, so that no block is cut.
    let max_bytes = |bit: u64, sectors: u32| {
        let bytes = u64::from(sectors) * SECTOR_BYTES;
        let bytes = bytes - bytes % PAGE_BYTES as u64;
        (has(bit) && bytes > 0).then_some(bytes)
    };
    Ok(Limits {
        depth,
        max_pages,
        max_discard_bytes: max_bytes(bit::DISCARD, config.max_discard),
        max_zeroes_bytes: max_bytes(bit::WRITE_ZEROES, config.max_zeroes),
        has_cache: has(bit::FLUSH),
        is_polled: true,
    })
}

impl Block {
    /// Starts the queue of a device that has its features.
    fn run(&mut self) -> Result<(), Fault> {
        let uses_msi_x = self.signal == Signal::MsiX;
        let has_vector =
            self.transport.start(self.queue_size, self.ring.addresses(), uses_msi_x)?;
        self.limits.is_polled = !has_vector && self.signal != Signal::Msi;
        Ok(())
    }

    /// Asks for the serial number (`VIRTIO_BLK_T_GET_ID`); empty if it has none.
    fn serial(&mut self, hardware: &dyn Hardware, pages: &mut Pages) -> Result<String, Fault> {
        let Some(list) = pages.take(1) else { return Ok(String::new()) };
        let data = [(list[0], ID_BYTES as u32)];
        self.put(0, request::GET_ID, 0, &data, flag::WRITE);
        self.notify();
        let mut answer = None;
        wait_for(hardware, START_NS, || {
            answer = self.take()?;
            Ok(answer.is_some())
        })?;
        let mut id = [0; ID_BYTES];
        pages.read(&list, &mut id);
        pages.give_back(list);
        let has_id = answer.is_some_and(|answer| answer.slot == 0 && answer.result.is_ok());
        Ok(if has_id { printable(&id) } else { String::new() })
    }

    /// Descriptors that a request has of the queue's own.
    const fn stride(&self) -> usize {
        if self.features & feature::INDIRECT == 0 {
            self.limits.max_pages + OWN_DESCRIPTORS
        } else {
            1
        }
    }

    /// Puts a request into a slot: header, data that the device reads or writes, status.
    fn put(&mut self, slot: usize, kind: u32, sector: u64, data: &[(u64, u32)], data_flags: u16) {
        let record = slot * RECORD_BYTES;
        self.records.write_u64(record, kind.into());
        self.records.write_u64(record + 8, sector);
        self.records.write_u64(record + STATUS_AT, STATUS_NONE.into());
        let at = |offset| self.records.bus_address(record + offset);
        let own = |address, length_bytes, flags| (address, length_bytes, flags);
        let all = core::iter::once(own(at(0), 16, 0))
            .chain(data.iter().map(|&(address, length)| own(address, length, data_flags)))
            .chain([own(at(STATUS_AT), 1, flag::WRITE)]);
        let count = data.len() + OWN_DESCRIPTORS;
        let head = slot * self.stride();
        let is_indirect = self.features & feature::INDIRECT != 0;
        // An indirect table counts from 0, the queue's descriptors from the request's first.
        let first = if is_indirect { 0 } else { head };
        for (index, (address, length_bytes, flags)) in all.enumerate() {
            let more = if index + 1 < count { flag::NEXT } else { 0 };
            let next = if more == 0 { 0 } else { (first + index + 1) as u16 };
            let descriptor = Descriptor { address, length_bytes, flags: flags | more, next };
            if is_indirect {
                let offset = record + TABLE_AT + index * DESCRIPTOR_BYTES;
                descriptor.write(&self.records, offset);
            } else {
                self.ring.write((head + index) as u16, &descriptor);
            }
        }
        if is_indirect {
            let length_bytes = (count * DESCRIPTOR_BYTES) as u32;
            let (address, flags) = (at(TABLE_AT), flag::INDIRECT);
            self.ring.write(head as u16, &Descriptor { address, length_bytes, flags, next: 0 });
        }
        self.ring.offer(head as u16);
    }

    /// The range of a discard or of zeroes, as data.
    fn range(&self, slot: usize, command: &Command<'_>) -> (u64, u32) {
        let at = slot * RECORD_BYTES + RANGE_AT;
        self.records.write_u64(at, command.offset_bytes / SECTOR_BYTES);
        self.records.write_u64(at + 8, command.length_bytes / SECTOR_BYTES);
        (self.records.bus_address(at), RANGE_BYTES)
    }
}

impl Controller for Block {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&mut self, slot: usize, command: &Command<'_>) {
        let sector = command.offset_bytes / SECTOR_BYTES;
        let data = command.data();
        match command.op {
            Op::Read => self.put(slot, request::IN, sector, &data, flag::WRITE),
            Op::Write { .. } => self.put(slot, request::OUT, sector, &data, 0),
            Op::Flush => self.put(slot, request::FLUSH, 0, &[], 0),
            Op::Discard => {
                let range = self.range(slot, command);
                self.put(slot, request::DISCARD, 0, &[range], 0);
            }
            Op::WriteZeroes => {
                let range = self.range(slot, command);
                self.put(slot, request::WRITE_ZEROES, 0, &[range], 0);
            }
        }
    }

    fn notify(&mut self) {
        if self.ring.wants_notification() {
            self.transport.notify();
        }
    }

    fn take(&mut self) -> Result<Option<Taken>, Fault> {
        let Some(used) = self.ring.take() else { return Ok(None) };
        let head = used.head as usize;
        let slot = head / self.stride();
        if !head.is_multiple_of(self.stride()) || slot >= self.limits.depth {
            return Err(Fault("it has used what it was not given"));
        }
        let status = self.records.read_u32(slot * RECORD_BYTES + STATUS_AT) as u8;
        let result = match status {
            STATUS_OK => Ok(()),
            STATUS_UNSUPPORTED => Err(Error::NotSupported),
            _ => Err(Error::Io),
        };
        Ok(Some(Taken {
            slot,
            written_bytes: Some(used.length_bytes.saturating_sub(1).into()),
            result,
        }))
    }

    fn check(&mut self) -> Result<(), Fault> {
        match self.transport.status() {
            status::ABSENT => Err(Fault("it is not there any more")),
            status if status & status::NEEDS_RESET != 0 => Err(Fault("it has failed")),
            _ => Ok(()),
        }
    }

    fn begin_reset(&mut self) {
        self.transport.reset();
    }

    fn finish_reset(&mut self) -> Result<bool, Fault> {
        if !is_reset(&self.transport)? {
            return Ok(false);
        }
        let limits = self.limits;
        let is_same = self.transport.negotiate(WANTED)? == self.features
            && self.transport.queue_size() >= self.queue_size;
        self.ring.clear();
        self.run()?;
        if is_same && self.limits == limits {
            Ok(true)
        } else {
            Err(Fault("it is another one since its reset"))
        }
    }

    fn abandon(&mut self) {
        self.transport.reset();
        self.function.stop();
    }
}
