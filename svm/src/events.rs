//! Events on their way into the guest (15.20).

use crate::spec::{EVENT_EXCEPTION, EVENT_INTERRUPT, EVENT_NMI, EventField};
use emulator::event::Event;
use emulator::registers::{Exception, Fault};

const NMI_VECTOR: u8 = 2;

/// The injection field for an event.
#[inline]
pub fn injection(event: Event) -> EventField {
    let field = EventField::new().with_valid(true);
    match event {
        Event::Interrupt(vector) => field.with_kind(EVENT_INTERRUPT).with_vector(vector),
        Event::Nmi => field.with_kind(EVENT_NMI).with_vector(NMI_VECTOR),
        Event::Fault(fault) => field
            .with_kind(EVENT_EXCEPTION)
            .with_vector(fault.exception as u8)
            .with_has_error_code(fault.error_code.is_some())
            .with_error_code(fault.error_code.unwrap_or(0)),
    }
}

/// The event that an exit interrupted, if it has to be delivered again. INT3, INTO and INT n are
/// run again: RIP still points to them.
#[inline]
pub fn interrupted(info: EventField) -> Option<Event> {
    if !info.valid() {
        return None;
    }
    match info.kind() {
        EVENT_INTERRUPT => Some(Event::Interrupt(info.vector())),
        EVENT_NMI => Some(Event::Nmi),
        EVENT_EXCEPTION => {
            Exception::from_vector(info.vector()).filter(Exception::is_fault).map(|exception| {
                let error_code = info.has_error_code().then_some(info.error_code());
                Event::Fault(Fault { exception, error_code, address: None })
            })
        }
        _ => None,
    }
}
