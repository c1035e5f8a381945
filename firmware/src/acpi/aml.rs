//! AML terms that `acpi_tables` lacks.

use acpi_tables::{Aml, AmlSink};
use alloc::vec::Vec;

/// Terms already encoded, or a run of terms.
pub struct Terms(Vec<u8>);

impl Terms {
    /// No terms.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a term.
    pub fn push(&mut self, term: &dyn Aml) {
        term.to_aml_bytes(&mut self.0);
    }

    /// Adds a term, by value.
    pub fn with(mut self, term: &dyn Aml) -> Self {
        self.push(term);
        self
    }

    /// The encoded terms.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Aml for Terms {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// `IRQNoFlags () {n}`: an edge-triggered, active-high, exclusive ISA interrupt (ACPI 6.5, section
/// 6.4.2.1).
pub struct IsaIrq(pub u8);

impl Aml for IsaIrq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x22);
        sink.word(1 << self.0);
    }
}

/// `Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {...}`: what a PCI interrupt link can
/// be wired to (ACPI 6.5, section 6.4.3.6). The first number lies at offset 5.
pub struct SharedInterrupts<'a>(pub &'a [u32]);

impl Aml for SharedInterrupts<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const CONSUMER_LEVEL_HIGH_SHARED: u8 = 0b1001;
        sink.byte(0x89);
        sink.word(2 + 4 * self.0.len() as u16);
        sink.byte(CONSUMER_LEVEL_HIGH_SHARED);
        sink.byte(self.0.len() as u8);
        for &number in self.0 {
            sink.dword(number);
        }
    }
}

/// `NullName`: a target that takes no result.
pub struct NullName;

impl Aml for NullName {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0);
    }
}
