//! The clock in the RTC: divider, time of day, alarm and flags, computed from guest time.

use super::calendar::{DateTime, decode, decode_hour, encode, encode_hour, second_of_day};
use super::spec::{
    ALARM_ANY, CENTURY, CRYSTAL_HZ, DAY, HOURS, HOURS_ALARM, MINUTES, MINUTES_ALARM, MONTH,
    RegisterA, RegisterB, RegisterC, SECONDS, SECONDS_ALARM, UPDATE_WINDOW_NS, WEEKDAY, YEAR,
};
use crate::ticks::{most_owed, spacing_ns};
use crate::time::{GuestTime, next_after_missed, ns_to_ticks, ticks_to_ns};

const SECOND_NS: i64 = 1_000_000_000;
const DIVIDER_RELEASE_NS: i64 = SECOND_NS / 2;

/// Time and alarm as the guest wrote them: encoded as register B says.
#[derive(Clone, Debug, Default)]
struct Registers {
    /// Indices 0 to 9.
    time: [u8; 10],
    century: u8,
}

/// Everything that moves by itself.
#[derive(Clone, Debug)]
pub(super) struct Clockwork {
    a: RegisterA,
    b: RegisterB,
    flags: RegisterC,
    /// The divider was zero, and a second began, at this guest time (which may lie before its
    /// start).
    origin_ns: i64,
    /// The Unix time at `origin_ns`.
    origin_s: i64,
    /// The alarm, always; the time, while it is stopped.
    registers: Registers,
    /// Flags are up to date at this guest time.
    settled_ns: i64,
    /// Periodic interrupts that were due while the host was busy.
    owed: u64,
    /// One that is owed follows at this guest time at the earliest.
    owed_from_ns: i64,
}

fn to_ns(time: GuestTime) -> i64 {
    time.as_ns() as i64
}

impl Clockwork {
    pub(super) fn new(now: GuestTime, unix_time_s: u64) -> Self {
        Self {
            a: RegisterA::new().with_divider(0b010).with_rate(6),
            b: RegisterB::new().with_hours_24(true),
            flags: RegisterC::new(),
            origin_ns: to_ns(now),
            // Any time before the year 30000 or so; the sums below cannot overflow then.
            origin_s: unix_time_s.min(1 << 40) as i64,
            registers: Registers::default(),
            settled_ns: to_ns(now),
            owed: 0,
            owed_from_ns: 0,
        }
    }

    /// The same at another place of guest time.
    pub(super) fn shift_ns(&mut self, ns: i64) {
        self.origin_ns += ns;
        self.settled_ns += ns;
        self.owed_from_ns += ns;
    }

    /// Time goes on without guest time.
    pub(super) fn pass_ns(&mut self, ns: u64) {
        self.origin_ns -= ns as i64;
    }

    /// RESET#: interrupts are disabled and flags cleared; the time goes on.
    pub(super) fn reset(&mut self) {
        self.b = self
            .b
            .with_periodic_enable(false)
            .with_alarm_enable(false)
            .with_update_enable(false)
            .with_square_wave(false);
        self.flags = RegisterC::new();
        self.owed = 0;
    }

    fn is_stopped(&self) -> bool {
        self.b.set() || self.a.is_divider_held()
    }

    fn seconds_since_origin(&self, ns: i64) -> i64 {
        (ns - self.origin_ns) / SECOND_NS
    }

    fn unix_s(&self, ns: i64) -> i64 {
        self.origin_s + self.seconds_since_origin(ns)
    }

    fn crystal_cycles(&self, ns: i64) -> u64 {
        ns_to_ticks((ns - self.origin_ns) as u64, CRYSTAL_HZ)
    }

    /// Sets the flags of what has happened until `now`.
    pub(super) fn settle(&mut self, now: GuestTime) {
        let (before, now) = (self.settled_ns, to_ns(now));
        if now <= before {
            return;
        }
        self.settled_ns = now;
        if self.a.is_divider_held() {
            return;
        }
        let passed = self.periods_between(before, now);
        if passed != 0 || self.is_owed_at(now) {
            self.flags.set_periodic(true);
            self.owed -= u64::from(passed == 0);
        }
        if self.b.set() || self.unix_s(now) == self.unix_s(before) {
            return;
        }
        self.flags.set_update(true);
        if self.next_alarm_s(self.unix_s(before)).is_some_and(|alarm_s| alarm_s <= self.unix_s(now))
        {
            self.flags.set_alarm(true);
        }
    }

    /// The alarm has rung: of the periods that have passed, all but one are owed.
    pub(super) fn settle_late(&mut self, now: GuestTime) {
        let passed = self.periods_between(self.settled_ns, to_ns(now));
        if self.b.periodic_enable() && !self.flags.periodic() && passed > 1 {
            self.owed = self.owed.saturating_add(passed - 1).min(most_owed(self.period_ns()));
        }
        self.settle(now);
    }

    fn periods_between(&self, before: i64, now: i64) -> u64 {
        let Some(period) = self.a.period_cycles().filter(|_| !self.a.is_divider_held()) else {
            return 0;
        };
        (self.crystal_cycles(now) / period).saturating_sub(self.crystal_cycles(before) / period)
    }

    fn period_ns(&self) -> u64 {
        self.a.period_cycles().map_or(u64::MAX, |period| ticks_to_ns(period, CRYSTAL_HZ))
    }

    fn is_owed_at(&self, now: i64) -> bool {
        self.owed != 0 && self.owed_from_ns <= now && !self.flags.periodic()
    }

    /// The level of the interrupt output. [`Clockwork::settle`] must have been called.
    pub(super) fn interrupt(&self) -> bool {
        (self.flags.periodic() && self.b.periodic_enable())
            || (self.flags.alarm() && self.b.alarm_enable())
            || (self.flags.update() && self.b.update_enable())
    }

    /// When the next enabled interrupt comes that is not asserted already.
    pub(super) fn next_interrupt(&self) -> Option<GuestTime> {
        if self.interrupt() || self.a.is_divider_held() {
            return None;
        }
        let now = self.settled_ns;
        let periodic = self.a.period_cycles().filter(|_| self.b.periodic_enable()).map(|period| {
            let elapsed = self.crystal_cycles(now) / period;
            self.origin_ns
                + ticks_to_ns(next_after_missed(elapsed, elapsed) * period, CRYSTAL_HZ) as i64
        });
        let running = !self.b.set();
        let at_second = |unix_s: i64| self.origin_ns + (unix_s - self.origin_s) * SECOND_NS;
        let update = (running && self.b.update_enable()).then(|| at_second(self.unix_s(now) + 1));
        let alarm_s =
            self.next_alarm_s(self.unix_s(now)).filter(|_| running && self.b.alarm_enable());
        let owed = (self.owed != 0).then_some(self.owed_from_ns);
        let earliest =
            periodic.into_iter().chain(owed).chain(update).chain(alarm_s.map(at_second)).min()?;
        Some(GuestTime::from_ns(earliest as u64))
    }

    /// The first second after `unix_s` that matches the alarm.
    fn next_alarm_s(&self, unix_s: i64) -> Option<i64> {
        let field = |index: u8, hours: bool, limit: i64| {
            let byte = self.registers.time[usize::from(index)];
            if byte >= ALARM_ANY {
                return Some(None);
            }
            let value = if hours { decode_hour(byte, self.b) } else { decode(byte, self.b) };
            (value < limit).then_some(Some(value))
        };
        let second = field(SECONDS_ALARM, false, 60)?;
        let minute = field(MINUTES_ALARM, false, 60)?;
        let hour = field(HOURS_ALARM, true, 24)?;
        let from = unix_s + 1;
        let from_second = second_of_day(from);
        let midnight = from - from_second;
        match first_match(from_second, hour, minute, second) {
            Some(found) => Some(midnight + found),
            None => first_match(0, hour, minute, second).map(|found| midnight + 86_400 + found),
        }
    }

    /// Register C, which a read clears. Flags must be settled.
    pub(super) fn take_flags(&mut self) -> u8 {
        let flags = self.flags.with_interrupt(self.interrupt());
        self.owed_from_ns = self.settled_ns + spacing_ns(self.period_ns()) as i64;
        self.flags = RegisterC::new();
        flags.into()
    }

    pub(super) fn read_a(&self, now: GuestTime) -> u8 {
        let phase_ns = (to_ns(now) - self.origin_ns) % SECOND_NS;
        let updating = !self.is_stopped() && phase_ns >= SECOND_NS - UPDATE_WINDOW_NS as i64;
        self.a.with_update_in_progress(updating).into()
    }

    pub(super) fn read_b(&self) -> u8 {
        self.b.into()
    }

    /// Flags must be settled at `now`.
    pub(super) fn write_a(&mut self, value: u8, now: GuestTime) {
        let a = RegisterA::from(value).with_update_in_progress(false);
        self.write_control(a, self.b, now);
    }

    /// Flags must be settled at `now`.
    pub(super) fn write_b(&mut self, value: u8, now: GuestTime) {
        let mut b = RegisterB::from(value);
        if b.set() {
            b.set_update_enable(false);
        }
        self.write_control(self.a, b, now);
    }

    fn write_control(&mut self, a: RegisterA, b: RegisterB, now: GuestTime) {
        let was_stopped = self.is_stopped();
        let will_stop = b.set() || a.is_divider_held();
        if will_stop && !was_stopped {
            self.stop(now);
        }
        if self.a.is_divider_held() && !a.is_divider_held() {
            // The first update comes half a second after the divider's release.
            self.origin_ns = to_ns(now) - DIVIDER_RELEASE_NS;
        }
        if a != self.a || !b.periodic_enable() {
            self.owed = 0;
        }
        (self.a, self.b) = (a, b);
        if was_stopped && !will_stop {
            self.restart(now);
        }
    }

    fn stop(&mut self, now: GuestTime) {
        for index in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR] {
            self.registers.time[usize::from(index)] = self.time_byte(index, now);
        }
        self.registers.century = self.time_byte(CENTURY, now);
    }

    /// Takes the time from the registers; the next update comes when the divider says so.
    fn restart(&mut self, now: GuestTime) {
        let unix_s = self.date_in_registers().to_unix();
        self.origin_s = unix_s - self.seconds_since_origin(to_ns(now));
    }

    /// The date that the guest has written, within the calendar's limits.
    fn date_in_registers(&self) -> DateTime {
        let number = |index: u8| decode(self.registers.time[usize::from(index)], self.b);
        DateTime {
            year: decode(self.registers.century, self.b).min(99) * 100 + number(YEAR).min(99),
            month: number(MONTH).clamp(1, 12),
            day: number(DAY).clamp(1, 31),
            weekday: 1,
            hour: decode_hour(self.registers.time[usize::from(HOURS)], self.b).min(23),
            minute: number(MINUTES).min(59),
            second: number(SECONDS).min(59),
        }
    }

    /// The byte of the running time at one of the time's indices.
    fn time_byte(&self, index: u8, now: GuestTime) -> u8 {
        let date = DateTime::from_unix(self.unix_s(to_ns(now)));
        let number = match index {
            HOURS => return encode_hour(date.hour, self.b),
            SECONDS => date.second,
            MINUTES => date.minute,
            WEEKDAY => date.weekday,
            DAY => date.day,
            MONTH => date.month,
            YEAR => date.year % 100,
            _ => date.year / 100,
        };
        encode(number, self.b)
    }

    fn register(&mut self, index: u8) -> Option<&mut u8> {
        if index == CENTURY {
            return Some(&mut self.registers.century);
        }
        self.registers.time.get_mut(usize::from(index))
    }

    /// Reads time, alarm or century.
    pub(super) fn read_time(&mut self, index: u8, now: GuestTime) -> Option<u8> {
        let is_alarm = matches!(index, SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM);
        if is_alarm || self.is_stopped() {
            return self.register(index).copied();
        }
        Some(self.time_byte(index, now))
    }

    /// Writes time, alarm or century. Flags must be settled at `now`.
    pub(super) fn write_time(&mut self, index: u8, value: u8, now: GuestTime) {
        let is_alarm = matches!(index, SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM);
        let running = !is_alarm && !self.is_stopped();
        if running {
            self.stop(now);
        }
        if let Some(register) = self.register(index) {
            *register = value;
        }
        if running {
            self.restart(now);
        }
    }
}

/// The first second of the day, from `from` on, of the given hour, minute and second (`None`: any).
fn first_match(
    from: i64,
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
) -> Option<i64> {
    let matches = |wanted: Option<i64>, value: i64| wanted.is_none_or(|wanted| wanted == value);
    for h in (from / 3600..24).filter(|&h| matches(hour, h)) {
        let from = from.max(h * 3600) - h * 3600;
        for m in (from / 60..60).filter(|&m| matches(minute, m)) {
            let from = from.max(m * 60) - m * 60;
            if let Some(s) = (from..60).find(|&s| matches(second, s)) {
                return Some(h * 3600 + m * 60 + s);
            }
        }
    }
    None
}
