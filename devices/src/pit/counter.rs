//! One counter of the 8254, computed from the time at which it was started.
//!
//! Time here is the number of the clock pulse since the virtual machine was created (`tick`). A
//! count written during pulse t is loaded by pulse t + 1.

use super::spec::{ByteAccess, ControlWord, Status};
use crate::time::next_after_missed;

/// Operating modes ("Mode definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    InterruptOnTerminalCount,
    OneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// True if only a rising gate starts it.
    fn needs_trigger(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Where the counting element stands.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// Nothing loaded since the control word.
    Idle,
    /// Loaded with `count` by pulse `start`, and counting since.
    Counting { start: i64, count: i64, start_is_edge: bool },
    /// Stopped by the gate after `elapsed` pulses.
    Paused { elapsed: i64, count: i64 },
}

/// A count that a periodic mode loads when the current cycle ends.
#[derive(Clone, Copy, Debug)]
struct Reload {
    at: i64,
    count: i64,
    /// OUT rises at `at`; if not, the low half of a square wave begins.
    rising: bool,
}

/// The volatile state of one counter.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    control: ControlWord,
    mode: Mode,
    /// The count last written, 1 to 65536.
    count: i64,
    /// The count waits for a trigger.
    untriggered: bool,
    low_written: Option<u8>,
    high_read_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<Status>,
    gate: bool,
    run: Run,
    reload: Option<Reload>,
}

/// Pulses for which a square wave of `count` is high.
fn high_ticks(count: i64) -> i64 {
    (count + 1) / 2
}

fn from_bcd(value: u16) -> i64 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + i64::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(value: i64) -> u16 {
    let digit = |power: i64| (value / power % 10) as u16;
    digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
}

impl Counter {
    /// A counter that was never programmed.
    pub(super) fn new(gate: bool) -> Self {
        Self {
            control: ControlWord::new().with_access(ByteAccess::Both),
            mode: Mode::InterruptOnTerminalCount,
            count: 65_536,
            untriggered: false,
            low_written: None,
            high_read_next: false,
            latched_count: None,
            latched_status: None,
            gate,
            run: Run::Idle,
            reload: None,
        }
    }

    /// Takes a control word that is not a command; counting stops until a count is written.
    pub(super) fn write_control(&mut self, word: ControlWord) {
        *self = Self {
            control: word,
            mode: Mode::from_bits(word.mode()),
            count: self.count,
            ..Self::new(self.gate)
        };
    }

    pub(super) fn write(&mut self, value: u8, tick: i64) {
        let word = match (self.control.access(), self.low_written) {
            (ByteAccess::High, _) => u16::from(value) << 8,
            (ByteAccess::Both, None) => {
                self.low_written = Some(value);
                if self.mode == Mode::InterruptOnTerminalCount {
                    self.run = Run::Idle;
                }
                return;
            }
            (ByteAccess::Both, Some(low)) => u16::from_le_bytes([low, value]),
            (ByteAccess::Low | ByteAccess::Latch, _) => value.into(),
        };
        self.low_written = None;
        self.set_count(word, tick);
    }

    fn set_count(&mut self, word: u16, tick: i64) {
        self.count = match (word, self.control.bcd()) {
            (0, false) => 65_536,
            (0, true) => 10_000,
            (_, false) => word.into(),
            (_, true) => from_bcd(word),
        };
        self.catch_up(tick);
        match self.run {
            _ if self.mode.needs_trigger() => self.untriggered = true,
            Run::Counting { start, count, .. } if self.mode.is_periodic() && tick >= start => {
                self.reload = Some(self.next_reload(start, count, tick));
            }
            _ if self.gate => self.start(tick),
            _ => self.run = Run::Paused { elapsed: 0, count: self.count },
        }
    }

    /// Loads the count with the next pulse.
    fn start(&mut self, tick: i64) {
        self.run = Run::Counting { start: tick + 1, count: self.count, start_is_edge: false };
        self.reload = None;
        self.untriggered = false;
    }

    /// The end of the current cycle (of a half of it in mode 3) of a periodic mode.
    fn next_reload(&self, start: i64, count: i64, tick: i64) -> Reload {
        let phase = (tick - start) % count;
        let cycle = tick - phase;
        if self.mode == Mode::SquareWave && phase < high_ticks(count) && count > 1 {
            return Reload { at: cycle + high_ticks(count), count: self.count, rising: false };
        }
        Reload { at: cycle + count, count: self.count, rising: count > 1 }
    }

    /// Loads a count that waited for the end of the cycle, if that has come.
    pub(super) fn catch_up(&mut self, tick: i64) {
        let Some(reload) = self.reload else { return };
        if tick < reload.at {
            return;
        }
        self.reload = None;
        let before = if self.mode == Mode::SquareWave && !reload.rising {
            high_ticks(reload.count)
        } else {
            0
        };
        self.run = Run::Counting {
            start: reload.at - before,
            count: reload.count,
            start_is_edge: reload.rising,
        };
    }

    pub(super) fn set_gate(&mut self, gate: bool, tick: i64) {
        if gate == self.gate {
            return;
        }
        self.catch_up(tick);
        self.gate = gate;
        match (self.mode, gate, self.run) {
            (Mode::OneShot | Mode::HardwareStrobe, true, _)
                if self.untriggered || self.is_loaded() =>
            {
                self.start(tick)
            }
            (Mode::OneShot | Mode::HardwareStrobe, ..) => {}
            (_, false, Run::Counting { start, count, .. }) => {
                // The pulse that loads the count does so with the gate low, too.
                self.run = Run::Paused { elapsed: (tick - start).max(0), count };
                // A count that waits for the end of the cycle comes with the trigger instead.
                self.untriggered = self.reload.take().is_some();
            }
            (Mode::RateGenerator | Mode::SquareWave, true, Run::Paused { .. }) => self.start(tick),
            (_, true, Run::Paused { elapsed, count }) => {
                self.run = Run::Counting { start: tick - elapsed, count, start_is_edge: false };
            }
            _ => {}
        }
    }

    fn is_loaded(&self) -> bool {
        !matches!(self.run, Run::Idle)
    }

    /// Pulses since the count was loaded, and that count.
    fn progress(&self, tick: i64) -> Option<(i64, i64)> {
        match self.run {
            Run::Idle => None,
            Run::Counting { start, count, .. } => Some(((tick - start).max(0), count)),
            Run::Paused { elapsed, count } => Some((elapsed, count)),
        }
    }

    /// Level of OUT. [`Counter::catch_up`] must have been called for `tick`.
    pub(super) fn output(&self, tick: i64) -> bool {
        let Some((elapsed, count)) = self.progress(tick) else {
            return self.mode != Mode::InterruptOnTerminalCount;
        };
        match self.mode {
            Mode::InterruptOnTerminalCount => elapsed >= count,
            Mode::OneShot => elapsed >= count || !self.is_started(tick),
            Mode::RateGenerator => !self.gate || elapsed % count != count - 1,
            Mode::SquareWave => !self.gate || elapsed % count < high_ticks(count),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != count,
        }
    }

    fn is_started(&self, tick: i64) -> bool {
        !matches!(self.run, Run::Counting { start, .. } if tick < start)
    }

    /// The value of the counting element.
    fn value(&self, tick: i64) -> u16 {
        let Some((elapsed, count)) = self.progress(tick) else { return 0 };
        let value = match self.mode {
            Mode::RateGenerator => count - elapsed % count,
            Mode::SquareWave => {
                let phase = elapsed % count;
                let high = high_ticks(count);
                let half_phase = if phase < high { phase } else { phase - high };
                (count & !1) - 2 * half_phase
            }
            _ => count - elapsed,
        };
        if self.control.bcd() { to_bcd(value.rem_euclid(10_000)) } else { value as u16 }
    }

    pub(super) fn latch_count(&mut self, tick: i64) {
        if self.latched_count.is_none() {
            self.catch_up(tick);
            self.latched_count = Some(self.value(tick));
            self.high_read_next = false;
        }
    }

    pub(super) fn latch_status(&mut self, tick: i64) {
        if self.latched_status.is_some() {
            return;
        }
        self.catch_up(tick);
        let null_count = !self.is_loaded()
            || !self.is_started(tick)
            || self.reload.is_some()
            || self.untriggered;
        let programmed = u8::from(self.control.with_select(0));
        self.latched_status = Some(
            Status::new()
                .with_programmed(programmed)
                .with_null_count(null_count)
                .with_output(self.output(tick)),
        );
    }

    pub(super) fn read(&mut self, tick: i64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status.into();
        }
        self.catch_up(tick);
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let (byte, is_last) = match (self.control.access(), self.high_read_next) {
            (ByteAccess::High, _) => (high, true),
            (ByteAccess::Both, false) => (low, false),
            (ByteAccess::Both, true) => (high, true),
            (ByteAccess::Low | ByteAccess::Latch, _) => (low, true),
        };
        self.high_read_next = !is_last;
        if is_last {
            self.latched_count = None;
        }
        byte
    }

    /// The pulse of the only rising edge of OUT that a one-shot mode gives.
    fn single_edge(&self, start: i64, count: i64) -> i64 {
        match self.mode {
            Mode::SoftwareStrobe | Mode::HardwareStrobe => start + count + 1,
            _ => start + count,
        }
    }

    /// The last pulse up to `tick` at which counting made OUT rise.
    pub(super) fn last_rising_edge(&self, tick: i64) -> Option<i64> {
        let Run::Counting { start, count, start_is_edge } = self.run else { return None };
        if !self.mode.is_periodic() {
            return Some(self.single_edge(start, count)).filter(|&edge| edge <= tick);
        }
        let cycles = tick.checked_sub(start).filter(|&elapsed| elapsed >= 0)? / count;
        let is_edge = if cycles == 0 { start_is_edge } else { count > 1 };
        is_edge.then_some(start + cycles * count)
    }

    /// Rising edges of a periodic mode after pulse `since` and before that of `edge`, which
    /// [`Counter::last_rising_edge`] gave.
    pub(super) fn edges_between(&self, since: i64, edge: i64) -> u64 {
        let Run::Counting { start, count, start_is_edge } = self.run else { return 0 };
        if !self.mode.is_periodic() {
            return 0;
        }
        let first =
            if since >= start { (since - start) / count + 1 } else { i64::from(!start_is_edge) };
        ((edge - start) / count - first).max(0) as u64
    }

    /// Pulses from one edge to the next, of a periodic mode.
    pub(super) fn period(&self) -> Option<i64> {
        match self.run {
            Run::Counting { count, .. } if self.mode.is_periodic() => Some(count),
            _ => None,
        }
    }

    /// The next pulse after `tick` at which OUT rises, or a waiting count is loaded. A periodic
    /// mode's edges before `not_before` are left out.
    pub(super) fn next_event(&self, tick: i64, not_before: i64) -> Option<i64> {
        let Run::Counting { start, count, .. } = self.run else { return None };
        let edge = if self.mode.is_periodic() {
            let elapsed = ((tick - start).max(0) / count) as u64;
            let allowed = ((not_before - start).max(1) as u64).div_ceil(count as u64);
            let due = next_after_missed(allowed, elapsed) as i64;
            (count > 1).then_some(start + due * count)
        } else {
            Some(self.single_edge(start, count)).filter(|&edge| edge > tick)
        };
        let reload = self.reload.map(|reload| reload.at);
        edge.into_iter().chain(reload).min()
    }
}
