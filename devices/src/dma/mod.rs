//! The two 8237A DMA controllers and their page registers, as the PIIX3 has them.
//!
//! No device of this PC requests a transfer, so what remains are the registers, which systems write
//! and read back, and transfers that software requests: nothing answers on the bus, and what memory
//! is given is all ones.

pub mod spec;

#[cfg(test)]
mod tests;

use crate::bus::{Access, PioDevice, Region};
use crate::lock::DeviceLock;
use crate::memory::GuestMemory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use spec::{
    CHANNELS, ChannelBit, Command, Mode, PAGE_BASE, PAGE_OF_CHANNEL, PAGES, PRIMARY_BASE,
    REGISTERS, SECONDARY_BASE, register,
};

const PRIMARY: u8 = 0;
const SECONDARY: u8 = 1;
const PAGE: u8 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: Mode,
}

/// Memory that a transfer fills: units of the channel's width, in a page of 65,536 units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fill {
    channel: usize,
    first: u16,
    units: u32,
}

#[derive(Clone, Debug)]
struct Controller {
    channels: [Channel; 4],
    command: Command,
    /// Bit n: channel n is masked.
    masks: u8,
    /// Bit n: software requests a transfer of channel n.
    requests: u8,
    /// Bit n: channel n came to its terminal count since the status was read.
    terminal_counts: u8,
    /// The next access to an address or a count is to its high byte.
    high_byte: bool,
}

impl Controller {
    fn new() -> Self {
        Self {
            channels: [Channel::default(); 4],
            command: Command::new(),
            masks: CHANNELS,
            requests: 0,
            terminal_counts: 0,
            high_byte: false,
        }
    }

    /// The half of an address or a count that is next.
    fn take_half(&mut self) -> usize {
        self.high_byte = !self.high_byte;
        usize::from(!self.high_byte)
    }

    fn read(&mut self, number: u8) -> u8 {
        match number {
            0..8 => {
                let channel = self.channels[usize::from(number / 2)];
                let value = if number.is_multiple_of(2) { channel.address } else { channel.count };
                value.to_le_bytes()[self.take_half()]
            }
            register::STATUS_COMMAND => {
                self.requests << 4 | core::mem::take(&mut self.terminal_counts)
            }
            // Only memory-to-memory transfers use the temporary register, which the PIIX3 has not.
            register::MASTER_CLEAR => 0,
            register::ALL_MASKS => !CHANNELS | self.masks,
            // Registers that can only be written.
            _ => 0xff,
        }
    }

    fn write(&mut self, number: u8, value: u8) {
        let bit = ChannelBit::from_bits(value);
        let mask = 1 << bit.channel();
        match number {
            0..8 => self.write_half(number, value),
            register::STATUS_COMMAND => self.command = Command::from_bits(value),
            register::REQUEST if bit.set() => self.requests |= mask,
            register::REQUEST => self.requests &= !mask,
            register::SINGLE_MASK if bit.set() => self.masks |= mask,
            register::SINGLE_MASK => self.masks &= !mask,
            register::MODE => {
                self.channels[usize::from(bit.channel())].mode = Mode::from_bits(value)
            }
            register::CLEAR_FLIP_FLOP => self.high_byte = false,
            register::MASTER_CLEAR => *self = Self { channels: self.channels, ..Self::new() },
            register::CLEAR_MASK => self.masks = 0,
            _ => self.masks = value & CHANNELS,
        }
    }

    /// A byte of an address or a count: base and current value get it at once.
    fn write_half(&mut self, number: u8, value: u8) {
        let half = self.take_half();
        let channel = &mut self.channels[usize::from(number / 2)];
        let (base, current) = if number.is_multiple_of(2) {
            (&mut channel.base_address, &mut channel.address)
        } else {
            (&mut channel.base_count, &mut channel.count)
        };
        for register in [base, current] {
            let mut bytes = register.to_le_bytes();
            bytes[half] = value;
            *register = u16::from_le_bytes(bytes);
        }
    }

    /// Runs one block that software requests, masked or not, to its terminal count; returns the
    /// memory that it fills.
    fn run_request(&mut self) -> Option<Option<Fill>> {
        if self.command.disabled() {
            return None;
        }
        let is_ready = |&index: &usize| {
            self.requests >> index & 1 != 0 && self.channels[index].mode.mode() == Mode::BLOCK
        };
        let index = (0..4).find(is_ready)?;
        let channel = &mut self.channels[index];
        let last = channel.count;
        let decrement = channel.mode.decrement();
        let first = if decrement { channel.address.wrapping_sub(last) } else { channel.address };
        let fill = Fill { channel: index, first, units: u32::from(last) + 1 };
        let bit = 1 << index;
        if channel.mode.auto_initialise() {
            (channel.address, channel.count) = (channel.base_address, channel.base_count);
        } else {
            let step = last.wrapping_add(1);
            channel.address = if decrement {
                channel.address.wrapping_sub(step)
            } else {
                channel.address.wrapping_add(step)
            };
            channel.count = u16::MAX;
            self.masks |= bit;
        }
        self.requests &= !bit;
        self.terminal_counts |= bit;
        Some((channel.mode.transfer() == Mode::TO_MEMORY).then_some(fill))
    }
}

/// Both controllers: channels 0 to 3 of bytes, 5 to 7 of words, 4 for the cascade.
pub struct Dma {
    // Wiring.
    memory: Arc<dyn GuestMemory>,
    // Volatile state.
    controllers: [DeviceLock<Controller>; 2],
    pages: [AtomicU8; PAGES],
}

impl Dma {
    /// Controllers that transfer to `memory`.
    pub fn new(memory: Arc<dyn GuestMemory>) -> Self {
        Self {
            memory,
            controllers: core::array::from_fn(|_| DeviceLock::new(Controller::new())),
            pages: [const { AtomicU8::new(0) }; PAGES],
        }
    }

    fn read(&self, region: u8, offset: u64) -> Option<u8> {
        if region == PAGE {
            return Some(self.pages.get(offset as usize)?.load(Ordering::Relaxed));
        }
        let number = register_at(region, offset)?;
        Some(self.controllers[usize::from(region)].lock().read(number))
    }

    fn write(&self, region: u8, offset: u64, value: u8) {
        if region == PAGE {
            if let Some(page) = self.pages.get(offset as usize) {
                page.store(value, Ordering::Relaxed);
            }
            return;
        }
        let Some(number) = register_at(region, offset) else { return };
        let mut controller = self.controllers[usize::from(region)].lock();
        controller.write(number, value);
        while let Some(fill) = controller.run_request() {
            if let Some(fill) = fill {
                self.fill(region == SECONDARY, fill);
            }
        }
    }

    /// Writes what a bus gives on which nothing answers.
    fn fill(&self, words: bool, fill: Fill) {
        let unit_bytes = if words { 2 } else { 1 };
        let number = fill.channel + if words { 4 } else { 0 };
        let page = u64::from(self.pages[PAGE_OF_CHANNEL[number]].load(Ordering::Relaxed));
        // Channels of words count in words: the page's bit 0 is not used.
        let page_gpa = if words { (page & !1) << 16 } else { page << 16 };
        // Addresses wrap at the end of the page.
        let before_end = (0x1_0000 - u32::from(fill.first)).min(fill.units);
        for (first, units) in [(fill.first, before_end), (0, fill.units - before_end)] {
            let mut gpa = page_gpa + u64::from(first) * unit_bytes;
            let mut left = u64::from(units) * unit_bytes;
            while left > 0 {
                let part = &[0xff; 256][..left.min(256) as usize];
                // Memory that is none takes nothing.
                let _ = self.memory.write(gpa, part);
                gpa += part.len() as u64;
                left -= part.len() as u64;
            }
        }
    }
}

/// The register at an offset of a controller's region; the second controller decodes no address bit
/// 0.
fn register_at(region: u8, offset: u64) -> Option<u8> {
    let number = if region == PRIMARY { offset } else { offset / 2 };
    (number < REGISTERS).then_some(number as u8)
}

impl PioDevice for Dma {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![
            Region::new(PRIMARY, PRIMARY_BASE, REGISTERS),
            Region::new(SECONDARY, SECONDARY_BASE, 2 * REGISTERS),
            Region::new(PAGE, PAGE_BASE, PAGES as u64),
        ]
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        // The bus splits wide accesses to an 8-bit device.
        let bytes = core::array::from_fn(|n| {
            let inside = n < usize::from(access.size_bytes);
            inside
                .then(|| self.read(access.region, access.offset + n as u64))
                .flatten()
                .unwrap_or(0xff)
        });
        Some(u32::from_le_bytes(bytes))
    }

    fn pio_write(&self, access: Access, value: u32) {
        for (offset, byte) in
            (access.offset..).zip(value.to_le_bytes()).take(access.size_bytes.into())
        {
            self.write(access.region, offset, byte);
        }
    }
}

impl fmt::Debug for Dma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dma")
            .field("controllers", &self.controllers)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}
