//! The table of cases, as `tests/guests/forms` writes it (`output.rs` there).

use core::fmt;

use conformance::cpu::cpuid;

include!(concat!(env!("OUT_DIR"), "/forms.rs"));

/// Cases of the same features.
pub struct Group {
    pub name: &'static str,
    /// Leaf, subleaf, register (0 is EAX) and bit.
    pub bits: &'static [(u32, u32, u8, u8)],
    /// Of XCR0.
    pub components: u64,
    pub mnemonics: usize,
}

impl Group {
    /// Whether the processor has the features, and `components` what they need.
    pub fn is_supported(&self, components: u64) -> bool {
        let has = |&(leaf, subleaf, register, bit): &(u32, u32, u8, u8)| {
            let last = cpuid(leaf & 0xffff_0000, 0)[0];
            let last_subleaf = if leaf == 7 { cpuid(7, 0)[0] } else { u32::MAX };
            last >= leaf
                && last_subleaf >= subleaf
                && cpuid(leaf, subleaf)[usize::from(register)] >> bit & 1 != 0
        };
        self.components & !components == 0 && self.bits.iter().all(has)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Bits16,
    Bits32,
    Bits64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BasePointer {
    Number,
    Stack,
    Two,
}

/// The contents of memory beside the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Pattern,
    Operand(&'static [u8]),
    Stack(&'static [u8]),
    GlobalTable,
    InterruptTable,
    LegacyState,
    ExtendedState,
    CompactedState,
}

/// An instruction; the fields are those of `cases.rs` in `tests/guests/forms`.
pub struct Case {
    pub mode: Mode,
    pub stack: bool,
    pub pushes: bool,
    pub has_second: bool,
    pub writes: bool,
    pub base_pointer: BasePointer,
    pub memory: Memory,
    pub flags: u16,
    pub split: u64,
    pub extent: u64,
    pub bytes: &'static [u8],
}

impl Case {
    /// An instruction without an operand in memory.
    pub fn plain(mode: Mode, bytes: &'static [u8]) -> Self {
        Self {
            mode,
            stack: false,
            pushes: false,
            has_second: false,
            writes: false,
            base_pointer: BasePointer::Number,
            memory: Memory::Pattern,
            flags: u16::MAX,
            split: 0,
            extent: UNIT,
            bytes,
        }
    }
}

/// The size of the code in bits, and its bytes.
impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.mode {
            Mode::Bits16 => 16,
            Mode::Bits32 => 32,
            Mode::Bits64 => 64,
        };
        write!(formatter, "{bits}:")?;
        self.bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Reads the table from its start to its end.
pub struct Cursor(&'static [u8]);

impl Cursor {
    pub fn new() -> Self {
        Self(CASES)
    }

    fn take(&mut self, count: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self) -> &'static [u8] {
        let count = self.byte();
        self.take(count.into())
    }

    pub fn name(&mut self) -> &'static str {
        core::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    pub fn count(&mut self) -> usize {
        self.word().into()
    }

    pub fn case(&mut self) -> Case {
        let (kind, memory, flags) = (self.byte(), self.byte(), self.word());
        let (split, extent) = (self.byte(), self.byte());
        let (bytes, prepared) = (self.bytes(), self.bytes());
        Case {
            mode: match kind & 3 {
                0 => Mode::Bits16,
                1 => Mode::Bits32,
                _ => Mode::Bits64,
            },
            stack: kind & 4 != 0,
            pushes: kind & 8 != 0,
            has_second: kind & 0x40 != 0,
            writes: kind & 0x80 != 0,
            base_pointer: match kind >> 4 & 3 {
                0 => BasePointer::Number,
                1 => BasePointer::Stack,
                _ => BasePointer::Two,
            },
            memory: match memory {
                0 => Memory::Pattern,
                1 => Memory::Operand(prepared),
                2 => Memory::Stack(prepared),
                3 => Memory::GlobalTable,
                4 => Memory::InterruptTable,
                5 => Memory::LegacyState,
                6 => Memory::ExtendedState,
                _ => Memory::CompactedState,
            },
            flags,
            split: split.into(),
            extent: u64::from(extent) * UNIT,
            bytes,
        }
    }
}
