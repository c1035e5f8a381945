//! The local interrupt pins (SDM volume 3, 11.5.1): LINT0, which the 8259 pair's INTR leads to, and
//! LINT1, which is NMI.
//!
//! A pin is driven from any CPU. The effect of its entry of the local vector table is published by
//! its owner: each is one atomic word, so that a pin that rises costs its driver a load, and the
//! owner's exits nothing.

use super::inbox::ApicInbox;
use super::spec::{DeliveryMode, FIRST_LEGAL_VECTOR, Lvt};
use crate::irq::LineTarget;
use bitfield_struct::bitfield;
use core::sync::atomic::{AtomicU32, Ordering};

/// A local interrupt pin: its number as an input of the [`LineTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LintPin {
    /// LINT0: the 8259 pair's INTR.
    Lint0,
    /// LINT1: NMI.
    Lint1,
}

impl LintPin {
    const ALL: [Self; 2] = [Self::Lint0, Self::Lint1];
}

/// An entry's bits that are not reserved are below these. A processor with the APIC's registers
/// writes all 32.
const ENTRY_BITS: u32 = 0xff_ffff;

/// A pin and its entry.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
struct Pin {
    /// The entry, with remote IRR.
    #[bits(24, default = 0x1_0000)]
    entry: u32,
    #[bits(6)]
    __: u8,
    /// The APIC is enabled in IA32_APIC_BASE. Otherwise the pins are the processor's own INTR and
    /// NMI.
    enabled: bool,
    high: bool,
}

impl Pin {
    const fn lvt(self) -> Lvt {
        Lvt::from_bits(self.entry())
    }

    /// Level-triggered, which only a fixed interrupt of LINT0 can be.
    const fn is_level(self, pin: LintPin) -> bool {
        let lvt = self.lvt();
        matches!(lvt.mode(), DeliveryMode::Fixed) && lvt.level() && matches!(pin, LintPin::Lint0)
    }
}

/// The pins of one local APIC.
#[derive(Debug)]
pub(super) struct LintPins([AtomicU32; 2]);

impl LintPins {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU32::new(Pin::new().into_bits()) }; 2])
    }

    fn change(&self, pin: LintPin, change: impl Fn(Pin) -> Pin) -> (Pin, Pin) {
        let word = &self.0[pin as usize];
        let changed = |bits: u32| Some(change(bits.into()).into_bits());
        let old = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
        let old = Pin::from(old.unwrap_or_default());
        (old, change(old))
    }
}

impl ApicInbox {
    /// The owner has another value in the entry of a pin, or has enabled or disabled the APIC. A
    /// level that waited unmasked is delivered; an edge that came while it was masked is gone.
    pub(super) fn configure_pin(&self, pin: LintPin, entry: Lvt, enabled: bool) {
        let (_, new) = self.pins.change(pin, |old| {
            let entry = u32::from(entry.with_remote_irr(false)) & ENTRY_BITS;
            let new = old.with_entry(entry).with_enabled(enabled);
            let is_in_service = new.is_level(pin) && old.lvt().remote_irr();
            new.with_entry(new.lvt().with_remote_irr(is_in_service).into())
        });
        self.raise_level(pin, new);
    }

    /// A level-triggered interrupt has ended: it comes again while its pin is high.
    pub(super) fn end_level(&self, vector: u8) {
        for pin in LintPin::ALL {
            let is_of = |pin: Pin| pin.lvt().remote_irr() && pin.lvt().vector() == vector;
            let end = |pin: Pin| {
                if is_of(pin) {
                    pin.with_entry(pin.lvt().with_remote_irr(false).into())
                } else {
                    pin
                }
            };
            let (old, new) = self.pins.change(pin, end);
            if old != new {
                self.raise_level(pin, new);
            }
        }
    }

    /// The entry of a pin as it reads, remote IRR included.
    pub(super) fn pin_entry(&self, pin: LintPin) -> u32 {
        Pin::from(self.pins.0[pin as usize].load(Ordering::Relaxed)).entry()
    }

    fn raise_level(&self, pin: LintPin, state: Pin) {
        if !state.enabled() || !state.high() || state.lvt().masked() || !state.is_level(pin) {
            return;
        }
        let (old, _) =
            self.pins.change(pin, |pin| pin.with_entry(pin.lvt().with_remote_irr(true).into()));
        if !old.lvt().remote_irr() {
            self.raise_fixed(state.lvt(), true);
        }
    }

    fn raise_fixed(&self, lvt: Lvt, level: bool) {
        if lvt.vector() < FIRST_LEGAL_VECTOR {
            self.post_illegal_vector();
        } else {
            self.post(lvt.vector(), level);
        }
    }

    fn raise_edge(&self, pin: LintPin, state: Pin) {
        let lvt = state.lvt();
        match (state.enabled(), pin, lvt.mode()) {
            // The vCPU asks the 8259 pair.
            (false, LintPin::Lint0, _) => self.kick(),
            (false, LintPin::Lint1, _) => self.post_nmi(),
            _ if lvt.masked() => {}
            (_, LintPin::Lint0, DeliveryMode::ExtInt) => self.kick(),
            (_, _, DeliveryMode::Fixed) if state.is_level(pin) => self.raise_level(pin, state),
            (_, _, DeliveryMode::Fixed) => self.raise_fixed(lvt, false),
            (_, _, DeliveryMode::Nmi) => self.post_nmi(),
            (_, _, DeliveryMode::Init) => self.post_init(),
            _ => {}
        }
    }
}

/// The pins, by [`LintPin`].
impl LineTarget for ApicInbox {
    fn set_line(&self, input: u32, high: bool) {
        let Some(&pin) = LintPin::ALL.get(input as usize) else { return };
        let (old, new) = self.pins.change(pin, |pin| pin.with_high(high));
        if high && !old.high() {
            self.raise_edge(pin, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_apic::Kick;
    use alloc::sync::Arc;

    struct Nowhere;

    impl Kick for Nowhere {
        fn kick(&self) {}
    }

    #[test]
    fn reserved_bits_of_an_entry_do_not_reach_the_pin() {
        let inbox = ApicInbox::new(Arc::new(Nowhere));
        inbox.configure_pin(LintPin::Lint0, Lvt::from_bits(0xff00_0731), true);
        assert_eq!(inbox.pin_entry(LintPin::Lint0), 0x731);
    }
}
