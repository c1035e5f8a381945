//! Time as guests read it without an exit: from their time stamp counter, by a multiplication.

use crate::width::Width;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// The time is the same function of the time stamp counter on all virtual CPUs.
const TSC_STABLE: u8 = 1;

/// How guest time follows from a virtual CPU's time stamp counter: it was `zero_tsc` at time 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeScale {
    /// The time stamp counter at guest time 0.
    pub zero_tsc: u64,
    /// Nanoseconds a tick, with 32 fractional bits.
    pub ns_per_tick_q32: u64,
    /// All virtual CPUs have the same.
    pub stable: bool,
}

impl TimeScale {
    /// `vcpu_time_info` but for its version, which the writer sets.
    pub const fn info(self, version: u32) -> TimeInfo {
        // A fraction of 32 bits; a clock below 1 GHz has its ticks shifted to the left before.
        let shift = match self.ns_per_tick_q32 >> 32 {
            0 => 0,
            above => u64::BITS - above.leading_zeros(),
        };
        let mul = (self.ns_per_tick_q32 >> shift) as u32;
        TimeInfo {
            version: U32::new(version),
            pad: U32::new(0),
            tsc_timestamp: U64::new(self.zero_tsc),
            system_time: U64::new(0),
            tsc_to_system_mul: U32::new(mul),
            tsc_shift: shift as i8,
            flags: if self.stable { TSC_STABLE } else { 0 },
            pad_1: [0; 2],
        }
    }
}

/// `vcpu_time_info` (xen.h), the same in both widths.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct TimeInfo {
    /// Odd while it is being written.
    pub version: U32,
    pad: U32,
    /// The time stamp counter at `system_time`.
    pub tsc_timestamp: U64,
    /// Nanoseconds.
    pub system_time: U64,
    /// Nanoseconds a tick that was shifted, with 32 fractional bits.
    pub tsc_to_system_mul: U32,
    /// Ticks are shifted to the left by it.
    pub tsc_shift: i8,
    /// Bit 0: the same function on all virtual CPUs.
    pub flags: u8,
    pad_1: [u8; 2],
}

/// The state of a virtual CPU (vcpu.h, `RUNSTATE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum RunState {
    /// It is on a CPU.
    #[default]
    Running = 0,
    /// It could run, and another does.
    Runnable = 1,
    /// It waits.
    Blocked = 2,
    /// It was not started, or is off.
    Offline = 3,
}

/// How long a virtual CPU has been in each state.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunTimes {
    state: RunState,
    entry_ns: u64,
    time_ns: [u64; 4],
}

impl RunTimes {
    /// The longest structure of [`RunTimes::bytes`].
    pub const MAX_BYTES: usize = 48;
    /// Set in the time of entry while the structure is being written, if the guest has asked for
    /// that (`XEN_RUNSTATE_UPDATE`).
    const UPDATING: u64 = 1 << 63;

    /// In `state` from guest time 0 on.
    pub const fn new(state: RunState) -> Self {
        Self { state, entry_ns: 0, time_ns: [0; 4] }
    }

    /// In `state` from `now_ns` on.
    pub fn enter(&mut self, state: RunState, now_ns: u64) {
        *self = self.until(now_ns);
        self.entry_ns = now_ns.max(self.entry_ns);
        self.state = state;
    }

    /// The same with the time in the present state up to `now_ns`.
    pub fn until(mut self, now_ns: u64) -> Self {
        self.time_ns[self.state as usize] += now_ns.saturating_sub(self.entry_ns);
        self
    }

    /// `vcpu_runstate_info` (vcpu.h), and its length.
    pub fn bytes(&self, width: Width, updating: bool) -> ([u8; Self::MAX_BYTES], usize) {
        let entry = self.entry_ns | if updating { Self::UPDATING } else { 0 };
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..4].copy_from_slice(&(self.state as u32).to_le_bytes());
        // 64-bit numbers are aligned to 4 bytes in the narrow layout.
        let mut at = width.long_bytes();
        for value in core::iter::once(entry).chain(self.time_ns) {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            at += 8;
        }
        (bytes, at)
    }

    /// Offset of the time of entry.
    pub const fn entry_offset(width: Width) -> u64 {
        width.long_bytes() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_multiplication_gives_guest_time() {
        for (hz, ticks) in
            [(1_000_000_000_u64, 12_345_u64), (3_000_000_000, 9_000), (50_000_000, 77)]
        {
            let ns_per_tick_q32 = ((1_000_000_000_u128 << 32) / u128::from(hz)) as u64;
            let scale = TimeScale { zero_tsc: 500, ns_per_tick_q32, stable: true };
            let info = scale.info(2);
            let delta = u128::from(ticks) << info.tsc_shift;
            let ns = (delta * u128::from(info.tsc_to_system_mul.get())) >> 32;
            let exact = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
            assert!(ns.abs_diff(exact) <= 1, "{hz} Hz: {ns} instead of {exact}");
            assert_eq!(info.as_bytes().len(), 32);
        }
    }

    #[test]
    fn times_of_states_add_up_in_both_layouts() {
        let mut times = RunTimes::new(RunState::Blocked);
        times.enter(RunState::Runnable, 100);
        times.enter(RunState::Running, 130);
        let (wide, length) = times.until(1130).bytes(Width::Bits64, false);
        assert_eq!(length, 48);
        let value = |at: usize| u64::from_le_bytes(wide[at..at + 8].try_into().unwrap());
        assert_eq!([8, 16, 24, 32, 40].map(value), [130, 1000, 30, 100, 0], "it began at 130");
        let (narrow, length) = times.until(1130).bytes(Width::Bits32, true);
        assert_eq!((length, narrow[11]), (44, 0x80));
        assert_eq!(narrow[12..20], wide[16..24]);
    }
}
