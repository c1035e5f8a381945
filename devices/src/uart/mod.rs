//! 16550A serial port.
//!
//! Transmitted bytes go to a [`ByteSink`] at once, whatever the baud rate; while the sink has
//! no room, the transmitter stays busy. A guest that polls is never kept waiting, while the
//! interrupt that the transmitter is empty comes a character's time after the character. Received
//! bytes come through [`Uart::receive`], and arrive at the line's pace: one character's time apart,
//! and no more of them than raise the interrupt, until the guest reads. The sender waits, so that
//! nothing is lost. The far end holds CTS, DSR and DCD asserted.

pub mod spec;

#[cfg(test)]
mod tests;

use crate::bus::{Access, PioDevice, Region};
use crate::console::ByteSink;
use crate::irq::IrqLine;
use crate::lock::DeviceLock;
use crate::ring::Ring;
use crate::time::{Alarm, Clock, GuestTime, Timed};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use spec::{BASE_BAUD, FIFO_DEPTH, Fcr, Ier, Lcr, Lsr, Mcr, Msr, iir, offset};

/// How long to wait before a sink that had no room is tried again.
const SINK_RETRY_NS: u64 = 500_000;

/// A received character, and the error bits of [`Lsr`] that it came with.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    byte: u8,
    errors: u8,
}

#[derive(Clone, Debug)]
struct State {
    ier: Ier,
    fcr: Fcr,
    lcr: Lcr,
    mcr: Mcr,
    msr: Msr,
    scratch: u8,
    divisor: u16,
    /// Characters that the far end has sent and that have not arrived yet.
    line: Ring<Received, FIFO_DEPTH>,
    /// When the next character can arrive at the earliest.
    line_free_at: GuestTime,
    /// When the next character of `line` arrives, if the receiver takes it.
    arrives_at: Option<GuestTime>,
    receiver: Ring<Received, FIFO_DEPTH>,
    /// The byte that the receiver gives when it is read while empty: the last character.
    last_received: u8,
    /// Error bits that the line status register shows, until it is read.
    line_errors: u8,
    transmitter: Ring<u8, FIFO_DEPTH>,
    /// The transmitter became empty, and nobody was told yet.
    empty_pending: bool,
    /// When that will be so: the interrupt comes at the line's pace, the character is gone at
    /// once.
    empty_at: Option<GuestTime>,
    /// Four character times passed with data below the trigger level.
    timeout_pending: bool,
    timeout_at: Option<GuestTime>,
    retry_at: Option<GuestTime>,
}

impl State {
    fn new() -> Self {
        Self {
            ier: Ier::new(),
            fcr: Fcr::new(),
            lcr: Lcr::new(),
            mcr: Mcr::new(),
            msr: Msr::new().with_cts(true).with_dsr(true).with_dcd(true),
            scratch: 0,
            divisor: 12,
            line: Ring::default(),
            line_free_at: GuestTime::ZERO,
            arrives_at: None,
            receiver: Ring::default(),
            last_received: 0,
            line_errors: 0,
            transmitter: Ring::default(),
            empty_pending: false,
            empty_at: None,
            timeout_pending: false,
            timeout_at: None,
            retry_at: None,
        }
    }

    fn lsr(&self) -> Lsr {
        let transmitted = self.transmitter.is_empty();
        Lsr::from_bits(self.line_errors)
            .with_data_ready(!self.receiver.is_empty())
            .with_holding_empty(transmitted)
            .with_transmitter_empty(transmitted)
            .with_error_in_fifo(
                self.fcr.enabled() && self.receiver.iter().any(|entry| entry.errors != 0),
            )
    }

    fn receiver_depth(&self) -> usize {
        if self.fcr.enabled() { FIFO_DEPTH } else { 1 }
    }

    fn trigger_reached(&self) -> bool {
        self.receiver.len() >= self.fcr.trigger_level()
    }

    /// The pending interrupt of the highest priority (table 4 of the datasheet).
    fn interrupt(&self) -> u8 {
        if self.ier.line_status() && self.line_errors & Lsr::ERRORS != 0 {
            iir::LINE_STATUS
        } else if self.ier.received() && self.trigger_reached() {
            iir::RECEIVED
        } else if self.ier.received() && self.timeout_pending {
            iir::TIMEOUT
        } else if self.ier.transmitter_empty() && self.empty_pending {
            iir::TRANSMITTER_EMPTY
        } else if self.ier.modem_status() && self.msr.into_bits() & Msr::DELTAS != 0 {
            iir::MODEM_STATUS
        } else {
            iir::NONE
        }
    }

    /// True if the receiver takes a character from the line: up to those that raise an interrupt,
    /// or as many as fit for a guest that polls. Loopback disconnects the line.
    fn takes_from_line(&self) -> bool {
        let limit =
            if self.ier.received() { self.fcr.trigger_level() } else { self.receiver_depth() };
        !self.mcr.loopback() && self.receiver.len() < limit
    }

    /// A character of the current format and rate, in nanoseconds.
    fn character_ns(&self) -> u64 {
        let bits = 7
            + u64::from(self.lcr.word_length())
            + u64::from(self.lcr.parity())
            + u64::from(self.lcr.two_stop_bits());
        bits * u64::from(self.divisor.max(1)) * 1_000_000_000 / BASE_BAUD
    }

    /// Takes a character from the line; false if there was no room.
    fn accept(&mut self, received: Received) -> bool {
        if self.receiver.len() >= self.receiver_depth() {
            return false;
        }
        self.receiver.push(received);
        if self.receiver.len() == 1 {
            self.line_errors |= received.errors;
        }
        true
    }

    /// A character that the transmitter sends to its own receiver.
    fn loop_back(&mut self, received: Received) {
        if self.accept(received) {
            return;
        }
        self.line_errors |= Lsr::new().with_overrun(true).into_bits();
        if !self.fcr.enabled() {
            self.receiver.replace_last(received);
        }
    }

    fn read_data(&mut self) -> u8 {
        self.timeout_pending = false;
        self.timeout_at = None;
        if let Some(received) = self.receiver.pop() {
            self.last_received = received.byte;
            self.line_errors |= self.receiver.first().map_or(0, |next| next.errors);
        }
        self.last_received
    }

    fn read_iir(&mut self) -> u8 {
        let source = self.interrupt();
        if source == iir::TRANSMITTER_EMPTY {
            self.empty_pending = false;
        }
        source | if self.fcr.enabled() { iir::FIFOS } else { 0 }
    }

    fn write_ier(&mut self, ier: Ier) {
        if ier.transmitter_empty() != self.ier.transmitter_empty() {
            self.empty_at = None;
            self.empty_pending = self.transmitter.is_empty();
        }
        self.ier = ier;
    }

    fn write_fcr(&mut self, fcr: Fcr) {
        let toggled = fcr.enabled() != self.fcr.enabled();
        if toggled || fcr.enabled() && fcr.clear_receiver() {
            self.receiver.clear();
            self.timeout_pending = false;
            self.timeout_at = None;
        }
        if (toggled || fcr.enabled() && fcr.clear_transmitter()) && !self.transmitter.is_empty() {
            self.transmitter.clear();
            self.retry_at = None;
            self.empty_pending = true;
        }
        // The clear bits are pulses, and nothing sticks without the enable bit (8.6.4).
        self.fcr = if fcr.enabled() {
            fcr.with_clear_receiver(false).with_clear_transmitter(false)
        } else {
            Fcr::new()
        };
    }

    fn write_lcr(&mut self, lcr: Lcr) {
        let starts_break = lcr.send_break() && !self.lcr.send_break();
        self.lcr = lcr;
        if starts_break && self.mcr.loopback() {
            self.loop_back(BREAK);
        }
    }

    fn write_mcr(&mut self, mcr: Mcr) {
        self.mcr = mcr;
        let lines = if mcr.loopback() {
            Msr::new()
                .with_cts(mcr.rts())
                .with_dsr(mcr.dtr())
                .with_ri(mcr.out1())
                .with_dcd(mcr.out2())
        } else {
            Msr::new().with_cts(true).with_dsr(true).with_dcd(true)
        };
        let old = self.msr;
        self.msr = lines
            .with_delta_cts(old.delta_cts() || old.cts() != lines.cts())
            .with_delta_dsr(old.delta_dsr() || old.dsr() != lines.dsr())
            .with_delta_dcd(old.delta_dcd() || old.dcd() != lines.dcd())
            .with_trailing_ri(old.trailing_ri() || old.ri() && !lines.ri());
    }

    fn read_msr(&mut self) -> u8 {
        let value = self.msr.into_bits();
        self.msr = Msr::from_bits(value & Msr::LINES);
        value
    }
}

/// A break as the receiver sees it.
const BREAK: Received =
    Received { byte: 0, errors: Lsr::new().with_break_received(true).into_bits() };

/// A 16550A.
pub struct Uart {
    // Configuration.
    base: u16,
    // Wiring.
    irq: IrqLine,
    sink: Arc<dyn ByteSink>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    // Volatile state.
    state: DeviceLock<State>,
    /// The line status register, so that a guest that polls it needs no lock.
    lsr: AtomicU8,
}

impl Uart {
    /// A serial port at I/O port `base` that transmits to `sink`, which must not call back.
    pub fn new(
        base: u16,
        irq: IrqLine,
        sink: Arc<dyn ByteSink>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Self {
        let state = State::new();
        let lsr = AtomicU8::new(state.lsr().into_bits());
        Self { base, irq, sink, clock, alarm, state: DeviceLock::new(state), lsr }
    }

    /// The far end sends a byte; false if the line has no room, then the caller keeps it. Also
    /// false in loopback mode, in which the line is disconnected.
    pub fn receive(&self, byte: u8) -> bool {
        self.send_on_line(Received { byte, errors: 0 })
    }

    /// The far end sends a break condition; false as for [`Uart::receive`].
    pub fn receive_break(&self) -> bool {
        self.send_on_line(BREAK)
    }

    fn send_on_line(&self, received: Received) -> bool {
        let mut state = self.state.lock();
        let sent = !state.mcr.loopback() && state.line.push(received);
        if sent {
            self.settle(&mut state);
        }
        sent
    }

    /// Lets arrive from the line what is due and the receiver takes.
    fn run_line(&self, state: &mut State) {
        let mut due = state.arrives_at.take();
        while let Some(next) = state.line.first().filter(|_| state.takes_from_line()) {
            let now = self.clock.now();
            if now < state.line_free_at {
                state.arrives_at = Some(state.line_free_at);
                return;
            }
            state.line.pop();
            // A character that was read ends its interrupt before the next one begins, however late
            // it is: the controller must see an edge.
            self.drive_interrupt(state);
            state.accept(next);
            // One that waited for its time arrived then, even if nobody could look.
            state.line_free_at = due.unwrap_or(now) + state.character_ns();
            due = Some(state.line_free_at);
            self.watch_receiver(state);
        }
    }

    /// Starts the character timeout if data waits below the trigger level.
    fn watch_receiver(&self, state: &mut State) {
        let waits = state.fcr.enabled()
            && state.ier.received()
            && !state.receiver.is_empty()
            && !state.trigger_reached();
        state.timeout_at = waits.then(|| self.clock.now() + 4 * state.character_ns());
    }

    fn drive_interrupt(&self, state: &State) {
        // On a PC, OUT2 gates the interrupt; in loopback mode the pin is inactive.
        let gate = state.mcr.out2() && !state.mcr.loopback();
        self.irq.set(gate && state.interrupt() != iir::NONE);
    }

    /// Brings the receiver and the outputs up to date.
    fn settle(&self, state: &mut State) {
        self.run_line(state);
        self.lsr.store(state.lsr().into_bits(), Ordering::Relaxed);
        self.drive_interrupt(state);
        let alarms = [state.timeout_at, state.retry_at, state.arrives_at, state.empty_at];
        self.alarm.set(alarms.into_iter().flatten().min());
    }

    fn transmit(&self, state: &mut State, byte: u8) {
        let depth = if state.fcr.enabled() { FIFO_DEPTH } else { 1 };
        if state.mcr.loopback() {
            state.loop_back(Received { byte, errors: 0 });
            self.watch_receiver(state);
        } else if state.transmitter.len() < depth {
            state.transmitter.push(byte);
        }
        if state.empty_pending {
            // The interrupt ends, and comes back once the byte is sent: the controller must see a
            // new edge.
            state.empty_pending = false;
            self.settle(state);
        }
        self.flush(state);
    }

    /// Moves what waits in the transmitter to the sink.
    fn flush(&self, state: &mut State) {
        state.retry_at = None;
        while let Some(byte) = state.transmitter.first() {
            if !self.sink.put(byte) {
                state.retry_at = Some(self.clock.now() + SINK_RETRY_NS);
                return;
            }
            state.transmitter.pop();
        }
        if state.ier.transmitter_empty() {
            // The first of those that the guest writes one after the other says when.
            let empty_at =
                state.empty_at.unwrap_or_else(|| self.clock.now() + state.character_ns());
            state.empty_at = Some(empty_at);
        } else {
            state.empty_pending = true;
        }
    }

    fn read(&self, register: u8) -> u8 {
        if register == offset::LSR {
            let lsr = Lsr::from_bits(self.lsr.load(Ordering::Relaxed));
            if lsr.holding_empty() && lsr.into_bits() & Lsr::ERRORS == 0 {
                return lsr.into_bits();
            }
        }
        let mut state = self.state.lock();
        let latch = state.lcr.divisor_latch();
        let value = match register {
            offset::DATA if latch => return state.divisor as u8,
            offset::IER if latch => return (state.divisor >> 8) as u8,
            offset::DATA => {
                let byte = state.read_data();
                if !state.line.is_empty() && state.arrives_at.is_none() {
                    // The sender, who waited for room, begins now.
                    state.line_free_at = self.clock.now() + state.character_ns();
                }
                self.watch_receiver(&mut state);
                byte
            }
            offset::IER => return state.ier.into_bits(),
            offset::IIR_FCR => state.read_iir(),
            offset::LCR => return state.lcr.into_bits(),
            offset::MCR => return state.mcr.into_bits(),
            offset::LSR => {
                if !state.transmitter.is_empty() {
                    self.flush(&mut state);
                }
                let lsr = state.lsr().into_bits();
                state.line_errors = 0;
                lsr
            }
            offset::MSR => state.read_msr(),
            _ => return state.scratch,
        };
        self.settle(&mut state);
        value
    }

    fn write(&self, register: u8, value: u8) {
        let mut state = self.state.lock();
        let latch = state.lcr.divisor_latch();
        match register {
            offset::DATA if latch => {
                state.divisor = state.divisor & 0xff00 | u16::from(value);
                return;
            }
            offset::IER if latch => {
                state.divisor = state.divisor & 0x00ff | u16::from(value) << 8;
                return;
            }
            offset::DATA => self.transmit(&mut state, value),
            offset::IER => {
                state.write_ier(Ier::from_bits(value & 0x0f));
                self.watch_receiver(&mut state);
            }
            offset::IIR_FCR => {
                state.write_fcr(Fcr::from_bits(value));
                self.watch_receiver(&mut state);
            }
            offset::LCR => state.write_lcr(Lcr::from_bits(value)),
            offset::MCR => state.write_mcr(Mcr::from_bits(value & Mcr::WRITABLE)),
            offset::SCRATCH => {
                state.scratch = value;
                return;
            }
            // LSR and MSR writes are for factory tests.
            _ => return,
        }
        self.settle(&mut state);
    }
}

impl PioDevice for Uart {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, self.base.into(), spec::PORTS)]
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        let register = access.offset as u8 & 7;
        if access.size_bytes == 1 {
            return Some(self.read(register).into());
        }
        // The bus of a PC splits wide accesses to an 8-bit device.
        let mut value = 0;
        for n in (0..access.size_bytes.min(4)).rev() {
            let byte = if register + n < 8 { self.read(register + n) } else { 0xff };
            value = value << 8 | u32::from(byte);
        }
        Some(value)
    }

    fn pio_write(&self, access: Access, value: u32) {
        let register = access.offset as u8 & 7;
        for n in 0..access.size_bytes.min(4) {
            if register + n < 8 {
                self.write(register + n, (value >> (8 * n)) as u8);
            }
        }
    }
}

impl Timed for Uart {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        self.run_line(&mut state);
        if state.timeout_at.is_some_and(|at| at <= now) {
            state.timeout_at = None;
            state.timeout_pending = true;
        }
        if state.retry_at.is_some_and(|at| at <= now) {
            self.flush(&mut state);
        }
        if state.empty_at.is_some_and(|at| at <= now) {
            state.empty_at = None;
            state.empty_pending = true;
        }
        self.settle(&mut state);
    }
}

impl fmt::Debug for Uart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uart")
            .field("base", &self.base)
            .field("irq", &self.irq)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
