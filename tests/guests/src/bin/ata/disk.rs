//! The disk as the cases use it: what it holds, and its commands.

use conformance::clock::until;
use conformance::cpu::{outb, peek, poke};
use conformance::ide::{ABORTED, BusMaster, DATA_REQUEST, Drive, ERROR, IDENTIFY};

/// The disk and what it holds, as `xtask/src/conformance/disk.rs` makes it.
pub const CYLINDERS: u32 = 17;
pub const HEADS: u32 = 16;
pub const TRACK: u32 = 63;
pub const SECTORS: u32 = CYLINDERS * HEADS * TRACK;
pub const SECTOR: usize = 512;

/// Error: there is no such address. Devices that lack the bit abort.
pub const ID_NOT_FOUND: u8 = 0x10;
pub const NOT_FOUND: u8 = ID_NOT_FOUND | ABORTED;

/// Device control: reads show what was in the registers before the last write.
pub const HIGH_ORDER: u8 = 0x80;

/// It ends in an error always.
pub const NOP: u8 = 0;
pub const READ_VERIFY: u8 = 0x40;
pub const DIAGNOSTIC: u8 = 0x90;
pub const INITIALIZE_PARAMETERS: u8 = 0x91;
pub const SET_MULTIPLE: u8 = 0xc6;
pub const IDLE_IMMEDIATE: u8 = 0xe1;
pub const CHECK_POWER: u8 = 0xe5;
pub const FLUSH: u8 = 0xe7;
pub const FLUSH_EXT: u8 = 0xea;
pub const SET_FEATURES: u8 = 0xef;

pub const SET_TRANSFER_MODE: u8 = 3;
pub const ULTRA_DMA_2: u8 = 0x42;

/// Sectors of a block of READ and WRITE MULTIPLE.
pub const MULTIPLE: u8 = 4;

/// Where the bus master finds its descriptors: the table goes over the end of a page.
pub const TABLE: u32 = 0x20_0ff0;
/// The bus master's memory: what lies here goes over ends of pages too.
pub const BUFFER: u32 = 0x21_0e00;

/// How sectors are addressed.
#[derive(Clone, Copy, PartialEq)]
pub enum Address {
    Chs,
    Lba28,
    Lba48,
}

/// How data is moved.
#[derive(Clone, Copy)]
pub enum Method {
    Sectors,
    Multiple,
    Dma,
}

/// A kind of read or write command.
#[derive(Clone, Copy)]
pub struct Access(pub Address, pub Method);

impl Access {
    pub fn read_command(self) -> u8 {
        match (self.0, self.1) {
            (Address::Lba48, Method::Sectors) => 0x24,
            (Address::Lba48, Method::Multiple) => 0x29,
            (Address::Lba48, Method::Dma) => 0x25,
            (_, Method::Sectors) => 0x20,
            (_, Method::Multiple) => 0xc4,
            (_, Method::Dma) => 0xc8,
        }
    }

    pub fn write_command(self) -> u8 {
        match (self.0, self.1) {
            (Address::Lba48, Method::Sectors) => 0x34,
            (Address::Lba48, Method::Multiple) => 0x39,
            (Address::Lba48, Method::Dma) => 0x35,
            (_, Method::Sectors) => 0x30,
            (_, Method::Multiple) => 0xc5,
            (_, Method::Dma) => 0xca,
        }
    }

    /// The size of a block of data by PIO.
    pub fn block(self) -> usize {
        match self.1 {
            Method::Multiple => usize::from(MULTIPLE) * SECTOR,
            Method::Sectors | Method::Dma => SECTOR,
        }
    }
}

pub const BY_LBA: Access = Access(Address::Lba28, Method::Sectors);
pub const MULTIPLE_BY_LBA: Access = Access(Address::Lba28, Method::Multiple);
pub const DMA: Access = Access(Address::Lba28, Method::Dma);
pub const DMA_EXT: Access = Access(Address::Lba48, Method::Dma);

/// All kinds.
pub const ACCESSES: [Access; 9] = [
    Access(Address::Chs, Method::Sectors),
    BY_LBA,
    Access(Address::Lba48, Method::Sectors),
    Access(Address::Chs, Method::Multiple),
    MULTIPLE_BY_LBA,
    Access(Address::Lba48, Method::Multiple),
    Access(Address::Chs, Method::Dma),
    DMA,
    DMA_EXT,
];

#[derive(Clone, Copy)]
pub struct Disk {
    pub drive: Drive,
    pub bus_master: BusMaster,
}

impl Disk {
    /// Loads the registers that name sectors.
    pub fn set_task_file(self, address: Address, sector: u64, count: u16) {
        let port = self.drive.command;
        let lba = sector.to_le_bytes();
        let [count, previous_count] = count.to_le_bytes();
        if address == Address::Lba48 {
            for (register, byte) in (port + 2..).zip([previous_count, lba[3], lba[4], lba[5]]) {
                outb(register, byte);
            }
        }
        let (registers, head) = match address {
            Address::Chs => {
                let (track, sector) = (sector as u32 / TRACK, sector as u32 % TRACK);
                let [low, high, ..] = (track / HEADS).to_le_bytes();
                ([sector as u8 + 1, low, high], (track % HEADS) as u8)
            }
            Address::Lba28 => ([lba[0], lba[1], lba[2]], 0x40 | lba[3] & 0xf),
            Address::Lba48 => ([lba[0], lba[1], lba[2]], 0x40),
        };
        outb(port + 2, count);
        for (register, byte) in (port + 3..).zip(registers) {
            outb(register, byte);
        }
        outb(port + 6, self.drive.select | head);
    }

    pub fn send(self, command: u8) {
        outb(self.drive.command + 7, command);
    }

    /// A command without data, with parameters in the count and feature registers; the status after
    /// it.
    pub fn command(self, command: u8, feature: u8, count: u8) -> u8 {
        outb(self.drive.command + 1, feature);
        outb(self.drive.command + 2, count);
        self.drive.command(command)
    }

    /// Sets how addresses by cylinder, head and sector are counted; the status after it.
    pub fn set_geometry(self, heads: u32, track: u32) -> u8 {
        outb(self.drive.command + 2, track as u8);
        outb(self.drive.command + 6, self.drive.select | (heads - 1) as u8);
        self.send(INITIALIZE_PARAMETERS);
        self.drive.wait()
    }

    pub fn identify(self) -> Option<[u16; 256]> {
        let status = self.drive.command(IDENTIFY);
        let mut data = [0; SECTOR];
        if status & (ERROR | DATA_REQUEST) != DATA_REQUEST {
            return None;
        }
        self.drive.read_string(&mut data);
        Some(core::array::from_fn(|word| u16::from_le_bytes([data[2 * word], data[2 * word + 1]])))
    }

    /// Reads sectors over what `into` has; the status at the end.
    pub fn read(self, access: Access, sector: u64, into: &mut [u8]) -> u8 {
        self.set_task_file(access.0, sector, (into.len() / SECTOR) as u16);
        if let Method::Dma = access.1 {
            // No data of an earlier transfer is left there.
            store(BUFFER, into);
            let status = self.dma(access.read_command(), true, &[(BUFFER, into.len() as u32)]);
            load(BUFFER, into);
            return status;
        }
        self.send(access.read_command());
        for block in into.chunks_mut(access.block()) {
            let status = self.drive.wait();
            if status & (ERROR | DATA_REQUEST) != DATA_REQUEST {
                return status;
            }
            self.drive.read_string(block);
        }
        self.drive.wait()
    }

    /// Writes sectors; the status at the end.
    pub fn write(self, access: Access, sector: u64, data: &[u8]) -> u8 {
        self.set_task_file(access.0, sector, (data.len() / SECTOR) as u16);
        if let Method::Dma = access.1 {
            store(BUFFER, data);
            return self.dma(access.write_command(), false, &[(BUFFER, data.len() as u32)]);
        }
        self.send(access.write_command());
        for block in data.chunks(access.block()) {
            let status = self.drive.wait();
            if status & (ERROR | DATA_REQUEST) != DATA_REQUEST {
                return status;
            }
            self.drive.write_string(block);
        }
        self.drive.wait()
    }

    /// Runs a command by the bus master until it has raised its interrupt; the status at the end.
    pub fn dma(self, command: u8, to_memory: bool, regions: &[(u32, u32)]) -> u8 {
        self.bus_master.prepare(TABLE, regions);
        self.send(command);
        self.bus_master.start(to_memory);
        until(|| self.bus_master.status() & BusMaster::INTERRUPT != 0);
        let status = self.drive.wait();
        self.bus_master.stop();
        status
    }

    /// Whether sectors have what the disk was made with.
    pub fn is_original(self, first: u32, count: usize) -> bool {
        let mut data = [0; SECTOR];
        (first..).take(count).all(|sector| {
            self.read(BY_LBA, sector.into(), &mut data) & ERROR == 0 && data == original(sector)
        })
    }
}

pub fn original(sector: u32) -> [u8; SECTOR] {
    core::array::from_fn(|index| ((sector << 16) | (index as u32 / 4)).to_le_bytes()[index % 4])
}

/// Other data for each seed.
pub fn pattern(seed: u32, data: &mut [u8]) {
    for (index, byte) in (0_u32..).zip(data) {
        *byte = (index.wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 24)
            as u8;
    }
}

pub fn store(address: u32, data: &[u8]) {
    for (place, byte) in (u64::from(address)..).zip(data) {
        poke(place, *byte);
    }
}

pub fn load(address: u32, into: &mut [u8]) {
    for (place, byte) in (u64::from(address)..).zip(into) {
        *byte = peek(place);
    }
}
