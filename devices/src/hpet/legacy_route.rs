//! The switch that puts HPET timers 0 and 1 in the place of PIT and RTC (LEG_RT_CNF, specification
//! section 2.3.5).

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::lock::{Ranked, rank};

use crate::irq::{IrqLine, LineTarget, Ticks};
use crate::ticks::TickPacer;
use crate::time::{Alarm, Clock, GuestTime, Timed};

/// Levels of the inputs, and the ticks of IRQ 0.
#[derive(Clone, Debug, Default)]
struct State {
    pit: bool,
    rtc: bool,
    timer0: bool,
    timer1: bool,
    replaced: bool,
    ticks: TickPacer,
}

/// IRQ 0 and IRQ 8 come from PIT and RTC, or, while [`LegacyRoute::SELECT`] is high, from HPET
/// timers 0 and 1.
///
/// Ticks of IRQ 0, the system timer's, that the guest missed follow one by one.
pub struct LegacyRoute {
    irq0: IrqLine,
    irq8: IrqLine,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    /// High while [`LegacyRoute::irq0_taken`] is to be called.
    watch: IrqLine,
    /// The pacer's [`TickPacer::follows_at_once`], in a word that is read at each interrupt.
    follows_at_once: AtomicBool,
    state: Ranked<State, { rank::TICKS }>,
}

impl State {
    fn irq0(&self) -> bool {
        if self.replaced { self.timer0 } else { self.pit }
    }

    /// True if `input` is what drives IRQ 0.
    fn leads_to_irq0(&self, input: u32) -> bool {
        input == if self.replaced { LegacyRoute::TIMER0 } else { LegacyRoute::PIT }
    }
}

impl LegacyRoute {
    /// Input: the PIT's output.
    pub const PIT: u32 = 0;
    /// Input: the RTC's output.
    pub const RTC: u32 = 1;
    /// Input: HPET timer 0.
    pub const TIMER0: u32 = 2;
    /// Input: HPET timer 1.
    pub const TIMER1: u32 = 3;
    /// Input: high while the HPET replaces the others.
    pub const SELECT: u32 = 4;

    /// A switch that drives IRQ 0 (I/O APIC input 2) and IRQ 8. `watch` wakes the virtual CPU that
    /// takes IRQ 0 when it has to begin to tell of that.
    pub fn new(
        clock: Arc<dyn Clock>,
        alarm: Alarm,
        irq0: IrqLine,
        irq8: IrqLine,
        watch: IrqLine,
    ) -> Arc<Self> {
        Arc::new(Self {
            irq0,
            irq8,
            clock,
            alarm,
            watch,
            follows_at_once: AtomicBool::new(false),
            state: Ranked::default(),
        })
    }

    /// A wire to one of the inputs.
    pub fn wire(self: &Arc<Self>, input: u32) -> IrqLine {
        IrqLine::new(self.clone(), input)
    }

    /// True while [`LegacyRoute::irq0_taken`] is to be called.
    pub fn is_watching(&self) -> bool {
        self.watch.is_high()
    }

    /// True if a tick is owed that follows as soon as the guest has run an instruction of what the
    /// last one interrupted.
    pub fn follows_at_once(&self) -> bool {
        self.follows_at_once.load(Ordering::Relaxed)
    }

    /// The guest has taken IRQ 0: the next tick that it missed may follow.
    pub fn irq0_taken(&self) {
        let mut state = self.state.lock();
        state.ticks.taken(self.clock.now());
        self.note(&state);
    }

    /// Sends the next tick that is owed, if its time has come.
    pub fn send_next(&self, now: GuestTime) {
        let mut state = self.state.lock();
        if state.ticks.send_next(now) {
            self.irq0.strobe();
        }
        self.note(&state);
    }

    /// The guest has run an instruction of what the last tick interrupted.
    pub fn follow(&self) {
        self.send_next(self.clock.now());
    }

    /// Tells what the pacer waits for.
    fn note(&self, state: &State) {
        self.follows_at_once.store(state.ticks.follows_at_once(), Ordering::Relaxed);
        self.watch.set(state.ticks.is_watching());
        self.alarm.set(state.ticks.next());
    }
}

impl Timed for LegacyRoute {
    fn expired(&self, now: GuestTime) {
        self.send_next(now);
    }
}

impl fmt::Debug for LegacyRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyRoute")
            .field("alarm", &self.alarm)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl LineTarget for LegacyRoute {
    fn set_line(&self, input: u32, high: bool) {
        let mut state = self.state.lock();
        match input {
            Self::PIT => state.pit = high,
            Self::RTC => state.rtc = high,
            Self::TIMER0 => state.timer0 = high,
            Self::TIMER1 => state.timer1 = high,
            Self::SELECT => {
                state.replaced = high;
                state.ticks.clear();
                self.note(&state);
            }
            _ => return,
        }
        self.irq0.set(state.irq0());
        self.irq8.set(if state.replaced { state.timer1 } else { state.rtc });
    }

    fn tick(&self, input: u32, ticks: Ticks) -> bool {
        let mut state = self.state.lock();
        match input {
            Self::PIT => state.pit = true,
            Self::TIMER0 => state.timer0 = true,
            // Of IRQ 8 no ticks are owed.
            _ => {
                drop(state);
                self.strobe(input);
                return false;
            }
        }
        if !state.leads_to_irq0(input) {
            return false;
        }
        let is_behind = state.ticks.is_behind();
        if state.ticks.tick(self.clock.now(), ticks) {
            self.irq0.strobe();
        }
        self.note(&state);
        is_behind
    }

    fn forgive(&self, input: u32) {
        let mut state = self.state.lock();
        if state.leads_to_irq0(input) {
            state.ticks.clear();
            self.note(&state);
        }
    }
}
