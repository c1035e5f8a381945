//! Where a guest has what the cases refer to. The addresses are linear, below 4 GiB, and the same
//! for every case.

/// The window whose pages are RAM or a device's: its address, and the base of the data segment of
/// 16-bit code.
pub const WINDOW: u32 = 0x4000_0000;

/// The page of the instruction, always RAM, filled with INT3: the base of the code segments of 16
/// and 32 bits.
pub const CODE: u32 = WINDOW + 0x8000;

/// The offset in that page that transfers go to.
pub const TARGET: u16 = 0x0c0;

/// Selectors: 64-bit code, flat; 32-bit and 16-bit code with base [`CODE`]; flat data; data with
/// base [`WINDOW`].
pub const CODE64: u16 = 0x18;
#[allow(missing_docs)]
pub const CODE32: u16 = 0x60;
#[allow(missing_docs)]
pub const CODE16: u16 = 0x68;
#[allow(missing_docs)]
pub const DATA: u16 = 0x10;
#[allow(missing_docs)]
pub const DATA16: u16 = 0x70;
/// A descriptor of an LDT, and of an available TSS: two entries each.
pub const LDT: u16 = 0x80;
#[allow(missing_docs)]
pub const TASK: u16 = 0x90;

/// The size of code. Code of 16 and 32 bits runs in compatibility mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Mode {
    Bits16,
    Bits32,
    Bits64,
}

impl Mode {
    /// All.
    pub const ALL: [Self; 3] = [Self::Bits16, Self::Bits32, Self::Bits64];

    /// Its size.
    pub fn bits(self) -> u32 {
        self.pick(16, 32, 64)
    }

    pub(crate) fn pick<T>(self, bits16: T, bits32: T, bits64: T) -> T {
        match self {
            Self::Bits16 => bits16,
            Self::Bits32 => bits32,
            Self::Bits64 => bits64,
        }
    }

    pub(crate) fn address_bytes(self) -> u32 {
        self.pick(2, 4, 8)
    }

    /// The base of its data segments.
    pub fn data_base(self) -> u32 {
        self.pick(WINDOW, 0, 0)
    }

    /// The base of its code segment, as an address of the instruction counts.
    pub(crate) fn code_base(self) -> u64 {
        self.pick(0, 0, CODE.into())
    }

    pub(crate) fn operand_offset(self) -> u64 {
        u64::from(WINDOW - self.data_base()) + OPERAND
    }
}

/// The offset in the window of an operand whose address is in the instruction.
pub const OPERAND: u64 = 0x1400;
