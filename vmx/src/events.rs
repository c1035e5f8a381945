//! Events on their way into the guest.

use crate::spec::{Interruptibility, Interruption, PendingDebug, interruption};
use emulator::event::Event;
use emulator::registers::{Exception, Fault};

const NMI_VECTOR: u8 = 2;

/// The entry-interruption field and the error code for an event.
pub fn injection(event: Event) -> (Interruption, u32) {
    let field = Interruption::new().with_valid(true);
    match event {
        Event::Interrupt(vector) => {
            (field.with_kind(interruption::EXTERNAL).with_vector(vector), 0)
        }
        Event::Nmi => (field.with_kind(interruption::NMI).with_vector(NMI_VECTOR), 0),
        Event::Fault(Fault { exception, error_code, .. }) => {
            let field = field
                .with_kind(interruption::HARDWARE_EXCEPTION)
                .with_vector(exception as u8)
                .with_has_error_code(error_code.is_some());
            // Bits 16 to 31 must be clear.
            (field, error_code.unwrap_or(0) & 0xffff)
        }
    }
}

/// The event that an exit interrupted, if it has to be delivered again. INT n, INT3, INTO and INT1
/// are run again: RIP still points to them.
pub fn interrupted(vectoring: Interruption, error_code: u32) -> Option<Event> {
    if !vectoring.valid() {
        return None;
    }
    match vectoring.kind() {
        interruption::EXTERNAL => Some(Event::Interrupt(vectoring.vector())),
        interruption::NMI => Some(Event::Nmi),
        interruption::HARDWARE_EXCEPTION => {
            let exception = Exception::from_vector(vectoring.vector())?;
            let error_code = vectoring.has_error_code().then_some(error_code);
            Some(Event::Fault(Fault { exception, error_code, address: None }))
        }
        _ => None,
    }
}

/// An entry without an event to inject raises #DB (27.7.3). Trap-like exits leave one pending:
/// those for the task priority, a write or an EOI of the local APIC.
pub const fn is_debug_due(pending: PendingDebug, state: Interruptibility) -> bool {
    (pending.single_step() || pending.enabled_breakpoint()) && !state.by_mov_ss()
}

/// How to learn that the guest can take an interrupt: by an exit as soon as it has interrupts on,
/// or by one when its task priority falls below a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Interrupt-window exiting.
    pub exiting: bool,
    /// The TPR threshold; 0 for none. Never above the task priority, as entries demand.
    pub tpr_threshold: u8,
}

/// The window for an interrupt of priority class `wanted` while the task priority has class `cr8`.
pub fn window(wanted: Option<u8>, cr8: u8) -> Window {
    match wanted {
        None => Window { exiting: false, tpr_threshold: 0 },
        Some(class) if class > cr8 => Window { exiting: true, tpr_threshold: 0 },
        Some(class) => Window { exiting: false, tpr_threshold: class & 0xf },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_FAULT: Fault = Fault::page(2, 0x1234_5000);

    #[test]
    fn what_is_injected_comes_back_when_it_is_interrupted() {
        let events = [
            Event::Interrupt(0xd1),
            Event::Nmi,
            Event::Fault(Fault::PROTECTION),
            Event::Fault(Fault::UNDEFINED),
            Event::Fault(Fault { address: None, ..PAGE_FAULT }),
        ];
        for event in events {
            let (field, error_code) = injection(event);
            assert_eq!(interrupted(field, error_code), Some(event));
        }
        assert_eq!(interrupted(Interruption::new(), 0), None);
    }

    #[test]
    fn fields_have_the_manuals_format() {
        let bits = |event| {
            let (field, error_code) = injection(event);
            (field.into_bits(), error_code)
        };
        assert_eq!(bits(Event::Interrupt(0x30)), (0x8000_0030, 0));
        assert_eq!(bits(Event::Nmi), (0x8000_0202, 0));
        assert_eq!(bits(Event::Fault(PAGE_FAULT)), (0x8000_0b0e, 2));
        let without_code = Fault { error_code: None, ..Fault::PROTECTION };
        assert_eq!(bits(Event::Fault(without_code)), (0x8000_030d, 0), "real mode");
    }

    #[test]
    fn software_interrupts_are_run_again() {
        for kind in 4..=6 {
            let field = Interruption::new().with_valid(true).with_kind(kind).with_vector(3);
            assert_eq!(interrupted(field, 0), None);
        }
    }

    #[test]
    fn pending_traps_are_due_unless_mov_ss_holds_them() {
        let state = Interruptibility::new();
        assert!(is_debug_due(PendingDebug::new().with_single_step(true), state));
        assert!(is_debug_due(
            PendingDebug::new().with_enabled_breakpoint(true),
            state.with_by_sti(true)
        ));
        assert!(
            !is_debug_due(PendingDebug::new().with_breakpoints(1), state),
            "met, but not enabled"
        );
        assert!(!is_debug_due(
            PendingDebug::new().with_single_step(true),
            state.with_by_mov_ss(true)
        ));
    }

    #[test]
    fn a_window_opens_by_the_flag_or_by_the_task_priority() {
        assert_eq!(window(None, 3), Window { exiting: false, tpr_threshold: 0 });
        assert_eq!(window(Some(4), 3), Window { exiting: true, tpr_threshold: 0 });
        assert_eq!(window(Some(3), 3), Window { exiting: false, tpr_threshold: 3 });
        let extint = window(Some(16), 15);
        assert_eq!(extint, Window { exiting: true, tpr_threshold: 0 }, "8259 pair");
        for class in 0..=16 {
            for cr8 in 0..16 {
                assert!(window(Some(class), cr8).tpr_threshold <= cr8);
            }
        }
    }
}
