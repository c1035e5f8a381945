//! The pair of 8259A interrupt controllers of a PC, with the PIIX3's edge/level registers.
//!
//! Levels 0 to 7 enter the first controller, 8 to 15 the second, whose output is the first one's
//! level 2. The first one's output is the CPU's INTR pin (or the local APIC's LINT0).

mod chip;
mod spec;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use crate::bus::{Access, PioDevice, Region};
use crate::irq::{IrqLine, LineTarget};
use crate::lock::ControllerLock;
use chip::Chip;
use spec::{
    CASCADE_INPUT, ELCR_BASE, ELCR1_WRITABLE, ELCR2_WRITABLE, PRIMARY_BASE, SECONDARY_BASE,
};

const REGION_PRIMARY: u8 = 0;
const REGION_SECONDARY: u8 = 1;
const REGION_ELCR: u8 = 2;
const REGION_PORTS: u64 = 2;

/// The volatile state of both controllers.
#[derive(Clone, Debug)]
struct State {
    primary: Chip,
    secondary: Chip,
}

/// The answer to an interrupt acknowledge cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The vector.
    pub vector: u8,
    /// The level that is in service now, 0 to 15; none if the interrupt is spurious.
    pub level: Option<u8>,
}

/// The pair of 8259A.
///
/// ```
/// use devices::bus::{Access, PioDevice};
/// use devices::irq::{LineProbe, LineTarget};
/// use devices::pic::Pic;
///
/// let (intr, output) = LineProbe::wired();
/// let pic = Pic::new(output);
/// // A BIOS's four initialization command words: vectors from 8 on; no input is masked.
/// pic.pio_write(Access::new(0, 1), 0x11);
/// for word in [8, 4, 1, 0] {
///     pic.pio_write(Access::new(1, 1), word);
/// }
/// pic.set_line(1, true);
/// assert!(intr.is_high());
/// assert_eq!(pic.acknowledge().vector, 9);
/// assert!(!intr.is_high());
/// ```
#[derive(Debug)]
pub struct Pic {
    /// INTR. Driven under the lock only, so that its changes keep their order.
    output: IrqLine,
    state: ControllerLock<State>,
}

impl Pic {
    /// A pair after power-on, whose output is `output`.
    pub fn new(output: IrqLine) -> Self {
        Self {
            output,
            state: ControllerLock::new(State { primary: Chip::new(), secondary: Chip::new() }),
        }
    }

    /// True if INTR is high. A single atomic load.
    pub fn is_pending(&self) -> bool {
        self.output.is_high()
    }

    /// The CPU's interrupt acknowledge cycle: puts the most urgent level in service. If the request
    /// has vanished since INTR rose, the vector is that of level 7 (or 15) and nothing is in
    /// service.
    pub fn acknowledge(&self) -> Acknowledged {
        let mut state = self.state.lock();
        let acknowledged = state.acknowledge();
        self.drive(&mut state);
        acknowledged
    }

    fn drive(&self, state: &mut State) {
        state.update_cascade();
        self.output.set(state.primary.drive(Some(CASCADE_INPUT)));
    }
}

impl State {
    /// Passes the second controller's output on to the first one.
    fn update_cascade(&mut self) {
        let high = self.secondary.drive(None);
        self.primary.set_line(CASCADE_INPUT, high);
    }

    fn acknowledge(&mut self) -> Acknowledged {
        let input = self.primary.acknowledge(Some(CASCADE_INPUT));
        if input != Some(CASCADE_INPUT) || !self.primary.has_cascade_at(CASCADE_INPUT) {
            return Acknowledged { vector: self.primary.vector(input), level: input };
        }
        let input = self.secondary.acknowledge(None);
        // The output falls during the cycle, so a further request makes a new edge.
        self.primary.set_line(CASCADE_INPUT, false);
        Acknowledged { vector: self.secondary.vector(input), level: input.map(|input| input + 8) }
    }

    /// The answer to a poll, if the read is one: it acknowledges.
    fn take_poll(&mut self, region: u8, offset: u64) -> Option<u8> {
        match (region, offset) {
            (REGION_PRIMARY, 0..REGION_PORTS) => self.primary.takes_poll().then(|| self.poll(true)),
            (REGION_SECONDARY, 0..REGION_PORTS) => {
                self.secondary.takes_poll().then(|| self.poll(false))
            }
            _ => None,
        }
    }

    fn poll(&mut self, primary: bool) -> u8 {
        if primary {
            return Chip::poll_word(self.primary.acknowledge(Some(CASCADE_INPUT)));
        }
        let word = Chip::poll_word(self.secondary.acknowledge(None));
        // The first controller's request has been served by the poll.
        self.primary.set_line(CASCADE_INPUT, false);
        self.primary.withdraw();
        word
    }

    fn read(&self, region: u8, offset: u64) -> Option<u8> {
        match (region, offset) {
            (REGION_PRIMARY | REGION_SECONDARY, 0..REGION_PORTS) => {
                let chip = if region == REGION_PRIMARY { &self.primary } else { &self.secondary };
                Some(if offset == 0 { chip.read_command() } else { chip.read_data() })
            }
            (REGION_ELCR, 0) => Some(self.primary.elcr()),
            (REGION_ELCR, 1) => Some(self.secondary.elcr()),
            _ => None,
        }
    }

    fn write(&mut self, region: u8, offset: u64, value: u8) {
        match (region, offset) {
            (REGION_PRIMARY, 0) => self.primary.write_command(value),
            (REGION_PRIMARY, 1) => self.primary.write_data(value),
            (REGION_SECONDARY, 0) => self.secondary.write_command(value),
            (REGION_SECONDARY, 1) => self.secondary.write_data(value),
            (REGION_ELCR, 0) => self.primary.set_elcr(value & ELCR1_WRITABLE),
            (REGION_ELCR, 1) => self.secondary.set_elcr(value & ELCR2_WRITABLE),
            _ => {}
        }
    }
}

impl Pic {
    fn change_input(&self, input: u32, change: impl FnOnce(&mut Chip, u8)) {
        if input > 15 || input == u32::from(CASCADE_INPUT) {
            return;
        }
        let mut state = self.state.lock();
        let chip = if input < 8 { &mut state.primary } else { &mut state.secondary };
        change(chip, input as u8 & 7);
        self.drive(&mut state);
    }
}

impl LineTarget for Pic {
    /// Inputs 0 to 15; 2 is the cascade and is ignored.
    fn set_line(&self, input: u32, high: bool) {
        self.change_input(input, |chip, input| chip.set_line(input, high));
    }

    fn strobe(&self, input: u32) {
        self.change_input(input, |chip, input| {
            chip.set_line(input, false);
            chip.set_line(input, true);
        });
    }
}

impl PioDevice for Pic {
    fn ports(&self) -> Vec<Region> {
        vec![
            Region::new(REGION_PRIMARY, PRIMARY_BASE, REGION_PORTS),
            Region::new(REGION_SECONDARY, SECONDARY_BASE, REGION_PORTS),
            Region::new(REGION_ELCR, ELCR_BASE, REGION_PORTS),
        ]
    }

    /// Wider accesses are split into bytes at consecutive ports, as the ISA bridge does it.
    fn pio_read(&self, access: Access) -> Option<u32> {
        let mut state = self.state.lock();
        let mut bytes = [0xff; 4];
        let (mut decoded, mut acknowledged) = (false, false);
        for (offset, byte) in (access.offset..).zip(&mut bytes).take(usize::from(access.size_bytes))
        {
            let value = match state.take_poll(access.region, offset) {
                Some(word) => {
                    acknowledged = true;
                    Some(word)
                }
                None => state.read(access.region, offset),
            };
            decoded |= value.is_some();
            *byte = value.unwrap_or(0xff);
        }
        if acknowledged {
            self.drive(&mut state);
        }
        decoded.then_some(u32::from_le_bytes(bytes))
    }

    fn pio_write(&self, access: Access, value: u32) {
        let mut state = self.state.lock();
        for (offset, byte) in
            (access.offset..).zip(value.to_le_bytes()).take(usize::from(access.size_bytes))
        {
            state.write(access.region, offset, byte);
        }
        self.drive(&mut state);
    }
}
