//! The ACPI power management timer, by which other clocks are judged and waits are bounded.
//!
//! Machines stand still now and then: an interval may be longer than it should be, by any amount.
//! So clocks are compared, not measured, and a comparison has many attempts ([`agrees`]): a clock
//! at the wrong rate fails all.

use crate::cpu::inl;
use crate::global::Global;
use crate::pci::Function;

/// Ticks of the timer in a second.
pub const HZ: u64 = 3_579_545;

/// 24 bits are there on every machine.
const MASK: u32 = 0xff_ffff;

/// PIIX4 power management.
pub const POWER_MANAGEMENT: u32 = 0x7113_8086;
const PMBASE: u8 = 0x40;
const TIMER: u16 = 8;

/// How long [`until`] waits: far longer than anything takes that is waited for.
const PATIENCE: u64 = 2 * HZ;

static PORT: Global<u16> = Global::new(0);

/// The timer's value.
pub fn ticks() -> u32 {
    if PORT.get() == 0 {
        let function = Function::find(POWER_MANAGEMENT).unwrap_or_else(|| unreachable!());
        PORT.set((function.read(PMBASE) as u16 & 0xffc0) + TIMER);
    }
    inl(PORT.get()) & MASK
}

/// A running total of the timer's ticks; to be asked more often than every four seconds.
#[derive(Debug)]
pub struct Stopwatch {
    last: u32,
    total: u64,
}

impl Stopwatch {
    /// Starts at 0.
    pub fn start() -> Self {
        Self { last: ticks(), total: 0 }
    }

    /// Ticks since the start.
    pub fn ticks(&mut self) -> u64 {
        let now = ticks();
        self.total += u64::from(now.wrapping_sub(self.last) & MASK);
        self.last = now;
        self.total
    }
}

/// Waits until `condition` holds; false if it does not in good time.
pub fn until(mut condition: impl FnMut() -> bool) -> bool {
    let mut watch = Stopwatch::start();
    loop {
        if condition() {
            return true;
        }
        if watch.ticks() > PATIENCE {
            // The machine may have stood still since it was asked.
            return condition();
        }
        core::hint::spin_loop();
    }
}

/// Lets `count` ticks pass.
pub fn wait(count: u64) {
    let mut watch = Stopwatch::start();
    while watch.ticks() < count {
        core::hint::spin_loop();
    }
}

/// The result of `attempt` when it takes no longer than `limit` ticks: it is repeated while the
/// machine stands still meanwhile.
pub fn within<R>(limit: u64, mut attempt: impl FnMut() -> R) -> R {
    for _ in 0..50 {
        let mut watch = Stopwatch::start();
        let result = attempt();
        if watch.ticks() <= limit {
            return result;
        }
    }
    attempt()
}

/// Whether `measure` gives a value near `expected` (within an eighth) in one of many attempts.
pub fn agrees(expected: u64, mut measure: impl FnMut() -> u64) -> bool {
    (0..50).any(|_| measure().abs_diff(expected) <= expected / 8)
}
