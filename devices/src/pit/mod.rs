//! The 8254 interval timer and port 61h.
//!
//! Counter 0 drives IRQ 0, counter 1 nothing (in a PC, memory refresh), counter 2 the speaker and
//! port 61h. Counters are never stepped: what a guest reads is computed from the time at which a
//! count was loaded.

mod counter;
mod spec;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::bus::{Access, PioDevice, Region};
use crate::irq::{IrqLine, Ticks};
use crate::lock::DeviceLock;
use crate::ticks::{MIN_SPACING_BEHIND_NS, MIN_SPACING_NS};
use crate::time::{Alarm, Clock, GuestTime, Timed, ns_to_ticks, ticks_to_ns};
use counter::Counter;
pub use spec::PIT_HZ;
use spec::{
    ByteAccess, CONTROL_OFFSET, COUNTER_BASE, ControlWord, PORT_61, Port61, REFRESH_TOGGLE_TICKS,
    ReadBack, SELECT_READ_BACK,
};

const REGION_COUNTERS: u8 = 0;
const REGION_PORT_61: u8 = 1;

/// The alarm of a periodic counter 0 rings at least this far apart, so that a guest that programs a
/// period of a few clocks cannot keep the host busy. Several edges come at once then; what counters
/// read is exact.
const MIN_EDGE_DISTANCE_TICKS: i64 = ns_to_ticks(MIN_SPACING_NS, PIT_HZ) as i64 + 1;
/// The same while the guest is behind with those before.
const MIN_EDGE_DISTANCE_BEHIND_TICKS: i64 = ns_to_ticks(MIN_SPACING_BEHIND_NS, PIT_HZ) as i64 + 1;

/// The volatile state.
#[derive(Clone, Debug)]
struct State {
    counters: [Counter; 3],
    port61: Port61,
    /// Rising edges of counter 0 up to this tick have been delivered.
    delivered_tick: i64,
    /// The guest has yet to take some that were delivered before the last ones.
    is_behind: bool,
}

impl State {
    fn new() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            port61: Port61::new(),
            delivered_tick: 0,
            is_behind: false,
        }
    }
}

/// The 8254 and port 61h.
pub struct Pit {
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    irq0: IrqLine,
    state: DeviceLock<State>,
}

fn tick_at(time: GuestTime) -> i64 {
    ns_to_ticks(time.as_ns(), PIT_HZ) as i64
}

impl Pit {
    /// A timer after power-on: no counter runs. `irq0` follows counter 0's output.
    pub fn new(clock: Arc<dyn Clock>, alarm: Alarm, irq0: IrqLine) -> Self {
        Self { clock, alarm, irq0, state: DeviceLock::new(State::new()) }
    }

    fn tick(&self) -> i64 {
        tick_at(self.clock.now())
    }

    /// Puts counter 0's edges up to `tick` on the wire, and the level of a mode that is not
    /// periodic. Between the edges of one that is, the wire stays high: when OUT falls, nobody
    /// need be woken.
    fn drive_irq0(&self, state: &mut State, tick: i64) {
        let [counter0, ..] = &mut state.counters;
        counter0.catch_up(tick);
        let edge = counter0.last_rising_edge(tick).filter(|&edge| edge > state.delivered_tick);
        let Some(period) = counter0.period() else {
            if edge.is_some() {
                self.irq0.strobe();
            }
            self.irq0.set(counter0.output(tick));
            state.delivered_tick = edge.unwrap_or(state.delivered_tick);
            return;
        };
        let Some(edge) = edge else { return };
        state.is_behind = self.irq0.tick(Ticks {
            count: counter0.edges_between(state.delivered_tick, edge) + 1,
            period_ns: ticks_to_ns(period as u64, PIT_HZ),
            late_ns: ticks_to_ns((tick - edge) as u64, PIT_HZ),
        });
        state.delivered_tick = edge;
    }

    fn arm(&self, state: &State, tick: i64) {
        let [counter0, ..] = &state.counters;
        let distance =
            if state.is_behind { MIN_EDGE_DISTANCE_BEHIND_TICKS } else { MIN_EDGE_DISTANCE_TICKS };
        let event = counter0.next_event(tick, state.delivered_tick.saturating_add(distance));
        self.alarm.set(event.map(|tick| GuestTime::from_ns(ticks_to_ns(tick as u64, PIT_HZ))));
    }

    /// Lets `write` act on counter 0, after the edges before it. A level that OUT has not, or not
    /// any more, takes the request with it that an interrupt controller latched.
    fn with_counter0(&self, state: &mut State, tick: i64, write: impl FnOnce(&mut State)) {
        self.drive_irq0(state, tick);
        self.irq0.forgive();
        self.irq0.set(state.counter(0).output(tick));
        write(state);
        self.irq0.set(state.counter(0).output(tick));
        self.arm(state, tick);
    }

    fn write_control(&self, state: &mut State, value: u8, tick: i64) {
        let word = ControlWord::from(value);
        if word.select() == SELECT_READ_BACK {
            state.read_back(ReadBack::from(value), tick);
        } else if word.access() == ByteAccess::Latch {
            state.counter(word.select()).latch_count(tick);
        } else if word.select() == 0 {
            self.with_counter0(state, tick, |state| state.counter(0).write_control(word));
        } else {
            state.counter(word.select()).write_control(word);
        }
    }

    fn write(&self, state: &mut State, region: u8, offset: u64, value: u8) {
        let tick = self.tick();
        match (region, offset) {
            (REGION_COUNTERS, 0) => {
                self.with_counter0(state, tick, |state| state.counter(0).write(value, tick));
            }
            (REGION_COUNTERS, 1..CONTROL_OFFSET) => state.counter(offset as u8).write(value, tick),
            (REGION_COUNTERS, CONTROL_OFFSET) => self.write_control(state, value, tick),
            (REGION_PORT_61, 0) => {
                state.port61 = Port61::from(value).writable();
                let gate = state.port61.timer2_gate();
                state.counter(2).set_gate(gate, tick);
            }
            _ => {}
        }
    }

    fn read(&self, state: &mut State, region: u8, offset: u64) -> Option<u8> {
        match (region, offset) {
            (REGION_COUNTERS, 0..CONTROL_OFFSET) => {
                Some(state.counter(offset as u8).read(self.tick()))
            }
            (REGION_PORT_61, 0) => Some(state.read_port61(self.tick())),
            _ => None,
        }
    }
}

impl State {
    /// Counter `number`; 2 for anything above.
    fn counter(&mut self, number: u8) -> &mut Counter {
        let [counter0, counter1, counter2] = &mut self.counters;
        match number {
            0 => counter0,
            1 => counter1,
            _ => counter2,
        }
    }

    fn read_back(&mut self, command: ReadBack, tick: i64) {
        for number in (0..3).filter(|number| command.counters() & (1 << number) != 0) {
            let counter = self.counter(number);
            if !command.no_count() {
                counter.latch_count(tick);
            }
            if !command.no_status() {
                counter.latch_status(tick);
            }
        }
    }

    fn read_port61(&mut self, tick: i64) -> u8 {
        let counter2 = self.counter(2);
        counter2.catch_up(tick);
        let output = counter2.output(tick);
        let refresh = (tick as u64 / REFRESH_TOGGLE_TICKS) & 1 == 1;
        self.port61.with_timer2_output(output).with_refresh_toggle(refresh).into()
    }
}

impl PioDevice for Pit {
    fn ports(&self) -> Vec<Region> {
        vec![Region::new(REGION_COUNTERS, COUNTER_BASE, 4), Region::new(REGION_PORT_61, PORT_61, 1)]
    }

    /// Wider accesses are split into bytes at consecutive ports, as the ISA bridge does it.
    fn pio_read(&self, access: Access) -> Option<u32> {
        let mut state = self.state.lock();
        let mut bytes = [0xff; 4];
        let mut decoded = false;
        for (offset, byte) in (access.offset..).zip(&mut bytes).take(usize::from(access.size_bytes))
        {
            if let Some(value) = self.read(&mut state, access.region, offset) {
                *byte = value;
                decoded = true;
            }
        }
        decoded.then_some(u32::from_le_bytes(bytes))
    }

    fn pio_write(&self, access: Access, value: u32) {
        let mut state = self.state.lock();
        for (offset, byte) in
            (access.offset..).zip(value.to_le_bytes()).take(usize::from(access.size_bytes))
        {
            self.write(&mut state, access.region, offset, byte);
        }
    }
}

impl Timed for Pit {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        let tick = tick_at(now);
        self.drive_irq0(&mut state, tick);
        self.arm(&state, tick);
    }
}
