//! A virtio-blk device on PCI (VIRTIO 1.2, 4.1 and 5.2).

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use spin::Mutex;

use super::machine::{FakeDevice, FakeFunction, Memory};
use crate::pci::Address;

const BAR: u32 = 0xfe00_0000;
const TABLE: u32 = 0xfd00_0000;
const COMMON: u64 = 0;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;

/// How a device is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Features beside version 1.
    pub features: u64,
    pub queue_size: u16,
    /// The device's own configuration, from its begin on.
    pub config: Vec<u8>,
    pub has_msi_x: bool,
    pub serial: &'static str,
}

impl Options {
    /// Capacity in sectors, and limits.
    pub fn new(features: u64, capacity: u64, seg_max: u32, block_bytes: u32) -> Self {
        let mut config = vec![0; 60];
        config[..8].copy_from_slice(&capacity.to_le_bytes());
        config[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        config[12..16].copy_from_slice(&seg_max.to_le_bytes());
        config[20..24].copy_from_slice(&block_bytes.to_le_bytes());
        config[36..40].copy_from_slice(&64_u32.to_le_bytes());
        config[48..52].copy_from_slice(&128_u32.to_le_bytes());
        Self { features, queue_size: 256, config, has_msi_x: true, serial: "abc" }
    }
}

/// The state that a test looks at and changes.
#[derive(Debug, Default)]
pub struct State {
    pub content: Vec<u8>,
    /// Kinds of the requests that were carried out, in their order.
    pub log: Vec<u32>,
    /// Requests are carried out only when the test says.
    pub is_held: bool,
    /// It has been pulled out: nothing answers.
    pub is_gone: bool,
    /// The status of the requests that follow, in place of success.
    pub status: Option<u8>,
    /// Bytes less than it has written are said to be.
    pub is_short: bool,
    /// Bytes read and written by requests, by the first byte that they are about.
    pub last_range: (u64, u64),
    status_register: u8,
    selects: [u32; 2],
    driver_features: u64,
    queue: [u64; 3],
    next_available: u16,
    next_used: u16,
    pub resets: usize,
    vector: u16,
    table: [u32; 4],
}

/// The device.
pub struct FakeBlock {
    pub options: Options,
    pub state: Mutex<State>,
}

impl FakeBlock {
    /// A device that holds `content`, and its function.
    pub fn new(address: Address, options: Options, content: Vec<u8>) -> (Arc<Self>, FakeFunction) {
        let state = Mutex::new(State { content, vector: 0xffff, ..State::default() });
        let has_msi_x = options.has_msi_x;
        let device = Arc::new(Self { options, state });
        let structure = |kind: u32, offset: u64, length: u32| {
            [kind << 24, 0, offset as u32, length, if kind == 2 { 4 } else { 0 }]
        };
        let all = [
            (0x09, structure(1, COMMON, 0x38)),
            (0x09, structure(3, 0x1000, 4)),
            (0x09, structure(4, DEVICE, 60)),
            (0x09, structure(2, NOTIFY, 0x1000)),
        ];
        let msi_x: &[u32] = &[0, 1, 0x801];
        let mut capabilities: Vec<(u8, &[u32])> =
            all.iter().map(|(id, registers)| (*id, &registers[..])).collect();
        if has_msi_x {
            capabilities.insert(0, (0x11, msi_x));
        }
        let mut function = FakeFunction::new(address, 0x1af4, 0x1042)
            .with_bar(0, BAR + (u32::from(address.device) << 16), 0x4000)
            .with_bar(1, TABLE + (u32::from(address.device) << 16), 0x1000)
            .with_capabilities(&capabilities);
        function.device = Some(device.clone());
        (device, function)
    }

    fn features(&self) -> u64 {
        self.options.features | 1 << 32
    }

    /// Carries out so many of the requests that wait.
    pub fn run(&self, memory: &Memory, most: usize) {
        for _ in 0..most {
            let Some(head) = self.next_head(memory) else { return };
            let written = self.carry_out(memory, head);
            self.put_used(memory, head.into(), written);
        }
    }

    fn next_head(&self, memory: &Memory) -> Option<u16> {
        let mut state = self.state.lock();
        let [_, available, _] = state.queue;
        if available == 0 || memory.number(available + 2, 2) as u16 == state.next_available {
            return None;
        }
        let entry = state.next_available % self.options.queue_size;
        state.next_available = state.next_available.wrapping_add(1);
        Some(memory.number(available + 4 + 2 * u64::from(entry), 2) as u16)
    }

    /// Puts an element into the used ring, whatever it is.
    pub fn put_used(&self, memory: &Memory, head: u32, length: u32) {
        let mut state = self.state.lock();
        let used = state.queue[2];
        if used == 0 {
            return;
        }
        let at = used + 4 + 8 * u64::from(state.next_used % self.options.queue_size);
        memory.write(at, &head.to_le_bytes());
        memory.write(at + 4, &length.to_le_bytes());
        state.next_used = state.next_used.wrapping_add(1);
        memory.write(used + 2, &state.next_used.to_le_bytes());
    }

    /// The pieces of a chain: address, length, whether the device writes them.
    fn chain(&self, memory: &Memory, head: u16) -> Vec<(u64, usize, bool)> {
        let mut table = self.state.lock().queue[0];
        let mut index = u64::from(head);
        let mut pieces = Vec::new();
        loop {
            let at = table + 16 * index;
            let (address, length) = (memory.number(at, 8), memory.number(at + 8, 4));
            let flags = memory.number(at + 12, 2);
            if flags & 4 != 0 {
                (table, index) = (address, 0);
                continue;
            }
            pieces.push((address, length as usize, flags & 2 != 0));
            assert!(pieces.len() < 300, "a chain without an end");
            if flags & 1 == 0 {
                return pieces;
            }
            index = memory.number(at + 14, 2);
        }
    }

    /// Carries out a request; returns how many bytes it has written.
    fn carry_out(&self, memory: &Memory, head: u16) -> u32 {
        let pieces = self.chain(memory, head);
        let [header, data @ .., status] = &pieces[..] else { panic!("a short chain") };
        assert_eq!((header.1, header.2, status.1, status.2), (16, false, 1, true));
        let (kind, sector) = (memory.number(header.0, 4) as u32, memory.number(header.0 + 8, 8));
        let mut state = self.state.lock();
        state.log.push(kind);
        let mut at = sector as usize * 512;
        let mut written = 1;
        let result = state.status.unwrap_or(0);
        for &(address, length, is_written) in data {
            assert_eq!(is_written, matches!(kind, 0 | 8), "{kind}");
            match kind {
                0 if result == 0 => memory.write(address, &state.content[at..at + length]),
                1 if result == 0 => {
                    let bytes = memory.read(address, length);
                    state.content[at..at + length].copy_from_slice(&bytes);
                }
                8 => {
                    let mut id = [0; 20];
                    id[..self.options.serial.len()].copy_from_slice(self.options.serial.as_bytes());
                    memory.write(address, &id);
                }
                11 | 13 => {
                    let (first, count) = (memory.number(address, 8), memory.number(address + 8, 4));
                    state.last_range = (first * 512, count * 512);
                    if kind == 13 {
                        let range = first as usize * 512..(first + count) as usize * 512;
                        state.content[range].fill(0);
                    }
                }
                _ => {}
            }
            at += length;
            written += if is_written { length as u32 } else { 0 };
        }
        memory.write(status.0, &[result]);
        written - u32::from(state.is_short)
    }

    fn read_common(&self, state: &State, offset: u64) -> u64 {
        match offset {
            0x04 => self.features() >> (32 * state.selects[0]) & 0xffff_ffff,
            0x12 => 1,
            0x14 => state.status_register.into(),
            0x18 => self.options.queue_size.into(),
            0x1a => state.vector.into(),
            0x1e => 2,
            _ => 0,
        }
    }

    fn write_common(&self, state: &mut State, offset: u64, value: u32) {
        match offset {
            0x00 => state.selects[0] = value,
            0x08 => state.selects[1] = value,
            0x0c => {
                let shift = 32 * state.selects[1];
                state.driver_features &= !(0xffff_ffff << shift);
                state.driver_features |= u64::from(value) << shift;
            }
            0x14 if value == 0 => {
                state.resets += 1;
                (state.status_register, state.queue) = (0, [0; 3]);
                (state.next_available, state.next_used, state.vector) = (0, 0, 0xffff);
            }
            0x14 => {
                assert_eq!(state.driver_features & !self.features(), 0);
                state.status_register = value as u8;
            }
            0x1a => state.vector = value as u16,
            0x20..0x38 => {
                let (queue, shift) = ((offset - 0x20) as usize / 8, 8 * (offset % 8));
                state.queue[queue] &= !(0xffff_ffff << shift);
                state.queue[queue] |= u64::from(value) << shift;
            }
            _ => {}
        }
    }
}

impl FakeDevice for FakeBlock {
    fn read(&self, bar: u8, offset: u64, width_bytes: u8) -> u32 {
        let state = self.state.lock();
        if state.is_gone {
            return u32::MAX;
        }
        let value = match (bar, offset) {
            (0, DEVICE..NOTIFY) => {
                let at = (offset - DEVICE) as usize;
                let bytes = &self.options.config[at..at + usize::from(width_bytes)];
                bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
            }
            (0, _) => self.read_common(&state, offset),
            (_, 0..16) => state.table[offset as usize / 4].into(),
            _ => 0,
        };
        value as u32
    }

    fn write(&self, memory: &Memory, bar: u8, offset: u64, _width_bytes: u8, value: u32) {
        let mut state = self.state.lock();
        if state.is_gone {
            return;
        }
        match (bar, offset) {
            // Queue 0 has its doorbell at 2 times 4.
            (0, _) if offset == NOTIFY + 8 => {
                let is_held = state.is_held;
                drop(state);
                if !is_held {
                    self.run(memory, usize::MAX);
                }
            }
            (0, _) => self.write_common(&mut state, offset, value),
            (_, 0..16) => state.table[offset as usize / 4] = value,
            _ => {}
        }
    }
}
