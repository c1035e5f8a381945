//! The switch that puts HPET timers 0 and 1 in the place of PIT and RTC (LEG_RT_CNF, specification section 2.3.5).

use alloc::sync::Arc;

use spin::Mutex;

use crate::irq::{IrqLine, LineTarget};
use crate::time::TickDebt;

/// Levels of the inputs.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    pit: bool,
    rtc: bool,
    timer0: bool,
    timer1: bool,
    replaced: bool,
}

/// IRQ 0 and IRQ 8 come from PIT and RTC, or, while [`LegacyRoute::SELECT`] is high, from HPET timers 0 and 1.
#[derive(Debug)]
pub struct LegacyRoute {
    irq0: IrqLine,
    irq8: IrqLine,
    state: Mutex<State>,
    /// Edges of IRQ 0, the system timer's, that the guest missed.
    debt: TickDebt,
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

    /// A switch that drives IRQ 0 (I/O APIC input 2) and IRQ 8.
    pub fn new(irq0: IrqLine, irq8: IrqLine) -> Arc<Self> {
        Arc::new(Self { irq0, irq8, state: Mutex::default(), debt: TickDebt::new() })
    }

    /// A wire to one of the inputs.
    pub fn wire(self: &Arc<Self>, input: u32) -> IrqLine {
        IrqLine::new(self.clone(), input)
    }

    /// True if IRQ 0 owes the guest an edge.
    pub fn is_owing(&self) -> bool {
        self.debt.is_owing()
    }

    /// The guest has taken IRQ 0: the next edge that it missed follows.
    pub fn irq0_taken(&self) {
        if !self.debt.pay() {
            return;
        }
        let state = self.state.lock();
        self.irq0.set(false);
        self.irq0.set(true);
        self.irq0.set(state.irq0());
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
                self.debt.clear();
            }
            _ => return,
        }
        self.irq0.set(state.irq0());
        self.irq8.set(if state.replaced { state.timer1 } else { state.rtc });
    }

    fn owe(&self, input: u32, ticks: u64) {
        if self.state.lock().leads_to_irq0(input) {
            self.debt.add(ticks);
        }
    }

    fn forgive(&self, input: u32) {
        if self.state.lock().leads_to_irq0(input) {
            self.debt.clear();
        }
    }
}
