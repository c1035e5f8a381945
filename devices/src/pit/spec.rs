//! Registers of the Intel 8254 (datasheet 231164-005) and of port 61h (PIIX3 datasheet 290550-002,
//! "NMI status and control").

use bitfield_struct::bitfield;

/// Input clock of all three counters: 14.31818 MHz / 12, rounded as every operating system has it.
pub const PIT_HZ: u64 = 1_193_182;

/// Counter 0; counters 1, 2 and the control word follow.
pub const COUNTER_BASE: u64 = 0x40;
/// Offset of the control word register.
pub const CONTROL_OFFSET: u64 = 3;
/// NMI status and control.
pub const PORT_61: u64 = 0x61;
/// The refresh request toggles after this many clocks (15.085 us), as counter 1 does it in a PC.
pub const REFRESH_TOGGLE_TICKS: u64 = 18;

/// Value of `select` for the read-back command.
pub const SELECT_READ_BACK: u8 = 3;

/// Control word, written to 43h.
#[bitfield(u8, order = Lsb)]
pub struct ControlWord {
    /// BCD: four decades rather than 16 bits.
    pub bcd: bool,
    /// M2-M0. 6 and 7 mean 2 and 3.
    #[bits(3)]
    pub mode: u8,
    /// RW1-RW0: which bytes are read and written.
    #[bits(2)]
    pub access: ByteAccess,
    /// SC1-SC0: the counter.
    #[bits(2)]
    pub select: u8,
}

/// RW1-RW0 of a control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ByteAccess {
    /// Counter latch command.
    Latch = 0,
    /// Low byte only; the high one is 0.
    Low = 1,
    /// High byte only; the low one is 0.
    High = 2,
    /// Low byte, then high byte.
    Both = 3,
}

impl ByteAccess {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Latch,
            1 => Self::Low,
            2 => Self::High,
            _ => Self::Both,
        }
    }

    const fn into_bits(self) -> u8 {
        self as u8
    }
}

/// Read-back command, written to 43h.
#[bitfield(u8)]
pub struct ReadBack {
    _reserved: bool,
    /// CNT0 to CNT2: which counters.
    #[bits(3)]
    pub counters: u8,
    /// STATUS#: clear to latch the status.
    pub no_status: bool,
    /// COUNT#: clear to latch the count.
    pub no_count: bool,
    #[bits(2)]
    _select: u8,
}

/// Status byte that the read-back command latches.
#[bitfield(u8)]
pub struct Status {
    /// BCD, mode and access as written in the control word.
    #[bits(6)]
    pub programmed: u8,
    /// The count last written has not been loaded yet.
    pub null_count: bool,
    /// Level of OUT.
    pub output: bool,
}

/// Port 61h.
#[bitfield(u8)]
pub struct Port61 {
    /// Gate of counter 2.
    pub timer2_gate: bool,
    /// Speaker data enable.
    pub speaker: bool,
    /// PCI SERR# disable; stored.
    pub serr_disable: bool,
    /// IOCHK# disable; stored.
    pub iochk_disable: bool,
    /// Toggles with each refresh request; read only.
    pub refresh_toggle: bool,
    /// OUT of counter 2; read only.
    pub timer2_output: bool,
    /// IOCHK# status; read only, 0.
    pub iochk: bool,
    /// SERR# status; read only, 0.
    pub serr: bool,
}

impl Port61 {
    /// Keeps the bits that a write sets.
    pub fn writable(self) -> Self {
        Self::new()
            .with_timer2_gate(self.timer2_gate())
            .with_speaker(self.speaker())
            .with_serr_disable(self.serr_disable())
            .with_iochk_disable(self.iochk_disable())
    }
}
