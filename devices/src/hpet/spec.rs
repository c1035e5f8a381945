//! Registers of the IA-PC HPET specification, revision 1.0a, section 2.3.

use bitfield_struct::bitfield;

/// Where firmware and operating systems expect the registers.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Length of the register block.
pub const HPET_BYTES: u64 = 0x400;

/// Period of the main counter.
pub const TICK_NS: u64 = 10;
const FS_PER_NS: u32 = 1_000_000;

/// General capabilities and identification.
pub const CAPABILITIES: u64 = 0x000;
/// General configuration.
pub const CONFIGURATION: u64 = 0x010;
/// General interrupt status.
pub const STATUS: u64 = 0x020;
/// Main counter.
pub const COUNTER: u64 = 0x0f0;
/// First register of timer 0.
pub const TIMERS: u64 = 0x100;
/// Bytes from one timer's registers to the next.
pub const TIMER_STRIDE: u64 = 0x20;
/// Configuration and capabilities of a timer, from its first register.
pub const TIMER_CONFIGURATION: u64 = 0x00;
/// Comparator of a timer.
pub const TIMER_COMPARATOR: u64 = 0x08;

/// Message of a timer: its value in the low half, its address in the high half.
pub const TIMER_MESSAGE: u64 = 0x10;

/// Comparators.
pub const TIMER_COUNT: usize = 3;

/// First I/O APIC input that a timer can be routed to.
pub const FIRST_ROUTE: u8 = 16;
/// Consecutive I/O APIC inputs that a timer can be routed to.
pub const ROUTE_COUNT: usize = 8;

/// Value of the capabilities register.
pub const CAPABILITIES_VALUE: u64 = Capabilities::new()
    .with_revision(1)
    .with_last_timer(TIMER_COUNT as u8 - 1)
    .with_counter_64(true)
    .with_legacy_capable(true)
    .with_vendor(0x8086)
    .with_period_fs(TICK_NS as u32 * FS_PER_NS)
    .into_bits();

/// General capabilities and identification.
#[bitfield(u64)]
pub struct Capabilities {
    /// REV_ID.
    pub revision: u8,
    /// NUM_TIM_CAP: number of the last timer.
    #[bits(5)]
    pub last_timer: u8,
    /// COUNT_SIZE_CAP: the main counter has 64 bits.
    pub counter_64: bool,
    _reserved: bool,
    /// LEG_RT_CAP: legacy replacement route.
    pub legacy_capable: bool,
    /// VENDOR_ID.
    pub vendor: u16,
    /// COUNTER_CLK_PERIOD in femtoseconds.
    pub period_fs: u32,
}

/// General configuration.
#[bitfield(u64)]
pub struct Configuration {
    /// ENABLE_CNF: the counter runs and interrupts are on.
    pub enable: bool,
    /// LEG_RT_CNF: timers 0 and 1 replace PIT and RTC.
    pub legacy: bool,
    #[bits(62)]
    _reserved: u64,
}

/// Configuration and capabilities of a timer.
#[bitfield(u64)]
pub struct TimerConfiguration {
    _reserved0: bool,
    /// Tn_INT_TYPE_CNF: level rather than edge.
    pub level: bool,
    /// Tn_INT_ENB_CNF.
    pub enable: bool,
    /// Tn_TYPE_CNF.
    pub periodic: bool,
    /// Tn_PER_INT_CAP.
    pub periodic_capable: bool,
    /// Tn_SIZE_CAP.
    pub size_64: bool,
    /// Tn_VAL_SET_CNF: the next write to a periodic comparator sets the comparator itself, not
    /// only the period.
    pub set_comparator: bool,
    _reserved7: bool,
    /// Tn_32MODE_CNF.
    pub mode_32: bool,
    /// Tn_INT_ROUTE_CNF: I/O APIC input.
    #[bits(5)]
    pub route: u8,
    /// Tn_FSB_EN_CNF.
    pub fsb_enable: bool,
    /// Tn_FSB_INT_DEL_CAP.
    pub fsb_capable: bool,
    _reserved16: u16,
    /// Tn_INT_ROUTE_CAP: a bit for each I/O APIC input.
    pub routes: u32,
}

impl TimerConfiguration {
    /// After reset: what the timer can do.
    pub fn initial() -> Self {
        let routes = ((1 << ROUTE_COUNT) - 1) << FIRST_ROUTE;
        Self::new()
            .with_periodic_capable(true)
            .with_size_64(true)
            .with_fsb_capable(true)
            .with_routes(routes)
    }

    /// The register's value after a write of `written`. A route that is not supported is not taken.
    pub fn update(self, written: Self) -> Self {
        let route_supported = self.routes() & (1 << written.route()) != 0;
        self.with_level(written.level())
            .with_enable(written.enable())
            .with_periodic(written.periodic())
            .with_set_comparator(written.set_comparator())
            .with_mode_32(written.mode_32())
            .with_fsb_enable(written.fsb_enable())
            .with_route(if route_supported { written.route() } else { self.route() })
    }
}
