//! The guest's interruptions, in the order of their priority.

use super::{Activity, Vcpu};
use crate::backend::Backend;
use emulator::event::Event;
use emulator::registers::{Exception, Fault, Segment, SegmentName};

/// The class of an interrupt that no task priority holds back: the 8259 pair knows none.
pub(super) const EXTINT_CLASS: u8 = 16;

impl<B: Backend> Vcpu<B> {
    /// Puts the most urgent event into the next entry, and asks for a window if one must wait.
    #[inline]
    pub(super) fn deliver_events(&mut self) {
        let quiet = self.pending.is_none() && !self.is_apic_waiting();
        match (quiet, self.vm.pic.is_pending()) {
            (true, false) if self.window.is_none() => {}
            (true, false) if self.pass_tick_gate_early() => self.deliver_pending(),
            (true, false) => self.set_window(self.tick_class()),
            (true, true) if self.is_extint_held() => {}
            _ => self.deliver_pending(),
        }
    }

    /// True if the guest still does not take the interrupt of the 8259 pair that a window was asked
    /// for. Where it does, another exit came before that of the window.
    #[inline]
    fn is_extint_held(&self) -> bool {
        self.window == Some(EXTINT_CLASS)
            && self.activity == Activity::Running
            && !self.backend.rflags().interrupt()
    }

    /// True if the local APIC may have something to deliver that the processor does not know of.
    #[inline]
    fn is_apic_waiting(&self) -> bool {
        if self.backend.delivers_interrupts() {
            return self.apic.has_arrivals() || self.activity != Activity::Running;
        }
        self.apic.has_pending()
    }

    /// Not inline: most turns have nothing to deliver, and would save registers for it.
    #[inline(never)]
    fn deliver_pending(&mut self) {
        self.take_start_signals();
        if self.activity == Activity::WaitForStartup {
            return;
        }
        let mut free = true;
        if let Some(event) = self.pending.take() {
            self.end_halt();
            self.inject(event);
            free = false;
        } else if self.can_take_nmi() && self.apic.take_nmi() {
            self.end_halt();
            self.activity = Activity::Running;
            self.backend.inject(Event::Nmi);
            free = false;
        }
        if self.backend.delivers_interrupts() {
            self.hand_over_vectors();
        }
        self.deliver_interrupt(free);
        // A step that somebody makes is one for the NMI too.
        if self.apic.has_nmi() && !self.backend.set_nmi_window() && !self.is_stepping() {
            self.step_to_nmi();
        }
        // Any event that entered the guest ended its HLT.
        if !free {
            self.activity = Activity::Running;
        }
    }

    /// An event enters the guest whether it takes interrupts or not. It ends HLT.
    fn end_halt(&mut self) {
        if self.activity == Activity::Halted {
            self.activity = Activity::Running;
            self.tell_platform_of_wake();
        }
    }

    /// An NMI waits for the end of the instruction at RIP.
    #[cold]
    fn step_to_nmi(&mut self) {
        if self.step_over_task_switch() {
            // An IRET: the NMI comes before the other task's next instruction.
            self.platform.interrupt_self();
        } else {
            self.begin_step();
        }
    }

    #[cold]
    pub(super) fn inject(&mut self, event: Event) {
        if let Event::Fault(fault) = event
            && saves_resume_flag(fault.exception)
        {
            let rflags = self.backend.rflags();
            self.backend.set_rflags(rflags.with_resume(true));
        }
        self.backend.inject(self.in_this_mode(event));
    }

    /// In real mode exceptions have no error code.
    fn in_this_mode(&self, event: Event) -> Event {
        match event {
            Event::Fault(fault)
                if fault.error_code.is_some() && !self.backend.cr0().protection() =>
            {
                Event::Fault(Fault { error_code: None, ..fault })
            }
            _ => event,
        }
    }

    fn can_take_nmi(&mut self) -> bool {
        let is_held = self.backend.nmi_blocked() || self.backend.interrupt_shadow();
        self.apic.has_nmi() && !is_held && !self.is_trap_first()
    }

    /// A trap of the instruction before comes before interrupts and NMIs (SDM volume 3, table 6-2).
    /// It ends HLT too.
    fn is_trap_first(&mut self) -> bool {
        let is_first = self.backend.has_pending_debug();
        if is_first {
            self.end_halt();
            self.activity = Activity::Running;
        }
        is_first
    }

    /// Lets the processor deliver what is requested, and wakes the virtual CPU for it.
    fn hand_over_vectors(&mut self) {
        let pending = self.apic.highest_pending();
        self.backend.note_vectors();
        // The notification of what was posted by another CPU is pending here: in the guest it would
        // find nothing left. Work that is handled with it, or a vector posted since, must end the
        // guest's run as if it were still pending.
        if self.platform.handle_interrupts() || self.apic.has_messages() {
            self.platform.interrupt_self();
        }
        if pending.is_some() && self.backend.rflags().interrupt() {
            self.activity = Activity::Running;
        }
    }

    /// If the processor delivers interrupts, it is to tell when the guest ends ticks that others
    /// are to follow.
    pub(super) fn await_ends_of_ticks(&mut self) {
        if self.backend.delivers_interrupts() {
            let watched =
                [self.apic.timer().watched_vector(), self.vm.system_timer.watched_vector()];
            self.backend.await_ends(watched);
        }
    }

    fn deliver_interrupt(&mut self, free: bool) {
        let upcall = self.pending_upcall();
        let extint = upcall.is_some() || self.has_extint();
        let by_processor = extint || self.backend.delivers_interrupts();
        let vector = if by_processor { None } else { self.apic.highest_pending() };
        if !extint && vector.is_none() {
            let class = self.waiting_class();
            return self.set_window(class);
        }
        if upcall.is_some() {
            // It stays until the guest takes it, as a level does.
            self.apic.keep_look();
        }
        let class = vector.map_or(EXTINT_CLASS, |vector| vector >> 4);
        let can_take =
            free && self.backend.rflags().interrupt() && !self.backend.interrupt_shadow();
        if !can_take || self.is_trap_first() {
            return self.set_window((self.activity == Activity::Running).then_some(class));
        }
        let vector = match (upcall, vector) {
            (Some(vector), _) => vector,
            (None, Some(vector)) => {
                self.apic.acknowledge(vector);
                self.note_taken_vector(vector);
                vector
            }
            (None, None) => {
                let taken = self.vm.pic.acknowledge();
                self.vm.system_timer.taken_from_pic(taken.level);
                taken.vector
            }
        };
        self.watch_handler();
        self.activity = Activity::Running;
        self.backend.inject(Event::Interrupt(vector));
        let class = self.waiting_class();
        self.set_window(class);
    }

    /// True if the 8259 pair interrupts this virtual CPU.
    fn has_extint(&self) -> bool {
        self.index == 0 && self.vm.pic.is_pending() && self.apic.accepts_extint()
    }

    /// The class of the interrupt to ask a window for: one that waits behind another that is being
    /// delivered, or that nothing but the task priority holds back.
    fn waiting_class(&mut self) -> Option<u8> {
        if self.has_extint() {
            return Some(EXTINT_CLASS);
        }
        let of_ticks = self.tick_class();
        if of_ticks.is_some() || self.backend.delivers_interrupts() {
            return of_ticks;
        }
        let class = self.apic.highest_requested()? >> 4;
        let is_behind_tpr = class <= self.apic.tpr() >> 4;
        (is_behind_tpr || self.apic.highest_pending().is_some()).then_some(class)
    }

    /// Asks for an exit when the guest can take an interrupt of `class`, or withdraws the wish.
    pub(super) fn set_window(&mut self, class: Option<u8>) {
        if class != self.window {
            self.backend.set_interrupt_window(class);
            self.window = class;
        }
    }

    /// INIT and start-up messages.
    fn take_start_signals(&mut self) {
        if self.apic.take_init() {
            if self.apic.take_reset() {
                self.power_on();
            } else {
                self.apic.init();
            }
            self.place_apic();
            self.init_registers();
            self.pending = None;
            self.activity =
                if self.index == 0 { Activity::Running } else { Activity::WaitForStartup };
            self.tell_platform_of_start();
        }
        let Some(page) = self.apic.take_sipi() else { return };
        if self.activity == Activity::WaitForStartup {
            let cs = self.backend.segment(SegmentName::Cs);
            let start =
                Segment { selector: u16::from(page) << 8, base: u64::from(page) << 12, ..cs };
            self.backend.set_segment(SegmentName::Cs, start);
            self.backend.set_rip(0);
            self.activity = Activity::Running;
            self.tell_platform_of_start();
        }
    }

    /// Raises a fault of the guest's own making. One on top of another that was being delivered
    /// becomes a double fault, and then a triple fault, as on a processor (SDM volume 3, table
    /// 6-5).
    pub(super) fn raise(&mut self, fault: Fault) {
        self.pending = Some(Event::Fault(match self.pending {
            Some(Event::Fault(first)) => match combine(first.exception, fault.exception) {
                Combined::Second => fault,
                Combined::DoubleFault => {
                    Fault { exception: Exception::DoubleFault, error_code: Some(0), address: None }
                }
                Combined::TripleFault => return self.triple_fault(),
            },
            _ => fault,
        }));
    }
}

/// The outcome of two exceptions in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combined {
    /// The second, as if it were alone.
    Second,
    DoubleFault,
    TripleFault,
}

/// SDM volume 3, table 6-5: conditions for generating a double fault.
const fn combine(first: Exception, second: Exception) -> Combined {
    let first_counts = is_contributory(first) || matches!(first, Exception::PageFault);
    match second {
        _ if matches!(first, Exception::DoubleFault)
            && (is_contributory(second) || matches!(second, Exception::PageFault)) =>
        {
            Combined::TripleFault
        }
        Exception::PageFault if matches!(first, Exception::PageFault) => Combined::DoubleFault,
        _ if is_contributory(second) && first_counts => Combined::DoubleFault,
        _ => Combined::Second,
    }
}

/// The image of RFLAGS that a fault saves has RF set, so that the instruction does not meet its
/// breakpoint once more when it runs again (SDM volume 3, 17.3.1.1; APM volume 2, 3.1.6). The
/// processor saves the flags that it finds. Whether a #DB is a fault is known where it is
/// reflected; #DF and #MC are aborts.
pub(super) const fn saves_resume_flag(exception: Exception) -> bool {
    exception.is_fault()
        && !matches!(exception, Exception::Debug | Exception::DoubleFault | Exception::MachineCheck)
}

const fn is_contributory(exception: Exception) -> bool {
    matches!(
        exception,
        Exception::DivideError
            | Exception::InvalidTss
            | Exception::SegmentNotPresent
            | Exception::StackFault
            | Exception::GeneralProtection
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_combine_as_the_manual_says() {
        use Exception::{DoubleFault, GeneralProtection, InvalidOpcode, PageFault, StackFault};
        assert_eq!(combine(GeneralProtection, StackFault), Combined::DoubleFault);
        assert_eq!(combine(PageFault, PageFault), Combined::DoubleFault);
        assert_eq!(combine(PageFault, GeneralProtection), Combined::DoubleFault);
        assert_eq!(combine(GeneralProtection, PageFault), Combined::Second);
        assert_eq!(combine(InvalidOpcode, GeneralProtection), Combined::Second);
        assert_eq!(combine(DoubleFault, PageFault), Combined::TripleFault);
        assert_eq!(combine(DoubleFault, InvalidOpcode), Combined::Second);
    }
}
