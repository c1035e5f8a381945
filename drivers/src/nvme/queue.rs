//! A submission queue with its completion queue (base specification, 3.3).

use core::sync::atomic::{Ordering, fence};

use crate::dma::DmaMemory;
use crate::hardware::Window;

const COMMAND_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;

/// Memory for a submission queue of so many entries.
pub const fn commands_bytes(size: u16) -> usize {
    size as usize * COMMAND_BYTES
}

/// Memory for a completion queue of so many entries.
pub const fn completions_bytes(size: u16) -> usize {
    size as usize * COMPLETION_BYTES
}

/// A command (base specification, figure 87). The parts that are not here are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub opcode: u8,
    pub id: u16,
    pub namespace: u32,
    /// The data's first page, and the second one or the list of those that follow.
    pub data: [u64; 2],
    /// Dwords 10 to 15.
    pub rest: [u32; 6],
}

/// A completion (base specification, figure 91).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The command's, as the device says.
    pub id: u16,
    /// Status code and its type, 0 for success.
    pub status: u16,
}

/// The queues.
#[derive(Debug)]
pub struct QueuePair {
    commands: DmaMemory,
    completions: DmaMemory,
    /// Of either.
    size: u16,
    tail: u16,
    head: u16,
    /// The phase tag of the completions that are new.
    phase: bool,
    /// The device has not been told of the head.
    is_head_new: bool,
    /// Where the device is told of tail and head, among its registers.
    doorbells: [u64; 2],
}

impl QueuePair {
    /// The pair with a number; `doorbell_bytes` is the distance of two doorbells.
    pub const fn new(
        commands: DmaMemory,
        completions: DmaMemory,
        size: u16,
        number: u64,
        doorbell_bytes: u64,
    ) -> Self {
        const FIRST_DOORBELL: u64 = 0x1000;
        let first = FIRST_DOORBELL + 2 * number * doorbell_bytes;
        Self {
            commands,
            completions,
            size,
            tail: 0,
            head: 0,
            phase: true,
            is_head_new: false,
            doorbells: [first, first + doorbell_bytes],
        }
    }

    /// Empties it, for a device that was reset.
    pub fn clear(&mut self) {
        let bytes = completions_bytes(self.size);
        (0..bytes).step_by(8).for_each(|at| self.completions.write_u64(at, 0));
        (self.tail, self.head, self.phase, self.is_head_new) = (0, 0, true, false);
    }

    /// The last registers that it needs end here.
    pub const fn registers_end(&self) -> u64 {
        self.doorbells[1] + 4
    }

    /// Where the device finds commands and completions.
    pub const fn addresses(&self) -> [u64; 2] {
        [self.commands.bus_address(0), self.completions.bus_address(0)]
    }

    /// The number of entries of each.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Adds a command. There is room as long as less are under way than there are entries.
    pub fn push(&mut self, entry: &Entry) {
        let at = usize::from(self.tail) * COMMAND_BYTES;
        let first = u32::from(entry.opcode) | u32::from(entry.id) << 16;
        let words = [
            u64::from(first) | u64::from(entry.namespace) << 32,
            0,
            0,
            entry.data[0],
            entry.data[1],
            u64::from(entry.rest[0]) | u64::from(entry.rest[1]) << 32,
            u64::from(entry.rest[2]) | u64::from(entry.rest[3]) << 32,
            u64::from(entry.rest[4]) | u64::from(entry.rest[5]) << 32,
        ];
        for (offset, word) in (at..).step_by(8).zip(words) {
            self.commands.write_u64(offset, word);
        }
        self.tail = (self.tail + 1) % self.size;
    }

    /// Tells the device of the commands that were added.
    pub fn notify(&self, registers: &Window) {
        fence(Ordering::Release);
        registers.write_u32(self.doorbells[0], self.tail.into());
    }

    /// Takes the next completion. With the last one the device is told that there is room again.
    pub fn take(&mut self, registers: &Window) -> Option<Completed> {
        let at = usize::from(self.head) * COMPLETION_BYTES;
        let last = self.completions.read_u32(at + 12);
        if (last & 1 << 16 != 0) != self.phase {
            if core::mem::take(&mut self.is_head_new) {
                registers.write_u32(self.doorbells[1], self.head.into());
            }
            return None;
        }
        fence(Ordering::Acquire);
        self.is_head_new = true;
        self.head = (self.head + 1) % self.size;
        self.phase ^= self.head == 0;
        // Of the status the bits "more" and "do not retry" say nothing about success.
        Some(Completed { id: last as u16, status: (last >> 17) as u16 & 0x7ff })
    }
}
