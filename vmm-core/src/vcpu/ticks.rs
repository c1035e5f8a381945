//! Ticks that follow one another faster than the host's timer rings: the guest takes one, returns
//! from its handler, runs an instruction of what was interrupted, and takes the next.

use super::Vcpu;
use super::events::EXTINT_CLASS;
use crate::backend::Backend;
use emulator::registers::{Gpr, SegmentName};

/// How far the guest is after a tick that others are to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TickGate {
    /// None is to follow.
    Closed,
    /// It handles the tick. It has returned when it can be interrupted and its stack is not below
    /// this address.
    Handling(u64),
    /// It has returned, and runs one instruction of what was interrupted.
    Returned,
    /// Its handler lets itself be interrupted: the next interrupt of the host's timer decides.
    Nested,
}

impl<B: Backend> Vcpu<B> {
    /// The guest took the interrupt `vector` of its local APIC: the timers hear of it, if it was
    /// theirs.
    pub(super) fn note_taken_vector(&mut self, vector: u8) {
        self.apic.timer().taken(vector);
        self.vm.system_timer.taken_from_apic(vector);
    }

    /// A tick may have been taken: others that follow at once wait for the end of its handler.
    /// Called before its delivery, or in the handler where the processor delivers it.
    #[inline]
    pub(super) fn watch_handler(&mut self) {
        if self.tick_follows() {
            self.begin_handler();
        }
    }

    fn tick_follows(&self) -> bool {
        self.apic.timer().follows_at_once() || self.vm.system_timer.route.follows_at_once()
    }

    #[cold]
    fn begin_handler(&mut self) {
        // Its frame is not, or is, on the stack.
        let is_delivered = self.backend.delivers_interrupts();
        let is_nested = is_delivered && self.backend.rflags().interrupt();
        let stack = self.stack_address().saturating_add(is_delivered.into());
        self.set_tick_gate(if is_nested { TickGate::Nested } else { TickGate::Handling(stack) });
    }

    fn stack_address(&self) -> u64 {
        self.backend.segment_base(SegmentName::Ss).wrapping_add(self.gprs.get(Gpr::Rsp))
    }

    fn set_tick_gate(&mut self, gate: TickGate) {
        self.tick_gate = gate;
        let class = self.tick_class();
        if class.is_some() {
            self.set_window(class);
        }
    }

    /// The class of the interrupt window that is wanted for the next tick.
    pub(super) fn tick_class(&self) -> Option<u8> {
        matches!(self.tick_gate, TickGate::Handling(_) | TickGate::Returned).then_some(EXTINT_CLASS)
    }

    /// The guest can be interrupted now. If it has returned, it first runs an instruction.
    pub(super) fn pass_tick_gate(&mut self) {
        match self.tick_gate {
            TickGate::Closed | TickGate::Nested => {}
            TickGate::Handling(stack) if self.stack_address() >= stack => {
                self.backend.set_interrupt_shadow();
                self.tick_gate = TickGate::Returned;
            }
            TickGate::Handling(_) => self.tick_gate = TickGate::Nested,
            TickGate::Returned => self.follow(),
        }
    }

    /// An exit came before that of the window which was asked for: the next tick need not wait for
    /// it if the guest has run its instruction.
    #[cold]
    pub(super) fn pass_tick_gate_early(&mut self) -> bool {
        let has_run = self.tick_gate == TickGate::Returned
            && !self.backend.interrupt_shadow()
            && self.backend.rflags().interrupt();
        if has_run {
            self.follow();
        }
        has_run
    }

    /// The guest halts: what the tick interrupted has run on.
    #[inline]
    pub(super) fn halt_at_tick_gate(&mut self) {
        if self.tick_gate != TickGate::Closed && self.backend.rflags().interrupt() {
            self.follow();
        }
    }

    /// The host's timer has rung: whatever the guest does if it can be interrupted, a tick of the
    /// timer would interrupt it.
    pub(super) fn reopen_tick_gate(&mut self) {
        if !self.tick_follows() {
            self.tick_gate = TickGate::Closed;
        } else if self.tick_class().is_none() {
            self.set_tick_gate(TickGate::Handling(0));
        }
    }

    #[cold]
    fn follow(&mut self) {
        self.tick_gate = TickGate::Closed;
        if self.apic.timer().follows_at_once() {
            self.apic.timer().follow();
        }
        if self.vm.system_timer.route.follows_at_once() {
            self.vm.system_timer.route.follow();
        }
    }
}
