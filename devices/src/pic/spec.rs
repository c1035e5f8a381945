//! Command words of the Intel 8259A (datasheet 231468-003) and the edge/level registers of the
//! PIIX3 (datasheet 290550-002, section 2.5.4).

use bitfield_struct::bitfield;

/// Command port of the first controller; data port follows.
pub const PRIMARY_BASE: u64 = 0x20;
/// Command port of the second controller; data port follows.
pub const SECONDARY_BASE: u64 = 0xa0;
/// ELCR1, followed by ELCR2.
pub const ELCR_BASE: u64 = 0x4d0;

/// Inputs of the first controller that may be level triggered: not the timer, the keyboard and the
/// cascade.
pub const ELCR1_WRITABLE: u8 = 0xf8;
/// Inputs of the second controller that may be level triggered: not the RTC (8) and the FPU error
/// (13).
pub const ELCR2_WRITABLE: u8 = 0xde;

/// The input of the first controller that the second one's output is wired to.
pub const CASCADE_INPUT: u8 = 2;
/// The level that a controller reports when a request vanished before it was acknowledged.
pub const SPURIOUS_LEVEL: u8 = 7;

/// Initialisation command word 1, written to the command port.
#[bitfield(u8)]
pub struct Icw1 {
    /// IC4: ICW4 follows.
    pub needs_icw4: bool,
    /// SNGL: no cascade, ICW3 is left out.
    pub single: bool,
    /// ADI: MCS-80 only.
    pub call_interval_4: bool,
    /// LTIM: all inputs level triggered. The PIIX3 ignores it in favour of the ELCR.
    pub level_triggered: bool,
    /// Set in ICW1, clear in OCW2 and OCW3.
    pub is_icw1: bool,
    /// A7-A5: MCS-80 only.
    #[bits(3)]
    pub address: u8,
}

/// Initialisation command word 4, written to the data port.
#[bitfield(u8)]
pub struct Icw4 {
    /// uPM: 8086 mode, the only one that a PC can use.
    pub mode_8086: bool,
    /// AEOI: the in-service bit is cleared by the acknowledge cycle itself.
    pub auto_eoi: bool,
    /// M/S: only with `buffered`.
    pub buffered_primary: bool,
    /// BUF: drives the buffer enable pin; without effect here.
    pub buffered: bool,
    /// SFNM: special fully nested mode.
    pub special_fully_nested: bool,
    #[bits(3)]
    _reserved: u8,
}

/// Operation command word 2, written to the command port: end of interrupt and priority rotation.
#[bitfield(u8)]
pub struct Ocw2 {
    /// L2-L0: the level acted upon if `specific`.
    #[bits(3)]
    pub level: u8,
    /// 0 in OCW2.
    #[bits(2)]
    pub select: u8,
    /// EOI.
    pub end_of_interrupt: bool,
    /// SL.
    pub specific: bool,
    /// R.
    pub rotate: bool,
}

/// Operation command word 3, written to the command port: what reads return, poll and special mask
/// mode.
#[bitfield(u8)]
pub struct Ocw3 {
    /// RIS: in-service register rather than request register, if `read_register`.
    pub read_isr: bool,
    /// RR: `read_isr` is valid.
    pub read_register: bool,
    /// P: the next read is a poll.
    pub poll: bool,
    /// Set in OCW3, clear in OCW2.
    pub is_ocw3: bool,
    /// 0 in OCW3.
    pub is_icw1: bool,
    /// SMM: special mask mode on or off, if `special_mask_valid`.
    pub special_mask: bool,
    /// ESMM: `special_mask` is valid.
    pub special_mask_valid: bool,
    _reserved: bool,
}

/// The byte that a read of the command port returns after OCW3.P: 8259A datasheet, "Poll command".
#[bitfield(u8)]
pub struct PollWord {
    /// W2-W0: the highest level that requests service.
    #[bits(3)]
    pub level: u8,
    #[bits(4)]
    _reserved: u8,
    /// I: there is one.
    pub requested: bool,
}
