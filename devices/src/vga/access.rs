//! Accesses of the CPU to the legacy window that go through the device: latches, write modes and
//! read modes.

use super::planes::{Layout, PLANE_BYTES, Planes, spread};
use super::state::State;
use super::window::{Addressing, Aperture, LEGACY_BYTES, Window, WindowMemory};

/// Addresses of a run that are read or written in one go.
const CHUNK: usize = 64;

const PLANE_2: u8 = 0x04;

/// The legacy window of one card.
pub(super) struct WindowAccess<'a> {
    pub state: &'a mut State,
    pub planes: Planes<'a>,
}

/// A part of an access that the card answers.
struct Clip {
    /// Bytes of the access that come before it.
    skip: usize,
    /// Where it starts in the aperture.
    start: usize,
    length: usize,
}

impl Aperture {
    fn clip(self, offset: usize, length: usize) -> Option<Clip> {
        let start = offset.max(self.start);
        let end = offset.saturating_add(length).min(self.start + self.length);
        let length = end.checked_sub(start).filter(|&length| length > 0)?;
        Some(Clip { skip: start - offset, start: start - self.start, length })
    }
}

const fn in_all_planes(byte: u8) -> u32 {
    byte as u32 * 0x0101_0101
}

/// The registers that shape a written byte.
struct WritePipeline {
    mode: u8,
    rotate: u32,
    function: u8,
    set_reset: u32,
    enable_set_reset: u32,
    bit_mask: u8,
    latches: u32,
}

impl WritePipeline {
    fn new(state: &State) -> Self {
        let graphics = &state.graphics;
        Self {
            mode: graphics.mode.write_mode(),
            rotate: u32::from(graphics.rotate.count()),
            function: graphics.rotate.function(),
            set_reset: spread(graphics.set_reset),
            enable_set_reset: spread(graphics.enable_set_reset),
            bit_mask: graphics.bit_mask,
            latches: state.latches,
        }
    }

    /// The four plane bytes that the CPU's `byte` becomes.
    fn apply(&self, byte: u8) -> u32 {
        let (data, bit_mask) = match self.mode {
            0 => {
                let rotated = in_all_planes(byte.rotate_right(self.rotate));
                let data =
                    rotated & !self.enable_set_reset | self.set_reset & self.enable_set_reset;
                (data, self.bit_mask)
            }
            1 => return self.latches,
            2 => (spread(byte & 0x0f), self.bit_mask),
            _ => (self.set_reset, self.bit_mask & byte.rotate_right(self.rotate)),
        };
        let combined = match self.function {
            0 => data,
            1 => data & self.latches,
            2 => data | self.latches,
            _ => data ^ self.latches,
        };
        let bits = in_all_planes(bit_mask);
        combined & bits | self.latches & !bits
    }
}

/// The registers that shape a read byte.
struct ReadPipeline {
    compare: bool,
    colour: u32,
    care: u32,
}

impl ReadPipeline {
    fn new(state: &State) -> Self {
        let graphics = &state.graphics;
        Self {
            compare: graphics.mode.compare(),
            colour: spread(graphics.colour_compare),
            care: spread(graphics.colour_care),
        }
    }

    /// The byte that the CPU reads when the four plane bytes are `group` and `plane` is the read
    /// plane.
    fn apply(&self, group: u32, plane: usize) -> u8 {
        if !self.compare {
            return group.to_le_bytes()[plane & 3];
        }
        let [a, b, c, d] = ((group ^ self.colour) & self.care).to_le_bytes();
        !(a | b | c | d)
    }
}

impl WindowAccess<'_> {
    /// Reads `data.len()` bytes at `offset` from the start of the legacy window, one after the
    /// other.
    pub fn read(&mut self, offset: usize, data: &mut [u8]) {
        data.fill(0xff);
        let Some(aperture) = self.state.aperture() else { return };
        let Some(clip) = aperture.clip(offset, data.len()) else { return };
        let data = &mut data[clip.skip..clip.skip + clip.length];
        if let Some((memory, at)) = self.linear(&clip) {
            match memory {
                WindowMemory::Vram => self.planes.vram.read(at, data),
                WindowMemory::OddEven => self.planes.odd_even.read(at, data),
            }
            return;
        }
        let pipeline = ReadPipeline::new(self.state);
        if self.state.addressing() == Addressing::Sequential {
            return self.read_sequential(&pipeline, clip.start, data);
        }
        for (byte, at) in data.iter_mut().zip(clip.start..) {
            let (address, plane) = self.read_address(at);
            self.state.latches = self.planes.load(address);
            *byte = pipeline.apply(self.state.latches, plane);
        }
    }

    fn read_sequential(&mut self, pipeline: &ReadPipeline, start: usize, data: &mut [u8]) {
        let plane = usize::from(self.state.graphics.read_map);
        let mut at = start;
        let mut rest = data;
        while !rest.is_empty() {
            let address = self.sequential_address(at);
            let count = rest.len().min(CHUNK).min(PLANE_BYTES - address % PLANE_BYTES);
            let (chunk, tail) = rest.split_at_mut(count);
            let mut groups = [0; CHUNK * 4];
            let groups = &mut groups[..count * 4];
            self.planes.load_run(address, groups);
            for (byte, group) in chunk.iter_mut().zip(groups.chunks_exact(4)) {
                self.state.latches = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
                *byte = pipeline.apply(self.state.latches, plane);
            }
            at += count;
            rest = tail;
        }
    }

    /// Writes `data` at `offset` from the start of the legacy window, one byte after the other.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        let Some(aperture) = self.state.aperture() else { return };
        let Some(clip) = aperture.clip(offset, data.len()) else { return };
        let data = &data[clip.skip..clip.skip + clip.length];
        if let Some((memory, at)) = self.linear(&clip) {
            match memory {
                WindowMemory::Vram => self.planes.vram.write(at, data),
                WindowMemory::OddEven => self.planes.odd_even.write(at, data),
            }
            return;
        }
        let enabled = self.state.sequencer.map_mask;
        if enabled & PLANE_2 != 0 {
            self.state.font_generation = self.state.font_generation.wrapping_add(1);
        }
        let pipeline = WritePipeline::new(self.state);
        let sequential = self.state.addressing() == Addressing::Sequential;
        if sequential && self.planes.layout == Layout::Planar {
            return self.write_sequential(&pipeline, clip.start, data, spread(enabled));
        }
        for (&byte, at) in data.iter().zip(clip.start..) {
            let (address, planes) = self.write_address(at);
            self.planes.store(address, pipeline.apply(byte), spread(planes & enabled));
        }
    }

    fn write_sequential(&self, pipeline: &WritePipeline, start: usize, data: &[u8], mask: u32) {
        let mut at = start;
        let mut rest = data;
        while !rest.is_empty() {
            let address = self.sequential_address(at);
            let count = rest.len().min(CHUNK).min(PLANE_BYTES - address % PLANE_BYTES);
            let (chunk, tail) = rest.split_at(count);
            let mut groups = [0; CHUNK * 4];
            let groups = &mut groups[..count * 4];
            if mask != u32::MAX {
                self.planes.load_run(address, groups);
            }
            for (&byte, group) in chunk.iter().zip(groups.chunks_exact_mut(4)) {
                let old = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
                let new = old & !mask | pipeline.apply(byte) & mask;
                group.copy_from_slice(&new.to_le_bytes());
            }
            self.planes.vram.write(address * 4, groups);
            at += count;
            rest = tail;
        }
    }

    /// `rep movs` within the window: `count` elements of `element_bytes`, upwards or downwards,
    /// each read whole and then written. The latches of each read shape the write that follows,
    /// as write mode 1 needs.
    pub fn copy(
        &mut self,
        from: usize,
        to: usize,
        count: usize,
        element_bytes: usize,
        downwards: bool,
    ) {
        let mut element = [0; 8];
        let element = &mut element[..element_bytes.min(8)];
        for index in 0..count {
            let distance = index * element_bytes;
            let place = |start: usize| match downwards {
                true => start.checked_sub(distance),
                false => start.checked_add(distance),
            };
            let (Some(from), Some(to)) = (place(from), place(to)) else { return };
            if from.max(to) >= LEGACY_BYTES as usize {
                return;
            }
            self.read(from, element);
            self.write(to, element);
        }
    }

    /// The memory behind an access that needs no pipeline, and where in it the access starts.
    fn linear(&self, clip: &Clip) -> Option<(WindowMemory, usize)> {
        let Window::Linear { memory, offset_bytes, length_bytes, .. } = self.state.window else {
            return None;
        };
        (clip.start + clip.length <= length_bytes).then_some((memory, offset_bytes + clip.start))
    }

    /// The address in the planes of `at` in the aperture, when all planes answer. DISPI's four-bit
    /// modes have banks; the VGA's own end after 64 KiB of each plane.
    fn sequential_address(&self, at: usize) -> usize {
        match self.state.dispi.is_enabled() {
            true => at + self.state.dispi.bank_offset_bytes(),
            false => at % PLANE_BYTES,
        }
    }

    /// The address in the planes and the read plane.
    fn read_address(&self, at: usize) -> (usize, usize) {
        let read_map = usize::from(self.state.graphics.read_map);
        match self.state.addressing() {
            Addressing::Chain4 => (at / 4, at % 4),
            Addressing::OddEven => (at / 2, read_map & 2 | at & 1),
            Addressing::Sequential => (self.sequential_address(at), read_map),
        }
    }

    /// The address in the planes and the planes that take the byte.
    fn write_address(&self, at: usize) -> (usize, u8) {
        match self.state.addressing() {
            Addressing::Chain4 => (at / 4, 1 << (at % 4)),
            Addressing::OddEven => (at / 2, if at.is_multiple_of(2) { 0x05 } else { 0x0a }),
            Addressing::Sequential => (self.sequential_address(at), 0x0f),
        }
    }
}
