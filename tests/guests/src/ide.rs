//! The PIIX3 IDE function: a device's registers at the legacy ports, and its channel's bus master
//! (ATA/ATAPI-6; SFF-8038i).

use core::arch::asm;

use crate::clock::until;
use crate::cpu::{inb, inw, outb, outl, outw, poke};
use crate::pci::{COMMAND, COMMAND_BUS_MASTER, COMMAND_IO, Function};
use crate::pic;

const CLASS: u16 = 0x0101;

/// Status: the error register says why the command failed.
pub const ERROR: u8 = 1;
/// Status: the data register waits.
pub const DATA_REQUEST: u8 = 8;
/// Status: the device takes commands.
pub const READY: u8 = 0x40;
/// Status: a command runs, and no other register means anything.
pub const BUSY: u8 = 0x80;

/// Error: the device does not know the command, or refuses its parameters.
pub const ABORTED: u8 = 4;

/// Device control: nothing. Bit 3 is one by tradition.
pub const CONTROL: u8 = 8;
/// Device control: no interrupts.
pub const NO_INTERRUPTS: u8 = CONTROL | 2;
/// Device control: software reset.
const RESET: u8 = CONTROL | 4;

/// Command IDENTIFY DEVICE.
pub const IDENTIFY: u8 = 0xec;

/// A device of a channel.
#[derive(Clone, Copy)]
pub struct Drive {
    /// The first port of the command block.
    pub command: u16,
    /// The control block's port.
    pub control: u16,
    /// The channel's interrupt.
    pub irq: u8,
    /// The bits that select it in the device register.
    pub select: u8,
}

impl Drive {
    /// The first that shows `signature` in the cylinder registers after a software reset.
    pub fn find(signature: [u8; 2]) -> Option<Self> {
        let channels = [(0x1f0, 0x3f6, 14), (0x170, 0x376, 15)];
        let drives = |(command, control, irq)| {
            [0xa0, 0xb0].map(|select| Self { command, control, irq, select })
        };
        channels.into_iter().flat_map(drives).find(|drive| {
            drive.reset();
            outb(drive.command + 6, drive.select);
            inb(drive.command + 7) != 0xff
                && until(|| drive.status() & BUSY == 0)
                && drive.signature() == signature
        })
    }

    /// Resets both devices of the channel.
    pub fn reset(self) {
        outb(self.control, RESET);
        for _ in 0..100 {
            inb(self.control);
        }
        outb(self.control, CONTROL);
    }

    /// Selects it, and reads the cylinder registers.
    pub fn signature(self) -> [u8; 2] {
        outb(self.command + 6, self.select);
        [inb(self.command + 4), inb(self.command + 5)]
    }

    /// The alternate status: it acknowledges no interrupt.
    pub fn status(self) -> u8 {
        inb(self.control)
    }

    /// The error register.
    pub fn error(self) -> u8 {
        inb(self.command + 1)
    }

    /// Waits until it is not busy; its status, by which an interrupt is acknowledged.
    pub fn wait(self) -> u8 {
        until(|| self.status() & BUSY == 0);
        inb(self.command + 7)
    }

    /// Selects it and sends a command; the status after it.
    pub fn command(self, command: u8) -> u8 {
        outb(self.command + 6, self.select);
        outb(self.command + 7, command);
        self.wait()
    }

    /// Whether the interrupt controllers have a request of the channel's.
    pub fn has_interrupt(self) -> bool {
        pic::requested() >> self.irq & 1 != 0
    }

    /// Reads the data register, word by word.
    pub fn read_words(self, into: &mut [u8]) {
        for pair in into.chunks_exact_mut(2) {
            pair.copy_from_slice(&inw(self.command).to_le_bytes());
        }
    }

    /// Writes the data register, word by word.
    pub fn write_words(self, data: &[u8]) {
        for pair in data.chunks_exact(2) {
            outw(self.command, u16::from_le_bytes([pair[0], pair[1]]));
        }
    }

    /// Reads the data register with one string instruction.
    pub fn read_string(self, into: &mut [u8]) {
        let (place, words) = (into.as_mut_ptr(), into.len() / 2);
        unsafe {
            asm!("cld", "rep insw", inout("rdi") place => _, inout("rcx") words => _, in("dx") self.command)
        };
    }

    /// Writes the data register with one string instruction.
    pub fn write_string(self, data: &[u8]) {
        let (place, words) = (data.as_ptr(), data.len() / 2);
        unsafe {
            asm!("cld", "rep outsw", inout("rsi") place => _, inout("rcx") words => _, in("dx") self.command)
        };
    }
}

/// The half of the bus master that serves a channel.
#[derive(Clone, Copy)]
pub struct BusMaster {
    /// Its first port.
    pub port: u16,
}

impl BusMaster {
    /// Status: it runs.
    pub const ACTIVE: u8 = 1;
    /// Status: it met an error on the bus. Cleared by a one.
    pub const FAILED: u8 = 2;
    /// Status: the device has raised its interrupt. Cleared by a one.
    pub const INTERRUPT: u8 = 4;

    /// Descriptor, in the length: the last of the table.
    pub const END_OF_TABLE: u32 = 1 << 31;

    const START: u8 = 1;
    const TO_MEMORY: u8 = 8;

    /// The one of a drive's channel.
    pub fn of(drive: Drive) -> Option<Self> {
        let function = Function::find_class(CLASS)?;
        function.write16(COMMAND, function.read16(COMMAND) | COMMAND_IO | COMMAND_BUS_MASTER);
        let base = function.read(0x20) as u16 & 0xfff0;
        Some(Self { port: if drive.irq == 14 { base } else { base + 8 } })
    }

    /// Stops it, clears its status, and gives it a table of descriptors at `table`: addresses and
    /// lengths of regions, the last of which is marked.
    pub fn prepare(self, table: u32, regions: &[(u32, u32)]) {
        for (index, (address, length)) in (0..).zip(regions) {
            let is_last = index + 1 == regions.len() as u64;
            let place = u64::from(table) + 8 * index;
            poke(place, *address);
            poke(place + 4, length & 0xffff | if is_last { Self::END_OF_TABLE } else { 0 });
        }
        self.stop();
        self.clear();
        outl(self.port + 4, table);
    }

    /// Starts it, to or from memory.
    pub fn start(self, to_memory: bool) {
        let direction = if to_memory { Self::TO_MEMORY } else { 0 };
        // The direction must not change while it runs.
        outb(self.port, direction);
        outb(self.port, direction | Self::START);
    }

    /// Stops it.
    pub fn stop(self) {
        outb(self.port, 0);
    }

    /// Clears what the status remembers.
    pub fn clear(self) {
        outb(self.port + 2, inb(self.port + 2) | Self::FAILED | Self::INTERRUPT);
    }

    /// Whether it runs, and what befell it.
    pub fn status(self) -> u8 {
        inb(self.port + 2) & (Self::ACTIVE | Self::FAILED | Self::INTERRUPT)
    }
}
