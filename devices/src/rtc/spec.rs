//! Registers of the Motorola MC146818 (datasheet MC146818/D) as a PC has it at ports 70h to 73h.

use bitfield_struct::bitfield;

/// Index port; data, extended index and extended data ports follow.
pub const PORT_BASE: u64 = 0x70;
/// Ports that the device answers.
pub const PORT_COUNT: u64 = 4;

/// Bytes in each of the two banks.
pub const BANK_BYTES: usize = 128;

/// Seconds.
pub const SECONDS: u8 = 0x00;
/// Seconds alarm.
pub const SECONDS_ALARM: u8 = 0x01;
/// Minutes.
pub const MINUTES: u8 = 0x02;
/// Minutes alarm.
pub const MINUTES_ALARM: u8 = 0x03;
/// Hours.
pub const HOURS: u8 = 0x04;
/// Hours alarm.
pub const HOURS_ALARM: u8 = 0x05;
/// Day of the week, Sunday is 1.
pub const WEEKDAY: u8 = 0x06;
/// Day of the month.
pub const DAY: u8 = 0x07;
/// Month.
pub const MONTH: u8 = 0x08;
/// Year within the century.
pub const YEAR: u8 = 0x09;
/// Register A.
pub const REGISTER_A: u8 = 0x0a;
/// Register B.
pub const REGISTER_B: u8 = 0x0b;
/// Register C.
pub const REGISTER_C: u8 = 0x0c;
/// Register D.
pub const REGISTER_D: u8 = 0x0d;
/// Century (the byte that the FADT names; a convention of PC firmware).
pub const CENTURY: u8 = 0x32;

/// An alarm byte with both top bits set matches every value.
pub const ALARM_ANY: u8 = 0xc0;

/// Frequency of the divider's input.
pub const CRYSTAL_HZ: u64 = 32_768;
/// UIP rises this long before the time changes: tBUC (244 us) and the update cycle (1984 us).
pub const UPDATE_WINDOW_NS: u64 = 244_000 + 1_984_000;

/// Index ports.
#[bitfield(u8)]
pub struct Index {
    /// The byte selected.
    #[bits(7)]
    pub byte: u8,
    /// NMI is masked (70h only).
    pub nmi_masked: bool,
}

/// Register A.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct RegisterA {
    /// RS3-RS0: periodic interrupt rate.
    #[bits(4)]
    pub rate: u8,
    /// DV2-DV0: time base; 110b and 111b hold the divider in reset.
    #[bits(3)]
    pub divider: u8,
    /// UIP: the time is about to change. Read only.
    pub update_in_progress: bool,
}

impl RegisterA {
    /// True if the divider is held in reset: no updates and no periodic interrupts.
    pub fn is_divider_held(self) -> bool {
        self.divider() >= 0b110
    }

    /// Crystal cycles between periodic interrupts.
    pub fn period_cycles(self) -> Option<u64> {
        match self.rate() {
            0 => None,
            // With a 32768 Hz time base these two are 256 Hz and 128 Hz.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }
}

/// Register B.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct RegisterB {
    /// DSE: daylight saving; ignored.
    pub daylight_saving: bool,
    /// 24/12: hours 0 to 23.
    pub hours_24: bool,
    /// DM: binary rather than BCD.
    pub binary: bool,
    /// SQWE: square wave output, not connected.
    pub square_wave: bool,
    /// UIE: update-ended interrupt enable.
    pub update_enable: bool,
    /// AIE: alarm interrupt enable.
    pub alarm_enable: bool,
    /// PIE: periodic interrupt enable.
    pub periodic_enable: bool,
    /// SET: the guest sets the time; no updates.
    pub set: bool,
}

/// Register C: a read clears it.
#[bitfield(u8)]
pub struct RegisterC {
    #[bits(4)]
    _reserved: u8,
    /// UF: the time has changed.
    pub update: bool,
    /// AF: the time has become the alarm time.
    pub alarm: bool,
    /// PF: a period has passed.
    pub periodic: bool,
    /// IRQF: one of the flags is set and enabled.
    pub interrupt: bool,
}

/// Register D.
#[bitfield(u8)]
pub struct RegisterD {
    #[bits(7)]
    _reserved: u8,
    /// VRT: the battery is good.
    pub valid: bool,
}
