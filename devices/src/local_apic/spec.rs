//! Registers of the local APIC (Intel SDM volume 3, chapter 11 "APIC"; AMD APM volume 2, chapter
//! 16).

use bitfield_struct::bitfield;

/// Frequency of the timer's clock before the divider: 1 GHz, so that one tick is one nanosecond of
/// guest time.
pub const TIMER_HZ: u64 = 1_000_000_000;

/// Version register: version 14h, six local vector table entries (highest number 5), no EOI
/// suppression.
pub const VERSION: u32 = 0x0005_0014;

/// Guest-physical address of the registers after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;

/// First MSR of the x2APIC registers; register at memory offset `n` is MSR `X2APIC_FIRST_MSR + n /
/// 16`.
pub const X2APIC_FIRST_MSR: u32 = 0x800;

/// Vectors below this one are illegal in a fixed interrupt.
pub const FIRST_LEGAL_VECTOR: u8 = 16;

/// The 32-bit logical ID of x2APIC mode: cluster and one bit, derived from the physical ID (SDM
/// 11.12.10.2).
pub const fn x2apic_logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

/// Register numbers: memory offset divided by 16 (SDM table 11-1).
pub mod register {
    #![allow(missing_docs)]
    pub const ID: u8 = 0x02;
    pub const VERSION: u8 = 0x03;
    pub const TPR: u8 = 0x08;
    pub const APR: u8 = 0x09;
    pub const PPR: u8 = 0x0a;
    pub const EOI: u8 = 0x0b;
    pub const REMOTE_READ: u8 = 0x0c;
    pub const LDR: u8 = 0x0d;
    pub const DFR: u8 = 0x0e;
    pub const SVR: u8 = 0x0f;
    pub const ISR_FIRST: u8 = 0x10;
    pub const ISR_LAST: u8 = 0x17;
    pub const TMR_FIRST: u8 = 0x18;
    pub const TMR_LAST: u8 = 0x1f;
    pub const IRR_FIRST: u8 = 0x20;
    pub const IRR_LAST: u8 = 0x27;
    pub const ESR: u8 = 0x28;
    pub const ICR_LOW: u8 = 0x30;
    pub const ICR_HIGH: u8 = 0x31;
    pub const LVT_TIMER: u8 = 0x32;
    pub const LVT_ERROR: u8 = 0x37;
    pub const INITIAL_COUNT: u8 = 0x38;
    pub const CURRENT_COUNT: u8 = 0x39;
    pub const DIVIDE: u8 = 0x3e;
    pub const SELF_IPI: u8 = 0x3f;
    pub const LAST: u8 = 0x3f;
}

/// How an interrupt message is delivered (SDM 11.6.1, 11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeliveryMode {
    /// The vector, to every destination.
    Fixed,
    /// The vector, to one of the destinations.
    LowestPriority,
    /// System management interrupt; not offered.
    Smi,
    /// No meaning.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up IPI: the vector is the page where the processor starts.
    StartUp,
    /// The vector comes from the 8259 pair.
    ExtInt,
}

impl DeliveryMode {
    /// The field.
    pub const fn into_bits(self) -> u8 {
        self as u8
    }

    /// From the low three bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::Reserved,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::ExtInt,
        }
    }
}

/// Shorthand for the destination of an interprocessor interrupt (SDM 11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shorthand {
    /// The destination field counts.
    None,
    /// The sender.
    ToSelf,
    /// All, with the sender.
    All,
    /// All but the sender.
    Others,
}

impl Shorthand {
    const fn into_bits(self) -> u8 {
        self as u8
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::ToSelf,
            2 => Self::All,
            _ => Self::Others,
        }
    }
}

/// The timer's action at the end of its count (SDM 11.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TimerMode {
    /// It stops.
    OneShot,
    /// It starts again.
    Periodic,
    /// There is no count, but a value of the TSC to wait for.
    TscDeadline,
    /// No meaning; the timer stands.
    Reserved,
}

impl TimerMode {
    const fn into_bits(self) -> u8 {
        self as u8
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }
}

/// Spurious interrupt vector register (SDM 11.9).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Svr {
    pub vector: u8,
    pub enabled: bool,
    pub focus_disabled: bool,
    #[bits(22)]
    __: u32,
}

/// An entry of the local vector table (SDM 11.5.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Lvt {
    pub vector: u8,
    #[bits(3, default = DeliveryMode::Fixed)]
    pub mode: DeliveryMode,
    __: bool,
    pub send_pending: bool,
    pub active_low: bool,
    pub remote_irr: bool,
    pub level: bool,
    pub masked: bool,
    #[bits(2, default = TimerMode::OneShot)]
    pub timer_mode: TimerMode,
    #[bits(13)]
    __: u32,
}

/// The entries of the local vector table, in register order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum LvtEntry {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl LvtEntry {
    /// All of them, in register order.
    pub const ALL: [Self; 6] =
        [Self::Timer, Self::Thermal, Self::Performance, Self::Lint0, Self::Lint1, Self::Error];

    /// The number of its register.
    pub const fn register(self) -> u8 {
        register::LVT_TIMER + self as u8
    }

    /// The bits that software can write.
    pub const fn writable(self) -> u32 {
        match self {
            Self::Timer => 0x0007_00ff,
            Self::Thermal | Self::Performance => 0x0001_07ff,
            Self::Lint0 | Self::Lint1 => 0x0001_a7ff,
            Self::Error => 0x0001_00ff,
        }
    }
}

/// Interrupt command register (SDM 11.6.1); in xAPIC mode only the top byte of the destination
/// exists.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Icr {
    pub vector: u8,
    #[bits(3, default = DeliveryMode::Fixed)]
    pub mode: DeliveryMode,
    pub logical: bool,
    pub send_pending: bool,
    __: bool,
    pub assert: bool,
    pub level: bool,
    #[bits(2)]
    __: u8,
    #[bits(2, default = Shorthand::None)]
    pub shorthand: Shorthand,
    #[bits(12)]
    __: u16,
    pub destination: u32,
}

impl Icr {
    /// Bits that are reserved in x2APIC mode: writing a one faults (SDM 11.12.9).
    pub const X2APIC_RESERVED: u64 = 0xfff3_2000;
    /// The bits of the low half that software can write.
    pub const WRITABLE_LOW: u32 = 0x000c_cfff;
}

/// Error status register (SDM 11.5.3).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Esr {
    #[bits(5)]
    __: u8,
    pub send_illegal_vector: bool,
    pub receive_illegal_vector: bool,
    pub illegal_register: bool,
    #[bits(24)]
    __: u32,
}

/// IA32_APIC_BASE (SDM 11.4.4, 11.12.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ApicBase {
    #[bits(8)]
    pub reserved_low: u8,
    pub bootstrap: bool,
    __: bool,
    pub x2apic: bool,
    pub enabled: bool,
    #[bits(40)]
    pub page: u64,
    #[bits(12)]
    pub reserved_high: u16,
}

/// Divide configuration register (SDM 11.5.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Divide {
    #[bits(2)]
    pub low: u8,
    __: bool,
    pub high: bool,
    #[bits(28)]
    __: u32,
}

impl Divide {
    /// Logarithm of the divisor: 0 for 1, 7 for 128.
    pub const fn shift(self) -> u32 {
        (self.low() as u32 + 4 * self.high() as u32 + 1) % 8
    }
}

/// Address of a message-signalled interrupt (SDM 11.11.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsiAddress {
    #[bits(2)]
    __: u8,
    pub logical: bool,
    pub redirection_hint: bool,
    __: u8,
    pub destination: u8,
    #[bits(12)]
    pub prefix: u16,
}

impl MsiAddress {
    /// The value that [`MsiAddress::prefix`] must have.
    pub const PREFIX: u16 = 0xfee;
}

/// Data of a message-signalled interrupt (SDM 11.11.2).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsiData {
    pub vector: u8,
    #[bits(3, default = DeliveryMode::Fixed)]
    pub mode: DeliveryMode,
    #[bits(3)]
    __: u8,
    pub assert: bool,
    pub level: bool,
    __: u16,
}
