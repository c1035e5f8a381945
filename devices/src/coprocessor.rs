//! The x87 coprocessor's error as a PC/AT tells of it: IRQ 13, and I/O port F0h, which ends that
//! interrupt (82371SB datasheet, Intel 290550, sections "FERR#", "IGNNE#" and "Coprocessor Error
//! Register"; SDM volume 1, appendix D).

use crate::bus::{Access, PioDevice, Region};
use crate::irq::IrqLine;
use crate::lock::DeviceLock;
use alloc::vec::Vec;

/// Writing it lowers IRQ 13, and asserts IGNNE# until FERR# goes.
const ERROR_PORT: u64 = 0xf0;
/// F1h reset an 80287; nothing listens there since the 80486.
const PORT_COUNT: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// FERR#: the processor has an unmasked error that no exception tells of.
    error: bool,
    /// IGNNE#: it is to go on nevertheless.
    ignored: bool,
}

/// The logic between FERR#, IGNNE#, IRQ 13 and port F0h.
pub struct Coprocessor {
    irq13: IrqLine,
    state: DeviceLock<State>,
}

impl Coprocessor {
    /// The logic that drives `irq13`, without an error.
    pub fn new(irq13: IrqLine) -> Self {
        Self { irq13, state: DeviceLock::default() }
    }

    /// FERR# of the processor: asserted while its status word has an unmasked error and CR0.NE is
    /// clear.
    pub fn set_error(&self, asserted: bool) {
        let mut state = self.state.lock();
        if asserted && !state.error {
            self.irq13.set(true);
        }
        state.error = asserted;
        state.ignored &= asserted;
    }

    /// IGNNE#: the processor is to execute x87 instructions in spite of the error.
    pub fn is_error_ignored(&self) -> bool {
        self.state.lock().ignored
    }
}

impl PioDevice for Coprocessor {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, ERROR_PORT, PORT_COUNT)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        None
    }

    fn pio_write(&self, access: Access, _value: u32) {
        if access.offset == 0 {
            let mut state = self.state.lock();
            self.irq13.set(false);
            state.ignored = state.error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::LineProbe;
    use proptest::prelude::*;

    fn coprocessor() -> (alloc::sync::Arc<LineProbe>, Coprocessor) {
        let (probe, line) = LineProbe::wired();
        (probe, Coprocessor::new(line))
    }

    #[test]
    fn an_error_interrupts_once_and_is_ignored_after_a_write_until_it_is_gone() {
        let (irq13, coprocessor) = coprocessor();
        coprocessor.set_error(true);
        assert!(irq13.is_high() && !coprocessor.is_error_ignored());
        coprocessor.pio_write(Access::new(0, 1), 0);
        assert!(!irq13.is_high() && coprocessor.is_error_ignored());
        coprocessor.set_error(true);
        assert!(!irq13.is_high(), "the same error");
        coprocessor.set_error(false);
        assert!(!coprocessor.is_error_ignored());
        coprocessor.set_error(true);
        assert!(irq13.is_high() && !coprocessor.is_error_ignored(), "the next");
    }

    #[test]
    fn the_interrupt_outlasts_the_error_and_without_one_nothing_is_ignored() {
        let (irq13, coprocessor) = coprocessor();
        coprocessor.pio_write(Access::new(0, 1), 0);
        assert!(!coprocessor.is_error_ignored());
        coprocessor.set_error(true);
        coprocessor.set_error(false);
        assert!(irq13.is_high());
        coprocessor.pio_write(Access::new(1, 1), 0);
        assert!(irq13.is_high(), "the other port");
        coprocessor.pio_write(Access::new(0, 1), 0);
        assert!(!irq13.is_high() && !coprocessor.is_error_ignored());
    }

    proptest! {
        #[test]
        fn what_is_ignored_is_an_error_that_interrupts_no_more(
            steps in prop::collection::vec(0u8..4, 0..40),
        ) {
            let (irq13, coprocessor) = coprocessor();
            let mut error = false;
            for step in steps {
                match step {
                    0 | 1 => {
                        error = step == 1;
                        coprocessor.set_error(error);
                    }
                    port => coprocessor.pio_write(Access::new(u64::from(port - 2), 1), 0xff),
                }
                prop_assert!(!coprocessor.is_error_ignored() || error && !irq13.is_high());
            }
        }
    }
}
