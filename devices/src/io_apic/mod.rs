//! The I/O APIC: 24 interrupt inputs to messages for local APICs. An 82093AA with the EOI register
//! of its successors (version 20h).
//!
//! A line that is high is asserted, whatever polarity the guest programs: the guest reads the
//! polarity from the tables that it is given, and the wires here carry meaning, not voltage.

pub mod spec;

#[cfg(test)]
mod tests;

use crate::bus::{Access, MmioDevice, Region};
use crate::irq::LineTarget;
use crate::local_apic::{ApicBus, Destination, EoiListener, Message};
use crate::lock::ControllerLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use spec::{INPUTS, Redirection, offset, register};

#[derive(Clone, Debug)]
struct State {
    select: u8,
    id: u32,
    table: [Redirection; INPUTS],
}

impl State {
    fn new() -> Self {
        Self { select: 0, id: 0, table: [Redirection::new().with_masked(true); INPUTS] }
    }
}

/// The I/O APIC. Its inputs, as a [`LineTarget`], are 0 to 23.
#[derive(Debug)]
pub struct IoApic {
    // Wiring.
    bus: Arc<ApicBus>,
    // Volatile state.
    /// Bit n: input n is asserted.
    levels: AtomicU32,
    /// Bit n: entry n is not masked. Lets a change of a masked input return without the lock.
    unmasked: AtomicU32,
    /// Bit n: entry n has its remote IRR set. Lets an end of interrupt that is not ours return
    /// without the lock.
    awaiting_eoi: AtomicU32,
    state: ControllerLock<State>,
}

impl IoApic {
    /// An I/O APIC that sends to `bus`, and hears of ends of interrupts from it.
    pub fn new(bus: Arc<ApicBus>) -> Arc<Self> {
        let io_apic = Arc::new(Self {
            bus: bus.clone(),
            levels: AtomicU32::new(0),
            unmasked: AtomicU32::new(0),
            awaiting_eoi: AtomicU32::new(0),
            state: ControllerLock::new(State::new()),
        });
        let listener: Arc<dyn EoiListener> = io_apic.clone();
        bus.connect_io_apic(Arc::downgrade(&listener));
        io_apic
    }

    /// Sends the message of an entry; a level-triggered one waits for its end, which another CPU
    /// may tell before the message's sender goes on here.
    fn send(&self, state: &mut State, input: usize) {
        let Some(entry) = state.table.get_mut(input) else { return };
        let awaits_eoi = entry.awaits_eoi();
        if awaits_eoi {
            entry.set_remote_irr(true);
            self.awaiting_eoi.fetch_or(1 << input, Ordering::SeqCst);
        }
        let accepted = self.bus.deliver(&Message {
            destination: Destination::from_u8(entry.destination(), entry.logical()),
            mode: entry.mode(),
            vector: entry.vector(),
            level: awaits_eoi,
        });
        if awaits_eoi && !accepted {
            self.finish(state, input);
        }
    }

    /// Sends for an input that is asserted, if its entry is level-triggered and free to send.
    fn send_level(&self, state: &mut State, input: usize) {
        let Some(&entry) = state.table.get(input) else { return };
        let asserted = self.levels.load(Ordering::SeqCst) & 1 << input != 0;
        if asserted && entry.level() && !entry.masked() && !entry.remote_irr() {
            self.send(state, input);
        }
    }

    /// The vector that an edge of an input makes; none if it is masked, or its level counts.
    pub fn edge_vector(&self, input: usize) -> Option<u8> {
        let entry = *self.state.lock().table.get(input)?;
        (!entry.masked() && !entry.level()).then(|| entry.vector())
    }

    fn finish(&self, state: &mut State, input: usize) {
        if let Some(entry) = state.table.get_mut(input) {
            entry.set_remote_irr(false);
        }
        self.awaiting_eoi.fetch_and(!(1 << input), Ordering::SeqCst);
    }

    fn write_entry(&self, state: &mut State, input: usize, written: u64, mask: u64) {
        let Some(entry) = state.table.get_mut(input) else { return };
        let mask = mask & Redirection::WRITABLE;
        *entry = Redirection::from_bits(entry.into_bits() & !mask | written & mask);
        let entry = *entry;
        if !entry.level() {
            // Software ends an interrupt of an I/O APIC without EOI register by making it
            // edge-triggered for a moment.
            self.finish(state, input);
        }
        if entry.masked() {
            self.unmasked.fetch_and(!(1 << input), Ordering::SeqCst);
        } else {
            self.unmasked.fetch_or(1 << input, Ordering::SeqCst);
            self.send_level(state, input);
        }
    }

    fn read_window(&self, state: &State) -> u32 {
        match state.select {
            register::ID | register::ARBITRATION => state.id,
            register::VERSION => spec::VERSION,
            number => {
                let Some(index) = number.checked_sub(register::REDIRECTION) else { return 0 };
                let Some(entry) = state.table.get(usize::from(index / 2)) else { return 0 };
                (entry.into_bits() >> (32 * u32::from(index % 2))) as u32
            }
        }
    }

    fn write_window(&self, state: &mut State, value: u32) {
        if state.select == register::ID {
            state.id = value & spec::ID_MASK;
            return;
        }
        let Some(index) = state.select.checked_sub(register::REDIRECTION) else { return };
        let shift = 32 * u32::from(index % 2);
        self.write_entry(
            state,
            usize::from(index / 2),
            u64::from(value) << shift,
            Redirection::LOW << shift,
        );
    }
}

impl LineTarget for IoApic {
    fn set_line(&self, input: u32, high: bool) {
        if input as usize >= INPUTS {
            return;
        }
        let bit = 1 << input;
        if !high {
            self.levels.fetch_and(!bit, Ordering::SeqCst);
            return;
        }
        self.levels.fetch_or(bit, Ordering::SeqCst);
        if self.unmasked.load(Ordering::SeqCst) & bit == 0 {
            // An edge on a masked input is lost (82093AA section 3.2.4); a level is found when it
            // is unmasked.
            return;
        }
        let mut state = self.state.lock();
        let Some(&entry) = state.table.get(input as usize) else { return };
        if entry.level() {
            self.send_level(&mut state, input as usize);
        } else if !entry.masked() {
            self.send(&mut state, input as usize);
        }
    }
}

impl EoiListener for IoApic {
    fn eoi(&self, vector: u8) {
        if self.awaiting_eoi.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.state.lock();
        for input in 0..INPUTS {
            let ended =
                state.table.get(input).is_some_and(|e| e.remote_irr() && e.vector() == vector);
            if ended {
                self.finish(&mut state, input);
                self.send_level(&mut state, input);
            }
        }
    }
}

impl MmioDevice for IoApic {
    fn ranges(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, spec::BASE, spec::LENGTH)]
    }

    fn mmio_read(&self, access: Access) -> Option<u64> {
        let state = self.state.lock();
        Some(match access.offset {
            offset::SELECT => state.select.into(),
            offset::WINDOW => self.read_window(&state).into(),
            _ => 0,
        })
    }

    fn mmio_write(&self, access: Access, value: u64) {
        match access.offset {
            offset::SELECT => self.state.lock().select = value as u8,
            offset::WINDOW => self.write_window(&mut self.state.lock(), value as u32),
            offset::EOI => self.eoi(value as u8),
            _ => {}
        }
    }
}
