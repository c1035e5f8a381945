//! The two formats of a task-state segment (SDM volume 3, 9.2.1 and 9.6).

use core::ops::Range;

/// The longest part that a task switch accesses: a 32-bit TSS without its I/O map.
pub const MAX_BYTES: usize = 104;

/// A TSS's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// That of the 80286.
    Bits16,
    /// That of the 80386.
    Bits32,
}

/// The state of a task that a TSS holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskState {
    /// Absent from 16-bit TSSs, and not saved.
    pub cr3: Option<u32>,
    pub eip: u32,
    pub eflags: u32,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gprs: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [u16; 6],
    /// Not saved.
    pub local_table: u16,
    /// A switch to the task raises #DB.
    pub trap: bool,
}

/// Where things are in a TSS.
struct Layout {
    eip: usize,
    eflags: usize,
    gprs: usize,
    segments: usize,
    segment_count: usize,
    segment_stride: usize,
    local_table: usize,
}

const LAYOUT_16: Layout = Layout {
    eip: 0x0e,
    eflags: 0x10,
    gprs: 0x12,
    segments: 0x22,
    segment_count: 4,
    segment_stride: 2,
    local_table: 0x2a,
};
const LAYOUT_32: Layout = Layout {
    eip: 0x20,
    eflags: 0x24,
    gprs: 0x28,
    segments: 0x48,
    segment_count: 6,
    segment_stride: 4,
    local_table: 0x60,
};
const CR3: usize = 0x1c;
const TRAP: usize = 0x64;

impl Format {
    /// The format of a TSS descriptor's type.
    pub const fn of_type(kind: u8) -> Self {
        if kind & 8 != 0 { Self::Bits32 } else { Self::Bits16 }
    }

    /// The part that a task switch accesses.
    pub const fn length_bytes(self) -> usize {
        match self {
            Self::Bits16 => 44,
            Self::Bits32 => MAX_BYTES,
        }
    }

    /// Size of a register in it.
    pub const fn word_bytes(self) -> usize {
        match self {
            Self::Bits16 => 2,
            Self::Bits32 => 4,
        }
    }

    const fn layout(self) -> &'static Layout {
        match self {
            Self::Bits16 => &LAYOUT_16,
            Self::Bits32 => &LAYOUT_32,
        }
    }

    fn get(self, bytes: &[u8], offset: usize) -> u32 {
        let field = bytes.get(offset..offset + self.word_bytes()).unwrap_or_default();
        field.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn put(self, bytes: &mut [u8], offset: usize, value: u32) {
        if let Some(field) = bytes.get_mut(offset..offset + self.word_bytes()) {
            field.copy_from_slice(&value.to_le_bytes()[..self.word_bytes()]);
        }
    }
}

impl TaskState {
    /// Reads a TSS.
    pub fn decode(format: Format, bytes: &[u8]) -> Self {
        let layout = format.layout();
        let wide = format == Format::Bits32;
        let segment = |index: usize| match index < layout.segment_count {
            true => format.get(bytes, layout.segments + index * layout.segment_stride) as u16,
            false => 0,
        };
        Self {
            cr3: wide.then(|| format.get(bytes, CR3)),
            eip: format.get(bytes, layout.eip),
            eflags: format.get(bytes, layout.eflags),
            gprs: core::array::from_fn(|index| {
                format.get(bytes, layout.gprs + index * format.word_bytes())
            }),
            segments: core::array::from_fn(segment),
            local_table: format.get(bytes, layout.local_table) as u16,
            trap: wide && bytes.get(TRAP).is_some_and(|byte| byte & 1 != 0),
        }
    }

    /// Puts what is saved of a task where it belongs in a TSS; returns the range that was written.
    pub fn encode(&self, format: Format, bytes: &mut [u8; MAX_BYTES]) -> Range<usize> {
        let layout = format.layout();
        format.put(bytes, layout.eip, self.eip);
        format.put(bytes, layout.eflags, self.eflags);
        for (index, &value) in self.gprs.iter().enumerate() {
            format.put(bytes, layout.gprs + index * format.word_bytes(), value);
        }
        for (index, &selector) in self.segments.iter().take(layout.segment_count).enumerate() {
            format.put(bytes, layout.segments + index * layout.segment_stride, selector.into());
        }
        layout.eip..layout.segments + layout.segment_count * layout.segment_stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_again() {
        let task = TaskState {
            eip: 0x1234,
            eflags: 0x4202,
            gprs: [1, 2, 3, 4, 5, 6, 7, 8],
            segments: [0x10, 0x08, 0x18, 0x20, 0, 0],
            ..TaskState::default()
        };
        for (format, range) in [(Format::Bits16, 0x0e..0x2a), (Format::Bits32, 0x20..0x60)] {
            let mut bytes = [0; MAX_BYTES];
            assert_eq!(task.encode(format, &mut bytes), range);
            let loaded = TaskState::decode(format, &bytes);
            assert_eq!(TaskState { cr3: None, ..loaded }, task, "{format:?}");
        }
    }
}
