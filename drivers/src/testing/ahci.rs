//! An AHCI controller with disks and empty ports (AHCI 1.3.1).

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use super::machine::{FakeDevice, FakeFunction, Memory};
use crate::pci::Address;

const BAR: u32 = 0xfa00_0000;
const PORTS_AT: u64 = 0x100;
const PORTS: usize = 6;

/// A port as the controller has it.
#[derive(Clone, Debug, Default)]
struct Port {
    list: u64,
    causes: u32,
    enabled: u32,
    command: u32,
    issued: u32,
}

/// The state that a test looks at and changes.
#[derive(Debug, Default)]
pub struct State {
    /// By port; none where there is no disk.
    pub contents: [Option<Vec<u8>>; PORTS],
    /// Ports and opcodes of the commands that were carried out.
    pub log: Vec<(usize, u8)>,
    /// Commands are carried out only when the test says.
    pub is_held: bool,
    /// All ports are unplugged.
    pub is_unplugged: bool,
    /// Commands about this sector fail.
    pub bad_sector: Option<u64>,
    pub resets: usize,
    control: u32,
    handoff: u32,
    ports: [Port; PORTS],
}

/// The controller.
pub struct FakeAhci(pub Mutex<State>);

impl FakeAhci {
    /// A controller with disks at some ports, and its function.
    pub fn new(address: Address, disks: &[(usize, Vec<u8>)]) -> (Arc<Self>, FakeFunction) {
        let mut state = State { handoff: 1, ..State::default() };
        for (port, content) in disks {
            state.contents[*port] = Some(content.clone());
            // As firmware leaves it: it runs.
            state.ports[*port].command = 0xc011;
        }
        let device = Arc::new(Self(Mutex::new(state)));
        let mut function = FakeFunction::new(address, 0x8086, 0x2922)
            .with_bar(5, BAR, 0x1000)
            .with_capabilities(&[(0x05, &[1 << 23, 0, 0, 0])]);
        function.config[2] = 0x0106_0100;
        function.device = Some(device.clone());
        (device, function)
    }

    /// Carries out so many of the commands that wait.
    pub fn run(&self, memory: &Memory, most: usize) {
        let mut state = self.0.lock();
        for _ in 0..most {
            let waits = |port: &Port| port.issued != 0 && port.command & 1 != 0;
            let Some(number) = state.ports.iter().position(waits) else { return };
            let slot = state.ports[number].issued.trailing_zeros();
            Self::carry_out(&mut state, memory, number, slot);
        }
    }

    fn carry_out(state: &mut State, memory: &Memory, number: usize, slot: u32) {
        let header = state.ports[number].list + 32 * u64::from(slot);
        let flags = memory.number(header, 4);
        let table = memory.number(header + 8, 8);
        let frame = memory.read(table, 20);
        let (opcode, is_write) = (frame[2], flags & 1 << 6 != 0);
        let sector =
            [4, 5, 6, 8, 9, 10].iter().rev().fold(0, |sum, &at| sum << 8 | u64::from(frame[at]));
        let count = usize::from(frame[12]) | usize::from(frame[13]) << 8;
        assert_eq!((frame[0], frame[1], flags & 0x1f), (0x27, 0x80, 5));
        state.log.push((number, opcode));
        let port = &mut state.ports[number];
        if state.bad_sector == Some(sector) && opcode != 0xea {
            port.causes |= 1 << 30;
            port.command = port.command & !(1 << 15 | 0x1f00) | slot << 8;
            return;
        }
        let content = state.contents[number].as_mut().expect("a disk");
        let identity = (opcode == 0xec).then(|| identity(content.len() as u64 / 512));
        let mut at = sector as usize * 512;
        let mut moved = 0;
        for piece in 0..flags >> 16 {
            let piece = table + 0x80 + 16 * piece;
            let (address, length) =
                (memory.number(piece, 8), memory.number(piece + 12, 4) as usize + 1);
            match (&identity, is_write) {
                (Some(identity), _) => memory.write(address, &identity[..length]),
                (None, true) => {
                    content[at..at + length].copy_from_slice(&memory.read(address, length))
                }
                (None, false) => memory.write(address, &content[at..at + length]),
            }
            (at, moved) = (at + length, moved + length);
        }
        assert!(opcode == 0xec || moved == count * 512);
        memory.write(header + 4, &(moved as u32).to_le_bytes());
        port.issued &= !(1 << slot);
        port.causes |= 1;
    }
}

/// A disk's description: DMA, addresses of 48 bits, a cache.
fn identity(sectors: u64) -> [u8; 512] {
    let mut data = [0; 512];
    (data[99], data[167], data[164], data[170]) = (1, 0x44, 0x20, 0x20);
    data[200..208].copy_from_slice(&sectors.to_le_bytes());
    data[20..24].copy_from_slice(b"bacd");
    data[54..60].copy_from_slice(b"oSemD ");
    data
}

impl FakeDevice for FakeAhci {
    fn read(&self, _bar: u8, offset: u64, _width_bytes: u8) -> u32 {
        let state = self.0.lock();
        let number = offset.wrapping_sub(PORTS_AT) as usize / 0x80;
        let Some(port) = state.ports.get(number).filter(|_| offset >= PORTS_AT) else {
            return match offset {
                // 64-bit addresses, 4 slots.
                0x00 => 1 << 31 | 3 << 8,
                0x04 => state.control,
                0x0c => (1 << PORTS) - 1,
                0x24 => 1,
                0x28 => state.handoff,
                _ => 0,
            };
        };
        let is_there = state.contents[number].is_some() && !state.is_unplugged;
        match offset % 0x80 {
            0x10 => port.causes,
            0x18 => port.command,
            0x24 if is_there => 0x101,
            0x28 if is_there => 0x123,
            0x38 => port.issued,
            _ => 0,
        }
    }

    fn write(&self, memory: &Memory, _bar: u8, offset: u64, _width_bytes: u8, value: u32) {
        let mut state = self.0.lock();
        let number = offset.wrapping_sub(PORTS_AT) as usize / 0x80;
        if offset < PORTS_AT {
            match offset {
                0x04 if value & 1 != 0 => {
                    state.resets += 1;
                    state.ports = <[Port; PORTS]>::default();
                    state.control = 0;
                }
                0x04 => state.control = value,
                0x28 => state.handoff = value & !1,
                _ => {}
            }
            return;
        }
        let is_held = state.is_held;
        let Some(port) = state.ports.get_mut(number) else { return };
        let half = |old: u64, shift: u32| old & !(0xffff_ffff << shift) | u64::from(value) << shift;
        match offset % 0x80 {
            0x00 => port.list = half(port.list, 0),
            0x04 => port.list = half(port.list, 32),
            0x10 => port.causes &= !value,
            0x14 => port.enabled = value,
            0x18 => {
                let runs = if value & 1 != 0 { 1 << 15 } else { 0 };
                let receives = if value & 1 << 4 != 0 { 1 << 14 } else { 0 };
                port.command = value & !0xdf00 | port.command & 0x1f00 | runs | receives;
                if value & 1 == 0 {
                    port.issued = 0;
                }
            }
            0x38 => {
                assert!(port.command & 1 != 0, "a command for a port that stands still");
                port.issued |= value;
                drop(state);
                if !is_held {
                    self.run(memory, usize::MAX);
                }
            }
            _ => {}
        }
    }
}
