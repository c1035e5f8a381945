//! The switch that puts HPET timers 0 and 1 in the place of PIT and RTC (LEG_RT_CNF, specification section 2.3.5).

use alloc::sync::Arc;

use spin::Mutex;

use crate::irq::{IrqLine, LineTarget};

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
        Arc::new(Self { irq0, irq8, state: Mutex::default() })
    }

    /// A wire to one of the inputs.
    pub fn wire(self: &Arc<Self>, input: u32) -> IrqLine {
        IrqLine::new(self.clone(), input)
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
            Self::SELECT => state.replaced = high,
            _ => return,
        }
        self.irq0.set(if state.replaced { state.timer0 } else { state.pit });
        self.irq8.set(if state.replaced { state.timer1 } else { state.rtc });
    }
}
