//! A port with its disk: its memory, and the registers by which commands go to it.

use core::sync::atomic::{Ordering, fence};

use block::{Error, Op};

use super::identify::LENGTH_BYTES;
use crate::disk::{Command, MAX_PAGES};
use crate::dma::DmaMemory;
use crate::hardware::{Fault, Window};

/// Slots of a command list.
pub const SLOTS: usize = 32;

/// Offsets of a port's registers (3.3).
mod register {
    pub const LIST: u64 = 0x00;
    pub const RECEIVED: u64 = 0x08;
    pub const INTERRUPTS: u64 = 0x10;
    pub const ENABLED_INTERRUPTS: u64 = 0x14;
    pub const COMMAND: u64 = 0x18;
    pub const TASK: u64 = 0x20;
    pub const SIGNATURE: u64 = 0x24;
    pub const LINK: u64 = 0x28;
    pub const ERRORS: u64 = 0x30;
    pub const ISSUED: u64 = 0x38;
}

/// Bits of the command register (3.3.7).
mod command {
    pub const START: u32 = 1 << 0;
    pub const SPIN_UP: u32 = 1 << 1;
    pub const POWER: u32 = 1 << 2;
    pub const RECEIVE: u32 = 1 << 4;
    /// The slot of the command that is carried out.
    pub const SLOT: u32 = 8;
    pub const RECEIVES: u32 = 1 << 14;
    pub const RUNS: u32 = 1 << 15;
}

/// ATA commands.
mod ata {
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const FLUSH_CACHE_EXT: u8 = 0xea;
    pub const IDENTIFY: u8 = 0xec;
}

/// The link is up, and neither end asleep.
const LINK_UP: u32 = 0x103;
const LINK_STATE: u32 = 0xf0f;
/// The signature of a disk.
const DISK: u32 = 0x0000_0101;
/// The disk is busy, or wants data.
const BUSY: u32 = 1 << 7 | 1 << 3;
/// Errors of the disk, of the host's bus, and of the interface (3.3.5): the port stops.
const FAILED: u32 = 0b1111 << 27;
/// Those, and the frames by which the disk tells that a command is over.
const WANTED: u32 = FAILED | 0b1111;

const HEADER_BYTES: usize = 32;
const RECEIVED_AT: usize = SLOTS * HEADER_BYTES;
const RECEIVED_BYTES: usize = 256;
const TABLES_AT: usize = RECEIVED_AT + RECEIVED_BYTES;
/// In a command table: the pieces of the data stand behind the command.
const PIECES_AT: usize = 0x80;
const PIECE_BYTES: usize = 16;
const TABLE_BYTES: usize = (PIECES_AT + PIECE_BYTES * MAX_PAGES).next_multiple_of(128);

/// The memory of a port: command list, received frames, command tables.
pub const MEMORY_BYTES: usize = TABLES_AT + SLOTS * TABLE_BYTES;

/// A port.
#[derive(Debug)]
pub struct Port {
    registers: Window,
    memory: DmaMemory,
    /// Bytes in a sector are 2 to this.
    pub sector_exponent: u32,
    /// Slots whose commands are under way; of these the ones that are over; of these the ones that
    /// have failed.
    issued: u32,
    over: u32,
    failed: u32,
}

/// True if there is a disk at a port, as the firmware has found it.
pub fn has_disk(registers: &Window) -> bool {
    registers.read_u32(register::LINK) & LINK_STATE == LINK_UP
        && registers.read_u32(register::SIGNATURE) == DISK
}

impl Port {
    /// A port with memory of [`MEMORY_BYTES`].
    pub const fn new(registers: Window, memory: DmaMemory) -> Self {
        Self { registers, memory, sector_exponent: 9, issued: 0, over: 0, failed: 0 }
    }

    /// True if the disk is there, and waits for commands.
    pub fn is_ready(&self) -> bool {
        self.registers.read_u32(register::LINK) & LINK_STATE == LINK_UP
            && self.registers.read_u32(register::TASK) & BUSY == 0
    }

    /// Stops the port, which forgets its commands; true when it has, and writes nothing any more.
    pub fn stop(&self) -> bool {
        self.registers.write_u32(register::ENABLED_INTERRUPTS, 0);
        let old = self.registers.read_u32(register::COMMAND);
        // Receiving may be turned off only when no command runs.
        let off = if old & command::RUNS == 0 { command::RECEIVE } else { 0 } | command::START;
        self.registers.write_u32(register::COMMAND, old & !off);
        old & (command::RUNS | command::RECEIVES | off) == 0
    }

    /// Gives its memory to a port that was stopped.
    pub fn set_up(&mut self) {
        (self.issued, self.over, self.failed) = (0, 0, 0);
        self.registers.write_u64(register::LIST, self.memory.bus_address(0));
        self.registers.write_u64(register::RECEIVED, self.memory.bus_address(RECEIVED_AT));
        self.registers.write_u32(register::ERRORS, u32::MAX);
        let on = command::SPIN_UP | command::POWER | command::RECEIVE;
        self.registers.write_u32(register::COMMAND, on);
    }

    /// Takes commands from now on, and interrupts when one is over.
    pub fn run(&self) {
        self.registers.write_u32(register::ERRORS, u32::MAX);
        self.registers.write_u32(register::INTERRUPTS, u32::MAX);
        self.registers.write_u32(register::ENABLED_INTERRUPTS, WANTED);
        let old = self.registers.read_u32(register::COMMAND);
        self.registers.write_u32(register::COMMAND, old | command::START);
    }

    /// Gives a command, in a slot that has none.
    pub fn start(&mut self, slot: usize, given: &Command<'_>) {
        let sector = given.offset_bytes >> self.sector_exponent;
        let count = (given.length_bytes >> self.sector_exponent) as u16;
        let data = given.data();
        match given.op {
            Op::Read => self.put(slot, ata::READ_DMA_EXT, sector, count, false, &data),
            Op::Write { .. } => self.put(slot, ata::WRITE_DMA_EXT, sector, count, true, &data),
            // By its limits it gets neither discards nor zeroes.
            Op::Flush | Op::Discard | Op::WriteZeroes => {
                self.put(slot, ata::FLUSH_CACHE_EXT, 0, 0, false, &[]);
            }
        }
    }

    /// Asks for the disk's description, in slot 0.
    pub fn identify(&mut self, page: u64) {
        self.put(0, ata::IDENTIFY, 0, 0, false, &[(page, LENGTH_BYTES as u32)]);
    }

    fn put(
        &mut self,
        slot: usize,
        opcode: u8,
        sector: u64,
        count: u16,
        is_write: bool,
        data: &[(u64, u32)],
    ) {
        /// A frame with registers for the disk, which begin a command (10.3.4 of SATA).
        const TO_DISK: u8 = 0x27;
        const BEGINS: u8 = 0x80;
        const BY_SECTOR: u8 = 0x40;
        const FRAME_WORDS: u64 = 5;
        const WRITE: u64 = 1 << 6;
        let [a, b, c, d, e, f, ..] = sector.to_le_bytes();
        let [count, more] = count.to_le_bytes();
        let frame = [
            [TO_DISK, BEGINS, opcode, 0, a, b, c, BY_SECTOR],
            [d, e, f, 0, count, more, 0, 0],
            [0; 8],
        ];
        let table = TABLES_AT + slot * TABLE_BYTES;
        for (offset, bytes) in (table..).step_by(8).zip(frame) {
            self.memory.write_u64(offset, u64::from_le_bytes(bytes));
        }
        let pieces = (table + PIECES_AT..).step_by(PIECE_BYTES).zip(data);
        for (offset, &(address, length_bytes)) in pieces {
            self.memory.write_u64(offset, address);
            self.memory.write_u64(offset + 8, u64::from(length_bytes - 1) << 32);
        }
        let flags = FRAME_WORDS | if is_write { WRITE } else { 0 } | (data.len() as u64) << 16;
        self.memory.write_u64(slot * HEADER_BYTES, flags);
        self.memory.write_u64(slot * HEADER_BYTES + 8, self.memory.bus_address(table));
        self.issued |= 1 << slot;
        fence(Ordering::Release);
        self.registers.write_u32(register::ISSUED, 1 << slot);
    }

    /// Looks at what the disk has done.
    ///
    /// # Errors
    /// The port does not come back from an error.
    pub fn look(&mut self) -> Result<(), Fault> {
        let causes = self.registers.read_u32(register::INTERRUPTS);
        self.registers.write_u32(register::INTERRUPTS, causes);
        let under_way = self.registers.read_u32(register::ISSUED) & self.issued;
        self.over |= self.issued & !under_way;
        if causes & FAILED != 0 && under_way & !self.over != 0 {
            self.recover(under_way & !self.over)?;
        }
        fence(Ordering::Acquire);
        Ok(())
    }

    /// One of the commands that are under way has failed: the port has stopped, and the others are
    /// given anew (6.2.2.1).
    fn recover(&mut self, under_way: u32) -> Result<(), Fault> {
        /// Reads of a register: some milliseconds.
        const PATIENCE: usize = 10_000;
        let current = self.registers.read_u32(register::COMMAND) >> command::SLOT & 0x1f;
        let old = self.registers.read_u32(register::COMMAND);
        self.registers.write_u32(register::COMMAND, old & !command::START);
        let runs = || self.registers.read_u32(register::COMMAND) & command::RUNS != 0;
        if (0..PATIENCE).all(|_| runs()) || !self.is_ready() {
            return Err(Fault("it does not come back from an error"));
        }
        // An error of which no command can be the cause fails them all.
        let failed = match under_way & 1 << current {
            0 => under_way,
            failed => failed,
        };
        self.over |= failed;
        self.failed |= failed;
        self.run();
        self.registers.write_u32(register::ISSUED, under_way & !failed);
        Ok(())
    }

    /// Takes a command that is over: its slot, the bytes that it has moved, and how it went.
    pub fn take(&mut self) -> Option<(usize, u64, Result<(), Error>)> {
        let bit = self.over & self.over.wrapping_neg();
        if bit == 0 {
            return None;
        }
        let slot = bit.trailing_zeros() as usize;
        let result = if self.failed & bit == 0 { Ok(()) } else { Err(Error::Io) };
        (self.issued, self.over, self.failed) =
            (self.issued & !bit, self.over & !bit, self.failed & !bit);
        Some((slot, self.memory.read_u32(slot * HEADER_BYTES + 4).into(), result))
    }

    /// True if nothing answers at its registers any more.
    pub fn is_absent(&self) -> bool {
        self.registers.read_u32(register::COMMAND) == u32::MAX
    }

    /// True if its disk is not connected any more.
    pub fn is_unplugged(&self) -> bool {
        self.registers.read_u32(register::LINK) & 0xf == 0
    }
}
