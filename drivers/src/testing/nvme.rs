//! An NVMe controller with namespaces (base specification 2.0, command set specification 1.0).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use spin::Mutex;

use super::machine::{FakeDevice, FakeFunction, Memory};
use crate::pci::Address;

const BAR: u32 = 0xfc00_0000;
const TABLE: u32 = 0xfb00_0000;
const DOORBELLS: u64 = 0x1000;

/// A command that was carried out: opcode and namespace.
pub type Logged = (u8, u32);

/// A pair of queues as the controller has it.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    commands: u64,
    completions: u64,
    size: u16,
    head: u16,
    tail: u16,
    completed: u16,
    phase: bool,
}

/// The state that a test looks at and changes.
#[derive(Debug, Default)]
pub struct State {
    /// By namespace.
    pub contents: BTreeMap<u32, Vec<u8>>,
    /// I/O commands that were carried out.
    pub log: Vec<Logged>,
    /// I/O commands are carried out only when the test says.
    pub is_held: bool,
    /// It has been pulled out: nothing answers.
    pub is_gone: bool,
    /// The status of the commands that follow, in place of success.
    pub status: u16,
    /// How often it was disabled.
    pub resets: usize,
    /// It was told that power may go.
    pub is_shut_down: bool,
    configuration: u32,
    admin_sizes: u32,
    admin: [u64; 2],
    pairs: [Pair; 2],
}

/// The controller.
pub struct FakeNvme {
    pub state: Mutex<State>,
    /// The exponent of the most pages in a command.
    max_transfer: u8,
    /// Bytes in a block are 2 to this.
    block_exponent: u8,
    has_cache: bool,
    mqes: u16,
}

impl FakeNvme {
    /// A controller with these namespaces, and its function.
    pub fn new(
        address: Address,
        block_exponent: u8,
        max_transfer: u8,
        mqes: u16,
        contents: &[(u32, Vec<u8>)],
    ) -> (Arc<Self>, FakeFunction) {
        let contents = contents.iter().cloned().collect();
        let state = Mutex::new(State { contents, ..State::default() });
        let device = Arc::new(Self { state, max_transfer, block_exponent, has_cache: true, mqes });
        let mut function = FakeFunction::new(address, 0x1b36, 0x10)
            .with_bar(0, BAR, 0x4000)
            .with_bar(1, TABLE, 0x1000)
            .with_capabilities(&[(0x11, &[0, 1, 0x801])]);
        function.config[2] = 0x0108_0200;
        function.device = Some(device.clone());
        (device, function)
    }

    /// Carries out so many of the I/O commands that wait.
    pub fn run(&self, memory: &Memory, most: usize) {
        (0..most).all(|_| self.run_one(memory, 1));
    }

    /// Carries out a command of a queue, if one waits.
    fn run_one(&self, memory: &Memory, number: usize) -> bool {
        let mut state = self.state.lock();
        let pair = &mut state.pairs[number];
        if pair.size == 0 || pair.head == pair.tail {
            return false;
        }
        let at = pair.commands + 64 * u64::from(pair.head);
        pair.head = (pair.head + 1) % pair.size;
        let entry: Vec<u32> = (0..16).map(|word| memory.number(at + 4 * word, 4) as u32).collect();
        let status = if number == 0 {
            self.admin(memory, &mut state, &entry)
        } else {
            self.io(memory, &mut state, &entry)
        };
        drop(state);
        self.put_completion(memory, number, (entry[0] >> 16) as u16, status);
        true
    }

    /// Puts a completion into a queue.
    pub fn put_completion(&self, memory: &Memory, number: usize, id: u16, status: u16) {
        let mut state = self.state.lock();
        let pair = &mut state.pairs[number];
        if pair.size == 0 {
            return;
        }
        let at = pair.completions + 16 * u64::from(pair.completed);
        let last = u32::from(id) | u32::from(pair.phase) << 16 | u32::from(status) << 17;
        memory.write(at + 12, &last.to_le_bytes());
        pair.completed = (pair.completed + 1) % pair.size;
        pair.phase ^= pair.completed == 0;
    }

    fn admin(&self, memory: &Memory, state: &mut State, entry: &[u32]) -> u16 {
        let address = u64::from(entry[6]) | u64::from(entry[7]) << 32;
        let (number, size) = (entry[10] as u16, (entry[10] >> 16) as u16 + 1);
        match entry[0] as u8 {
            0x06 => memory.write(address, &self.identify(state, entry[10], entry[1])),
            0x09 => assert_eq!((entry[10], entry[11]), (7, 0)),
            0x05 => {
                assert_eq!((number, entry[11]), (1, 0b11), "contiguous, with interrupts");
                let pair = Pair { completions: address, phase: true, ..Pair::default() };
                state.pairs[1] = pair;
            }
            0x01 => {
                assert_eq!((number, entry[11]), (1, 1 << 16 | 1));
                (state.pairs[1].commands, state.pairs[1].size) = (address, size);
            }
            _ => return 1,
        }
        0
    }

    fn identify(&self, state: &State, kind: u32, namespace: u32) -> Vec<u8> {
        let mut data = vec![0; 4096];
        match kind {
            0 => {
                let blocks = state.contents.get(&namespace).map_or(0, Vec::len);
                let blocks = (blocks >> self.block_exponent) as u64;
                data[..8].copy_from_slice(&blocks.to_le_bytes());
                (data[33], data[26], data[128 + 4 * 3 + 2]) = (1, 3, self.block_exponent);
            }
            1 => {
                data[4..24].copy_from_slice(b"serial 1            ");
                data[24..34].copy_from_slice(b"Some Disk ");
                (data[77], data[520], data[525]) =
                    (self.max_transfer, 0b1100, u8::from(self.has_cache));
            }
            _ => {
                for (at, number) in (0..).step_by(4).zip(state.contents.keys()) {
                    data[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
            }
        }
        data
    }

    /// The pieces of a command's data: address and length.
    fn pages(memory: &Memory, entry: &[u32], length: usize) -> Vec<(u64, usize)> {
        let first = u64::from(entry[6]) | u64::from(entry[7]) << 32;
        let second = u64::from(entry[8]) | u64::from(entry[9]) << 32;
        let page = |number: usize| match number {
            0 => first,
            1 if length <= 8192 => second,
            // The list must not pass the end of its page.
            _ => {
                assert!(second % 4096 + 8 * number as u64 <= 4096);
                memory.number(second + 8 * (number as u64 - 1), 8)
            }
        };
        let pages = (0..length.div_ceil(4096)).map(|number| {
            assert_eq!(page(number) % 4096, 0);
            (page(number), 4096.min(length - 4096 * number))
        });
        pages.collect()
    }

    fn io(&self, memory: &Memory, state: &mut State, entry: &[u32]) -> u16 {
        let (opcode, namespace) = (entry[0] as u8, entry[1]);
        state.log.push((opcode, namespace));
        if state.status != 0 {
            return state.status;
        }
        let content = state.contents.get_mut(&namespace).expect("a namespace");
        let at = (entry[10] as usize) << self.block_exponent;
        let length = ((entry[12] & 0xffff) as usize + 1) << self.block_exponent;
        match opcode {
            0x01 | 0x02 => {
                let pages = length.div_ceil(4096);
                assert!(self.max_transfer == 0 || pages <= 1 << self.max_transfer);
                let mut at = at;
                for (address, length) in Self::pages(memory, entry, length) {
                    let part = &mut content[at..at + length];
                    match opcode {
                        0x01 => part.copy_from_slice(&memory.read(address, length)),
                        _ => memory.write(address, part),
                    }
                    at += length;
                }
            }
            0x08 => content[at..at + length].fill(0),
            0x09 => {
                let address = u64::from(entry[6]) | u64::from(entry[7]) << 32;
                let (count, first) = (memory.number(address + 4, 4), memory.number(address + 8, 8));
                let at = (first as usize) << self.block_exponent;
                content[at..at + ((count as usize) << self.block_exponent)].fill(0);
            }
            _ => {}
        }
        0
    }
}

impl FakeDevice for FakeNvme {
    fn read(&self, bar: u8, offset: u64, _width_bytes: u8) -> u32 {
        let state = self.state.lock();
        match (bar, offset) {
            _ if state.is_gone => u32::MAX,
            (0, 0x00) => 0x0100_0000 | u32::from(self.mqes),
            // Doorbells 8 bytes apart, the NVM command set.
            (0, 0x04) => 1 | 1 << 5,
            (0, 0x1c) => state.configuration & 1 | u32::from(state.is_shut_down) << 3,
            _ => 0,
        }
    }

    fn write(&self, memory: &Memory, bar: u8, offset: u64, _width_bytes: u8, value: u32) {
        let mut state = self.state.lock();
        if state.is_gone || bar != 0 {
            return;
        }
        let half = |old: u64, offset: u64| {
            let shift = 8 * (offset % 8);
            old & !(0xffff_ffff << shift) | u64::from(value) << shift
        };
        match offset {
            0x14 => {
                let was_enabled = state.configuration & 1 != 0;
                state.configuration = value;
                state.is_shut_down = value >> 14 & 3 == 1;
                if value & 1 == 0 {
                    state.resets += 1;
                    state.pairs = [Pair::default(); 2];
                } else if !was_enabled {
                    assert_eq!(value, 0x0046_0001);
                    let size = (state.admin_sizes & 0xfff) as u16 + 1;
                    let [commands, completions] = state.admin;
                    let pair = Pair { commands, completions, size, ..Pair::default() };
                    state.pairs[0] = Pair { phase: true, ..pair };
                }
            }
            0x24 => state.admin_sizes = value,
            0x28 | 0x2c => state.admin[0] = half(state.admin[0], offset),
            0x30 | 0x34 => state.admin[1] = half(state.admin[1], offset),
            DOORBELLS.. => {
                let number = (offset - DOORBELLS) as usize / 16;
                if (offset - DOORBELLS).is_multiple_of(16) && number < 2 {
                    state.pairs[number].tail = value as u16;
                    let is_held = number == 1 && state.is_held;
                    drop(state);
                    while !is_held && self.run_one(memory, number) {}
                }
            }
            _ => {}
        }
    }
}
