//! The high precision event timer: a 64-bit counter of 100 MHz and three comparators.

mod legacy_route;
mod spec;
#[cfg(test)]
mod tests;
mod timer;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::bus::{Access, MmioDevice, Region};
use crate::irq::{IrqLine, Ticks};
use crate::local_apic::ApicBus;
use crate::lock::DeviceLock;
use crate::time::{Alarm, Clock, GuestTime, Timed};
pub use legacy_route::LegacyRoute;
use spec::{
    CAPABILITIES, CONFIGURATION, COUNTER, Configuration, STATUS, TIMER_COMPARATOR,
    TIMER_CONFIGURATION, TIMER_COUNT, TIMER_MESSAGE, TIMER_STRIDE, TIMERS, TimerConfiguration,
};
pub use spec::{CAPABILITIES_VALUE, FIRST_ROUTE, HPET_BASE, HPET_BYTES, ROUTE_COUNT, TICK_NS};
use timer::Timer;

/// The wires that the HPET drives.
#[derive(Debug)]
pub struct HpetLines {
    /// Timer 0 in legacy replacement mode.
    pub legacy_timer0: IrqLine,
    /// Timer 1 in legacy replacement mode.
    pub legacy_timer1: IrqLine,
    /// High in legacy replacement mode: PIT and RTC are then to be cut off from IRQ 0 and IRQ 8.
    pub legacy_select: IrqLine,
    /// I/O APIC inputs 16 to 23. Other devices may share them.
    pub routed: [IrqLine; ROUTE_COUNT],
    /// Where messages go.
    pub messages: Arc<ApicBus>,
}

impl HpetLines {
    /// The lines for a machine whose IRQ 0 and IRQ 8 pass through `route`, and whose messages go to
    /// `messages`.
    pub fn new(
        route: &Arc<LegacyRoute>,
        routed: [IrqLine; ROUTE_COUNT],
        messages: Arc<ApicBus>,
    ) -> Self {
        Self {
            legacy_timer0: route.wire(LegacyRoute::TIMER0),
            legacy_timer1: route.wire(LegacyRoute::TIMER1),
            legacy_select: route.wire(LegacyRoute::SELECT),
            routed,
            messages,
        }
    }

    fn all(&self) -> impl Iterator<Item = &IrqLine> {
        [&self.legacy_timer0, &self.legacy_timer1].into_iter().chain(&self.routed)
    }
}

/// The volatile state.
#[derive(Clone, Debug)]
struct State {
    config: Configuration,
    /// A bit for each level-triggered timer that has matched.
    status: u64,
    /// The counter's value: minus the tick number while it runs.
    counter: u64,
    timers: [Timer; TIMER_COUNT],
}

/// The HPET.
pub struct Hpet {
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    lines: HpetLines,
    state: DeviceLock<State>,
}

fn tick_at(time: GuestTime) -> u64 {
    time.as_ns() / TICK_NS
}

impl State {
    fn new() -> Self {
        Self {
            config: Configuration::new(),
            status: 0,
            counter: 0,
            timers: [Timer::new(), Timer::new(), Timer::new()],
        }
    }

    /// Timer `number` takes the place of PIT or RTC.
    fn is_legacy(&self, number: usize) -> bool {
        self.config.legacy() && number < 2
    }

    fn counter(&self, tick: u64) -> u64 {
        if self.config.enable() { self.counter.wrapping_add(tick) } else { self.counter }
    }

    fn set_counter(&mut self, tick: u64, value: u64) {
        self.counter = if self.config.enable() { value.wrapping_sub(tick) } else { value };
        self.schedule(tick);
    }

    fn schedule(&mut self, tick: u64) {
        let (running, counter) = (self.config.enable(), self.counter(tick));
        for timer in &mut self.timers {
            if running {
                timer.schedule(tick, counter);
            } else {
                timer.unschedule();
            }
        }
    }

    fn write_config(&mut self, tick: u64, written: Configuration) {
        let counter = self.counter(tick);
        let was_enabled = self.config.enable();
        self.config =
            Configuration::new().with_enable(written.enable()).with_legacy(written.legacy());
        if self.config.enable() != was_enabled {
            self.set_counter(tick, counter);
        }
    }

    /// The timer and the register within it at an offset.
    fn timer(&mut self, offset: u64) -> Option<(&mut Timer, u64)> {
        let offset = offset.checked_sub(TIMERS)?;
        let timer = self.timers.get_mut(usize::try_from(offset / TIMER_STRIDE).ok()?)?;
        Some((timer, offset % TIMER_STRIDE))
    }

    /// The aligned 64-bit register at `offset`, apart from the counter; 0 for reserved ones.
    fn read(&mut self, offset: u64) -> u64 {
        match offset {
            CAPABILITIES => CAPABILITIES_VALUE,
            CONFIGURATION => self.config.into(),
            STATUS => self.status,
            _ => match self.timer(offset) {
                Some((timer, TIMER_CONFIGURATION)) => timer.config().into(),
                Some((timer, TIMER_COMPARATOR)) => timer.comparator(),
                Some((timer, TIMER_MESSAGE)) => timer.message,
                _ => 0,
            },
        }
    }

    /// Writes the aligned 64-bit register at `offset`; `merge` puts the bytes written into an old
    /// value.
    fn write(&mut self, tick: u64, offset: u64, merge: impl Fn(u64) -> u64) {
        match offset {
            CONFIGURATION => {
                self.write_config(tick, Configuration::from(merge(self.config.into())))
            }
            STATUS => self.status &= !merge(0),
            COUNTER => self.set_counter(tick, merge(self.counter(tick))),
            _ => self.write_timer(tick, offset, merge),
        }
    }

    fn write_timer(&mut self, tick: u64, offset: u64, merge: impl Fn(u64) -> u64) {
        let counter = self.config.enable().then(|| self.counter(tick));
        match self.timer(offset) {
            Some((timer, TIMER_CONFIGURATION)) => {
                let old = timer.config();
                timer.set_config(TimerConfiguration::from(merge(old.into())));
                if let Some(counter) = counter.filter(|_| timer.config().mode_32() != old.mode_32())
                {
                    timer.schedule(tick, counter);
                }
            }
            Some((timer, TIMER_COMPARATOR)) => timer.write_comparator(tick, counter, merge),
            Some((timer, TIMER_MESSAGE)) => timer.message = merge(timer.message),
            _ => {}
        }
        // The status of a timer that is not level triggered reads 0.
        for (number, timer) in self.timers.iter().enumerate() {
            if !timer.is_level() {
                self.status &= !(1 << number);
            }
        }
    }
}

/// A write of the aligned register at `offset` may change when timer 0 matches.
const fn sets_timer_0(offset: u64) -> bool {
    matches!(offset, CONFIGURATION | COUNTER) || TIMERS <= offset && offset < TIMERS + TIMER_STRIDE
}

impl Hpet {
    /// The aligned 64-bit register at `offset`, apart from the counter.
    fn read_register(&self, offset: u64) -> u64 {
        let tick = tick_at(self.clock.now());
        let mut state = self.state.lock();
        if offset >= STATUS {
            // Status and periodic comparators move by themselves.
            self.settle(&mut state, tick);
            self.drive(&state);
        }
        state.read(offset)
    }

    /// A timer block after power-on, halted. `alarm` is shared by the three timers.
    pub fn new(clock: Arc<dyn Clock>, alarm: Alarm, lines: HpetLines) -> Self {
        Self { clock, alarm, lines, state: DeviceLock::new(State::new()) }
    }

    /// The line that a timer drives, if it sends no messages.
    fn line(&self, number: usize, state: &State, timer: &Timer) -> Option<&IrqLine> {
        match number {
            _ if timer.message().is_some() => None,
            0 if state.config.legacy() => Some(&self.lines.legacy_timer0),
            1 if state.config.legacy() => Some(&self.lines.legacy_timer1),
            _ => {
                self.lines.routed.get(usize::from(timer.config().route().checked_sub(FIRST_ROUTE)?))
            }
        }
    }

    /// Passes the matches up to `tick`: sets status bits and sends edges.
    fn settle(&self, state: &mut State, tick: u64) {
        let mut edges = [None; TIMER_COUNT];
        for (number, (timer, edges)) in state.timers.iter_mut().zip(&mut edges).enumerate() {
            let matches = timer.advance(tick);
            if timer.is_level() {
                state.status |= u64::from(matches.is_some()) << number;
            } else if timer.config().enable() {
                *edges = matches;
            }
        }
        for (number, timer) in state.timers.iter().enumerate() {
            let Some(matches) = edges[number] else { continue };
            if let Some((address, value)) = timer.message() {
                // One to no local APIC is lost, as the chip's would be.
                let _ = self.lines.messages.deliver_msi(address, value);
                continue;
            }
            let Some(line) = self.line(number, state, timer) else { continue };
            if !state.is_legacy(number) {
                line.pulse();
            } else if let Some(period) = timer.period() {
                line.tick(Ticks {
                    count: matches.count,
                    period_ns: period.saturating_mul(TICK_NS),
                    late_ns: matches.late.saturating_mul(TICK_NS),
                });
            } else {
                line.strobe();
            }
        }
    }

    fn is_asserted(state: &State, number: usize, timer: &Timer) -> bool {
        state.config.enable() && timer.config().enable() && state.status & (1 << number) != 0
    }

    /// Brings wires and alarm in line with the state.
    fn drive(&self, state: &State) {
        self.lines.legacy_select.set(state.config.legacy());
        for line in self.lines.all() {
            let mut drivers = state.timers.iter().enumerate().filter(|&(number, timer)| {
                self.line(number, state, timer).is_some_and(|driven| core::ptr::eq(driven, line))
            });
            // An 8259A wants to see the line of an edge high until it is acknowledged. The other
            // lines may be shared.
            let is_held = |number, timer: &Timer| {
                state.is_legacy(number) && !timer.is_level() && line.is_high()
            };
            line.set(drivers.any(|(number, timer)| {
                Self::is_asserted(state, number, timer) || is_held(number, timer)
            }));
        }
        let next = state
            .timers
            .iter()
            .enumerate()
            .filter(|&(number, timer)| !Self::is_asserted(state, number, timer))
            .filter_map(|(_, timer)| timer.next_interrupt())
            .min();
        self.alarm.set(next.map(|tick| GuestTime::from_ns(tick.saturating_mul(TICK_NS))));
    }
}

/// A register's aligned offset, and the shift of an access within it in bits.
fn register_of(access: Access) -> (u64, u64) {
    (access.offset & !7, access.offset % 8 * 8)
}

impl MmioDevice for Hpet {
    fn ranges(&self) -> Vec<Region> {
        vec![Region::new(0, HPET_BASE, HPET_BYTES)]
    }

    fn mmio_read(&self, access: Access) -> Option<u64> {
        let (offset, shift) = register_of(access);
        let register = match offset {
            COUNTER => {
                let tick = tick_at(self.clock.now());
                self.state.lock().counter(tick)
            }
            HPET_BYTES.. => return None,
            _ => self.read_register(offset),
        };
        Some(register >> shift)
    }

    fn mmio_write(&self, access: Access, value: u64) {
        let (offset, shift) = register_of(access);
        let mask = access.mask() << shift;
        let tick = tick_at(self.clock.now());
        let mut state = self.state.lock();
        self.settle(&mut state, tick);
        if sets_timer_0(offset) {
            self.lines.legacy_timer0.forgive();
        }
        state.write(tick, offset, |old| (old & !mask) | ((value << shift) & mask));
        self.lines.legacy_select.set(state.config.legacy());
        // A comparator written too late matches at once.
        self.settle(&mut state, tick);
        self.drive(&state);
    }
}

impl Timed for Hpet {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        self.settle(&mut state, tick_at(now));
        self.drive(&state);
    }
}
